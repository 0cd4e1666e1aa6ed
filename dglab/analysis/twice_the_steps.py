"""Is what came out a matter of short training? The predictions 14 to 22 of docs/predictions.md, and their outcomes."""

from typing import NamedTuple

import pandas as pd

from dglab.analysis.intervals import Difference, contrast, paired_difference, per_training
from dglab.analysis.predictions import Prediction
from dglab.analysis.published import MAIN
from dglab.analysis.targets import Tested
from dglab.experiments.methods import (
    ADABN,
    AGG,
    BY_DOMAIN,
    MLDG,
    MLDG_INNER_0,
    SIB,
    SOURCE_BN,
    TN_4,
    TN_5,
    select,
)
from dglab.tasks import parse_task

THE_BOUND = "the bound"


class Expected(NamedTuple):
    """A difference that is measured with the preset's steps and with twice as many, and what was expected of it."""

    better: Tested
    worse: Tested
    expected: str
    of_the_bound: bool = False  # the better network is one trained on the target itself

    @property
    def name(self) -> str:
        """Both sides, as in a table."""
        first, second = (f"{method.label}+{test.label}" for method, test in (self.better, self.worse))
        return f"{THE_BOUND if self.of_the_bound else first} - {second}"


EXPECTED = (
    Expected((MLDG, SOURCE_BN), (AGG, SOURCE_BN), "open"),
    Expected((AGG, TN_4), (AGG, SOURCE_BN), "positive"),
    Expected((MLDG, TN_4), (MLDG, SOURCE_BN), "positive"),
    Expected((BY_DOMAIN, TN_4), (BY_DOMAIN, SOURCE_BN), "positive"),
    Expected((BY_DOMAIN, TN_4), (AGG, TN_4), "positive"),
    Expected((MLDG, TN_4), (MLDG_INNER_0, TN_4), "no difference"),
    Expected((MLDG, SIB), (MLDG, TN_5), "no difference"),
    Expected((MLDG, SIB), (MLDG, ADABN), "open"),
    Expected((AGG, SOURCE_BN), (AGG, SOURCE_BN), "positive", of_the_bound=True),
)


def twice_the_steps(frame: pd.DataFrame) -> list[dict[str, str]]:
    """Each difference with the preset's steps and with twice as many.

    Args:
        frame: a tidy table with the studies ``ablation``, ``bound`` and ``twice_the_steps``; what it lacks is left out.

    Returns:
        A row for each: the number of the prediction, the difference, its mean and 95 % interval with the preset's
        ``steps`` and with twice as many (columns named by the number), what was ``expected`` and the ``outcome``.
    """
    target = parse_task(MAIN).target
    of_target = select(frame, target=target, metric="miou")
    twice = select(of_target, study="twice_the_steps")
    once = of_target[of_target["study"].isin(["ablation", "bound"])]
    once = once[(once["study"] == "bound") | (once["task"] == MAIN)]
    found = []
    for number, expected in enumerate(EXPECTED, start=14):
        gaps = [_difference(rows, expected) for rows in (once, twice)]
        if None not in gaps:
            steps = [f"{rows['steps'].max():,.0f} steps [95 %]" for rows in (once, twice)]
            outcome = Prediction(number, expected.name, target, expected.expected, gaps[1]).outcome
            found.append({
                "prediction": str(number), "difference": expected.name,
                **dict(zip(steps, map(str, gaps), strict=True)), "expected": expected.expected,
                "outcome": "" if expected.expected == "open" else outcome,
            })  # fmt: skip
    return found


def _difference(rows: pd.DataFrame, expected: Expected) -> Difference | None:
    """Paired where both tests are of the same networks; None where one has not run."""
    from_sources = rows["task"] == MAIN
    better = per_training(select(rows[~from_sources if expected.of_the_bound else from_sources], *expected.better))
    worse = per_training(select(rows[from_sources], *expected.worse))
    if expected.better[0] is expected.worse[0] and not expected.of_the_bound:
        return paired_difference(better, worse) if (better - worse).notna().any() else None
    return contrast([(1, better), (-1, worse)]) if len(better) and len(worse) else None
