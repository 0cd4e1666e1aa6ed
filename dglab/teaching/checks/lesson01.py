"""Lesson 01: colour statistics, class shares, and the distance between two styles (Eq. 10)."""

import torch
from torch import Generator, Tensor
from torch.distributions import Normal, kl_divergence

from dglab.classes import IGNORED, NUM_CLASSES
from dglab.teaching.checks.exercise import Exercise, Mistake
from dglab.teaching.checks.inputs import between, labels
from dglab.testtime import Style, style_distance

STYLE = tuple[Tensor, Tensor]  # (mu, sigma), C each


def image_of_bytes(generator: Generator) -> tuple[Tensor]:
    image = torch.randint(0, 256, (3, 4, 6), generator=generator)
    return ((image * torch.tensor([1.0, 0.7, 0.4]).view(3, 1, 1)).to(torch.uint8),)


def colours(image: Tensor, divisor: float = 255, correction: int = 0, dims: tuple[int, ...] = (1, 2)) -> list[Tensor]:
    values = image.double() / divisor
    return [values.mean(dims), values.std(dims, correction=correction)]


def some_labels(generator: Generator) -> tuple[Tensor]:
    found = labels(3, 8, 10, generator)
    found[0][found[0] == 3] = 5
    return (found,)


def shares(label_maps: Tensor) -> Tensor:
    kept = label_maps[label_maps != IGNORED]
    return torch.bincount(kept, minlength=NUM_CLASSES).double() / len(kept)


def shares_of_all(label_maps: Tensor) -> Tensor:
    kept = label_maps[label_maps != IGNORED]
    return torch.bincount(kept, minlength=NUM_CLASSES).double() / label_maps.numel()


def two_styles(generator: Generator) -> tuple[STYLE, STYLE]:
    return tuple((between(-1, 1, (6,), generator), between(0.3, 2, (6,), generator)) for _ in range(2))


def kl(i: STYLE, j: STYLE) -> Tensor:
    return kl_divergence(Normal(*i), Normal(*j))


def both_ways(i: STYLE, j: STYLE) -> Tensor:
    return kl(i, j) + kl(j, i)


def with_deviations(i: STYLE, j: STYLE) -> Tensor:
    """The formula with sigma where sigma^2 belongs."""

    def one(a: STYLE, b: STYLE) -> Tensor:
        return (b[1] / a[1]).log() + (a[1] + (a[0] - b[0]) ** 2) / (2 * b[1]) - 0.5

    return (one(i, j) + one(j, i)).mean()


def breaks_the_triangle(answer: object) -> bool:
    """Whether D(a, c) > D(a, b) + D(b, c) for three styles (mu, sigma) of one channel."""
    a, b, c = (Style(*(torch.tensor([float(part)], dtype=torch.float64) for part in style)) for style in answer)
    if min(style.deviation.item() for style in (a, b, c)) <= 0:
        raise ValueError("a deviation is positive")
    return bool(style_distance(a, c) > style_distance(a, b) + style_distance(b, c))


EXERCISES = {
    "01.2": Exercise(
        name="colour_statistics",
        returns="the means and the deviations of the three channels, two tensors of 3",
        inputs=image_of_bytes,
        answer=colours,
        mistakes=(
            Mistake("leaves the pixels in 0 to 255",
                    "The numbers are 255 times too large: in which range are the image's values to lie?",
                    lambda image: colours(image, divisor=1)),
            Mistake("takes the unbiased deviation, which is torch's default",
                    "The means are right, the deviations a little too large. By what does torch divide unless told?",
                    lambda image: colours(image, correction=1)),
            Mistake("returns the variance",
                    "The means are right. Deviation and variance are not the same thing.",
                    lambda image: [colours(image)[0], colours(image)[1] ** 2]),
            Mistake("averages over the channels instead of the pixels",
                    "One number for each channel was asked for: over which dimensions must the mean run?",
                    lambda image: colours(image, dims=(0,))),
        ),
        hint="Neither means nor deviations fit. Look at a single channel and do it by hand for a few pixels.",
    ),
    "01.3": Exercise(
        name="class_shares",
        returns="19 shares that add up to 1",
        inputs=some_labels,
        answer=shares,
        mistakes=(
            Mistake("divides by all pixels, ignored ones included",
                    "Your shares do not add up to 1. Which pixels do not count?",
                    shares_of_all),
            Mistake("returns percent",
                    "Your shares add up to 100.",
                    lambda maps: 100 * shares(maps)),
            Mistake("averages the shares of single images",
                    "Images with few labelled pixels weigh as much as the others in yours. Count over all first.",
                    lambda maps: torch.stack([shares(one) for one in maps]).mean(0)),
            Mistake("returns counts",
                    "These are numbers of pixels. A share is a part of a whole.",
                    lambda maps: torch.bincount(maps[maps != IGNORED], minlength=NUM_CLASSES)),
        ),
        hint="Which class is off? Try a label map of 2 x 2 pixels, of which one is 255.",
    ),
    "01.4": Exercise(
        name="detour",
        returns="three styles (mu, sigma) of one channel, each two numbers with sigma above 0",
        inputs=lambda generator: (),
        answer=lambda: ((0.0, 1.0), (0.0, 2.0), (0.0, 4.0)),
        mistakes=(
            Mistake("chooses three styles that obey the inequality",
                    "Your way over b is not shorter. What does D do to a factor in sigma, once and twice?",
                    lambda: ((0.0, 1.0), (0.0, 1.0), (0.0, 1.0))),
        ),
        hint="The three styles obey the triangle inequality.",
        measure=breaks_the_triangle,
    ),
    "01.5": Exercise(
        name="distance",
        returns="one number",
        inputs=two_styles,
        answer=lambda i, j: style_distance(Style(*i), Style(*j)),
        mistakes=(
            Mistake("takes one direction of KL only",
                    "Exchange the two styles: your distance changes. Eq. 10 does not.",
                    lambda i, j: kl(i, j).mean()),
            Mistake("takes the other direction of KL only",
                    "Exchange the two styles: your distance changes. Eq. 10 does not.",
                    lambda i, j: kl(j, i).mean()),
            Mistake("adds over channels instead of averaging",
                    "With six channels yours is six times too large.",
                    lambda i, j: both_ways(i, j).sum()),
            Mistake("forgets the -1/2",
                    "The distance of a style to itself must be 0; yours is 1.",
                    lambda i, j: both_ways(i, j).mean() + 1),
            Mistake("puts sigma where sigma squared belongs",
                    "With equal deviations of 1 yours is right, otherwise not. Compare each power with the formula.",
                    with_deviations),
            Mistake("returns the distance of each channel",
                    "One number was asked for: what happens to the channels?",
                    both_ways),
        ),
        hint="Try a single channel: from (0, 1) to (1, 1) the distance is 1, from (0, 1) to (0, 2) it is 1.125.",
    ),
}  # fmt: skip
