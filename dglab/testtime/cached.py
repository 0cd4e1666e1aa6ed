"""Cached statistics, ours: each image's own moments are kept from when it was seen, and pooled."""

from typing import Any

import torch
from torch import Tensor, nn

from dglab.testtime.fast_moments import moments_of
from dglab.testtime.moments import Moments, blend, check_finite, merged, pooled
from dglab.testtime.normalization import BatchStatistics
from dglab.testtime.override import Statistics, normalizing_with
from dglab.utils.errors import InputError

OTHER_LAYERS = (
    "the network ran other BatchNorm layers than for the images in the bank, so that their moments do not belong "
    "together; use statistics='joint', or start with an empty bank"
)


class CachedStatistics:
    """Every BatchNorm layer normalizes by moments pooled over M + 1 images, of which one alone passes. Keeps moments.

    Total variance, over the image and its M neighbours: mean of variances + variance of means. An approximation of
    joint statistics: what reached a deeper layer of a neighbour was normalized together with *its* neighbours.

    Args:
        model: the network.
        alone: the statistics of an image without neighbours.
        together: its ``prior`` is the share of source statistics.
    """

    def __init__(self, model: nn.Module, alone: Statistics, together: BatchStatistics) -> None:
        self.model, self.alone, self.together = model, alone, together
        self.calls: list[str] | None = None  # the layers, in the order in which they run: what K runs over
        self._ran: list[str] | None = None  # the same, of the last prediction, whether it was kept or not

    def predict(self, image: Tensor, given: Tensor, neighbors: list[Tensor]) -> tuple[Any, Tensor]:
        """The current image's output, and what to keep of it: its own moments.

        Args:
            image: 1 x 3 x H x W, as the model takes it.
            given: unused; joint statistics keep it.
            neighbors: what was kept of them: moments 2 x K, the channels of all layers side by side.
        """
        calls: list[str] = []
        own: list[Tensor] = []  # of each layer, 2 x C
        kept = torch.stack(pooled(torch.stack(neighbors, 1))) if neighbors else None  # 2 x K, from 2 x M x K
        share = 1 / (len(neighbors) + 1)  # of the current image
        place = 0  # in K

        def statistics(name: str, x: Tensor, source: Moments | None) -> Moments | None:
            nonlocal place
            calls.append(name)
            own.append(torch.stack(moments_of(x)))
            if kept is None:
                return self.alone(name, x, source)
            theirs = kept[:, place : place + x.shape[1]]  # 2 x C
            place += x.shape[1]
            if theirs.shape[1] != x.shape[1]:
                raise InputError(OTHER_LAYERS)
            return blend(merged(tuple(theirs), tuple(own[-1]), share), source, self.together.prior)

        with normalizing_with(self.model, statistics):
            output = self.model(image)
        if self.calls not in (None, calls):
            raise InputError(OTHER_LAYERS)
        moments = torch.cat(own, dim=1)
        check_finite({"of one of its layers": (moments,)})
        self._ran = calls
        return output, moments

    def stored(self) -> None:
        """What was predicted last is in the bank."""
        self.calls = self._ran

    def check(self, images: Tensor, kept: list[Tensor]) -> None:
        """Moments go with images of any size."""
