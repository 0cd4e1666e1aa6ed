"""Lesson 09: how many trainings decide a claim, and how often chance alone shows a gain."""

import math

import scipy
from torch import Generator

from dglab.teaching.checks.exercise import Exercise, Mistake
from dglab.teaching.checks.inputs import between, whole


def open_claim(generator: Generator) -> tuple[float, float, int]:
    """A mean, the half width of its interval, which is wider, and how many trainings it rests on."""
    trainings = whole(3, 8, generator)
    needed = whole(3 * trainings, 60, generator) + float(between(0.1, 0.4, (), generator))
    mean = float(between(0.3, 2, (), generator)) * (1 if whole(0, 1, generator) else -1)
    return mean, abs(mean) * math.sqrt(needed / trainings), trainings


def needed(mean: float, half_width: float, trainings: int) -> int:
    return math.floor(exactly(mean, half_width, trainings)) + 1


def exactly(mean: float, half_width: float, trainings: int) -> float:
    return trainings * (half_width / mean) ** 2


def chance_inputs(generator: Generator) -> tuple[float, float]:
    return float(between(0.5, 2, (), generator)), float(between(0.3, 2, (), generator))


def chance(deviation: float, gain: float, root: float = 2**0.5) -> float:
    return float(scipy.stats.norm.sf(gain / (deviation * root)))


EXERCISES = {
    "09.2": Exercise(
        name="trainings_needed",
        returns="a whole number of trainings",
        inputs=open_claim,
        answer=needed,
        mistakes=(
            Mistake("lets the interval shrink with n instead of its root",
                    "Too few: four times the trainings make an interval how much narrower?",
                    lambda m, h, n: math.floor(n * h / abs(m)) + 1),
            Mistake("rounds to the nearest number",
                    "With that many the interval still touches zero. In which direction do you have to round?",
                    lambda m, h, n: round(exactly(m, h, n))),
            Mistake("has the ratio the other way round",
                    "Yours asks for fewer trainings than there are, while the interval contains zero.",
                    lambda m, h, n: math.floor(n * (m / h) ** 2) + 1),
            Mistake("forgets how many trainings there were",
                    "That is by which factor more. Of what?",
                    lambda m, h, n: math.floor((h / m) ** 2) + 1),
        ),
        hint="If the half width is twice the mean, four times the trainings just touch zero. What does yours say?",
    ),
    "09.3": Exercise(
        name="chance_of_gain",
        returns="one number between 0 and 1",
        inputs=chance_inputs,
        answer=chance,
        mistakes=(
            Mistake("forgets that two trainings differ, not one",
                    "Too rare. Both networks are draws: how does their difference spread?",
                    lambda deviation, gain: chance(deviation, gain, 1.0)),
            Mistake("adds the deviations instead of the variances",
                    "Too often. Deviations do not add: what does?",
                    lambda deviation, gain: chance(deviation, gain, 2.0)),
            Mistake("counts losses of that size, too",
                    "Twice too often: is a *loss* of that size a gain?",
                    lambda deviation, gain: 2 * chance(deviation, gain)),
            Mistake("returns the chance of a smaller gain",
                    "That is how often the gain is *smaller*.",
                    lambda deviation, gain: 1 - chance(deviation, gain)),
        ),
        hint="A gain of 0 or more: that must be one half.",
    ),
}  # fmt: skip
