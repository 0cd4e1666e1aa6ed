"""A network's BatchNorm statistics, overridden for a while.

A BatchNorm layer computes y = gamma * (x - mu) / sqrt(sigma^2 + eps) + beta. The test-time methods differ in where mu
and sigma^2 come from, and in nothing else: each is a function that says so, and :func:`normalizing_with` applies it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from dglab.models.batchnorm import batchnorm_layers
from dglab.testtime.moments import Moments, moments_of

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

    def override(name: str) -> Callable[[nn.Module, tuple], None]:
        def before_forward(layer: nn.Module, inputs: tuple) -> None:
            moments = statistics(name, inputs[0], sources[name]) or moments_of(inputs[0])
            precision = moments[0].dtype if layer.weight is None else layer.weight.dtype
            mean, variance = (part.to(precision) for part in moments)
            layer._buffers["running_mean"], layer._buffers["running_var"] = mean, variance

        return before_forward

    try:
        model.eval()
        handles = [layer.register_forward_pre_hook(override(name)) for name, layer in layers.items()]
        # a compiled part keeps the hooks it was compiled with: the override would not reach it
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
