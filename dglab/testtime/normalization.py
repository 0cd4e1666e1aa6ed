"""Source BN (Eq. 7) and target-specific normalization, TN (Eq. 8-9): they differ in the statistics they use."""

import warnings
from typing import Any

from torch import Tensor, nn

from dglab.testtime.fast_moments import moments_of
from dglab.testtime.moments import Moments, blend
from dglab.testtime.override import normalizing_with
from dglab.testtime.predictor import Predictor, check_prior


class SourceNormalization(Predictor):
    """Source BN (Eq. 7): the running statistics of training, as ``model.eval()`` has it.

    Args:
        model: any ``nn.Module`` with BatchNorm; a call leaves it unchanged.
    """

    def __call__(self, images: Tensor) -> Any:
        """Images N x 3 x H x W -> what the model returns for them."""
        return self.predict(images, source_statistics)


class TargetNormalization(Predictor):
    """TN, target-specific normalization (Eq. 8-9): the statistics of the M images of the current test batch.

    Expect it to do harm where the target looks like the sources, where a batch mixes different domains, and where a
    single class fills most of the batch: the statistics then describe content rather than appearance.

    Args:
        model: any ``nn.Module`` with BatchNorm; a call leaves it unchanged.
        prior: share of the source statistics, 0 (the paper's TN) to 1 (source BN).

    Raises:
        InputError: for a prior outside [0, 1], or a model without BatchNorm.
    """

    def __init__(self, model: nn.Module, prior: float = 0.0) -> None:
        super().__init__(model)
        self.statistics = BatchStatistics(check_prior(prior))

    def __call__(self, images: Tensor) -> Any:
        """Images M x 3 x H x W, normalized together -> what the model returns for them."""
        return self.predict(images, self.statistics)


def source_statistics(name: str, x: Tensor, source: Moments | None) -> Moments | None:
    """Source BN (Eq. 7) as a :data:`~dglab.testtime.override.Statistics` function."""
    return source


class BatchStatistics:
    """The statistics of the current batch, blended with the source's by ``prior``.

    A layer that gets one value per channel (a 1 x 1 map of one image) has no variance: it uses its source statistics,
    with one warning.

    Args:
        prior: share of the source statistics, 0 to 1.
    """

    def __init__(self, prior: float) -> None:
        self.prior, self._warned = prior, False

    def __call__(self, name: str, x: Tensor, source: Moments | None) -> Moments | None:
        if x.numel() == x.shape[1]:
            self._warn(name)
            return source
        return blend(moments_of(x), source, self.prior)

    def _warn(self, name: str) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"BatchNorm layer {name!r} sees one value per channel, which has no variance; it uses its source "
                "statistics. Give it more images at a time, or larger ones.",
                stacklevel=2,
            )


def shift_by_layer(model: nn.Module, images: Tensor) -> dict[str, float]:
    """How far a batch's statistics are from the source's, layer by layer: where in the network a domain shift shows.

    Args:
        model: any network whose BatchNorm layers have running statistics, by which all of them normalize here.
        images: N x 3 x H x W.

    Returns:
        Layer's path -> |mu_batch - mu_source| / sigma_source, averaged over channels.
    """
    shifts: dict[str, float] = {}

    def look(name: str, x: Tensor, source: Moments | None) -> Moments | None:
        if source is not None:
            mean, variance = source
            shifts[name] = ((moments_of(x)[0] - mean).abs() / (variance + 1e-5).sqrt()).mean().item()
        return source

    with normalizing_with(model, look):
        model(images)
    return shifts
