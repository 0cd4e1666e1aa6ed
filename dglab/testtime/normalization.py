"""Whose statistics normalize? Source BN, target-specific normalization (TN), AdaBN, and source BN measured afresh.

One idea serves them all. A BatchNorm layer computes y = gamma * (x - mu) / sqrt(sigma^2 + eps) + beta, and the methods
differ in where mu and sigma^2 come from. :func:`normalizing_with` lends a network's layers other statistics for the
length of a ``with`` block and leaves the network as it found it.
"""

import copy
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dglab.models.batchnorm import batchnorm_layers, moments_dims
from dglab.utils.errors import InputError

CACHE = 2**20  # bytes that a core's cache is sure to hold
Moments = tuple[Tensor, Tensor]  # mean and biased variance per channel, C each
Statistics = Callable[[str, Tensor, Moments | None], Moments | None]
# (layer's path, its input N x C x ..., its source statistics if it has any) -> statistics to use;
# None, as a layer without running statistics has them: those of its input


@contextmanager
def normalizing_with(model: nn.Module, statistics: Statistics) -> Iterator[None]:
    """Inside, every BatchNorm layer of ``model`` normalizes by what ``statistics`` returns for its input.

    The model is in evaluation mode inside (dropout off) and computes no gradients. Afterwards, also after an
    exception, modes, buffers and hooks are as before: the layers' buffers are replaced for the time, never written.
    """
    layers = batchnorm_layers(model)
    modes = {module: module.training for module in model.modules()}
    sources = {name: _source_statistics(layer) for name, layer in layers.items()}
    handles = []

    def lend(name: str) -> Callable[[nn.Module, tuple], None]:
        def before_forward(layer: nn.Module, inputs: tuple) -> None:
            moments = statistics(name, inputs[0], sources[name]) or moments_of(inputs[0])
            precision = moments[0].dtype if layer.weight is None else layer.weight.dtype
            lent = [part.to(precision) for part in moments]
            layer._buffers["running_mean"], layer._buffers["running_var"] = lent

        return before_forward

    try:
        model.eval()
        handles = [layer.register_forward_pre_hook(lend(name)) for name, layer in layers.items()]
        # a compiled part keeps the hooks it was compiled with: lent statistics would not reach it
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):
            yield
    finally:
        for handle in handles:
            handle.remove()
        for name, layer in layers.items():
            layer._buffers["running_mean"], layer._buffers["running_var"] = sources[name] or (None, None)
        for module, training in modes.items():
            module.training = training


def _source_statistics(layer: nn.Module) -> Moments | None:
    return None if layer.running_mean is None else (layer.running_mean, layer.running_var)


def moments_of(x: Tensor) -> Moments:
    """Mean and biased variance per channel over batch and positions (Eq. 8), in float32 at least.

    Args:
        x: N x C x ... features.
    """
    if x.device.type == "cuda":
        return torch.batch_norm_update_stats(x, None, None, 0.0)  # in float32 whatever x is in
    if x.dtype in (torch.float16, torch.bfloat16):
        x = x.float()
    if x.device.type == "cpu" and x.is_contiguous():
        return pooled(_moments_of_rows(x.flatten(2) if x.ndim > 2 else x[..., None]))
    if x.device.type == "cpu":
        return torch.batch_norm_update_stats(x, None, None, 0.0)
    variance, mean = torch.var_mean(x, dim=moments_dims(x.ndim), correction=0)
    return mean, variance


def _moments_of_rows(x: Tensor) -> Moments:
    """Mean and biased variance over the last dimension, N x C each.

    On one core ten times as fast as torch's own: each operation here is vectorized, and a megabyte at a time stays
    in the cache.

    Args:
        x: N x C x positions, contiguous.
    """
    rows = x.flatten(0, 1)  # (N C) x positions
    mean, norm = rows.mean(1), torch.empty_like(rows[:, 0])
    count = max(1, CACHE // (rows[:1].nbytes or 1))
    for part, its_mean, its_norm in zip(rows.split(count), mean.split(count), norm.split(count), strict=True):
        torch.linalg.vector_norm(part - its_mean[:, None], dim=1, out=its_norm)
    return mean.view(x.shape[:2]), (norm.square_() / x.shape[2]).view(x.shape[:2])


def pooled(moments: Moments) -> Moments:
    """Moments of groups of one size taken together: total variance = mean of variances + variance of means.

    Args:
        moments: means and variances of the groups, groups x C each.
    """
    mean, variance = moments
    return mean.mean(0), variance.mean(0) + mean.var(0, correction=0)


def merged(a: Moments, b: Moments, share: float) -> Moments:
    """Moments of two groups taken together, the second being ``share`` of the whole.

    Source: Chan et al., "Updating formulae and a pairwise algorithm for computing sample variances", 1979.
    """
    delta = b[0] - a[0]
    return a[0] + share * delta, torch.lerp(a[1], b[1], share) + share * (1 - share) * delta.square()


def blend(target: Moments, source: Moments | None, prior: float) -> Moments:
    """(1 - prior) of the target's moments and ``prior`` of the source's.

    Source: Schneider et al., "Improving robustness against common corruptions by covariate shift adaptation",
    NeurIPS 2020, Eq. 3, where prior = N / (N + n).
    """
    if source is None or prior == 0:
        return target
    return tuple(torch.lerp(t, s.to(t), prior) for t, s in zip(target, source, strict=True))


def source_statistics(name: str, x: Tensor, source: Moments | None) -> Moments | None:
    """Source BN (Eq. 7), as a choice of statistics."""
    return source


class BatchStatistics:
    """The statistics of the batch at hand, blended with the source's by ``prior``.

    A layer that would see one value per channel (a 1 x 1 map of one image) has no variance to speak of: it keeps its
    source statistics, and one warning says so.

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
    """How far a batch's statistics lie from the source's, layer by layer: where in the network a domain shift shows.

    Args:
        model: any network whose BatchNorm layers have running statistics; source statistics normalize throughout.
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


class Predictor:
    """What all predictors share: a model with BatchNorm, and a look at what comes in."""

    def __init__(self, model: nn.Module) -> None:
        for name, module in model.named_modules():
            scripted = isinstance(module, torch.jit.ScriptModule)
            if scripted and (module is model or "BatchNorm" in module.original_name):
                raise InputError(
                    f"{name or type(model).__name__} is a scripted module, whose layers cannot be lent other "
                    "statistics; pass the nn.Module that it was made from"
                )
        self.model = getattr(model, "_orig_mod", model)  # what torch.compile wraps: its paths are the user's own
        if not batchnorm_layers(self.model):
            norms = sorted({type(m).__name__ for m in model.modules() if "Norm" in type(m).__name__})
            raise InputError(
                f"{type(self.model).__name__} has no BatchNorm layer (found {', '.join(norms) or 'no normalization'}); "
                "test-time statistics need BatchNorm"
            )

    def check(self, images: Tensor) -> None:
        """Refuse what would poison statistics: not N x C x H x W floats, no image, NaN, infinity, another device."""
        if not isinstance(images, Tensor) or images.ndim != 4 or not images.is_floating_point():
            got = (
                f"{images.dtype} of shape {tuple(images.shape)}"
                if isinstance(images, Tensor)
                else type(images).__name__
            )
            raise InputError(f"images are {got}; expected a float tensor N x C x H x W")
        if len(images) == 0:
            raise InputError("the batch of images is empty; pass at least one image")
        device = next((p.device for p in self.model.parameters()), images.device)
        if images.device != device:
            raise InputError(f"the images are on {images.device}, the model on {device}; move one to the other")
        if not torch.isfinite(images).all():
            raise InputError("the images hold NaN or infinite values; clean them before prediction")

    def predict(self, images: Tensor, statistics: Statistics) -> Any:
        """What the model returns for these images when ``statistics`` normalize."""
        self.check(images)
        with self.naming_channels(images), normalizing_with(self.model, statistics):
            return self.model(images)

    def run(self, batches: Iterable[Tensor], statistics: Statistics) -> int:
        """Pass batches through the model, normalized by ``statistics``, which collects on the way; their number."""
        count = 0
        for images in batches:
            self.predict(images, statistics)
            count += 1
        return count

    @contextmanager
    def naming_channels(self, images: Tensor) -> Iterator[None]:
        """Inside, a failure of the network over the number of channels says so."""
        try:
            yield
        except RuntimeError as error:
            first = next((m for m in self.model.modules() if isinstance(m, nn.Conv2d)), None)
            if first is None or first.in_channels == images.shape[1]:
                raise
            raise InputError(
                f"the images have {images.shape[1]} channels, the network takes {first.in_channels}; pass images "
                "N x C x H x W as it was trained on"
            ) from error


def check_prior(prior: float) -> float:
    """``prior`` itself if it lies in [0, 1]."""
    if not 0 <= prior <= 1:
        raise InputError(f"prior is {prior}; expected 0 (the target's statistics) to 1 (the source's)")
    return prior


def check_finite(statistics: Mapping[str, Sequence[Any]]) -> None:
    """Refuse statistics that are not finite before they are kept: images far out of range overflow on the way."""
    for name, parts in statistics.items():
        if not all(torch.isfinite(torch.as_tensor(part)).all() for part in parts):
            raise InputError(
                f"the statistics of layer {name!r} are not finite; are the images scaled as the model wants?"
            )


class SourceNormalization(Predictor):
    """Source BN (Eq. 7): the running statistics of training, as ``model.eval()`` has it.

    Args:
        model: any ``nn.Module`` with BatchNorm; it comes back from each call as it was.
    """

    def __call__(self, images: Tensor) -> Any:
        """Images N x 3 x H x W -> what the model returns for them."""
        return self.predict(images, source_statistics)


class TargetNormalization(Predictor):
    """TN, target-specific normalization (Eq. 8-9): the statistics of the M images of the current test batch.

    Expect harm where source and target look alike, where a batch mixes unlike domains, and where one image fills
    the batch with a single class: its statistics then tell of content rather than of appearance.

    Args:
        model: any ``nn.Module`` with BatchNorm; it comes back from each call as it was.
        prior: share of the source statistics, 0 (the paper's TN) to 1 (source BN).
    """

    def __init__(self, model: nn.Module, prior: float = 0.0) -> None:
        super().__init__(model)
        self.statistics = BatchStatistics(check_prior(prior))

    def __call__(self, images: Tensor) -> Any:
        """Images M x 3 x H x W, normalized together -> what the model returns for them."""
        return self.predict(images, self.statistics)


class PooledMoments:
    """Moments of the layers' inputs pooled over batches: total variance = mean of variances + variance of means.

    While it collects, each batch is normalized by its own statistics, so that what reaches a deeper layer is
    already adapted.
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

    Source: Li et al., "Revisiting batch normalization for practical domain adaptation", 2016. It sees the target
    set as a whole, which generalization does not: the paper compares with it.

    Args:
        model: any ``nn.Module`` with BatchNorm; it comes back from each call as it was.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.moments: dict[str, Moments] | None = None

    def fit(self, images: Tensor | Iterable[Tensor]) -> "AdaBN":
        """Collect the statistics of the target set.

        Args:
            images: one batch N x 3 x H x W (its statistics are then exactly the batch's), or an iterable of batches
                (moments pooled over batches, each normalized by its own on the way).

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
        """Images N x 3 x H x W -> what the model returns for them."""
        if self.moments is None:
            raise InputError("AdaBN has no statistics yet; call fit(images) with the target's images first")
        return self.predict(images, lambda name, x, source: self.moments.get(name, source))


def reestimate_statistics(model: nn.Module, batches: Iterable[Tensor], statistics: str = "running") -> nn.Module:
    """Measure a network's running statistics afresh, in place, with its weights as they are.

    The control for training methods whose running statistics move on other images (MLDG's on the meta-train domains
    alone, AGG's on all): measured from the same source batches, source BN is the same for all of them. Wrap the call
    in :func:`preserved_statistics` to have the former ones back afterwards.

    Args:
        model: any ``nn.Module`` with BatchNorm.
        batches: images N x 3 x H x W, each batch with all source domains in it.
        statistics: ``"running"``: the plain average over batches of mean and unbiased variance, each batch
            normalized by its own statistics, which is what training accumulates.

    Returns:
        The model itself.

    Raises:
        InputError: for no batch, or another name in ``statistics``. The statistics are then as before.
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

    if not checker.run(batches, collect):
        raise InputError("reestimate_statistics got no batch of images; pass batches of the source domains")
    check_finite(sums)
    layers = batchnorm_layers(checker.model)
    for name, (mean, variance, n) in sums.items():
        layers[name].running_mean.copy_(mean / n)
        layers[name].running_var.copy_(variance / n)
    return model


@contextmanager
def preserved_statistics(model: nn.Module) -> Iterator[nn.Module]:
    """Inside, a network's running statistics may change; afterwards they are bit for bit as before."""
    saved = {name: copy.deepcopy(layer._buffers) for name, layer in batchnorm_layers(model).items()}
    try:
        yield model
    finally:
        with torch.no_grad():
            for name, layer in batchnorm_layers(model).items():
                for key, value in saved[name].items():
                    if value is not None:
                        layer._buffers[key].copy_(value)
