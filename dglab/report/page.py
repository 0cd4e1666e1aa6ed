"""The report: one self-contained page, the ablation table and the batch-size figure first, ours beside the paper's.

It reads what a finished run has left in its folder, and nothing else: ``tables.csv``, ``run.json``, and the pictures of
Figure 4 in ``figures``.
"""

import base64
import io
import json
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from matplotlib.figure import Figure

from dglab import __version__, paper
from dglab.analysis.claims import Verdict, judge
from dglab.analysis.intervals import cached_against_joint
from dglab.analysis.predictions import as_rows, train_as_you_test
from dglab.analysis.signals import prior_grid
from dglab.experiments.recorded import recorded_table
from dglab.experiments.table import read_table
from dglab.report import figures
from dglab.report.moving import moving_part
from dglab.report.tables import (
    ablation_table,
    adabn_table,
    beside_record,
    bound_table,
    policy_table,
    sources_table,
    split_table,
)
from dglab.utils.errors import InputError
from dglab.utils.files import written_whole

RECORDED = "full"  # the preset whose recorded study the page leads with
NOT_RUN = (
    ("Table 2", "needs the Cityscapes benchmark's test server; the published figures are in dglab.paper"),
    ("Table 10", "DeepLabV3 and HRNet: train with --backbone, on a GPU"),
    ("Inference time", "run dglab bench testtime"),
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
    streets = is_streets(record)
    pictures = {
        name: _png(figure, folder / "figures" / f"{name}.png") for name, figure in draw_figures(frame, record).items()
    }
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((resources.files("dglab.report") / "report.html.j2").read_text(encoding="utf-8"))
    mixed = _tasks(frame, "selection_policy")
    recorded = recorded_table(RECORDED) if streets and record["preset"]["name"] != RECORDED else None
    page = template.render(
        version=__version__,
        run=record,
        streets=streets,
        tasks=[_section(folder, frame, task, streets, recorded) for task in _tasks(frame, "ablation")],
        mixed=mixed[0] if mixed else None,
        policies=policy_table(frame, streets),
        cached=cached_against_joint(frame).to_dict("records"),
        figures=pictures,
        recorded=_recorded(recorded),
        verdicts=_verdicts(frame, recorded) if streets else [],
        not_run=NOT_RUN if streets else [],
        classes=_classes(frame),
        moving=moving_part(frame),
    )
    with written_whole(folder / "report.html") as beside:
        beside.write_text(page, encoding="utf-8")
    return folder / "report.html"


def _section(
    folder: Path, frame: pd.DataFrame, task: str, streets: bool, recorded: pd.DataFrame | None
) -> dict[str, Any]:
    """What the page shows of a task with one target: its name, two tables and four pictures."""
    rows = frame[frame["task"] == task]
    target = rows["target"].iloc[0]
    suffix = "" if streets else f"_{target}"  # on streets there is one such task
    ablation = ablation_table(frame, task, streets)
    examples = folder / "figures" / f"figure4_predictions{suffix}.png"
    return {
        "name": task.replace("->", " → "),
        "target": target,
        "ablation": ablation if recorded is None else beside_record(ablation, ablation_table(recorded, task, streets)),
        "adabn": adabn_table(frame, task, streets),
        "examples": _encoded(examples.read_bytes()) if examples.exists() else None,
        **{
            name: _png(figure, folder / "figures" / f"{file}{suffix}.png")
            for name, (file, figure) in draw_task(rows).items()
        },
    }


def draw_task(rows: pd.DataFrame) -> dict[str, tuple[str, Figure]]:
    """The figures of a task with one target: what each shows -> (name of its file, figure).

    Args:
        rows: of the tidy table, this task's.
    """
    of = {study: rows[rows["study"] == study] for study in ("batch_size", "ablation", "source_and_target")}
    return {
        "batch_size": ("figure5_batch_size", figures.batch_size(of["batch_size"])),
        "controls": ("table03_controls", figures.gain_explained(of["ablation"])),
        "sources": ("table09_source_and_target", figures.source_and_target(of["source_and_target"])),
    }


def read_record(path: Path) -> dict[str, Any]:
    """What ``run.json`` says: machine, versions, minutes, preset, data, domains and seeds.

    Raises:
        InputError: if it is missing.
    """
    if not path.is_file():
        raise InputError(f"there is no {path}, which says what the table beside it was made on; run dglab reproduce")
    return json.loads(path.read_text(encoding="utf-8"))


def is_streets(record: dict[str, Any]) -> bool:
    """Whether a run was on the embedded streets, whose letters stand for the paper's data sets."""
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
    policies = frame[frame["study"] == "selection_policy"]
    if len(policies):
        drawn["table05_selection_policy"] = figures.selection_policy(policies)
        drawn |= _sweeps(frame, is_streets(record))
    return drawn


def _sweeps(frame: pd.DataFrame, streets: bool) -> dict[str, Figure]:
    """Tables 6 and 7."""
    layers, queues = (frame[frame["study"] == study] for study in ("style_layer", "queue_size"))
    published = [
        paper.table(table).rename(columns={setting: "x"}) if streets else None
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
    """What the page shows of the recorded study alone; empty if there is none."""
    if record is None:
        return {}
    tables = {
        "Table 4: meta-train : meta-test": split_table(record),
        "Table 8: how many source domains": sources_table(record),
        "Table 1, and the bound": bound_table(record),
        "Train as you test: what was predicted, and what came out": as_rows(train_as_you_test(record)),
    }
    runs = record.drop_duplicates(["task", "train_method", "inner_lr", "split", "backbone", "train_seed"])
    return {"networks": len(runs), "tables": {title: rows for title, rows in tables.items() if rows}}


def _verdicts(frame: pd.DataFrame, recorded: pd.DataFrame | None) -> list[dict[str, Any]]:
    """Each claim with what came out in the record and here; the parts are the record's, if there is one."""
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
    return {"outcome": verdict.outcome, "kind": kinds.get(verdict.outcome.partition(",")[0], "notrun")}


def _classes(frame: pd.DataFrame) -> str:
    """How many of the 19 classes occur."""
    absent = frame[frame["metric"] == "absent_classes"]["value"]
    low, high = int(19 - absent.max()), int(19 - absent.min())
    return str(low) if low == high else f"{low} to {high}"
