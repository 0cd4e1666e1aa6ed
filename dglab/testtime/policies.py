"""The policies by which a bank chooses the images that the current one is normalized with."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dglab.testtime.memory import Memory
from dglab.testtime.style import Style


class Neighbors(NamedTuple):
    """The chosen slots of the bank and their distances (Eq. 10), nearest first; of equal distances the older first."""

    slots: list[int]
    distances: list[float]


Policy = Callable[[Memory, Style, Any, Tensor, int], Neighbors]
# (memory; style and domain of the image that arrives; slots to choose from, oldest first; M) -> up to M neighbours


def most_similar(memory: Memory, style: Style, domain: Any, candidates: Tensor, count: int) -> Neighbors:
    """SIB: the M nearest in style."""
    return Neighbors(*memory.nearest(style, candidates, count))


def most_recent(memory: Memory, style: Style, domain: Any, candidates: Tensor, count: int) -> Neighbors:
    """QIB: the queue without selection, the last M."""
    return Neighbors(*memory.nearest(style, candidates[-count:], count))


def at_random(memory: Memory, style: Style, domain: Any, candidates: Tensor, count: int) -> Neighbors:
    """A control: as many images as for SIB, drawn at random."""
    drawn = candidates[torch.randperm(len(candidates), generator=memory.generator)[:count]]
    return Neighbors(*memory.nearest(style, memory.oldest_first(drawn), count))


def same_domain(memory: Memory, style: Style, domain: Any, candidates: Tensor, count: int) -> Neighbors:
    """A control that is told each image's domain: the nearest in style among images of the current one's domain."""
    same = [slot for slot in candidates.tolist() if memory.domains[slot] == domain]
    return Neighbors(*memory.nearest(style, candidates.new_tensor(same), count))


POLICIES: dict[str, Policy] = {
    "style": most_similar,
    "queue": most_recent,
    "random": at_random,
    "oracle": same_domain,
}
