"""The report: one self-contained page that begins with the ablation table and the batch-size figure.

It reads only what a finished run has left in its folder: ``tables.csv``, ``run.json``, and the pictures of Figure 4 in
``figures``.
"""

import base64
import io
import json
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from matplotlib.figure import Figure

from dglab import __version__, paper
from dglab.analysis.claims import Verdict, judge
from dglab.analysis.doses import dose_predictions, dose_response, dose_table
from dglab.analysis.gmp_claims import judge_gmp
from dglab.analysis.intervals import cached_against_joint
from dglab.analysis.predictions import as_rows, train_as_you_test
from dglab.analysis.signals import prior_grid
from dglab.experiments.recorded import recorded_table
from dglab.experiments.table import read_table
from dglab.report import figures, gmp_tables
from dglab.report.moving import moving_part
from dglab.report.tables import (
    ablation_table,
    adabn_table,
    backbones_table,
    beside_record,
    bound_table,
    policy_table,
    sources_table,
    split_table,
)
from dglab.tasks import are_the_papers
from dglab.utils.errors import InputError
from dglab.utils.files import written_whole

RECORDED = "full"  # the preset whose recorded study is shown first
NOT_RUN = (
    ("Table 2", "needs the Cityscapes benchmark's test server; the published figures are in dglab.paper"),
    ("Table 10", "three networks of different kind: dglab reproduce --only backbones"),
    ("Inference time", "run dglab bench testtime"),
)
# the second paper's part: title, rows, and the study whose figure is shown with them
GMP_PARTS = (
    ("Which half does what (its Table 4)", gmp_tables.ablation_rows, "gmp_ablation"),
    ("Other ways to balance (its Table 2)", gmp_tables.strategies_rows, "gmp_strategies"),
    ("Branch by branch, and what target normalization does to each", gmp_tables.branches_rows, "gmp_branches"),
    ("Branch by branch with M as the unseen domain", partial(gmp_tables.branches_rows, number=1), None),
    ("When a sensor fails", gmp_tables.missing_rows, None),
)


def write_report(folder: Path) -> Path:
    """Write ``report.html`` and the figures of the tables beside it.

    Args:
        folder: of a finished run, with ``tables.csv`` and ``run.json``.

    Returns:
        The path of the page.

    Raises:
        InputError: if the table or the record of the run is missing.
    """
    frame = read_table(folder / "tables.csv")
    record = read_record(folder / "run.json")
    of_paper = are_the_papers(record["domains"])
    pictures = {
        name: _png(figure, folder / "figures" / f"{name}.png") for name, figure in draw_figures(frame, record).items()
    }
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((resources.files("dglab.report") / "report.html.j2").read_text(encoding="utf-8"))
    mixed = _tasks(frame, "selection_policy")
    recorded = recorded_table(RECORDED) if is_streets(record) and record["preset"]["name"] != RECORDED else None
    page = template.render(
        version=__version__,
        run=record,
        of_paper=of_paper,
        streets=is_streets(record),
        tasks=[_section(folder, frame, task, of_paper, recorded) for task in _tasks(frame, "ablation")],
        mixed=mixed[0] if mixed else None,
        policies=policy_table(frame, of_paper),
        cached=cached_against_joint(frame).to_dict("records"),
        figures=pictures,
        recorded=_recorded(recorded),
        gmp=_gmp(folder, frame) if is_streets(record) else {},
        verdicts=_verdicts(frame, recorded) if of_paper else [],
        not_run=_not_run(frame) if of_paper else [],
        classes=_classes(frame),
        moving=moving_part(frame, recorded_table(RECORDED) if is_streets(record) else None),
    )
    with written_whole(folder / "report.html") as beside:
        beside.write_text(page, encoding="utf-8")
    return folder / "report.html"


def _section(
    folder: Path, frame: pd.DataFrame, task: str, of_paper: bool, recorded: pd.DataFrame | None
) -> dict[str, Any]:
    """The part of the page about a task with one target: its name, two tables and four pictures."""
    rows = frame[frame["task"] == task]
    target = rows["target"].iloc[0]
    suffix = "" if of_paper else f"_{target}"  # the paper has one such task
    ablation = ablation_table(frame, task, of_paper)
    examples = folder / "figures" / f"figure4_predictions{suffix}.png"
    return {
        "name": task.replace("->", " → "),
        "target": target,
        "ablation": ablation if recorded is None else beside_record(ablation, ablation_table(recorded, task, of_paper)),
        "adabn": adabn_table(frame, task, of_paper),
        "examples": _encoded(examples.read_bytes()) if examples.exists() else None,
        **{
            name: _png(figure, folder / "figures" / f"{file}{suffix}.png")
            for name, (file, figure) in draw_task(rows).items()
        },
    }


def draw_task(rows: pd.DataFrame) -> dict[str, tuple[str, Figure]]:
    """The figures of a task with one target, by what they show: (name of the file, figure).

    Args:
        rows: of the tidy table, this task's.
    """
    studies = {study: rows[rows["study"] == study] for study in ("batch_size", "ablation", "source_and_target")}
    return {
        "batch_size": ("figure5_batch_size", figures.batch_size(studies["batch_size"])),
        "controls": ("table03_controls", figures.gain_explained(studies["ablation"])),
        "sources": ("table09_source_and_target", figures.source_and_target(studies["source_and_target"])),
    }


def read_record(path: Path) -> dict[str, Any]:
    """The content of ``run.json``: machine, versions, minutes, preset, data, domains and seeds.

    Raises:
        InputError: if it is missing.
    """
    if not path.is_file():
        raise InputError(f"there is no {path}, which says what the table beside it was made on; run dglab reproduce")
    return json.loads(path.read_text(encoding="utf-8"))


def is_streets(record: dict[str, Any]) -> bool:
    """Whether a run was on the embedded streets, for which there are recorded results."""
    return isinstance(record["data"]["identity"], dict)  # a size; that of a prepared root is its fingerprint


def draw_figures(frame: pd.DataFrame, record: dict[str, Any]) -> dict[str, Figure]:
    """The figures that do not belong to a single task, by the name of their file.

    Args:
        frame: the tidy table of all studies.
        record: of the run, see :func:`read_record`.
    """
    grid = prior_grid(frame[frame["study"] == "prior"])
    titles = {letter: record["domains"][letter] for letter in grid["domain"].unique()}
    drawn = {"prior": figures.prior_curves(grid, titles)}
    response = dose_response(frame)
    if len(response):
        drawn["style_dose"] = figures.dose_response(response)
    policies = frame[frame["study"] == "selection_policy"]
    if len(policies):
        drawn["table05_selection_policy"] = figures.selection_policy(policies)
        drawn |= _sweeps(frame, are_the_papers(record["domains"]))
    return drawn


def _sweeps(frame: pd.DataFrame, of_paper: bool) -> dict[str, Figure]:
    """Tables 6 and 7."""
    layers, queues = (frame[frame["study"] == study] for study in ("style_layer", "queue_size"))
    published = [
        paper.table(table).rename(columns={setting: "x"}) if of_paper else None
        for table, setting in (("table06_style_layer", "style_layer"), ("table07_queue_size", "queue_size"))
    ]
    return {
        "table06_style_layer": figures.sweep(layers, "style_layer", "style layer", published[0]),
        "table07_queue_size": figures.sweep(queues, "capacity", "queue size Q", published[1], log=True),
    }


def _tasks(frame: pd.DataFrame, study: str) -> list[str]:
    """The tasks of a study, in the order of the table."""
    return frame[frame["study"] == study]["task"].unique().tolist()


def _png(figure: Figure, path: Path) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    with written_whole(path) as beside:
        beside.write_bytes(buffer.getvalue())
    return _encoded(buffer.getvalue())


def _encoded(picture: bytes) -> str:
    return base64.b64encode(picture).decode()


def _recorded(record: pd.DataFrame | None) -> dict[str, Any]:
    """The part of the page about the recorded study; empty if there is none."""
    if record is None:
        return {}
    tables = {
        "Table 4: meta-train : meta-test": split_table(record),
        "Table 8: how many source domains": sources_table(record),
        "Table 1, and the bound": bound_table(record),
        "Table 10: three networks of different kind": backbones_table(record),
        "Train as you test: what was predicted, and what came out": as_rows(train_as_you_test(record)),
        "Dose and response: gain over source BN by dose": dose_table(record),
        "Dose and response: what was predicted, and what came out": as_rows(dose_predictions(record)),
    }
    runs = record.drop_duplicates(
        ["task", "train_method", "inner_lr", "split", "backbone", "domains_per_pass", "train_seed"]
    )
    return {"networks": len(runs), "tables": {title: rows for title, rows in tables.items() if rows}}


def _gmp(folder: Path, frame: pd.DataFrame) -> dict[str, Any]:
    """The part of the page about the second paper (GMP): of this run, or else recorded; empty if there is neither."""
    recorded = {f"recorded with the preset {name}": recorded_table(name) for name in (RECORDED, "quick")}
    tables = {"of this run": frame, **{where: table for where, table in recorded.items() if table is not None}}
    where, table = next(((w, t) for w, t in tables.items() if gmp_tables.has_gmp(t)), (None, frame))
    if where is None:
        return {}
    parts = []
    for title, make, study in GMP_PARTS:
        drawn = gmp_tables.of_task(table, study) if study else ()
        picture = _png(getattr(figures, study)(drawn), folder / "figures" / f"{study}.png") if len(drawn) else None
        parts.append({"title": title, "rows": make(table), "picture": picture})
    # a study of images alone, recorded with another preset than those of two modalities
    between = ((of, gmp_tables.conflict_rows(known)) for of, known in tables.items())
    of, rows = next(((of, rows) for of, rows in between if rows), (where, []))
    parts.append({"title": f"The projection between domains, images alone, {of}", "rows": rows, "picture": None})
    verdicts = [{"claim": v.claim, "parts": v.parts, "outcome": _tag(v)} for v in judge_gmp(table)]
    return {"where": where, "verdicts": verdicts, "parts": [part for part in parts if part["rows"]]}


def _verdicts(frame: pd.DataFrame, recorded: pd.DataFrame | None) -> list[dict[str, Any]]:
    """Each claim with its outcome in the record and in this run; the parts are the record's, if there is one."""
    here = judge(frame)
    of_record = here if recorded is None else judge(recorded)
    return [
        {
            "claim": own.claim,
            "parts": [str(part) for part in known.parts if part.difference is not None],
            "recorded": None if recorded is None else _tag(known),
            "here": _tag(own),
        }
        for own, known in zip(here, of_record, strict=True)
    ]


def _tag(verdict: Verdict) -> dict[str, str]:
    kinds = {"holds": "holds", "contradicted": "not", "open": "open"}
    return {"outcome": verdict.outcome, "kind": kinds.get(verdict.tested, "notrun")}


def _not_run(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """The paper's tables that are not run, by any preset or by this one, and why."""
    ran = {"Table 10"} if (frame["study"] == "backbones").any() else set()
    return [(name, why) for name, why in NOT_RUN if name not in ran]


def _classes(frame: pd.DataFrame) -> str:
    """How many of the 19 classes occur."""
    absent = frame[frame["metric"] == "absent_classes"]["value"]
    low, high = int(19 - absent.max()), int(19 - absent.min())
    return str(low) if low == high else f"{low} to {high}"
