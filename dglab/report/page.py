"""The report: one self-contained page, the ablation table and the batch-size figure first, ours beside the paper's."""

import base64
import io
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from matplotlib.figure import Figure

from dglab import __version__, paper
from dglab.analysis.claims import Verdict, judge
from dglab.analysis.intervals import cached_against_joint, summarize
from dglab.analysis.signals import prior_grid
from dglab.experiments.lab import Lab
from dglab.experiments.studies import VARIANTS, domain_name, main_tasks, mixed_task
from dglab.report.examples import example_predictions
from dglab.utils.files import written_whole

NOT_RUN = (
    ("Tables 1 and 2", "need the Cityscapes benchmark's test server; the published figures are in dglab.paper"),
    ("Tables 3, 9 and 11", "their tasks other than the one above"),
    ("Table 4", "meta-train : meta-test ratio; train with --split 3:1, 2:2, 1:3"),
    ("Table 8", "number of source domains"),
    ("Table 10", "DeepLabV3 and HRNet"),
    ("Inference time", "run dglab bench testtime"),
)
MISSING = "not run"


def write_report(lab: Lab, frame: pd.DataFrame, *, machine: str, minutes: float) -> Path:
    """Write ``report.html`` and the figures of the tables beside it.

    Args:
        lab: where the study took place.
        frame: the tidy table of all studies.
        machine: what it was made on.
        minutes: how long this call took, training reused or not.

    Returns:
        The path of the page.
    """
    streets = lab.data == "streets"
    figures = {name: _png(figure, lab.out / "figures" / f"{name}.png") for name, figure in _figures(lab, frame).items()}
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((resources.files("dglab.report") / "report.html.j2").read_text(encoding="utf-8"))
    names = [str(task) for task in main_tasks(lab)]
    tables = [(name, ablation_table(frame, name, streets), adabn_table(frame, name, streets)) for name in names]
    page = template.render(
        version=__version__, preset=lab.preset, data=lab.data_name, streets=streets, machine=machine,
        minutes=f"{minutes:.1f}", tasks=tables,
        mixed=str(mixed_task(lab)) if mixed_task(lab) else None, policies=policy_table(frame, streets),
        cached=cached_against_joint(frame).to_dict("records"),
        figures=figures, verdicts=[_verdict(v) for v in judge(frame)] if streets else [],
        not_run=NOT_RUN if streets else [], classes=_classes(frame),
    )  # fmt: skip
    with written_whole(lab.out / "report.html") as beside:
        beside.write_text(page, encoding="utf-8")
    return lab.out / "report.html"


def _figures(lab: Lab, frame: pd.DataFrame) -> dict[str, Figure]:
    figures = {}
    for task in main_tasks(lab):
        suffix = "" if lab.data == "streets" else f"_{task.target}"
        rows = frame[frame["task"] == str(task)]
        figures[f"figure4_predictions{suffix}"] = example_predictions(lab, task)
        figures[f"figure5_batch_size{suffix}"] = figures.batch_size(rows[rows["study"] == "batch_size"])
        figures[f"table03_controls{suffix}"] = figures.gain_explained(rows[rows["study"] == "ablation"])
        figures[f"table09_source_and_target{suffix}"] = figures.source_and_target(
            rows[rows["study"] == "source_and_target"]
        )
    grid = prior_grid(lab)
    titles = {letter: domain_name(letter, lab) for letter in grid["domain"].unique()}
    figures["prior"] = figures.prior_curves(grid, titles)
    if mixed_task(lab):
        figures["table05_selection_policy"] = figures.selection_policy(frame[frame["study"] == "selection_policy"])
        for study, column, label, table, x in (
            ("style_layer", "style_layer", "style layer", "table06_style_layer", "style_layer"),
            ("queue_size", "capacity", "queue size Q", "table07_queue_size", "queue_size"),
        ):
            published = paper.table(table).rename(columns={x: "x"}) if lab.data == "streets" else None
            rows = frame[frame["study"] == study]
            figures[table] = figures.sweep(rows, column, label, published, log=column == "capacity")
    return figures


def _png(figure: Figure, path: Path) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    with written_whole(path) as beside:
        beside.write_bytes(buffer.getvalue())
    return base64.b64encode(buffer.getvalue()).decode()


def plus_minus(mean: float, deviation: float) -> str:
    """``12.3 ± 0.4``, or ``12.3`` where there is no deviation."""
    return f"{mean:.1f}" if pd.isna(deviation) else f"{mean:.1f} ± {deviation:.1f}"


def ablation_table(frame: pd.DataFrame, task: str, streets: bool) -> list[dict[str, Any]]:
    """Table 3 with controls: one row a training method and normalization, ours beside the paper's.

    Returns:
        Rows with ``training``, ``test``, ``ours`` (mean ± deviation over trainings), ``order`` (deviation over orders
        of arrival, what the paper's ± is), ``paper``.
    """
    means = summarize(frame[(frame["study"] == "ablation") & (frame["task"] == task)], ["method", "batch_size"])
    published = paper.table("table03_ablation").set_index(["method", "task"]) if streets else None
    tests = (("source BN", "", None), ("BN re-estimated", "+BN re-estimated", None), ("TN, M = 1", "+TN", 1),
             ("TN, M = 4", "+TN", 4), ("TN, M = 5", "+TN", 5), ("SIB, M = 4", "+SIB", None))  # fmt: skip
    rows = []
    for variant in VARIANTS:
        for title, suffix, size in tests:
            key = (variant + suffix, task)
            stated = published is not None and key in published.index and size in (None, 1)  # TN's M is not stated
            ours = means[means["method"] == variant + suffix]
            ours = ours[ours["batch_size"].isna() if size is None else ours["batch_size"] == size]
            cells = _cells(ours, published.loc[key] if stated else None)
            rows.append({"training": variant, "test": title, **cells})
    return rows


def _cells(ours: pd.DataFrame, published: pd.Series | None) -> dict[str, str]:
    """What a table shows of one method: ours, its deviation over orders of arrival, the paper's."""
    cells = {"ours": MISSING, "order": "", "paper": "" if published is None else _published(published)}
    if len(ours):
        one = ours.iloc[0]
        cells["ours"] = plus_minus(one["mean"], one["train_sd"])
        cells["order"] = "" if pd.isna(one["test_sd"]) else f"± {one['test_sd']:.2f}"
    return cells


def adabn_table(frame: pd.DataFrame, task: str, streets: bool) -> list[dict[str, Any]]:
    """Table 11: source BN, AdaBN and SIB, for both training methods."""
    means = summarize(frame[(frame["study"] == "adabn") & (frame["task"] == task)], ["method"])
    published = paper.table("table11_adabn").set_index(["method", "task"]) if streets else None
    return [
        {"method": name, **_cells(means[means["method"] == name],
                                  published.loc[(name, task)] if streets and (name, task) in published.index else None)}
        for name in means["method"]
    ]  # fmt: skip


def policy_table(frame: pd.DataFrame, streets: bool) -> list[dict[str, Any]]:
    """Table 5 with controls, for both training methods."""
    rows = frame[frame["study"] == "selection_policy"]
    means = summarize(rows, ["method", "batch_size"])
    accuracy = summarize(rows, ["method"], "selection_accuracy").set_index("method")["mean"]
    published = paper.table("table05_selection_policy").set_index("method")
    table = []
    for (name, size), ours in means.groupby(["method", "batch_size"], dropna=False, sort=False):
        key = {"MLDG": "MLDG+BN"}.get(name, name)
        stated = streets and key in published.index and (pd.isna(size) or size == 1)
        table.append({
            "method": name if pd.isna(size) else f"{name}, M = {size}",
            "accuracy": f"{accuracy[name]:.1f}" if name in accuracy.index else "",
            **_cells(ours, published.loc[key] if stated else None),
        })  # fmt: skip
    return table


def _published(row: pd.Series) -> str:
    return f"{row['miou']:.2f}" + ("" if pd.isna(row["std"]) else f" ± {row['std']:.2f}")


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        "claim": verdict.claim,
        "outcome": verdict.outcome,
        "parts": [f"{name}: {difference}" for name, difference in verdict.parts],
    }


def _classes(frame: pd.DataFrame) -> str:
    absent = frame[frame["metric"] == "absent_classes"]["value"]
    low, high = int(19 - absent.max()), int(19 - absent.min())
    return str(low) if low == high else f"{low} to {high}"
