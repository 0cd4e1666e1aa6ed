"""Moments of features: mean and variance per channel (Eq. 8); pooling and blending them."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from dglab.models.batchnorm import moments_dims
from dglab.utils.errors import InputError

Moments = tuple[Tensor, Tensor]  # mean and biased variance per channel, C each


def moments_of(x: Tensor) -> Moments:
    """Mean and biased variance per channel over batch and positions (Eq. 8), in float32 at least.

    The plain form of :func:`dglab.testtime.fast_moments.moments_of`.

    Args:
        x: N x C x ... features.
    """
    x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    variance, mean = torch.var_mean(x, dim=moments_dims(x.ndim), correction=0)
    return mean, variance


def pooled(moments: Moments) -> Moments:
    """Moments of the union of groups of equal size: total variance = mean of variances + variance of means.

    Args:
        moments: means and variances of the groups, groups x C each.
    """
    mean, variance = moments
    return mean.mean(0), variance.mean(0) + mean.var(0, correction=0)


def merged(a: Moments, b: Moments, share: float) -> Moments:
    """Moments of the union of two groups, the second being ``share`` of it, 0 to 1.

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


def check_finite(statistics: Mapping[str, Sequence[Any]]) -> None:
    """Refuse statistics that are not finite before they are kept: images far out of range can overflow in a layer."""
    for name, parts in statistics.items():
        if not all(torch.isfinite(torch.as_tensor(part)).all() for part in parts):
            raise InputError(
                f"the statistics of layer {name!r} are not finite; are the images scaled as the model wants?"
            )


def is_of_one_colour(images: Tensor) -> Tensor:
    """Whether all pixels of an image are the same, for images N x 3 x H x W: N booleans."""
    return (images.amax((2, 3)) == images.amin((2, 3))).all(1)
