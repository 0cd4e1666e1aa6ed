"""Statistics computed before testing: AdaBN's, of the whole target set, and re-estimated source statistics."""

import copy
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from dglab.models.batchnorm import batchnorm_layers
from dglab.testtime.moments import Moments, check_finite, merged
from dglab.testtime.normalization import BatchStatistics
from dglab.testtime.predictor import Predictor
from dglab.testtime.sharing import one_at_a_time
from dglab.utils.errors import InputError
from dglab.utils.interrupts import DeferredInterrupts, interrupt_safe_contextmanager


class PooledMoments:
    """Moments of the layers' inputs pooled over batches: total variance = mean of variances + variance of means.

    While it collects, each batch is normalized by its own statistics, so that the inputs of deeper layers are already
    adapted.
    """

    def __init__(self) -> None:
        self.batch_statistics = BatchStatistics(prior=0.0)
        self.count: dict[str, int] = {}
        self.pooled: dict[str, Moments] = {}

    def __call__(self, name: str, x: Tensor, source: Moments | None) -> Moments | None:
        moments = self.batch_statistics(name, x, source)
        if moments is source:
            return source
        n, m = self.count.get(name, 0), x.numel() // x.shape[1]
        self.count[name] = n + m
        self.pooled[name] = merged(self.pooled[name], moments, m / (n + m)) if n else moments
        return moments


class AdaBN(Predictor):
    """AdaBN: the statistics of the whole target set, computed before testing.

    Source: Li et al., "Revisiting batch normalization for practical domain adaptation", 2016. The paper's comparison:
    it needs the target set before testing, which domain generalization does not have. A layer that runs more than once
    in a pass is normalized by the statistics of all its calls.

    Args:
        model: any ``nn.Module`` with BatchNorm; a call leaves it unchanged.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.moments: dict[str, Moments] | None = None

    def fit(self, images: Tensor | Iterable[Tensor]) -> "AdaBN":
        """Collect the statistics of the target set.

        Args:
            images: one batch N x 3 x H x W (whose statistics are then used exactly), or an iterable of batches (moments
                are pooled over batches, each of which is normalized by its own).

        Raises:
            InputError: if there is no image.
        """
        collected = PooledMoments()
        if not self.run([images] if isinstance(images, Tensor) else images, collected):
            raise InputError("AdaBN.fit got no batch of images; pass the target's images before testing")
        check_finite(collected.pooled)
        self.moments = collected.pooled
        return self

    def reset(self) -> None:
        """Forget the target set."""
        self.moments = None

    def __call__(self, images: Tensor) -> Any:
        """Images N x 3 x H x W -> what the model returns for them.

        Raises:
            InputError: before :meth:`fit`.
        """
        if self.moments is None:
            raise InputError("AdaBN has no statistics yet; call fit(images) with the target's images first")
        return self.predict(images, lambda name, x, source: self.moments.get(name, source))


def reestimate_statistics(
    model: nn.Module, batches: Tensor | Iterable[Tensor], statistics: str = "running"
) -> nn.Module:
    """Re-estimate a network's running statistics, in place; its weights do not change.

    The control for training methods whose running statistics are updated by different images (MLDG's by the meta-train
    domains only, AGG's by all): re-estimated from the same source batches, they are comparable. Inside
    :func:`preserved_statistics` the former ones are restored afterwards.

    Args:
        model: any ``nn.Module`` with BatchNorm.
        batches: images N x 3 x H x W, or an iterable of such batches, each with all source domains in it.
        statistics: ``"running"``: the average over batches of mean and unbiased variance, each batch normalized by its
            own statistics, as training accumulates them (but without its exponential weights).

    Returns:
        The model itself.

    Raises:
        InputError: for no batch, or another name in ``statistics``. The statistics are then unchanged.
    """
    if statistics != "running":
        raise InputError(f"statistics is {statistics!r}; expected 'running', the average that training accumulates")
    checker = Predictor(model)
    batch_statistics = BatchStatistics(prior=0.0)
    sums: dict[str, list[Tensor]] = {}

    def collect(name: str, x: Tensor, source: Moments | None) -> Moments | None:
        moments = batch_statistics(name, x, source)
        if moments is not source and source is not None:
            n = x.numel() // x.shape[1]
            mean, variance = moments[0], moments[1] * (n / (n - 1))
            total = sums.setdefault(name, [torch.zeros_like(mean), torch.zeros_like(variance), 0])
            sums[name] = [total[0] + mean, total[1] + variance, total[2] + 1]
        return moments

    if not checker.run([batches] if isinstance(batches, Tensor) else batches, collect):
        raise InputError("reestimate_statistics got no batch of images; pass batches of the source domains")
    check_finite(sums)
    layers = batchnorm_layers(checker.model)
    with DeferredInterrupts(), one_at_a_time(checker.model):
        for name, (mean, variance, n) in sums.items():
            layers[name].running_mean.copy_(mean / n)
            layers[name].running_var.copy_(variance / n)
    return model


@interrupt_safe_contextmanager
def preserved_statistics(model: nn.Module) -> Iterator[nn.Module]:
    """Within the block, a network's running statistics may change; afterwards they are restored bit for bit."""
    with one_at_a_time(model):
        saved = {name: copy.deepcopy(layer._buffers) for name, layer in batchnorm_layers(model).items()}
    try:
        yield model
    finally:
        with one_at_a_time(model), torch.no_grad():
            for name, layer in batchnorm_layers(model).items():
                for key, value in saved[name].items():
                    if value is not None:
                        layer._buffers[key].copy_(value)
