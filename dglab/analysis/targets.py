"""Comparisons over several targets, each left out in turn: the target is the unit.

Trainings tell how far a difference on *one* target moves from training to training. How far it moves from target to
target only other targets tell: of five, five means. Tasks share sources, so these are not independent: an interval over
targets describes those at hand, and is no forecast for the next.
"""

from collections.abc import Callable
from typing import NamedTuple

import pandas as pd

from dglab.analysis.claims import LEVEL
from dglab.analysis.intervals import (
    Difference,
    contrast,
    on_sources,
    on_target,
    paired_difference,
    per_domain,
    per_training,
)
from dglab.experiments.methods import (
    ADABN,
    AGG,
    BY_DOMAIN,
    MLDG,
    MLDG_INNER_0,
    SIB,
    SOURCE_BN,
    TN_1,
    TN_4,
    TN_5,
    Normalization,
    TrainingMethod,
)

Tested = tuple[TrainingMethod, Normalization]


class Compared(NamedTuple):
    """A difference that a claim of the paper says is positive, or that docs/predictions.md names."""

    about: str
    better: Tested
    worse: Tested
    study: str = "ablation"
    where: Callable[[pd.DataFrame], pd.DataFrame] = on_target

    @property
    def name(self) -> str:
        """Both sides, as in a table: "MLDG+TN, M = 4 - MLDG+source BN"."""
        sides = " - ".join(f"{method.label}+{test.label}" for method, test in (self.better, self.worse))
        return sides + (", on the sources" if self.where is on_sources else "")


COMPARED = (
    Compared("claim 1", (MLDG, SOURCE_BN), (AGG, SOURCE_BN)),
    Compared("claim 2", (AGG, SOURCE_BN), (AGG, TN_4)),
    Compared("claim 2", (MLDG, TN_4), (MLDG, SOURCE_BN)),
    Compared("claim 3", (MLDG, SIB), (MLDG, TN_5)),
    Compared("claim 5", (MLDG, TN_1), (MLDG, SOURCE_BN)),
    Compared("claim 10", (MLDG, SIB), (MLDG, SOURCE_BN), "source_and_target", on_sources),
    Compared("claim 10", (AGG, SOURCE_BN), (AGG, SIB), "source_and_target", on_sources),
    Compared("claim 12", (MLDG, SIB), (MLDG, ADABN)),
    Compared("the whole method", (MLDG, SIB), (AGG, SOURCE_BN)),
    Compared("train as you test", (AGG, SOURCE_BN), (BY_DOMAIN, SOURCE_BN)),
    Compared("train as you test", (BY_DOMAIN, TN_4), (AGG, TN_4)),
    Compared("the inner step", (MLDG, TN_4), (MLDG_INNER_0, TN_4)),
    *(
        Compared("prediction 1", (method, TN_4), (method, SOURCE_BN), "tn_on_sources", on_sources)
        for method in (AGG, BY_DOMAIN, MLDG_INNER_0, MLDG)
    ),
)


class OverTargets(NamedTuple):
    """A comparison on each target, and over all of them."""

    compared: Compared
    each: dict[str, Difference]  # by target, over its trainings
    overall: Difference  # over the targets; its interval is widened for the differences about the same


def over_targets(frame: pd.DataFrame) -> list[OverTargets]:
    """The comparisons whose rows a table has, on each target and over the targets.

    On one target, two tests of the same networks are paired, and networks trained in two ways are compared by their
    means; over the targets stands the interval of the differences of each.

    Args:
        frame: a tidy table of several tasks with one target each, no two with the same.
    """
    found = []
    for compared in COMPARED:
        rows = compared.where(frame[frame["study"] == compared.study])
        targets = rows.drop_duplicates("task").set_index("task")["target"]
        if compared.better[0] is compared.worse[0]:  # two tests of the same networks, on the same domains
            gaps = (per_domain(rows, *compared.better) - per_domain(rows, *compared.worse)).dropna()
            of_network = gaps.groupby(["task", "train_seed"]).mean()
            means = of_network.groupby("task").mean()
            each = {task: paired_difference(of_network[task], 0 * of_network[task]) for task in means.index}
        else:
            better, worse = (per_training(rows, *tested) for tested in (compared.better, compared.worse))
            means = (better.groupby("task").mean() - worse.groupby("task").mean()).dropna()
            each = {task: contrast([(1, better[task]), (-1, worse[task])]) for task in means.index}
        if each:
            share = (1 - LEVEL) / sum(other.about == compared.about for other in COMPARED)
            overall = paired_difference(means, 0 * means, level=1 - share)
            by_target = {target: each[task] for task, target in targets.items() if task in each}
            found.append(OverTargets(compared, by_target, overall))
    return found


def rows_over_targets(frame: pd.DataFrame) -> list[dict[str, str]]:
    """The same as rows of text: points of mIoU, 95 % intervals, and how the difference over the targets is judged."""
    found = over_targets(frame)
    targets = dict.fromkeys(target for row in found for target in row.each)
    return [
        {
            "about": row.compared.about,
            "difference": row.compared.name,
            **{f"unseen: {target}": str(row.each.get(target, "not run")) for target in targets},
            "over the targets": str(row.overall),
            "targets": str(row.overall.trainings),
            "it is": row.overall.sign,
        }
        for row in found
    ]
