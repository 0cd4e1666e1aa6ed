"""Joint statistics, as in the paper: an image and its neighbours pass through the network as one batch."""

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

PACKED = torch.int8  # not uint8: an image that was given as uint8 is kept as such


def packed(image: Tensor) -> Tensor:
    """A copy of an image, with one byte per value where that is lossless, as for images read from 8-bit files.

    512 images of 769 x 769 then take 0.8 GiB instead of 3.4.

    Args:
        image: 3 x H x W; packed if it is float32 and all values are exactly k / 255, otherwise copied as it is.
    """
    if image.dtype == torch.float32:
        levels = (image * 255).round_().clamp_(0, 255)
        if torch.equal(levels / 255, image):
            return levels.sub_(128).to(PACKED)
    return image.clone()


def unpacked(kept: Tensor, dtype: torch.dtype) -> Tensor:
    """The image that was packed, bit for bit, in its original type."""
    return (kept.to(dtype) + 128) / 255 if kept.dtype == PACKED != dtype else kept


class JointStatistics:
    """Prediction by joint statistics: every BatchNorm layer normalizes by those of all M + 1 images (Eq. 8-9).

    Keeps the images themselves.

    Args:
        model: the network.
        rows: finds the parts of its output that have one row per image.
        alone: the statistics that normalize an image without neighbours.
        together: the statistics that normalize M + 1 images.
        ready: images as they were given -> images as the model expects them.
        resize: resize neighbours of another size to the current image's.
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
            image: 1 x 3 x H x W, the model's input.
            given: 3 x H x W, as the caller passed it.
            neighbors: what was kept of the neighbours, see :meth:`keep`.
        """
        size = image.shape[-2:]
        others = (resized(self.ready(unpacked(n, given.dtype)[None]), size) for n in neighbors)
        batch = torch.cat([image, *others])  # (M + 1) x 3 x H x W
        return self.rows.first(self._run(batch), batch), self.keep(given)

    def _run(self, batch: Tensor) -> Any:
        """The network's output for a batch; for its first image alone if the network can be cut, see ``tail``."""
        statistics = self.alone if len(batch) == 1 else self.together
        tail = self.tail(batch)
        if tail.layer:
            with suppress(CutFailed):
                return run_cut(self.model, batch, statistics, tail)
        with normalizing_with(self.model, statistics):
            output = self.model(batch)  # raises again if the model itself had failed
        if tail.layer:  # the cut failed although the model runs: do not cut again
            self._tail = NOWHERE
        return output

    def keep(self, given: Tensor) -> Tensor:
        """What to keep of an image: the image, in a quarter of its bytes where that is lossless."""
        return packed(given.detach())

    def stored(self) -> None:
        """Called when the image that was predicted last has been stored; nothing to do here."""

    def tail(self, batch: Tensor) -> Tail:
        """The layer after which only the first image needs to be computed; searched for at the first batch."""
        if len(batch) == 1:
            return NOWHERE
        if self._tail is None:
            self._tail = find_tail(self.model, batch, self.together, self.rows)
        return self._tail

    def check(self, images: Tensor, kept: list[Tensor]) -> None:
        """Refuse images that cannot be normalized together with the kept ones."""
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
