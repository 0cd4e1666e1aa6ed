"""Random draws by the thousand: one block from a named numpy generator, handed out one by one."""

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from dglab.utils.seeds import derive_seed

T = TypeVar("T")
Range = tuple[float, float]  # (low, high); each image draws one value from it, uniformly


class Dice:
    """Hands out numbers of one seeded block (a scalar draw from numpy itself costs ten times as much).

    Args:
        seed: seed of the block.
    """

    SIZE = 2048

    def __init__(self, seed: int) -> None:
        self._numbers: list[float] = np.random.default_rng(seed).random(self.SIZE).tolist()
        self._next = 0

    def fork(self, number: int) -> "Dice":
        """A reader of the same block with a start of its own: what it draws moves nobody else's draws."""
        other = object.__new__(Dice)
        other._numbers, other._next = self._numbers, (number * 211 + 1) % self.SIZE
        return other

    def unit(self) -> float:
        """A number in [0, 1)."""
        value = self._numbers[self._next]
        self._next = (self._next + 1) % self.SIZE
        return value

    def between(self, low: float, high: float) -> float:
        """A number in [low, high)."""
        return low + (high - low) * self.unit()

    def whole(self, low: int, high: int) -> int:
        """An integer from low to high, both included."""
        return low + int(self.unit() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.unit() < probability

    def choice(self, options: Sequence[T]) -> T:
        """One of the options."""
        return options[int(self.unit() * len(options))]

    def count(self, mean: float) -> int:
        """A Poisson number with this mean."""
        product, limit, count = self.unit(), math.exp(-mean), 0
        while product > limit:
            product *= self.unit()
            count += 1
        return count


def dice_for(*parts: object) -> Dice:
    """Dice for this name: ``dice_for("G", "train", 7, "road")``."""
    return Dice(derive_seed("streets", *parts))
