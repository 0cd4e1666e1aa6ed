"""Means, deviations and intervals from the tidy table; the two kinds of deviation are kept apart."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from dglab.experiments.methods import SIB, SIB_CACHED, Shown, select, trained_in


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


MARGIN = 0.5  # points of mIoU: smaller differences do not matter in practice (docs/predictions.md)


class Difference(NamedTuple):
    """A difference in points of mIoU (or percent), with its interval."""

    mean: float
    low: float
    high: float
    trainings: int  # that it rests on
    margin: float = MARGIN  # what counts as no difference

    @property
    def verdict(self) -> str:
        """Of the claim that it is positive.

        ``holds`` or ``contradicted`` where the interval lies on one side of zero, ``no difference`` where it lies
        inside the margin, else ``open``.
        """
        if self.low > 0:
            return "holds"
        if self.high < 0:
            return "contradicted"
        return "no difference" if max(-self.low, self.high) < self.margin else "open"

    @property
    def sign(self) -> str:
        """The same of a difference that no claim speaks of: ``positive``, ``negative``, ``no difference``, ``open``."""
        return {"holds": "positive", "contradicted": "negative"}.get(self.verdict, self.verdict)

    def __str__(self) -> str:
        return f"{self.mean:+.2f} [{self.low:+.2f}, {self.high:+.2f}]" if np.isfinite(self.low) else f"{self.mean:+.2f}"


def paired_difference(
    better: pd.Series, worse: pd.Series, *, level: float = 0.95, margin: float = MARGIN
) -> Difference:
    """The mean of ``better - worse`` over training seeds, with its t-interval: for two tests of the same networks.

    Args:
        better, worse: values indexed by training seed (and task, if several), averaged over orders of arrival.
        level: of the interval.
        margin: see :class:`Difference`.
    """
    gaps = (better - worse).dropna().to_numpy(float)
    if len(gaps) == 0:
        raise ValueError("no training seed is common to both sides")
    mean = float(gaps.mean())
    if len(gaps) == 1:
        return Difference(mean, -np.inf, np.inf, 1, margin)
    half = stdtrit(len(gaps) - 1, (1 + level) / 2) * gaps.std(ddof=1) / np.sqrt(len(gaps))
    return Difference(mean, mean - half, mean + half, len(gaps), margin)


def contrast(groups: Sequence[tuple[float, pd.Series]], *, level: float = 0.95, margin: float = MARGIN) -> Difference:
    """A weighted sum of means over trainings, with its interval: for networks that were trained in different ways.

    ``[(1, mldg), (-1, agg)]`` is their difference. The model has a mean for each group and variances of their own
    (ordinary least squares with White's correction HC2); the interval's degrees of freedom are those of Welch, for with
    variances of their own a group of two trainings is worth less than the sum of all suggests. Seeds are no pairs here.
    On record the results of one seed resemble each other among the methods that train by domain, where this interval is
    rather too wide, and in no one direction between AGG and these (:func:`seed_correlation`; docs/results.md).

    Source: MacKinnon and White, Journal of Econometrics 29, 1985; Welch, Biometrika 34, 1947.

    Args:
        groups: weight, and one value a training.
        level: of the interval.
        margin: see :class:`Difference`.
    """
    from statsmodels.regression.linear_model import OLS  # imported here because it takes seconds

    weights, values = zip(*groups, strict=True)
    values = [group.dropna().to_numpy(float) for group in values]
    if min(map(len, values)) == 0:
        raise ValueError("a group has no training")
    mean = float(sum(weight * group.mean() for weight, group in zip(weights, values, strict=True)))
    trainings = sum(map(len, values))
    if min(map(len, values)) == 1:
        return Difference(mean, -np.inf, np.inf, trainings, margin)
    member = np.repeat(np.eye(len(values)), [len(group) for group in values], axis=0)  # trainings x groups
    model = OLS(np.concatenate(values), member).fit(cov_type="HC2")
    error = model.t_test(np.array(weights)).sd.item()
    shares = [weight**2 * group.var(ddof=1) / len(group) for weight, group in zip(weights, values, strict=True)]
    spread = sum(share**2 / (len(group) - 1) for share, group in zip(shares, values, strict=True))
    half = stdtrit(sum(shares) ** 2 / spread, (1 + level) / 2) * error if spread else 0.0
    return Difference(mean, mean - half, mean + half, trainings, margin)


def seed_correlation(frame: pd.DataFrame, metric: str = "miou") -> float:
    """How similar the results of one seed are across training methods: the intraclass correlation, 0 for not at all.

    Were it high, pairs of trainings by seed would tell methods apart more sharply than means do.

    Args:
        frame: rows of one task and one test method, of several training methods and seeds.
        metric: which rows.
    """
    rows = frame[frame["metric"] == metric]
    names = ["train_method", "inner_lr", "split"]
    values = rows.groupby([*names, "train_seed"], dropna=False)["value"].mean().unstack("train_seed")
    values = values.dropna(axis=1)  # seeds that every method has
    centred = values.sub(values.mean(axis=1), axis=0).to_numpy()
    methods, seeds = centred.shape
    between = methods * (centred.mean(axis=0) ** 2).sum() / (seeds - 1)
    within = ((centred - centred.mean(axis=0)) ** 2).sum() / ((methods - 1) * (seeds - 1))
    return float((between - within) / (between + (methods - 1) * within))


def common_seeds(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """The rows of those training seeds that every value of a column has: else means differ by their seeds, too.

    Args:
        frame: rows of a tidy table.
        column: whose values are to be compared; rows without one are left out.
    """
    there = frame[frame[column].notna()]
    values = there.groupby("train_seed")[column].nunique()
    return there[there["train_seed"].isin(values.index[values == there[column].nunique()])]


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


def per_domain(frame: pd.DataFrame, *shown: Shown) -> pd.Series:
    """mIoU by (task, training seed, domain tested on): a run that was stopped has one test on some domains alone."""
    rows = select(frame, *shown, metric="miou")
    return rows.groupby(["task", "train_seed", "domain_evaluated"])["value"].mean()


def on_target(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of tests on the unseen target."""
    return frame[frame["domain_evaluated"] == frame["target"]]


def on_sources(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of tests on the source domains."""
    return frame[frame["domain_evaluated"] != frame["target"]]


def cached_against_joint(frame: pd.DataFrame) -> pd.DataFrame:
    """Cached against joint statistics: their accuracy, one row for each task and training method that has both.

    Returns:
        ``task``, ``trained with``; ``joint`` and ``cached``, mean mIoU; ``difference``, cached - joint with its
        interval over trainings; ``agreement``, percent of pixels that both predict alike.
    """
    rows = frame[frame["study"] == "cached_statistics"]
    found = []
    for task in rows["task"].unique():
        for method in trained_in(rows):
            part = method.rows(rows[rows["task"] == task])
            joint, cached = per_training(part, SIB), per_training(part, SIB_CACHED)
            both = (cached - joint).dropna().index
            if both.empty:
                continue
            found.append({
                "task": task, "trained with": method.label, "joint": joint[both].mean(), "cached": cached[both].mean(),
                "difference": str(paired_difference(cached, joint)),
                "agreement": per_training(part, SIB_CACHED, metric="agreement").mean(),
            })  # fmt: skip
    return pd.DataFrame(found)
