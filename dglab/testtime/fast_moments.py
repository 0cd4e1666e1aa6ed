"""Eq. 8 on the hot path: the same as :func:`dglab.testtime.moments.moments_of`, several times as fast."""

import torch
from torch import Tensor

from dglab.models.batchnorm import moments_dims
from dglab.testtime.moments import Moments, pooled

CACHE = 2**20  # bytes that fit into any core's cache


def moments_of(x: Tensor) -> Moments:
    """Mean and biased variance per channel over batch and positions (Eq. 8), in float32 at least.

    Args:
        x: N x C x ... features.
    """
    if x.device.type == "cuda":
        return torch.batch_norm_update_stats(x, None, None, 0.0)  # BatchNorm's own kernel: one pass, in float32
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

    On one core ten times as fast as ``torch.var_mean``: each operation is vectorized and works on at most a megabyte,
    which stays in the cache.

    Args:
        x: N x C x positions, contiguous.
    """
    rows = x.flatten(0, 1)  # (N C) x positions
    mean, norm = rows.mean(1), torch.empty_like(rows[:, 0])
    count = max(1, CACHE // (rows[:1].nbytes or 1))
    for part, its_mean, its_norm in zip(rows.split(count), mean.split(count), norm.split(count), strict=True):
        torch.linalg.vector_norm(part - its_mean[:, None], dim=1, out=its_norm)
    return mean.view(x.shape[:2]), (norm.square_() / x.shape[2]).view(x.shape[:2])


def moments_of_each(x: Tensor) -> Moments:
    """Mean and biased variance per channel of each image by itself, N x C each, in float32 at least.

    Args:
        x: N x C x ... features.
    """
    x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    rows = x.flatten(2) if x.ndim > 2 else x[..., None]  # N x C x positions
    if x.device.type == "cpu":
        return _moments_of_rows(rows.contiguous())
    variance, mean = torch.var_mean(rows, dim=2, correction=0)
    return mean, variance
