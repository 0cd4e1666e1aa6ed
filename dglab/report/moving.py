"""The interactive part of the page: sliders for M, Q, layer, prior and dose over recorded results, without a kernel.

All numbers are in tables, which are printed, and shown without JavaScript; a dozen lines of script let a slider select
a column.
"""

from collections.abc import Callable
from importlib import resources
from typing import NamedTuple

import jinja2
import pandas as pd
from markupsafe import Markup

from dglab.analysis.doses import TESTED
from dglab.analysis.intervals import summarize
from dglab.experiments.methods import SOURCE_BN, select, trained_in
from dglab.experiments.recorded import SHIPPED

SHIFTS = SHIPPED / "shifts.csv"  # the photometric series on real streets: docs/guard.md


class Row(NamedTuple):
    """A row of a table: its name, and mean and deviation over trainings for each value of the slider."""

    name: str
    cells: list[tuple[float, float]]  # nan where there is none


class Slider(NamedTuple):
    """A setting to move.

    Args:
        title: of the section.
        label: of the slider.
        values: of the setting, in their order.
        rows: of the table.
        note: where they come from, if not from this run.
    """

    title: str
    label: str
    values: list[str]
    rows: list[Row]
    note: str = ""


def moving_part(frame: pd.DataFrame, recorded: pd.DataFrame | None = None) -> Markup:
    """The HTML of the sliders, empty if the table has none of their studies.

    Args:
        frame: a tidy table, of a run.
        recorded: what ships of the same data; doses that the run lacks are taken from there, and those of real streets
            stand beside them. None for a run on other data.
    """
    sliders = [slider for make in (batch_size, queue_size, style_layer, prior) for slider in make(frame)]
    doses = style_dose(frame)
    if recorded is not None and sliders:
        doses = (doses or style_dose(recorded, "Recorded with the preset full.")) + shift_dose()
    sliders += doses
    template = (resources.files("dglab.report") / "moving.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return Markup(environment.from_string(template).render(sliders=sliders)) if sliders else Markup("")


def batch_size(frame: pd.DataFrame) -> list[Slider]:
    """M of TN, with source BN of the same networks; one slider per task."""
    found = []
    for task, part in frame[frame["study"] == "batch_size"].groupby("task", sort=False):
        sizes = sorted(part["batch_size"].dropna().unique())
        rows = []
        for method in trained_in(part):
            own = method.rows(part)
            rows.append(Row(f"{method.label}, TN", [_cell(select(own, test_method="tn", batch_size=m)) for m in sizes]))
            rows.append(Row(f"{method.label}, source BN", [_cell(SOURCE_BN.rows(own))] * len(sizes)))
        found.append(Slider(f"TN on {_arrow(task)}: test batch size", "M", [f"{m:g}" for m in sizes], rows))
    return found


def queue_size(frame: pd.DataFrame) -> list[Slider]:
    """The queue size Q of SIB."""
    return _of_bank(frame, "queue_size", "capacity", "SIB on {}: queue size", "Q", float)


def style_layer(frame: pd.DataFrame) -> list[Slider]:
    """The style layer of SIB."""
    return _of_bank(frame, "style_layer", "style_layer", "SIB on {}: style layer", "layer", str)


def prior(frame: pd.DataFrame) -> list[Slider]:
    """The share of source statistics in TN; one slider per domain."""
    found = []
    for domain, part in frame[frame["study"] == "prior"].groupby("domain_evaluated", sort=False):
        shares = [*sorted(part["prior"].dropna().unique()), 1.0]
        rows = []
        for method in trained_in(part):
            own = method.rows(part)
            for m in sorted(part["batch_size"].dropna().unique()):
                tn = select(own, test_method="tn", batch_size=m)
                cells = [_cell(select(tn, prior=share)) for share in shares[:-1]] + [_cell(SOURCE_BN.rows(own))]
                rows.append(Row(f"{method.label}, TN, M = {m:g}", cells))
        title = f"TN on {domain}: how much of the source's statistics (1 is source BN)"
        found.append(Slider(title, "share", [f"{share:g}" for share in shares], rows))
    return found


def style_dose(frame: pd.DataFrame, note: str = "") -> list[Slider]:
    """How far the target's style is from the sources'; a slider a task."""
    found = []
    for task, part in frame[frame["study"] == "style_dose"].groupby("task", sort=False):
        doses = sorted(part["dose"].dropna().unique())
        rows = [
            Row(f"{method.label}, {test.label}", [_cell(test.rows(select(method.rows(part), dose=d))) for d in doses])
            for method in trained_in(part)
            for test in (SOURCE_BN, *TESTED)
        ]
        title = f"Normalizations on {_arrow(task)}: dose of style (0 a source's, 1 the target's)"
        found.append(Slider(title, "dose", [f"{dose:g}" for dose in doses], [row for row in rows if _any(row)], note))
    return found


def shift_dose() -> list[Slider]:
    """Real streets made dark, flat or hazy, dose by dose; a slider a shift."""
    found = []
    for shift, part in pd.read_csv(SHIFTS).groupby("shift"):
        rows = [
            Row(f"{images}: {test}", list(zip(one["miou"], one["deviation"], strict=True)))
            for (images, test), one in part.groupby(["images", "test"], sort=False)
        ]
        doses = [f"{dose:g}" for dose in part["dose"].unique()]
        note = "Recorded, means over AGG, by domain and MLDG, trained on CamVid's recordings: see docs/guard.md."
        found.append(Slider(f"Normalizations on real streets, M = 4: dose of {shift}", "dose", doses, rows, note))
    return found


def _any(row: Row) -> bool:
    return any(mean == mean for mean, _ in row.cells)


def _of_bank(
    frame: pd.DataFrame, study: str, column: str, title: str, label: str, order: Callable[[str], float | str]
) -> list[Slider]:
    found = []
    for task, part in frame[frame["study"] == study].groupby("task", sort=False):
        values = sorted(part[column].dropna().unique(), key=order)
        rows = []
        for method in trained_in(part):
            each = [select(method.rows(part), **{column: value}) for value in values]
            rows.append(Row(f"{method.label}, mIoU", [_cell(one) for one in each]))
            rows.append(Row(f"{method.label}, right domain", [_cell(one, "selection_accuracy") for one in each]))
        shown = [value if isinstance(value, str) else f"{value:g}" for value in values]
        found.append(Slider(title.format(_arrow(task)), label, shown, rows))
    return found


def _cell(rows: pd.DataFrame, metric: str = "miou") -> tuple[float, float]:
    """Mean and deviation over trainings, each averaged over orders of arrival."""
    found = summarize(rows, ["task"], metric)
    return (found["mean"].item(), found["train_sd"].item()) if len(found) else (float("nan"), float("nan"))


def _arrow(task: str) -> str:
    return task.replace("->", " → ")
