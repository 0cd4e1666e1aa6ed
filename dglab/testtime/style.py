"""The style of an image, and the distance of two styles (Eq. 10)."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from dglab.testtime.style_layer import features_of

DEVIATION_FLOOR = 1e-5  # a dead channel has sigma = 0, which would make Eq. 10 infinite


class Style(NamedTuple):
    """Per-channel mean and standard deviation of a stage's features: (mu, sigma), C values each (or N x C)."""

    mean: Tensor
    deviation: Tensor


def style_distance(a: Style, b: Style) -> Tensor:
    """Eq. 10: symmetric KL divergence between per-channel Gaussians; averaged, not summed, over channels (our choice:
    the order of distances is the same, and layers with different numbers of channels can be compared).

    D = KL(a||b) + KL(b||a), KL(a||b) = log(sigma_b / sigma_a) + (sigma_a^2 + (mu_a - mu_b)^2) / (2 sigma_b^2) - 1/2.
    The logarithms cancel in the sum, which leaves

        D = ((sigma_a / sigma_b - sigma_b / sigma_a)^2 + (mu_a - mu_b)^2 (1 / sigma_a^2 + 1 / sigma_b^2)) / 2,

    computed from sigma_a - sigma_b and mu_a - mu_b, which does not lose digits where two styles are close.

    Args:
        a, b: styles of C channels, deviations above 0; leading dimensions broadcast.

    Returns:
        Distances, 0 for equal styles, in the broadcast leading shape.
    """
    one_a, one_b = 1 / a.deviation, 1 / b.deviation
    ratios = (a.deviation - b.deviation) * (one_a + one_b)  # sigma_a / sigma_b - sigma_b / sigma_a
    means = (a.mean - b.mean).square() * (one_a.square() + one_b.square())
    return (ratios.square() + means).mean(-1) / 2


def styles_of(model: nn.Module, images: Tensor, layer: str) -> Style:
    """Mean and standard deviation over positions of a module's output, in a pass with source statistics.

    The source's, because normalizing an image by its own statistics removes most of its style.

    Args:
        model: any network with BatchNorm.
        images: N x 3 x H x W.
        layer: module path, as :func:`~dglab.testtime.style_layer.find_style_layer` returns it.

    Returns:
        N x C means and N x C deviations (biased, floored at 1e-5), float32.

    Raises:
        InputError: for a layer that does not run, or whose output is no N x C x H x W tensor.
    """
    features = features_of(model, images, layer)
    variance, mean = torch.var_mean(features.float(), dim=(2, 3), correction=0)
    return Style(mean, variance.sqrt().clamp_min(DEVIATION_FLOOR))
