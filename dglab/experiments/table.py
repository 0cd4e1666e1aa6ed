"""The one tidy table of results: one value per row, with the fields of its trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dglab.classes import CLASS_NAMES
from dglab.experiments.methods import display_name
from dglab.experiments.trials import Trial
from dglab.testtime.testing import Result
from dglab.utils.errors import InputError
from dglab.utils.files import written_whole

if TYPE_CHECKING:
    from dglab.experiments.runner import Lab

COLUMNS = (
    "study", "preset", "data", "task", "train_method", "test_method", "method", "backbone", "weights", "target",
    "domain_evaluated", "batch_size", "neighbors", "capacity", "style_layer", "policy", "statistics", "prior", "guard",
    "train_seed", "test_seed", "order", "inner_lr", "alpha", "split", "domains_per_pass", "train_images", "steps",
    "lr", "batch_per_domain", "shift", "dose", "modalities", "variant", "alpha_k", "alpha_p", "branch", "without",
    "metric", "class", "value",
)  # fmt: skip
OF_GMP = ("variant", "alpha_k", "alpha_p", "branch", "without")  # a file may lack them where none of its rows has one
ADDED = (*OF_GMP, "lr", "batch_per_domain")  # a file of an earlier version may lack them
LABELS = [column for column in COLUMNS if column not in ("method", "metric", "class", "value")]  # identify a trial
TYPES = {
    **dict.fromkeys(("batch_size", "neighbors", "capacity", "train_seed", "test_seed", "order", "domains_per_pass",
                     "train_images", "steps", "batch_per_domain"), "Int64"),
    **dict.fromkeys(("prior", "lr", "inner_lr", "alpha", "dose", "alpha_k", "alpha_p", "value"), "float64"),
    **dict.fromkeys(("style_layer", "policy", "statistics", "guard", "split", "shift", "modalities", "variant",
                     "branch", "without", "class"), "string"),
}  # fmt: skip
# types of the columns with empty cells, which could not be told from a CSV file


def tidy(lab: Lab, results: Mapping[Trial, Result]) -> pd.DataFrame:
    """Results as rows, one value each; IoU, selection accuracy and agreement in percent.

    Metrics: ``miou``; ``miou_low`` and ``miou_high``, its interval over images; ``iou`` of each class (empty where
    absent); ``category_miou``, the mean over the seven categories; ``absent_classes``, the number that the mean leaves
    out; ``selection_accuracy`` of a bank on a mixed stream; ``agreement`` of cached statistics with joint ones.
    """
    labels = labels_of(lab, list(results)).to_dict("records")
    rows = [{**label, **value} for label, result in zip(labels, results.values(), strict=True) for value in _of(result)]
    return _typed(rows)


def labels_of(lab: Lab, trials: Sequence[Trial]) -> pd.DataFrame:
    """The columns that describe trials: all but those of the values, one row per trial."""
    where = {"preset": lab.preset.name, "data": lab.data_name}
    rows = [{**trial.fields, **where, "train_images": _train_images(lab, trial)} for trial in trials]
    for row in rows:
        row["method"] = display_name(row)
    return _typed(rows)[[*LABELS, "method"]]


def _typed(rows: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(TYPES)


def _train_images(lab: Lab, trial: Trial) -> int | None:
    """The number of images of each source domain; None where they differ."""
    domains = lab.domains_of(trial.training)
    [*counts] = {len(domains[letter].train) for letter in trial.training.sources}
    return counts[0] if len(counts) == 1 else None


def _of(result: Result) -> list[dict[str, Any]]:
    """The metric, class and value of each row of a trial."""
    matrix = result.matrix
    values = [
        ("miou", 100 * matrix.miou()),
        ("category_miou", 100 * matrix.of_categories().miou()),
        ("absent_classes", matrix.num_absent),
    ]
    if result.interval is not None:
        values += [("miou_low", 100 * result.interval.low), ("miou_high", 100 * result.interval.high)]
    if result.selection_accuracy is not None:
        values.append(("selection_accuracy", 100 * result.selection_accuracy))
    if result.agreement is not None:
        values.append(("agreement", 100 * result.agreement))
    each = [{"metric": metric, "value": value} for metric, value in values]
    return each + [
        {"metric": "iou", "class": name, "value": 100 * value}
        for name, value in zip(CLASS_NAMES, matrix.iou(), strict=True)
        if np.isfinite(value)
    ]


def write_table(frame: pd.DataFrame, path: Path) -> None:
    """Write a tidy table as CSV: values with four decimals, settings in full."""
    values = frame["value"].map("{:.4f}".format)
    with written_whole(path) as beside:
        frame.assign(value=values).to_csv(beside, index=False, columns=list(COLUMNS))


def read_table(path: Path | str) -> pd.DataFrame:
    """Read a tidy table from its file, with the types of its columns restored.

    Raises:
        InputError: for a missing or damaged file, or one with other columns.
    """
    if not Path(path).is_file():
        raise InputError(f"there is no table {path}; dglab reproduce writes one")
    try:
        frame = with_empty_columns(pd.read_csv(path, dtype=TYPES), COLUMNS)
    except (OSError, ValueError) as error:  # not text, no columns, words where numbers belong: pandas' are ValueErrors
        raise InputError(
            f"{path} cannot be read as a table ({error}); run dglab reproduce again, it reuses what is trained"
        ) from error
    if tuple(frame.columns) != COLUMNS:
        missing, foreign = set(COLUMNS) - set(frame.columns), set(frame.columns) - set(COLUMNS)
        raise InputError(
            f"{path} is not a table of this version (missing columns: {', '.join(sorted(missing)) or 'none'}; unknown "
            f"ones: {', '.join(sorted(foreign)) or 'none'}); run dglab reproduce again, it reuses what is trained"
        )
    return frame


def with_empty_columns(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Add columns that are newer than a file to the table read from it, as empty ones.

    A table that lacks other columns, or has unknown ones, is returned unchanged.

    Args:
        frame: the table as read.
        columns: the columns that it should have, in order.
    """
    lacking = [column for column in columns if column not in frame]
    if not lacking or not set(lacking) <= set(ADDED) or not set(frame.columns) <= set(columns):
        return frame
    return frame.assign(**dict.fromkeys(lacking)).astype({c: TYPES[c] for c in lacking})[list(columns)]
