"""The guarded default: target statistics as far as the target is out of the ordinary, source BN otherwise."""

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from dglab.testtime.moments import Moments, check_finite, moments_of_each, pooled
from dglab.testtime.normalization import BatchStatistics, source_statistics
from dglab.testtime.predictor import Predictor
from dglab.testtime.reference import SourceReference, log_moments

K = 1.0  # squared distances up to this many times the source's own spread are ordinary
PRIOR = 0.8  # share of source statistics where there is no reference: what public test-time libraries settle on


class GuardedNormalization(Predictor):
    """Normalize by the target's statistics as far as they are out of the ordinary for the source; no label, no choice.

    Empirical Bayes, layer by layer. The source's moments are the prior and those of the M images at hand a noisy look
    at the target's; how noisy is known from how much source images differ. With x the mean over the M images of their
    own moments (each channel's mean, and the logarithm of its variance), and center, within and between those of
    :meth:`SourceReference.measure <dglab.testtime.reference.SourceReference.measure>`,

        d = mean over channels and both moments of (x - center)^2 / (between + within / M),
        w = max(0, 1 - K / d),                                       (positive-part James-Stein)
        mu = mu_source + w (mu_target - mu_source), and the same for sigma^2.

    For another image of the sources d is about 1. The moments come from the pass itself: one pass, as TN.

    Source: James and Stein, "Estimation with quadratic loss", 1961; Efron and Morris, "Stein's estimation rule and its
    competitors: an empirical Bayes approach", JASA 1973. For BatchNorm it is ours.

    Without a reference a fixed share of source statistics, 0.8, takes its place, and a warning says so.

    Args:
        model: any ``nn.Module`` with BatchNorm; it comes back from each call as it was.
        reference: measured on this model.

    Raises:
        InputError: if the reference was measured on another network.
    """

    def __init__(self, model: nn.Module, reference: SourceReference | None = None) -> None:
        super().__init__(model)
        self.statistics = guarded_statistics(self.model, reference)
        self._warned = False

    def __call__(self, images: Tensor) -> Any:
        """Images M x 3 x H x W, looked at and normalized together -> what the model returns for them.

        An image of one colour (a covered lens, a black frame) says nothing of its domain: with one in it the batch is
        predicted by source BN, and one warning says so.
        """
        self.check(images)
        if not isinstance(self.statistics, GuardedStatistics):
            return self.predict(images, self.statistics)
        self.statistics.seen = {}
        if is_of_one_colour(images).any():
            self._warn_of_colour()
            return self.predict(images, source_statistics)
        output = self.predict(images, self.statistics)
        check_finite({name: (d,) for name, d in self.statistics.seen.items()})
        return output

    @property
    def distances(self) -> dict[str, float]:
        """Of the last call, d of each layer, in the order in which they run."""
        return {name: d.item() for name, d in self._seen.items()}

    @property
    def shares(self) -> dict[str, float]:
        """Of the last call, w of each layer: 0 is source BN, 1 TN."""
        return {name: share_of_target(d).item() for name, d in self._seen.items()}

    @property
    def _seen(self) -> dict[str, Tensor]:
        return self.statistics.seen if isinstance(self.statistics, GuardedStatistics) else {}

    def _warn_of_colour(self) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(
                "an image is of one colour, which says nothing of its domain; its batch is predicted by source BN",
                stacklevel=3,
            )


def guarded_statistics(model: nn.Module, reference: SourceReference | None) -> BatchStatistics:
    """The guard's choice of statistics; without a reference a fixed share of the source's, and one warning.

    Raises:
        InputError: if the reference was measured on another network.
    """
    if reference is not None:
        reference.check(model)
        return GuardedStatistics(reference)
    warnings.warn(
        f"there is no source reference: {PRIOR} of the source's statistics and {1 - PRIOR:.1f} of the target's are "
        "taken, wherever the target lies; measure one from source images with SourceReference.measure",
        stacklevel=3,
    )
    return BatchStatistics(PRIOR)


def is_of_one_colour(images: Tensor) -> Tensor:
    """Of each image N x 3 x H x W, whether all its pixels are the same: N booleans."""
    return (images.amax((2, 3)) == images.amin((2, 3))).all(1)


class GuardedStatistics(BatchStatistics):
    """The statistics of the images at hand, shrunk towards the source's, as :class:`GuardedNormalization` says.

    Attributes:
        seen: d of each layer in the last pass.
    """

    def __init__(self, reference: SourceReference) -> None:
        super().__init__(prior=0.0)
        self.reference, self.seen = reference, {}

    def __call__(self, name: str, x: Tensor, source: Moments | None) -> Moments | None:
        if x.numel() == x.shape[1]:  # one value per channel
            return super().__call__(name, x, source)
        return self.shrunk(name, moments_of_each(x), source)

    def shrunk(self, name: str, each: Moments, source: Moments | None) -> Moments:
        """The same from the moments of each image, M x C."""
        if source is None:
            return pooled(each)
        self.seen[name] = d = self.distance(name, each)
        source = tuple(part.to(each[0]) for part in source)
        return tuple(torch.lerp(s, t, share_of_target(d)) for s, t in zip(source, pooled(each), strict=True))

    def distance(self, name: str, each: Moments) -> Tensor:
        """d, a scalar: how far out of the ordinary these images are, 1 for images of the sources."""
        center, within, between = (part.to(each[0]) for part in self.reference.layers[name])  # 2 x C
        x = log_moments(each).mean(0)
        return ((x - center).square() / (between + within / len(each[0]))).mean()


def share_of_target(d: Tensor) -> Tensor:
    """w = max(0, 1 - K / d), the positive-part James-Stein weight of the target's moments."""
    return (1 - K / d).clamp_min(0)
