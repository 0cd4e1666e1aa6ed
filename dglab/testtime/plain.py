"""TN and the Image Bank in plain form: the paper's text in code. The lessons build it, the tests compare with it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from dglab.testtime.style import DEVIATION_FLOOR, Style, style_distance


@contextmanager
def target_normalization(model: nn.Module) -> Iterator[None]:
    """Context manager: within the block each BatchNorm layer normalizes by the mean and biased variance of its own
    input (TN, Eq. 8-9).

    Args:
        model: in evaluation mode.
    """

    def by_batch(layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        return F.batch_norm(inputs[0], None, None, layer.weight, layer.bias, training=True, eps=layer.eps)

    hooks = [m.register_forward_hook(by_batch) for m in model.modules() if isinstance(m, _BatchNorm)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class PlainBank:
    """The Image Bank with style-based selection (SIB, section 3.4), on plain lists.

    Args:
        model: a network with BatchNorm that returns logits, in evaluation mode.
        style_layer: path of the module whose output gives the style; the paper's is ``layer1``.
        neighbors: M, how many images of the bank are normalized together with the current one.
        capacity: Q, how many images the bank holds.

    Attributes:
        selected: arrival numbers (from 0) of the last image's neighbours, nearest first.
    """

    def __init__(self, model: nn.Module, style_layer: str, neighbors: int = 4, capacity: int = 128) -> None:
        self.model, self.style_layer = model, model.get_submodule(style_layer)
        self.neighbors, self.capacity = neighbors, capacity
        self.bank: list[tuple[int, Tensor, Style]] = []  # (number of arrival, image, style), oldest first
        self.arrivals = 0
        self.selected: list[int] = []

    @torch.no_grad()
    def __call__(self, image: Tensor) -> Tensor:
        """Image 1 x 3 x H x W -> its logits 1 x 19 x H x W."""
        style = self.style_of(image)
        by_distance = sorted(self.bank, key=lambda entry: style_distance(style, entry[2]).item())  # Eq. 10
        nearest = by_distance[: self.neighbors]
        batch = torch.cat([image, *(past for _, past, _ in nearest)])  # (M + 1) x 3 x H x W
        with target_normalization(self.model):
            logits = self.model(batch)[:1]  # Eq. 8-9; only the current image's prediction is used
        self.selected = [number for number, _, _ in nearest]
        self.bank = [*self.bank, (self.arrivals, image, style)][-self.capacity :]  # first in, first out
        self.arrivals += 1
        return logits

    def style_of(self, image: Tensor) -> Style:
        """Mean and standard deviation per channel, C each, of the style layer's output under source statistics."""
        features: list[Tensor] = []
        hook = self.style_layer.register_forward_hook(lambda layer, inputs, output: features.append(output[0]))
        self.model(image)
        hook.remove()
        values = features[0].flatten(1)  # C x positions
        return Style(values.mean(1), values.std(1, correction=0).clamp_min(DEVIATION_FLOOR))
