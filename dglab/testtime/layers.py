"""The statistics of one BatchNorm layer: overridden at each call, and restored."""

from typing import Any

import torch
from torch import Tensor, nn

from dglab.testtime.moments import Moments
from dglab.utils.errors import InputError

HALF = (torch.float16, torch.bfloat16)


class Untouchable(Tensor):
    """A placeholder for a layer's statistics while they are overridden, which raises when it is computed with.

    Code that uses the buffers without calling the layer (``F.batch_norm`` with the layer's buffers,
    ``layer.forward(x)``, weights merged with statistics) would bypass the override, which happens when the layer is
    called. It gets an InputError that names the layer instead.
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
    """A layer's own running mean and variance, also while they are overridden; None if it has none."""
    parts = (layer.running_mean, layer.running_var)
    mean, variance = (part.source if isinstance(part, Untouchable) else part for part in parts)
    return None if mean is None else (mean, variance)


class OverriddenLayer:
    """One layer while its statistics are overridden, and the buffers and parameters to restore.

    Args:
        name: the layer's path in the model.
        layer: a BatchNorm layer.
    """

    def __init__(self, name: str, layer: nn.Module) -> None:
        self.layer = layer
        self.source = source_of(layer)
        self._buffers, self._parameters = dict(layer._buffers), dict(layer._parameters)
        self.widened = False  # whether its weights are float32 for now, so that its output may be float32
        self._hidden = Untouchable(None if self.source is None else self.source[0], name)

    def override(self, moments: Moments) -> None:
        """Make the layer, which is about to be called, normalize by these moments.

        Half precision may overflow on moments of values that it can hold (the variance of 300 and -300 is 90,000): a
        half-precision layer then computes in float32, with float32 weights; with its own statistics it does not.
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
        """Hide the layer's statistics until its next call; its weights are restored."""
        self.restore()
        self.layer._buffers["running_mean"] = self.layer._buffers["running_var"] = self._hidden

    def restore(self) -> None:
        """Restore the layer's own buffers and parameters."""
        self.layer._buffers.update(self._buffers)
        self.layer._parameters.update(self._parameters)
