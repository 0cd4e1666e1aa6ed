"""Cached statistics, ours: the moments of each image are kept from its own forward pass, and pooled."""

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
    """Prediction by cached statistics: every BatchNorm layer normalizes by moments pooled over the image and its M
    neighbours, of which only the image itself passes through the network.

    Keeps moments. Pooled by the law of total variance: mean of variances + variance of means. An approximation of joint
    statistics: the input of a neighbour's deeper layers was normalized together with *its* neighbours.

    Args:
        model: the network.
        alone: the statistics that normalize an image without neighbours.
        together: its ``prior`` is the share of source statistics.
    """

    def __init__(self, model: nn.Module, alone: Statistics, together: BatchStatistics) -> None:
        self.model, self.alone, self.together = model, alone, together
        self.calls: list[str] | None = None  # the layers in the order in which they run; K counts all their channels
        self._ran: list[str] | None = None  # the same of the last prediction, stored or not

    def predict(self, image: Tensor, given: Tensor, neighbors: list[Tensor]) -> tuple[Any, Tensor]:
        """The current image's output, and what to keep of it: its own moments.

        Args:
            image: 1 x 3 x H x W, the model's input.
            given: unused here; joint statistics keep it.
            neighbors: what was kept of the neighbours: moments 2 x K each, the channels of all layers concatenated.

        Raises:
            InputError: if other BatchNorm layers run than for the kept images, or the moments are not finite.
        """
        calls: list[str] = []
        own: list[Tensor] = []  # of each layer, 2 x C
        kept = torch.stack(pooled(torch.stack(neighbors, 1))) if neighbors else None  # 2 x M x K -> 2 x K
        share = 1 / (len(neighbors) + 1)  # of the current image
        place = 0  # of the layer's first channel in K

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
        """Called when the image that was predicted last has been stored."""
        self.calls = self._ran

    def check(self, images: Tensor, kept: list[Tensor]) -> None:
        """Nothing to refuse: kept moments can be pooled with those of an image of any size."""
