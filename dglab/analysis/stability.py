"""How far figures move when the same networks are trained and tested again on other CPU instructions.

Sums are then taken in another order, the last bits differ, and training amplifies them. If what is left is a second
draw, as by another seed, the moves have the deviation over trainings times the root of two; and a verdict that changes
was near its limit.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from dglab.analysis.claims import judge
from dglab.analysis.intervals import per_training
from dglab.experiments.methods import SIB, SOURCE_BN, TN_1, TN_4, Normalization, TrainingMethod, trained_in
from dglab.experiments.table import LABELS

TESTS = (SOURCE_BN, TN_1, TN_4, SIB)


class Moved(NamedTuple):
    """The moves of one test of the networks of one method, in points of mIoU: again - recorded."""

    method: TrainingMethod
    test: Normalization
    gaps: pd.Series  # one a network
    deviation: float  # over the recorded trainings, of all seeds; the mean of several tasks


class VerdictMoved(NamedTuple):
    """A claim's verdict as recorded, and with networks that were trained again in the place of the recorded ones.

    ``alone`` are the verdicts of those networks by themselves, recorded and again. Beside trainings that were not run
    again a verdict moves less.
    """

    claim: str
    recorded: str
    again: str
    alone: tuple[str, str]


def moves(recorded: pd.DataFrame, again: pd.DataFrame) -> list[Moved]:
    """The moves of each training method and normalization on the study ``ablation``.

    Args:
        recorded: a tidy table.
        again: rows of the same trials, of fewer networks.
    """
    first, second = (frame[frame["study"] == "ablation"] for frame in (recorded, again))
    found = []
    for method in trained_in(second):
        for test in TESTS:
            before, after = (per_training(frame, method, test) for frame in (first, second))
            gaps = (after - before).dropna()
            if len(gaps):
                tasks = gaps.index.unique("task")
                deviation = before[before.index.isin(tasks, level="task")].groupby("task").std().mean()
                found.append(Moved(method, test, gaps, deviation))
    return found


def replaced(recorded: pd.DataFrame, again: pd.DataFrame) -> pd.DataFrame:
    """The recorded table with the rows of those trials that were run again in the place of their own."""
    return pd.concat([recorded[~_run_again(recorded, again)], again], ignore_index=True).astype(recorded.dtypes)


def _run_again(recorded: pd.DataFrame, again: pd.DataFrame) -> np.ndarray:
    """Which rows are of trials that were run again: one bool a row."""
    names = [name for name in LABELS if name != "preset"]
    key, other = (pd.MultiIndex.from_frame(frame[names].astype("string").fillna("")) for frame in (recorded, again))
    return key.isin(other)


def verdicts(recorded: pd.DataFrame, again: pd.DataFrame) -> list[VerdictMoved]:
    """Each claim's verdict with the one and the other networks."""
    first = recorded[_run_again(recorded, again)]
    judged = (judge(frame) for frame in (recorded, replaced(recorded, again), first, again))
    return [
        VerdictMoved(
            f"{one.claim.number}. {one.claim.text}", one.outcome, other.outcome, (alone.outcome, alone_again.outcome)
        )
        for one, other, alone, alone_again in zip(*judged, strict=True)
    ]


def move_rows(recorded: pd.DataFrame, again: pd.DataFrame) -> list[dict[str, str]]:
    """The moves as rows of text."""
    return [
        {
            "trained with": moved.method.label,
            "normalized by": moved.test.label,
            "networks": str(len(moved.gaps)),
            "mean move": f"{moved.gaps.mean():+.2f}",
            "largest move": f"{moved.gaps.loc[moved.gaps.abs().idxmax()]:+.2f}",
            "deviation of the moves": f"{moved.gaps.std():.2f}" if len(moved.gaps) > 1 else "",
            "expected of a second draw": f"{2**0.5 * moved.deviation:.2f}",
        }
        for moved in moves(recorded, again)
    ]


def verdict_rows(recorded: pd.DataFrame, again: pd.DataFrame) -> list[dict[str, str]]:
    """The verdicts as rows of text; ``alone`` where no more changed than the verdicts of these networks alone."""
    return [
        {
            "claim": v.claim,
            "recorded": v.recorded,
            "with these networks": v.again,
            "these alone, recorded": v.alone[0],
            "these alone, again": v.alone[1],
            "changed": "yes" if v.recorded != v.again else "alone" if v.alone[0] != v.alone[1] else "",
        }
        for v in verdicts(recorded, again)
    ]
