"""What others do, each against its formulas written out in numpy for one layer, and by its limits."""

import numpy as np
import pytest
import torch
from torch import nn

from dglab.testtime import SourceNormalization, TargetNormalization
from dglab.testtime.comparators import (
    AdaptiveMix,
    EntropyWeighted,
    FixedPrior,
    InstanceAware,
    MovingStatistics,
    balanced_entropy,
)

MEAN, VARIANCE = np.array([0.4, 0.6, 0.5]), np.array([0.05, 0.1, 0.2])
ALL = (FixedPrior, MovingStatistics, InstanceAware, EntropyWeighted, AdaptiveMix)


@pytest.fixture
def layer():
    """One BatchNorm layer whose source statistics are known, in double precision."""
    net = nn.Sequential(nn.BatchNorm2d(3, eps=0.0)).double().eval()
    net[0].running_mean.copy_(torch.from_numpy(MEAN))
    net[0].running_var.copy_(torch.from_numpy(VARIANCE))
    return net


def images(n, seed=0):
    return torch.rand(n, 3, 4, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def normalized(x, mean, variance):
    return (x.numpy() - mean[:, None, None]) / np.sqrt(variance)[:, None, None]


def moments(x, axes=(0, 2, 3), ddof=0):
    return x.numpy().mean(axes), x.numpy().var(axes, ddof=ddof)


def test_a_fixed_prior_with_and_without_the_cross_term(layer):
    x = images(3)
    mean, variance = moments(x)
    plain = normalized(x, 0.7 * MEAN + 0.3 * mean, 0.7 * VARIANCE + 0.3 * variance)
    np.testing.assert_allclose(FixedPrior(layer, 0.7)(x), plain)
    cross = 0.7 * VARIANCE + 0.3 * variance + 0.21 * (MEAN - mean) ** 2
    np.testing.assert_allclose(
        FixedPrior(layer, 0.7, cross_term=True)(x), normalized(x, 0.7 * MEAN + 0.3 * mean, cross)
    )


def test_moving_statistics_follow_the_stream_and_forget_it(layer):
    predictor, mean, variance, m = MovingStatistics(layer, 0.1, 0.94, 0.005), MEAN, VARIANCE, 0.1
    for seed in range(3):
        x = images(2, seed)
        m *= 0.94
        t_mean, t_variance = moments(x, ddof=1)
        mean = mean + (m + 0.005) * (moments(x)[0] - mean)
        variance = variance + (m + 0.005) * (t_variance - variance)
        np.testing.assert_allclose(predictor(x), normalized(x, mean, variance))
    first = MovingStatistics(layer)(images(2))
    assert not torch.equal(predictor(images(2)), first)
    predictor.reset()
    assert torch.equal(predictor(images(2)), first)


def test_instance_aware_statistics_shrink_by_standard_errors(layer):
    x = images(2, seed=3)
    expected = []
    for image in x:
        mean, variance = moments(image, (1, 2), ddof=1)
        new = []
        for source, target, error in (
            (MEAN, image.numpy().mean((1, 2)), np.sqrt(VARIANCE / 20)),
            (VARIANCE, variance, VARIANCE * np.sqrt(2 / 19)),
        ):
            shift = target - source
            new.append(source + np.where(np.abs(shift) > 0.5 * error, shift - 0.5 * error * np.sign(shift), 0))
        expected.append(normalized(image, *new))
    np.testing.assert_allclose(InstanceAware(layer, k=0.5)(x), np.stack(expected))
    assert torch.equal(InstanceAware(layer, k=1e9)(x), SourceNormalization(layer)(x))


def test_adaptive_mix_by_its_distances_and_a_half_for_one_image(layer):
    x = images(3, seed=4)
    batch, each = moments(x), moments(x, (2, 3))

    def apart(a, b):
        return ((a[0] - b[0]) ** 2).mean(-1) + ((np.sqrt(a[1]) - np.sqrt(b[1])) ** 2).mean(-1)

    source = MEAN, VARIANCE
    ib, is_, bs = apart(each, batch), apart(each, source), apart(batch, source)
    p = (1 - bs / (bs + is_ + ib)).mean()
    expected = normalized(x, *(p * s + (1 - p) * t for s, t in zip(source, batch, strict=True)))
    np.testing.assert_allclose(AdaptiveMix(layer)(x), expected)
    torch.testing.assert_close(AdaptiveMix(layer)(x[:1]), TargetNormalization(layer, prior=0.5)(x[:1]))


def test_entropy_weights_average_six_predictions(layer):
    x = images(1, seed=5)
    mean, variance = moments(x)
    predictions = []
    for share in (0, 0.2, 0.4, 0.6, 0.8, 1):
        z = np.exp(normalized(x, MEAN + share * (mean - MEAN), VARIANCE + share * (variance - VARIANCE)))
        predictions.append(z / z.sum(1, keepdims=True))
    entropies = []
    for p in predictions:
        pixels, choice = -(p * np.log(p)).sum(1).ravel(), p.argmax(1).ravel()
        entropies.append(np.mean([pixels[choice == k].mean() for k in np.unique(choice)]))
        assert balanced_entropy(torch.from_numpy(p)).item() == pytest.approx(entropies[-1])
    sure = (max(entropies) - np.array(entropies)) / (max(entropies) - min(entropies))
    weights = np.exp(sure) / np.exp(sure).sum()
    expected = sum(w * p for w, p in zip(weights, predictions, strict=True))
    np.testing.assert_allclose(EntropyWeighted(layer)(x).exp(), expected, rtol=1e-6)


@pytest.mark.parametrize("kind", ALL)
def test_each_costs_the_passes_it_says_and_leaves_the_model_as_it_was(layer, kind):
    before, calls = {k: v.clone() for k, v in layer.state_dict().items()}, []
    handle = layer.register_forward_hook(lambda *_: calls.append(1))
    predictor = kind(layer)
    predictor(images(1))
    handle.remove()
    assert len(calls) == kind.passes and kind.needs
    assert all(torch.equal(v, before[k]) for k, v in layer.state_dict().items()) and not layer[0]._forward_pre_hooks
