"""The statistics of one BatchNorm layer, overridden each time that it is called, and restored."""

from typing import Any

import torch
from torch import Tensor, nn

from dglab.testtime.moments import Moments
from dglab.utils.errors import InputError

HALF = (torch.float16, torch.bfloat16)


class Untouchable(Tensor):
    """Stands where a layer's statistics are while they are overridden. Who computes with it has gone around the layer.

    That is ``F.batch_norm`` with the layer's buffers, ``layer.forward(x)``, weights merged with statistics: what
    overrides them at the layer's call would not reach there. Refused by name, whenever it happens.
    """

    def __new__(cls, source: Tensor | None, name: str) -> "Untouchable":
        made = Tensor._make_subclass(cls, torch.empty(0) if source is None else source)
        made.source, made.name_of_layer = source, name
        return made

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if getattr(function, "__name__", "") == "__get__":  # its shape, type or device
            return super().__torch_function__(function, types, args, kwargs)
        found = next((part for part in (*args, *(kwargs or {}).values()) if isinstance(part, cls)), None)
        raise InputError(
            f"the statistics of BatchNorm layer {found.name_of_layer if found is not None else ''!r} are used other "
            "than by calling the layer, where they cannot be overridden; let the network call the layer, layer(x), "
            "instead of F.batch_norm with its buffers or layer.forward(x)"
        )


def source_of(layer: nn.Module) -> Moments | None:
    """A layer's running mean and variance, if it has any, also while they are overridden."""
    parts = (layer.running_mean, layer.running_var)
    mean, variance = (part.source if isinstance(part, Untouchable) else part for part in parts)
    return None if mean is None else (mean, variance)


class OverriddenLayer:
    """One layer while its statistics are overridden, and what it has of its own.

    Args:
        name: its path.
        layer: it.
    """

    def __init__(self, name: str, layer: nn.Module) -> None:
        self.layer = layer
        self.source = source_of(layer)
        self._buffers, self._parameters = dict(layer._buffers), dict(layer._parameters)
        self.widened = False  # whether its weights are float32 for the time, too: it may then return float32
        self._hidden = Untouchable(None if self.source is None else self.source[0], name)

    def override(self, moments: Moments) -> None:
        """Let the layer, which is about to be called, normalize by these moments.

        Half precision cannot hold the moments of what it can hold (the variance of 300 and -300 is 90,000), so that
        such a layer computes in float32 with them, weights and all; with its own statistics as it always does.
        """
        layer, weight = self.layer, getattr(self.layer, "weight", None)
        precision = moments[0].dtype if weight is None else weight.dtype
        if precision in HALF and moments is not self.source:
            precision, self.widened = torch.float32, True
            for own in (layer._parameters, layer._buffers):  # a frozen layer keeps its weights among the latter
                for key in ("weight", "bias"):
                    if own.get(key) is not None:
                        own[key] = own[key].detach().float()
        layer._buffers["running_mean"], layer._buffers["running_var"] = (part.to(precision) for part in moments)

    def hide(self) -> None:
        """Let nobody have the layer's statistics until it is called; its weights are its own."""
        self.restore()
        self.layer._buffers["running_mean"] = self.layer._buffers["running_var"] = self._hidden

    def restore(self) -> None:
        """The layer as it was."""
        self.layer._buffers.update(self._buffers)
        self.layer._parameters.update(self._parameters)
