"""Overriding the BatchNorm statistics of a network.

A BatchNorm layer computes y = gamma * (x - mu) / sqrt(sigma^2 + eps) + beta. The test-time methods differ only in where
mu and sigma^2 come from: each is a function that returns them, and :func:`normalizing_with` applies it.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from dglab.models.batchnorm import batchnorm_layers
from dglab.testtime.fast_moments import moments_of
from dglab.testtime.layers import OverriddenLayer
from dglab.testtime.moments import Moments
from dglab.testtime.sharing import one_at_a_time, uncompiled
from dglab.utils.interrupts import interrupt_safe_contextmanager

Statistics = Callable[[str, Tensor, Moments | None], Moments | None]
# (layer's path, its input N x C x ..., its source statistics or None) -> the statistics to use;
# None means those of the input, as for a layer without running statistics


@interrupt_safe_contextmanager
def normalizing_with(model: nn.Module, statistics: Statistics) -> Iterator[None]:
    """Within the block, every BatchNorm layer of ``model`` normalizes by what ``statistics`` returns for its input.

    Inside, the model is in evaluation mode (dropout off) and computes no gradients. Afterwards, also after an
    exception or Ctrl-C, modes, buffers and hooks are as before: buffers are replaced for the duration, never written
    to. One thread at a time overrides the statistics of a model; others wait. Running the model in another way at the
    same time (training it in another thread) would use the overridden statistics, and is not supported.

    Modes are set by their flag: a module's own ``train()`` may do what cannot be undone, for example merge weights. If
    it does more than set modes, call ``model.eval()`` first.

    Args:
        model: any ``nn.Module`` with BatchNorm.
        statistics: called for each BatchNorm layer each time it runs.

    Raises:
        InputError: inside, where statistics are used other than by calling their layer.
    """
    # compiled code keeps the hooks that it was compiled with and would not run these
    with one_at_a_time(model), uncompiled(), torch.no_grad():
        training = [module for module in model.modules() if module.training]
        overridden = {name: OverriddenLayer(name, layer) for name, layer in batchnorm_layers(model).items()}
        handles = []
        try:
            for module in training:
                module.training = False
            for name, layer in overridden.items():
                handles += _hooked(name, layer, statistics)
                layer.hide()
            yield
        finally:
            for handle in handles:
                handle.remove()
            for layer in overridden.values():
                layer.restore()
            for module in training:
                module.training = True


def _hooked(name: str, own: OverriddenLayer, statistics: Statistics) -> list[Any]:
    """The hooks that override a layer's statistics before each call and hide them again after it."""

    def before_forward(layer: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        x = input_of(args, kwargs)
        own.override(statistics(name, x, own.source) or moments_of(x))

    def after_forward(layer: nn.Module, args: tuple, kwargs: dict[str, Any], output: Tensor) -> Tensor:
        own.hide()
        return output.to(input_of(args, kwargs).dtype) if own.widened else output

    return [
        own.layer.register_forward_pre_hook(before_forward, with_kwargs=True),
        own.layer.register_forward_hook(after_forward, with_kwargs=True),
    ]


def input_of(args: tuple, kwargs: dict[str, Any]) -> Tensor:
    """The input of a layer, given by position or by name."""
    return args[0] if args else next(iter(kwargs.values()))
