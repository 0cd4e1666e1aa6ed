"""Joint statistics, the paper's: an image and its neighbours pass through the network together."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from dglab.testtime.outputs import Rows
from dglab.testtime.override import Statistics, normalizing_with
from dglab.testtime.tail import NOWHERE, CutFailed, Tail, find_tail, run_cut
from dglab.utils.errors import InputError
from dglab.utils.sizes import resized

PACKED = torch.int8  # and not uint8, which images that were given so are kept in


def packed(image: Tensor) -> Tensor:
    """A copy of an image, a byte a value where that loses nothing: files have 256 levels, and so whole 255ths.

    512 images of 769 x 769 then take 0.8 GiB instead of 3.4.

    Args:
        image: 3 x H x W; of float32 is packed what is exactly k / 255 everywhere, the rest is copied as it is.
    """
    if image.dtype == torch.float32:
        levels = (image * 255).round_().clamp_(0, 255)
        if torch.equal(levels / 255, image):
            return levels.sub_(128).to(PACKED)
    return image.clone()


def unpacked(kept: Tensor, dtype: torch.dtype) -> Tensor:
    """The image back, bit for bit, of the type that it was given in."""
    return (kept.to(dtype) + 128) / 255 if kept.dtype == PACKED != dtype else kept


class JointStatistics:
    """Every BatchNorm layer normalizes by the statistics of all M + 1 images (Eq. 8-9). Keeps images.

    Args:
        model: the network.
        rows: which parts of its output have a row for each image.
        alone: the statistics of an image without neighbours.
        together: the statistics of M + 1 images.
        ready: images as they were given -> images as the model takes them.
        resize: bring neighbours of another size to the current image's.
    """

    def __init__(
        self, model: nn.Module, rows: Rows, alone: Statistics, together: Statistics, ready: Callable[[Tensor], Tensor],
        resize: bool,
    ) -> None:  # fmt: skip
        self.model, self.rows, self.alone, self.together = model, rows, alone, together
        self.ready, self.resize = ready, resize
        self._tail: Tail | None = None  # not looked for yet

    def predict(self, image: Tensor, given: Tensor, neighbors: list[Tensor]) -> tuple[Any, Tensor]:
        """The current image's output, and what to keep of it.

        Args:
            image: 1 x 3 x H x W, as the model takes it.
            given: 3 x H x W, as it was given.
            neighbors: what was kept of them, see :meth:`keep`.
        """
        size = image.shape[-2:]
        others = (resized(self.ready(unpacked(n, given.dtype)[None]), size) for n in neighbors)
        batch = torch.cat([image, *others])  # (M + 1) x 3 x H x W
        return self.rows.first(self._run(batch), batch), self.keep(given)

    def _run(self, batch: Tensor) -> Any:
        """The network's output, if it can be for the first image alone."""
        statistics = self.alone if len(batch) == 1 else self.together
        tail = self.tail(batch)
        if tail.layer:
            with suppress(CutFailed):
                return run_cut(self.model, batch, statistics, tail)
        with normalizing_with(self.model, statistics):
            output = self.model(batch)  # a failure of its own comes again
        if tail.layer:  # it did not run as when the cut was tried: no more cuts
            self._tail = NOWHERE
        return output

    def keep(self, given: Tensor) -> Tensor:
        """What to keep of an image: itself, in a quarter of its bytes where nothing is lost by that."""
        return packed(given.detach())

    def stored(self) -> None:
        """What was predicted last is in the bank; there is nothing to remember of it."""

    def tail(self, batch: Tensor) -> Tail:
        """The layer behind which the first image can go on alone; looked for with the first neighbours that come."""
        if len(batch) == 1:
            return NOWHERE
        if self._tail is None:
            self._tail = find_tail(self.model, batch, self.together, self.rows)
        return self._tail

    def check(self, images: Tensor, kept: list[Tensor]) -> None:
        """Refuse images that cannot be normalized together with those that were kept."""
        if not kept:
            return
        stored = kept[0]
        if stored.shape[0] != images.shape[1]:
            raise InputError(
                f"the images have {images.shape[1]} channels, those in the bank {stored.shape[0]}; pass one kind"
            )
        dtype = torch.float32 if stored.dtype == PACKED else stored.dtype
        if dtype != images.dtype:
            raise InputError(f"the images are {images.dtype}, those in the bank {dtype}; pass one kind")
        if stored.shape != images.shape[1:] and not self.resize:
            raise InputError(
                f"the images are {tuple(images.shape[1:])}, those in the bank {tuple(stored.shape)}; joint statistics "
                "need one size: pass resize=True, use statistics='cached', or keep a bank for each size with "
                "stream(name)"
            )
