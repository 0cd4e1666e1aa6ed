"""A network's BatchNorm statistics, overridden for a while.

A BatchNorm layer computes y = gamma * (x - mu) / sqrt(sigma^2 + eps) + beta. The test-time methods differ in where mu
and sigma^2 come from, and in nothing else: each is a function that says so, and :func:`normalizing_with` applies it.
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
# (layer's path, its input N x C x ..., its source statistics if it has any) -> statistics to use;
# None, as a layer without running statistics has them: those of its input


@interrupt_safe_contextmanager
def normalizing_with(model: nn.Module, statistics: Statistics) -> Iterator[None]:
    """Within the block, every BatchNorm layer of ``model`` normalizes by what ``statistics`` returns for its input.

    The model is in evaluation mode inside (dropout off) and computes no gradients. Afterwards, also after an
    exception or Ctrl-C, modes, buffers and hooks are as before: the layers' buffers are replaced for the time, never
    written. One thread at a time overrides the statistics of a model; others wait. What else runs the model meanwhile
    (another thread that trains it) would see them, and is not supported.

    Modes are set by their flag alone: a ``train()`` of a module's own, which may merge weights or drop what it needs
    no more, could not be undone. Where it does more than set modes, call ``model.eval()`` before.

    Raises:
        InputError: inside, where statistics are used other than by calling their layer.
    """
    # a compiled part keeps the hooks it was compiled with: the override would not reach it
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
    """Override at each call of a layer, and hide its statistics again after it."""

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
    """What a layer is called on, given by position or by name."""
    return args[0] if args else next(iter(kwargs.values()))
