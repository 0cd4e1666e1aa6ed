"""Lesson 05: the queue, a choice of neighbours for video, and which channels a distance is made of (Eq. 10)."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.distributions import Normal, kl_divergence

from dglab.teaching.checks.exercise import Exercise, Mistake
from dglab.teaching.checks.inputs import H, W, between, network, whole
from dglab.testtime import ImageBank, Style, style_distance, target_normalization

STYLE = tuple[Tensor, Tensor]  # (mu, sigma), C each


def stream(generator: Generator) -> tuple[nn.Module, Tensor, int, int]:
    """A network, six images of unlike brightness, M, Q."""
    bright = between(0.2, 1, (6, 1, 1, 1), generator)
    return network(generator), bright * between(0, 1, (6, 3, H, W), generator), 2, 4


def arrive(bank: Callable[..., Any], model: nn.Module, images: Tensor, neighbors: int, capacity: int) -> list[Tensor]:
    queue = bank(model, neighbors, capacity)
    return [queue(image) for image in images.split(1)]


def by_library(model: nn.Module, images: Tensor, neighbors: int, capacity: int) -> list[Tensor]:
    def bank(network: nn.Module, neighbors: int, capacity: int) -> ImageBank:
        return ImageBank(network, "layer1", neighbors, capacity, policy="queue")

    return arrive(bank, model, images, neighbors, capacity)


@torch.no_grad()
def queued(
    model: nn.Module, images: Tensor, neighbors: int, capacity: int, *,
    oldest: bool = False, itself: bool = False, alone: bool = False, everything: bool = False,
) -> list[Tensor]:  # fmt: skip
    """A queue with one mistake."""
    past: list[Tensor] = []
    found = []
    for image in images.split(1):
        if itself:
            past = [*past, image][-capacity:]
        chosen = past[:neighbors] if oldest else past[-neighbors:]
        with target_normalization(model):
            logits = model(torch.cat([image, *([] if alone else chosen)]))
        found.append(logits if everything else logits[:1])
        if not itself:
            past = [*past, image][-capacity:]
    return found


def distances(generator: Generator) -> tuple[list[float], int, int]:
    """With ties: distances to what is in the bank, oldest first; M; the gap."""
    return (
        (torch.randint(1, 7, (14,), generator=generator) / 4).tolist(),
        whole(3, 5, generator),
        whole(2, 4, generator),
    )


def chosen(apart: Sequence[float], neighbors: int, min_gap: int, *, sign: int = 1, newer: bool = False) -> list[int]:
    slots = range(len(apart) - min_gap)
    return sorted(slots, key=lambda slot: (sign * apart[slot], -slot if newer else slot))[:neighbors]


def two_styles(generator: Generator) -> tuple[STYLE, STYLE]:
    return tuple((between(-1, 1, (6,), generator), between(0.2, 2, (6,), generator)) for _ in range(2))


def of_channels(i: STYLE, j: STYLE) -> Tensor:
    return style_distance(Style(*(part[:, None] for part in i)), Style(*(part[:, None] for part in j)))


EXERCISES = {
    "05.2": Exercise(
        name="MyQueue",
        returns="for each image its own logits, 1 x 19 x H x W",
        inputs=stream,
        answer=by_library,
        use=arrive,
        mistakes=(
            Mistake("takes the oldest images of the bank",
                    "Yours takes the M that have been in the bank for longest.",
                    lambda *inputs: queued(*inputs, oldest=True)),
            Mistake("stores the image before it chooses",
                    "Its neighbours include the image itself. When is it to be stored?",
                    lambda *inputs: queued(*inputs, itself=True)),
            Mistake("normalizes the image alone",
                    "The image is normalized by itself, as by TN with M = 1.",
                    lambda *inputs: queued(*inputs, alone=True)),
            Mistake("returns the logits of the neighbours, too",
                    "Only the current image's prediction is used.",
                    lambda *inputs: queued(*inputs, everything=True)),
        ),
        hint="Let three images arrive with M = 1: which one is the third normalized with?",
    ),
    "05.3": Exercise(
        name="choose",
        returns="a list of places in the bank, nearest first",
        inputs=distances,
        answer=chosen,
        mistakes=(
            Mistake("forgets the gap",
                    "Images of a moment ago are among yours.",
                    lambda apart, m, gap: chosen(apart, m, 0)),
            Mistake("takes the most distant",
                    "Yours are the farthest.",
                    lambda apart, m, gap: chosen(apart, m, gap, sign=-1)),
            Mistake("prefers the newer of equal ones",
                    "The right distances; of two equal ones the older comes first.",
                    lambda apart, m, gap: chosen(apart, m, gap, newer=True)),
            Mistake("returns them in the order of arrival",
                    "The right images in the wrong order.",
                    lambda apart, m, gap: sorted(chosen(apart, m, gap))),
            Mistake("leaves out the oldest instead of the newest",
                    "The gap is at the wrong end: the list begins with the oldest.",
                    lambda apart, m, gap: [slot + gap for slot in chosen(apart[gap:], m, 0)]),
            Mistake("returns the distances",
                    "These are distances; places in the bank were asked for.",
                    lambda apart, m, gap: [apart[slot] for slot in chosen(apart, m, gap)]),
        ),
        hint="Try distances [3, 1, 2, 1] with M = 2 and no gap: the answer is [1, 3].",
    ),
    "05.4": Exercise(
        name="channel_shares",
        returns="a share for each channel, C numbers that add up to 1",
        inputs=two_styles,
        answer=lambda i, j: of_channels(i, j) / of_channels(i, j).sum(),
        mistakes=(
            Mistake("does not divide by the sum",
                    "These are distances of channels; as shares they add up to 1.",
                    of_channels),
            Mistake("divides by the mean",
                    "Yours add up to the number of channels.",
                    lambda i, j: of_channels(i, j) / of_channels(i, j).mean()),
            Mistake("takes one direction of KL",
                    "Exchange the two styles: your shares change. Eq. 10 does not.",
                    lambda i, j: (part := kl_divergence(Normal(*i), Normal(*j))) / part.sum()),
            Mistake("compares means alone",
                    "Your shares come from the means. What else is a style made of?",
                    lambda i, j: (part := (i[0] - j[0]) ** 2) / part.sum()),
            Mistake("takes the softmax",
                    "They add up to 1, but a channel of distance 0 must have the share 0.",
                    lambda i, j: of_channels(i, j).softmax(0)),
        ),
        hint="With one channel the share is 1; with two equal channels each has a half.",
    ),
}  # fmt: skip
