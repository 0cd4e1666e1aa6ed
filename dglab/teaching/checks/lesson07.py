"""Lesson 07: who is ahead among several modalities, and the angle between two gradients."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from dglab.teaching.checks.exercise import Exercise, Mistake
from dglab.teaching.checks.inputs import between, whole
from dglab.training.gmp import modulation_coefficients


def confidences(generator: Generator) -> tuple[Tensor]:
    """Modalities x images: three or four modalities."""
    return (between(0.1, 0.9, (whole(3, 4, generator), 5), generator),)


def by_library(q: Tensor) -> list[float]:
    named = {str(number): row for number, row in enumerate(q)}
    return [float(one.rho) for one in modulation_coefficients(named, named, 0.5, 0.5).values()]


def ratios(q: Tensor, others: str) -> Tensor:
    totals = q.sum(1)
    rest = totals.sum() - totals
    return totals / {"all": totals.mean(), "sum": rest}[others]


def gradients(generator: Generator) -> tuple[list[Tensor], list[Tensor]]:
    """Two gradients, one tensor a parameter, more than 90 degrees apart."""
    shapes = ((4, 3), (3,), (2, 2, 5))
    first = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    noise = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    return first, [scale * n - 0.8 * g for g, n, scale in zip(first, noise, (0.3, 2.0, 1.0), strict=True)]


def flat(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([part.flatten() for part in parts])


def cosine(g_c: Sequence[Tensor], g_d: Sequence[Tensor]) -> Tensor:
    return torch.nn.functional.cosine_similarity(flat(g_c), flat(g_d), dim=0)


def degrees(value: Tensor) -> Tensor:
    return torch.rad2deg(torch.acos(value))


EXERCISES = {
    "07.2": Exercise(
        name="ahead",
        returns="one number a modality",
        inputs=confidences,
        answer=by_library,
        mistakes=(
            Mistake("compares with the mean of all, itself included",
                    "Too near to 1. With whom is a modality compared: does it stand among them?",
                    lambda q: ratios(q, "all")),
            Mistake("compares with the sum of the others",
                    "With two modalities yours is right. What changes when there are more others?",
                    lambda q: ratios(q, "sum")),
            Mistake("has the fraction the other way round",
                    "Yours is above 1 where a modality is behind.",
                    lambda q: 1 / torch.tensor(by_library(q))),
            Mistake("averages the ratios of single images",
                    "A ratio of sums, or a mean of ratios? Look at the equation again.",
                    lambda q: (q / ((q.sum(0) - q) / (len(q) - 1))).mean(1)),
        ),
        hint="Let all modalities be alike: then every number must be 1.",
    ),
    "07.3": Exercise(
        name="angle",
        returns="one number, in degrees",
        inputs=gradients,
        answer=lambda g_c, g_d: degrees(cosine(g_c, g_d)),
        mistakes=(
            Mistake("averages the angles of the parameters",
                    "A gradient is *one* vector, however many tensors hold it. What does a short bias weigh in yours?",
                    lambda g_c, g_d: sum(degrees(cosine([a], [b])) for a, b in zip(g_c, g_d, strict=True)) / len(g_c)),
            Mistake("returns radians",
                    "Right, but not in degrees.",
                    lambda g_c, g_d: torch.acos(cosine(g_c, g_d))),
            Mistake("returns the cosine",
                    "That is the cosine. Which angle has it?",
                    cosine),
            Mistake("takes the angle between the lines, at most 90",
                    "Two gradients can point against each other: why is yours never above 90?",
                    lambda g_c, g_d: degrees(cosine(g_c, g_d).abs())),
        ),
        hint="Try it on two arrows of lesson 07 that are 130 degrees apart.",
    ),
}  # fmt: skip
