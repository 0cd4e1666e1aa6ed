"""From the tidy table to means and deviations, the two kinds of deviation kept apart."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from dglab.experiments.methods import SIB, SIB_CACHED, TRAINING_METHODS, Shown, select


def summarize(frame: pd.DataFrame, by: Sequence[str], metric: str = "miou") -> pd.DataFrame:
    """Mean and deviations of a metric for each combination of ``by``.

    Args:
        frame: a tidy table.
        by: columns to group by.
        metric: which rows.

    Returns:
        One row a group: ``mean``; ``train_sd``, the deviation over trainings (each averaged over orders of arrival);
        ``test_sd``, the deviation over orders of arrival (averaged over trainings), which is what the paper prints
        after ±; ``trainings``, their number. A deviation of a single value is nan.
    """
    rows = frame[frame["metric"] == metric]
    by = list(by)
    each = rows.groupby([*by, "train_seed"], dropna=False, sort=False)["value"].agg(["mean", "std"]).reset_index()
    groups = each.groupby(by, dropna=False, sort=False)
    return groups.agg(
        mean=("mean", "mean"), train_sd=("mean", "std"), test_sd=("std", "mean"), trainings=("mean", "size")
    ).reset_index()


class Difference(NamedTuple):
    """A paired difference over training seeds in points of mIoU (or percent), with its 95 % t-interval."""

    mean: float
    low: float
    high: float
    trainings: int

    @property
    def sign(self) -> int:
        """+1 or -1 where the interval lies on one side of zero, else 0: not decided."""
        return 1 if self.low > 0 else -1 if self.high < 0 else 0

    def __str__(self) -> str:
        return f"{self.mean:+.2f} [{self.low:+.2f}, {self.high:+.2f}]" if self.trainings > 1 else f"{self.mean:+.2f}"


def paired_difference(better: pd.Series, worse: pd.Series) -> Difference:
    """The mean of ``better - worse`` over training seeds, with its t-interval.

    Args:
        better, worse: values indexed by training seed (and task, if several), averaged over orders of arrival.
    """
    gaps = (better - worse).dropna().to_numpy(float)
    if len(gaps) == 0:
        raise ValueError("no training seed is common to both sides")
    mean = float(gaps.mean())
    if len(gaps) == 1:
        return Difference(mean, -np.inf, np.inf, 1)
    half = stats.t.ppf(0.975, len(gaps) - 1) * gaps.std(ddof=1) / np.sqrt(len(gaps))
    return Difference(mean, mean - half, mean + half, len(gaps))


def per_training(
    frame: pd.DataFrame, *shown: Shown, metric: str = "miou", aggregate: str = "mean", **fields: object
) -> pd.Series:
    """Values by (task, training seed): their mean over orders of arrival.

    Args:
        frame: a tidy table.
        shown: training methods and normalizations whose rows are meant: ``per_training(frame, MLDG, TN_4)``.
        metric: which rows.
        aggregate: ``"std"`` gives the deviation over orders of arrival instead.
        fields: further columns and their values.
    """
    rows = select(frame, *shown, metric=metric, **fields)
    return rows.groupby(["task", "train_seed"])["value"].agg(aggregate)


def cached_against_joint(frame: pd.DataFrame) -> pd.DataFrame:
    """What one pass by kept moments costs in accuracy: a row for each task and training method.

    Returns:
        ``task``, ``trained with``; ``joint`` and ``cached``, mean mIoU; ``difference``, cached - joint with its
        interval over trainings; ``agreement``, percent of pixels that both predict alike.
    """
    rows = frame[frame["study"] == "cached_statistics"]
    found = []
    for task in rows["task"].unique():
        for method in TRAINING_METHODS:
            part = method.rows(rows[rows["task"] == task])
            if part.empty:
                continue
            joint, cached = per_training(part, SIB), per_training(part, SIB_CACHED)
            found.append({
                "task": task, "trained with": method.label, "joint": joint.mean(), "cached": cached.mean(),
                "difference": str(paired_difference(cached, joint)),
                "agreement": per_training(part, SIB_CACHED, metric="agreement").mean(),
            })  # fmt: skip
    return pd.DataFrame(found)
