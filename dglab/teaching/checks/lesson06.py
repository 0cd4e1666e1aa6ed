"""Lesson 06: one matrix over recordings, and what counts as a draw when an interval is made."""

from collections.abc import Sequence

import numpy as np
import scipy
import torch
from torch import Generator, Tensor

from dglab.evaluation import ConfusionMatrix
from dglab.teaching.checks.exercise import Exercise, Mistake
from dglab.teaching.checks.inputs import between, whole

CLASSES = 6


def matrices(generator: Generator) -> tuple[list[Tensor]]:
    """Confusion matrices of recordings of unlike length; class 0 occurs nowhere, class 1 is predicted alone."""
    found = []
    for length in (1, 3, 20, 6):
        counts = torch.randint(0, 8, (CLASSES, CLASSES), generator=generator)
        counts += torch.diag(torch.randint(1, 30, (CLASSES,), generator=generator))
        counts[0], counts[:, 0], counts[1] = 0, 0, 0
        found.append((length * counts).double())
    return (found,)


def pooled(given: Sequence[Tensor]) -> float:
    matrix = ConfusionMatrix(num_classes=CLASSES)
    matrix.counts += sum(given).long().numpy()
    return matrix.miou()


def parts(given: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    counts = sum(given)
    return counts.diag(), counts.sum(1), counts.sum(0)


def with_absent(given: Sequence[Tensor]) -> Tensor:
    hits, rows, columns = parts(given)
    return (hits / (rows + columns - hits).clamp(min=1)).mean()


def over(given: Sequence[Tensor], *, rows_alone: bool) -> Tensor:
    hits, rows, columns = parts(given)
    below = rows if rows_alone else rows + columns
    return (hits[below > 0] / below[below > 0]).mean()


def differences(generator: Generator) -> tuple[np.ndarray]:
    """Recordings x trainings: recordings differ more than trainings do."""
    recordings, trainings = whole(4, 6, generator), whole(3, 5, generator)
    return ((between(-4, 6, (recordings, 1), generator) + between(-1, 1, (recordings, trainings), generator)).numpy(),)


def interval(draws: np.ndarray, ddof: int = 1, quantile: float | None = None, root: bool = True) -> tuple[float, float]:
    if quantile is None:
        quantile = float(scipy.stats.t.ppf(0.975, draws.size - 1))
    half = quantile * float(draws.std(ddof=ddof)) / (draws.size**0.5 if root else 1)
    return float(draws.mean()) - half, float(draws.mean()) + half


EXERCISES = {
    "06.2": Exercise(
        name="pooled_miou",
        returns="one number between 0 and 1",
        inputs=matrices,
        answer=pooled,
        mistakes=(
            Mistake("averages the recordings' mIoUs",
                    "The shortest recording weighs as much as the longest in yours. When is it time to divide?",
                    lambda given: float(np.mean([pooled([one]) for one in given]))),
            Mistake("takes classes that occur nowhere for zeros",
                    "Too small. Over which classes is the mean taken?",
                    with_absent),
            Mistake("counts the hits twice in the union",
                    "A hit lies in a row and in a column of the matrix: how often do you count it?",
                    lambda given: over(given, rows_alone=False)),
            Mistake("divides by the rows alone",
                    "That is recall. Where in the matrix are the false positives?",
                    lambda given: over(given, rows_alone=True)),
        ),
        hint="Rows are labels, columns are predictions; TP is on the diagonal. Try it on one matrix of two classes.",
        tolerance=1e-5,
    ),
    "06.3": Exercise(
        name="interval_over_recordings",
        returns="two numbers, the lower and the upper end",
        inputs=differences,
        answer=lambda given: interval(given.mean(1)),
        mistakes=(
            Mistake("takes every training for a draw of its own",
                    "Too narrow: trainings on one recording share its weather. How many independent draws are there?",
                    lambda given: interval(given.ravel())),
            Mistake("averages over the recordings: the trainings become the draws",
                    "That is an interval for *these* recordings and new trainings. Which ones are new in the question?",
                    lambda given: interval(given.mean(0))),
            Mistake("takes 1.96 for the quantile",
                    "Too narrow. With four recordings the deviation itself is uncertain: which distribution knows it?",
                    lambda given: interval(given.mean(1), quantile=1.96)),
            Mistake("divides the variance by n instead of n - 1",
                    "A little too narrow. By what is the sum of squares divided?",
                    lambda given: interval(given.mean(1), ddof=0)),
            Mistake("forgets the root of n",
                    "That is where a single recording lies, not the mean of several.",
                    lambda given: interval(given.mean(1), root=False)),
        ),
        hint="First one number a recording, then the interval of lesson 03 over these numbers.",
    ),
}  # fmt: skip
