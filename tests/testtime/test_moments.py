"""Eq. 8, plain and fast, against BatchNorm itself and numpy."""

import numpy as np
import pytest
import torch
from torch import nn

from dglab.testtime import fast_moments, moments

pytestmark = pytest.mark.numerical
SHAPES = [(1, 3, 5, 7), (4, 3, 5, 7), (2, 8, 1, 1), (3, 6), (2, 4, 9), (2, 3, 2, 3, 4), (3, 2, 700, 900)]


def features(shape, dtype=torch.float64):
    return (3 + 2 * torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).to(dtype)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("one", [moments, fast_moments])
def test_mean_and_biased_variance_are_numpys(one, shape):
    x = features(shape)
    others = tuple(i for i in range(x.ndim) if i != 1)
    mean, variance = one.moments_of(x)
    np.testing.assert_allclose(mean, x.numpy().mean(others), rtol=1e-10)
    np.testing.assert_allclose(variance, x.numpy().var(others), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "strided"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_plain_and_fast_agree_in_any_layout_and_precision(layout, dtype):
    x = features((2, 6, 8, 10), dtype)
    x = {"contiguous": x, "channels_last": x.to(memory_format=torch.channels_last), "strided": x[..., ::2]}[layout]
    for a, b in zip(moments.moments_of(x), fast_moments.moments_of(x), strict=True):
        assert a.dtype == b.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_they_are_what_batchnorm_normalizes_by():
    x = features((4, 3, 5, 7))
    layer = nn.BatchNorm2d(3, momentum=1.0).double().train()
    layer(x)
    mean, variance = fast_moments.moments_of(x)
    unbiased = variance * (x.numel() // 3) / (x.numel() // 3 - 1)
    torch.testing.assert_close(layer.running_mean, mean, rtol=1e-12, atol=0)
    torch.testing.assert_close(layer.running_var, unbiased, rtol=1e-12, atol=0)


def test_of_each_image_pooled_they_are_those_of_the_batch():
    x = features((5, 3, 4, 6))
    for a, b in zip(moments.pooled(fast_moments.moments_of_each(x)), moments.moments_of(x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=0)
