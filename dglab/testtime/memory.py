"""The memory of a bank: what it keeps of up to Q past images."""

from typing import Any

import torch
from torch import Tensor

from dglab.testtime.style import Style
from dglab.testtime.style_index import StyleIndex
from dglab.utils.seeds import derive_seed


class Memory:
    """Up to Q past images, by default the last Q. Each has a slot: an index into all of the lists here.

    Args:
        capacity: Q.
        removal: which image leaves a full memory: ``"fifo"`` the oldest, ``"random"`` one drawn at random.
        seed: of these draws and those of the random policy.

    Attributes:
        arrivals: how many images have arrived.
        arrived: by slot, the arrival number (from 0).
        domains: by slot, the domain of the image, if it was given.
        kept: by slot, what the bank's statistics keep of the image.
        styles: by slot, the styles, ready to be searched; None before the first arrival.
    """

    def __init__(self, capacity: int, removal: str, seed: int) -> None:
        self.capacity, self.removal = capacity, removal
        self.generator = torch.Generator().manual_seed(derive_seed("bank", seed))
        self.arrivals = 0
        self.arrived = torch.empty(0, dtype=torch.long)
        self.domains: list[Any] = []
        self.kept: list[Tensor] = []
        self.styles: StyleIndex | None = None

    def __len__(self) -> int:
        """The number of images in the memory."""
        return len(self.kept)

    def oldest_first(self, slots: Tensor) -> Tensor:
        """The same slots, in the order in which their images arrived."""
        return slots[self.arrived[slots].argsort()]

    def candidates(self, min_gap: int) -> Tensor:
        """The slots to choose from, oldest first: all except those of the last ``min_gap`` arrivals."""
        slots = self.oldest_first(torch.arange(len(self)))
        return slots[self.arrivals - self.arrived[slots] > min_gap]

    def nearest(self, style: Style, slots: Tensor, count: int) -> tuple[list[int], list[float]]:
        """Up to ``count`` of the given slots, nearest to a style (C) first, and their distances (Eq. 10).

        Args:
            style: mean and deviation, C each.
            slots: to choose from, oldest first.
            count: M.
        """
        if self.styles is None:
            return [], []
        return self.styles.nearest(Style(*(part[None] for part in style)), slots, count)[0]

    def store(self, style: Style, domain: Any, kept: Tensor) -> None:
        """Store an image that arrives.

        Args:
            style: mean and deviation, C each.
            domain: of the image, if it was given.
            kept: what the bank's statistics keep of it.
        """
        slot = self._next_slot()
        if self.styles is None:
            self.styles = StyleIndex(self.capacity, len(style.mean), style.mean.device)
        self.styles.put(torch.tensor([slot]), Style(*(part[None] for part in style)))
        if slot == len(self):  # a memory that is still filling
            self.arrived = torch.cat([self.arrived, torch.zeros(1, dtype=torch.long)])
            self.domains.append(None)
            self.kept.append(kept)
        self.arrived[slot], self.domains[slot], self.kept[slot] = self.arrivals, domain, kept
        self.arrivals += 1

    def restore_styles(self, styles: Style, center: Tensor) -> None:
        """Fill the first N slots with saved styles, N x C, and the saved ``center``, C, of the search."""
        self.styles = StyleIndex(self.capacity, styles.mean.shape[1], styles.mean.device)
        self.styles.center = center
        self.styles.put(torch.arange(len(styles.mean)), styles)

    def _next_slot(self) -> int:
        if len(self) < self.capacity:
            return len(self)
        if self.removal == "random":
            return int(torch.randint(self.capacity, (), generator=self.generator))
        return int(self.arrived.argmin())
