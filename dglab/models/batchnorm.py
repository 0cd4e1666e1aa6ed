"""Finding a network's BatchNorm layers, and whether a pass updates their running statistics."""

from collections.abc import Iterator

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from dglab.utils.interrupts import interrupt_safe_contextmanager


def batchnorm_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The BatchNorm layers of a network by module path, in the order of the network's own listing.

    Counts every layer that normalizes per channel by running statistics: BatchNorm1d to 3d, SyncBatchNorm, the
    fused ones of timm (subclasses of BatchNorm2d), and frozen ones, which each library has a class of its own for:
    torchvision's FrozenBatchNorm2d, timm's FrozenBatchNormAct2d. InstanceNorm, LayerNorm and GroupNorm have no
    statistics of a batch and do not count.
    """
    return {
        name: m
        for name, m in model.named_modules()
        if isinstance(m, _BatchNorm) or "FrozenBatchNorm" in type(m).__name__
    }


def moments_dims(ndim: int) -> list[int]:
    """The dimensions that BatchNorm averages over: all of a feature map N x C x ... except the channels."""
    return [0, *range(2, ndim)]


@interrupt_safe_contextmanager
def update_running_stats(module: nn.Module, *, enabled: bool) -> Iterator[None]:
    """Within the block, BatchNorm layers normalize as usual, and update their running statistics only if ``enabled``.

    Otherwise they work on copies, which are dropped. To switch ``track_running_stats`` off would do as well for one
    pass, but under activation checkpointing the repeated pass would differ from the one it repeats.
    """
    layers = [] if enabled else list(batchnorm_layers(module).values())
    originals = [dict(layer.named_buffers(recurse=False)) for layer in layers]
    try:
        for layer, buffers in zip(layers, originals, strict=True):
            for name, buffer in buffers.items():
                setattr(layer, name, buffer.clone())
        yield
    finally:
        for layer, buffers in zip(layers, originals, strict=True):
            for name, buffer in buffers.items():
                setattr(layer, name, buffer)
