"""The report: one self-contained page that begins with the ablation table and the batch-size figure.

It reads only what a finished run has left in its folder: ``tables.csv``, ``run.json``, and the pictures of Figure 4 in
``figures``.
"""

import base64
import io
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from matplotlib.figure import Figure

from dglab import __version__, paper
from dglab.analysis.claims import judge
from dglab.analysis.doses import (
    SELECTION,
    dose_predictions,
    dose_response,
    dose_table,
    photometric_gains,
    photometric_means,
    photometric_predictions,
    photometric_table,
    selection_means,
)
from dglab.analysis.intervals import cached_against_joint
from dglab.analysis.predictions import as_rows, expected_of_claims, five_real_domains, train_as_you_test
from dglab.analysis.signals import prior_grid
from dglab.analysis.stability import move_rows, verdict_rows
from dglab.analysis.targets import rows_over_targets
from dglab.analysis.twice_the_steps import twice_the_steps
from dglab.experiments.gmp_methods import GMP
from dglab.experiments.methods import TN_4
from dglab.experiments.recorded import AGAIN, REAL, read_recorded, recorded_table
from dglab.experiments.table import read_table
from dglab.report import figures, gmp_tables, overview, tables
from dglab.report.moving import moving_part
from dglab.report.real_tables import each_left_out, left_out_table
from dglab.report.tables import MISSING, Row, ablation_table, adabn_table, at_scales, beside_record, policy_table
from dglab.tasks import are_the_papers
from dglab.utils.errors import InputError
from dglab.utils.files import read_json, written_whole

RECORDED = "full"  # the preset whose recorded study is shown first
AS_RECORDED = "recorded"  # what it is called beside a run
NEEDS_STUDY = {4: "meta_split", 6: "selection_policy", 7: "style_layer", 8: "queue_size", 9: "source_domains_fixed",
               11: "backbones"}  # claim: its study  # fmt: skip
# the second paper's part: title, rows, and the study whose figure is shown with them
GMP_PARTS = (
    ("Which half does what (its Table 4)", gmp_tables.ablation_rows, "gmp_ablation"),
    ("Other ways to balance (its Table 2)", gmp_tables.strategies_rows, "gmp_strategies"),
    ("Branch by branch, and what target normalization does to each", gmp_tables.branches_rows, "gmp_branches"),
    ("Branch by branch with M as the unseen domain", partial(gmp_tables.branches_rows, number=1), None),
    ("What each modality loses towards the unseen domain", gmp_tables.shift_rows, None),
    ("When a sensor fails", gmp_tables.missing_rows, None),
)


def write_report(folder: Path) -> Path:
    """Write ``report.html`` and the figures of the tables beside it.

    Args:
        folder: of a finished run, with ``tables.csv`` and ``run.json``.

    Returns:
        The path of the page.

    Raises:
        InputError: if the table or the record of the run is missing, or the table lacks the study ``ablation``.
    """
    frame = read_table(folder / "tables.csv")
    if not _tasks(frame, "ablation"):
        raise InputError(
            f"{folder / 'tables.csv'} has no row of the study ablation, with which a report begins; "
            "run dglab reproduce without --only"
        )
    record = read_record(folder / "run.json")
    of_paper = are_the_papers(record["domains"])
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((resources.files("dglab.report") / "report.html.j2").read_text(encoding="utf-8"))
    of_streets = recorded_table(RECORDED) if is_streets(record) else None
    fullest = of_streets if record["preset"]["name"] != RECORDED else None  # a run of full is not set beside itself
    recorded = None if fullest is None else _without_classes(fullest)
    scales = {"ours": frame} if recorded is None else {AS_RECORDED: recorded, "here": frame}
    mixed = [task for table in scales.values() for task in _tasks(table, "selection_policy")]  # recorded, or run here
    pictures = _pictures({scale: draw_figures(table, record) for scale, table in scales.items()}, folder / "figures")
    page = template.render(
        version=__version__,
        run=record,
        reused_from=overview.recorded_on(record["preset"]["name"]),
        of_paper=of_paper,
        streets=is_streets(record),
        tasks=[_section(folder, frame, task, of_paper, recorded, scales) for task in _tasks(frame, "ablation")],
        mixed=mixed[0] if mixed else None,
        policies=at_scales(partial(policy_table, of_paper=of_paper), scales),
        layers=at_scales(tables.style_layer_table, scales) if of_paper else [],
        queues=at_scales(tables.queue_size_table, scales) if of_paper else [],
        domains=tables.stacked(tables.source_and_target_table, scales) if of_paper else [],
        published_domains=tables.published_source_and_target() if of_paper else [],
        cached=cached_against_joint(frame).to_dict("records"),
        figures=pictures,
        recorded=_recorded(recorded, [] if fullest is None else tables.per_class_table(fullest)),
        real=_real(recorded_table("real", REAL), folder / "figures"),
        on_gpu=_on_gpu(recorded_table("standard")) if is_streets(record) else {},
        scales=list(scales),
        gmp=_gmp(folder, frame) if is_streets(record) else {},
        verdicts=overview.claim_rows(scales) if of_paper else [],
        left_out=[] if of_paper else left_out_table(frame),
        over_targets=[] if of_paper else rows_over_targets(frame),
        columns={"part": overview.PARTS, "verdict": overview.VERDICT, "paper": tables.PAPER},
        not_run=_not_run(frame, record, of_paper),
        shifts=_photometric(frame, folder / "figures"),
        classes=_classes(frame),
        moving=moving_part(frame, of_streets),
    )
    with written_whole(folder / "report.html") as beside:
        beside.write_text(page, encoding="utf-8")
    return folder / "report.html"


def _section(
    folder: Path,
    frame: pd.DataFrame,
    task: str,
    of_paper: bool,
    recorded: pd.DataFrame | None,
    scales: dict[str, pd.DataFrame],
) -> dict[str, Any]:
    """The part of the page about a task with one target: its name, two tables and four pictures."""
    rows = frame[frame["task"] == task]
    target = rows["target"].iloc[0]
    suffix = "" if of_paper else f"_{target}"  # the paper has one such task
    ablation = ablation_table(frame, task, of_paper)
    examples = folder / "figures" / f"figure4_predictions{suffix}.png"
    drawn = {scale: draw_task(table[table["task"] == task], suffix) for scale, table in scales.items()}
    return {
        "name": task.replace("->", " → "),
        "target": target,
        "ablation": ablation if recorded is None else beside_record(ablation, ablation_table(recorded, task, of_paper)),
        "adabn": at_scales(tables.adabn_tasks if of_paper else partial(adabn_table, task=task, of_paper=False), scales),
        "examples": _encoded(examples.read_bytes()) if examples.exists() else None,
        "figures": {name.removesuffix(suffix): found for name, found in _pictures(drawn, folder / "figures").items()},
    }


def draw_task(rows: pd.DataFrame, suffix: str = "") -> dict[str, Figure]:
    """The figures of a task with one target, by the name of their file; none of a study that was not run.

    Args:
        rows: of the tidy table, this task's.
        suffix: of the files' names.
    """
    draws = {
        "batch_size": ("figure5_batch_size", figures.batch_size),
        "ablation": ("table03_controls", figures.gain_explained),
        "source_and_target": ("table09_source_and_target", figures.source_and_target),
    }
    drawn = {}
    for study, (name, draw) in draws.items():
        of_study = rows[rows["study"] == study]
        if study == "batch_size" and not (of_study["test_method"] == "tn").any():
            continue  # source BN alone is no curve
        if len(of_study):
            drawn[f"{name}{suffix}"] = draw(of_study)
    return drawn


def read_record(path: Path) -> dict[str, Any]:
    """The content of ``run.json``: machine, versions, minutes, preset, data, domains and seeds.

    Raises:
        InputError: if it is missing or damaged.
    """
    if not path.is_file():
        raise InputError(f"there is no {path}, which says what the table beside it was made on; run dglab reproduce")
    record = read_json(path)
    try:
        _ = record["preset"]["name"], record["data"]["name"], record["data"]["identity"], record["domains"]
        _ = record["machine"], record["versions"]["python"], record["versions"]["torch"], record["minutes"]
        _ = record["train_seeds"], record["test_seeds"]
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{path} does not name preset, data, domains, machine, versions and seeds of a run ({error}); run dglab "
            "reproduce again, it reuses what is trained"
        ) from error
    return record


def is_streets(record: dict[str, Any]) -> bool:
    """Whether a run was on the embedded streets, for which there are recorded results."""
    return isinstance(record["data"]["identity"], dict)  # a size; that of a prepared root is its fingerprint


def draw_figures(frame: pd.DataFrame, record: dict[str, Any]) -> dict[str, Figure]:
    """The figures that do not belong to a single task, by the name of their file.

    Args:
        frame: the tidy table of all studies.
        record: of the run, see :func:`read_record`.
    """
    drawn = {}
    priors = frame[frame["study"] == "prior"]
    if len(priors):
        grid = prior_grid(priors)
        titles = {letter: record["domains"][letter] for letter in grid["domain"].unique()}
        drawn["prior"] = figures.prior_curves(grid, titles)
    response = dose_response(frame)
    if len(response):
        drawn["style_dose"] = figures.dose_response(response)
    if (frame["study"] == "domains_per_pass").any():
        drawn["domains_per_pass"] = figures.domains_per_pass(frame)
    policies = frame[frame["study"] == "selection_policy"]
    if len(policies):
        drawn["table05_selection_policy"] = figures.selection_policy(policies)
        drawn |= _sweeps(frame, are_the_papers(record["domains"]))
    return drawn


def _sweeps(frame: pd.DataFrame, of_paper: bool) -> dict[str, Figure]:
    """Tables 6 and 7, where more than one value was run."""
    drawn = {}
    for study, name, setting, title in (
        ("style_layer", "table06_style_layer", "style_layer", "style layer"),
        ("queue_size", "table07_queue_size", "capacity", "queue size Q"),
    ):
        rows = frame[frame["study"] == study]
        published = paper.table(name).rename(columns={study: "x"}) if of_paper else None
        if rows[setting].nunique() > 1:
            drawn[name] = figures.sweep(rows, setting, title, published, log=study == "queue_size")
    return drawn


def _tasks(frame: pd.DataFrame, study: str) -> list[str]:
    """The tasks of a study, in the order of the table."""
    return frame[frame["study"] == study]["task"].unique().tolist()


def _pictures(drawn: dict[str, dict[str, Figure]], folder: Path) -> dict[str, dict[str, str]]:
    """Figures, by scale and name, as encoded pictures by name and scale; each is a file, too."""
    found: dict[str, dict[str, str]] = {}
    for scale, of_scale in drawn.items():
        for name, figure in of_scale.items():
            file = f"{name}_recorded.png" if scale == AS_RECORDED else f"{name}.png"
            found.setdefault(name, {})[scale] = _png(figure, folder / file)
    return found


def _png(figure: Figure, path: Path) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    with written_whole(path) as beside:
        beside.write_bytes(buffer.getvalue())
    return _encoded(buffer.getvalue())


def _encoded(picture: bytes) -> str:
    return base64.b64encode(picture).decode()


def _without_classes(frame: pd.DataFrame) -> pd.DataFrame:
    """A table without the IoU of single classes, which are four rows of five and which one table alone shows."""
    return frame[frame["metric"] != "iou"]


def _recorded(record: pd.DataFrame | None, classes: list[Row]) -> dict[str, Any]:
    """The part of the page about the recorded study, with the rows of Table 2; empty if there is no such study."""
    if record is None:
        return {}
    record = record[record["train_method"] != "gmp"]  # a part of its own
    left_out = each_left_out(record)
    found: dict[str, list[Row]] = {
        "Which networks": overview.networks_table(record),
        "Table 1 on our target, and the bound": tables.bound_table(record),
        "Table 2: each class": classes,
        "Table 3: the paper's four tasks": tables.tasks_table(record),
        "Each domain left out in turn": left_out_table(left_out),
        "The same over the targets": rows_over_targets(left_out),
        "The seven categories": tables.categories_table(record),
        "All at the learning rate of MLDG": tables.common_rate_table(record),
        "Table 4: meta-train : meta-test": tables.split_table(record),
        "Table 8: how many source domains": tables.sources_table(record),
        "Table 8 with the number of images fixed": tables.sources_table(record, fixed=True),
        "Table 10: other networks": tables.backbones_table(record),
        "The claims: what was expected, and what came out": expected_of_claims(record),
        "Train as you test: what was predicted, and what came out": as_rows(train_as_you_test(record)),
        "Domains in a BatchNorm batch: source BN / re-estimated / TN, M = 4": tables.domains_per_pass_table(record),
        "Twice the steps: what came out, and what was expected": twice_the_steps(record),
        "Dose and response: gain over source BN by dose": dose_table(record),
        "Dose and response: what was predicted, and what came out": as_rows(dose_predictions(record)),
    }
    if AGAIN.exists():
        again = read_recorded(AGAIN)
        found["Stability: the same networks on other CPU instructions (SSE4.1), moves in points"] = move_rows(
            record, again
        )
        found["Stability: the verdicts with those networks"] = verdict_rows(record, again)
    titles = {"difference": "cached - joint [95 %]", "agreement": "equal pixels (%)"}
    cached = cached_against_joint(record).round(1).astype(str).rename(columns=titles)  # empty without the study
    found["SIB by cached statistics, one image a pass, beside joint ones"] = cached.to_dict("records")
    found["The inference time"] = tables.inference_table()
    published = {
        "Table 1, as printed (Cityscapes test set)": paper.table("table01_state_of_the_art"),
        "Table 2, as printed (Cityscapes test set)": paper.table("table02_uda_per_class"),
    }
    found |= {title: table.astype(object).fillna("").to_dict("records") for title, table in published.items()}
    return {
        "networks": len(overview.networks(record)),
        "machines": overview.recorded_on(RECORDED),
        "tables": {title: rows for title, rows in found.items() if rows},
    }


def _photometric(frame: pd.DataFrame, folder: Path, prefix: str = "") -> dict[str, Any]:
    """The part about photometric shifts, of a run or of the record; empty if that has none.

    Args:
        frame: a tidy table.
        folder: of the pictures.
        prefix: of their names.
    """
    gains = photometric_gains(frame)
    if gains.empty:
        return {}
    about = {
        TN_4.label: ("TN, M = 4, minus source BN", "TN (M = 4) against source BN on {}, unseen"),
        SELECTION: (SELECTION, "SIB against QIB on a stream of {}, unseen, with every second image under the shift"),
    }
    pictures = []
    for (target, test), part in gains[gains["test"].isin(about)].groupby(["target", "test"], sort=False):
        label, title = about[test]
        name = f"{prefix}photometric_{'selection' if test == SELECTION else 'tn'}_{target}.png"
        counts = sorted(part["trainings"].unique())
        trainings = "one training each" if counts == [1] else f"means of {' and '.join(map(str, counts))} trainings"
        title = f"{title.format(target)}; {trainings}"
        pictures.append({"title": title, "picture": _png(figures.photometric(part, label), folder / name)})
    tables = {"Means over shifts, source BN: gain of TN (M = 4) / SIB (cached) / AdaBN": photometric_means(frame),
              "SIB - QIB, mean over the shifts of colour": selection_means(frame),
              "Gains by dose": photometric_table(gains),
              "What was expected, and what came out": as_rows(photometric_predictions(frame))}  # fmt: skip
    return {"pictures": pictures, "tables": {title: rows for title, rows in tables.items() if rows}}


def _real(record: pd.DataFrame | None, folder: Path) -> dict[str, Any]:
    """The part of the page about five real domains, recorded; empty if there is no record."""
    if record is None:
        return {}
    found: dict[str, list[Row]] = {
        "Each left out in turn": left_out_table(record),
        "A stream of two unseen domains": at_scales(partial(policy_table, of_paper=False), {"real": record}),
        "What was expected, and what came out": five_real_domains(record),
    }
    return {
        "shifts": _photometric(record, folder, "recorded_"),
        "networks": len(overview.networks(record)),
        "machines": overview.recorded_on("real"),
        "tables": {title: rows for title, rows in found.items() if rows},
    }


def _on_gpu(record: pd.DataFrame | None) -> dict[str, Any]:
    """The part of the page about the preset standard, recorded on one GPU; empty if there is no record."""
    if record is None:
        return {}
    main = {"standard": _without_classes(record)}
    of_table_3 = partial(ablation_table, task=tables.MAIN, of_paper=True)
    ablation = at_scales(of_table_3, main)
    claims = overview.claim_rows(main)
    tested = {row["claim"] for row in claims if row[overview.PARTS] != overview.VERDICT}
    found: dict[str, list[Row]] = {
        "Table 3: the main task, with controls": [
            {name: cell for name, cell in row.items() if name != "first"} for row in ablation
        ],
        "Table 9: sources and target": tables.source_and_target_table(main["standard"]),
        "The inference time, one image at a time": tables.inference_on_gpu_table(),
    }
    return {
        "networks": len(overview.networks(record)),
        "machines": overview.recorded_on("standard"),
        "scales": list(main),
        "verdicts": [row for row in claims if row["claim"] in tested],
        "tables": {title: rows for title, rows in found.items() if rows},
    }


def _gmp(folder: Path, frame: pd.DataFrame) -> dict[str, Any]:
    """The part of the page about the second paper (GMP): of this run, or else recorded; empty if there is neither."""
    recorded = {name: recorded_table(name) for name in (RECORDED, "quick")}
    known = {name: _without_classes(table) for name, table in recorded.items() if table is not None}
    scales = {"here": frame} | {f"recorded, {name}": table for name, table in known.items()}
    fullest = sorted(known, key=lambda name: -GMP.rows(known[name])["train_seed"].nunique())  # not one that has begun
    places = {"of this run": frame, **{f"recorded with the preset {name}": known[name] for name in fullest}}
    where, table = next(((w, t) for w, t in places.items() if gmp_tables.has_gmp(t)), (None, frame))
    if where is None:
        return {}
    parts = []
    for title, make, study in GMP_PARTS:
        drawn = gmp_tables.of_task(table, study) if study else ()
        picture = _png(getattr(figures, study)(drawn), folder / "figures" / f"{study}.png") if len(drawn) else None
        parts.append({"title": title, "rows": make(table), "picture": picture})
    # a study of images alone, recorded with another preset than those of two modalities
    between = ((of, gmp_tables.conflict_rows(at)) for of, at in places.items())
    of, rows = next(((of, rows) for of, rows in between if rows), (where, []))
    parts.append({"title": f"The projection between domains, images alone, {of}", "rows": rows, "picture": None})
    scales = {scale: table for scale, table in scales.items() if gmp_tables.has_gmp(table)}
    return {
        "where": where,
        "scales": list(scales),
        "verdicts": overview.gmp_claim_rows(scales),
        "parts": [part for part in parts if part["rows"]],
    }


def _not_run(frame: pd.DataFrame, record: dict[str, Any], of_paper: bool) -> list[dict[str, str]]:
    """What this run lacks: rows with ``what``, ``why`` where the data do not allow it, else the ``command`` to run."""
    impossible: dict[str, str] = record.get("impossible", {})
    other = "" if is_streets(record) else f" --preset {record['preset']['name']} --data ROOT"
    lacking = [verdict.claim for verdict in judge(frame) if verdict.outcome == MISSING] if of_paper else []
    found = []
    for claim in lacking:
        study = NEEDS_STUDY.get(claim.number)
        if study is not None:
            how = {"why": impossible[study]} if study in impossible else {"command": f"--only {study}{other}"}
            found.append({"what": f"Claim {claim.number} ({claim.where})", **how})
    for why in dict.fromkeys(impossible.values()):
        studies = ", ".join(study for study, needed in impossible.items() if needed == why)
        found.append({"what": f"Of the studies: {studies}", "why": why})
    return found


def _classes(frame: pd.DataFrame) -> str:
    """How many of the 19 classes occur."""
    absent = frame[frame["metric"] == "absent_classes"]["value"]
    low, high = int(19 - absent.max()), int(19 - absent.min())
    return str(low) if low == high else f"{low} to {high}"
