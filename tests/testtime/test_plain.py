"""TN and the bank in plain form: against training-mode BatchNorm, sums by hand, and the bank for any model."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from dglab.models import build_model
from dglab.testtime import ImageBank, PlainBank, TargetNormalization, target_normalization

pytestmark = pytest.mark.numerical


@pytest.fixture(scope="module")
def model():
    net = build_model("thin", seed=1).double().train()
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        for _ in range(3):
            net(torch.rand(4, 3, 32, 48, dtype=torch.float64))  # running statistics worth the name
    return net.eval()


def stream(count, seed=0):
    """Images 1 x 3 x H x W of different brightness."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 3, 32, 48, generator=generator, dtype=torch.float64)
    return (images * torch.linspace(0.3, 1, count)[torch.randperm(count, generator=generator)].view(-1, 1, 1, 1)).split(
        1
    )


def test_target_normalization_is_batchnorm_in_training_mode_alone(model):
    twin, images = copy.deepcopy(model), torch.cat(stream(3))
    for layer in twin.modules():
        layer.training = isinstance(layer, _BatchNorm)
    with torch.no_grad():
        expected = twin(images)
        with target_normalization(model):
            found = model(images)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(TargetNormalization(model)(images), expected, rtol=1e-9, atol=1e-9)
    assert not any(layer._forward_hooks for layer in model.modules())


def test_target_normalization_of_six_numbers_by_hand():
    """1, 3 | 2, 6 | 4, 2: mean 3, biased variance (4 + 0 + 1 + 9 + 1 + 1) / 6 = 8 / 3."""
    layer = nn.BatchNorm2d(1, eps=1e-12).double().eval()
    x = torch.tensor([[1.0, 3.0], [2.0, 6.0], [4.0, 2.0]]).double().view(3, 1, 1, 2)
    with target_normalization(nn.Sequential(layer)), torch.no_grad():
        torch.testing.assert_close(layer(x), (x - 3) / (8 / 3) ** 0.5)


@pytest.mark.parametrize(("neighbors", "capacity", "layer"), [(4, 128, "layer1"), (3, 5, "layer2"), (1, 1, "layer1")])
def test_the_plain_bank_is_the_one_for_any_model(model, neighbors, capacity, layer):
    plain = PlainBank(model, layer, neighbors, capacity)
    full = ImageBank(model, layer, neighbors, capacity)
    for image in stream(12):
        expected = plain(image)
        found = full(image)
        assert (found - expected).abs().max() <= 1e-9 * expected.abs().max()
        assert full.selected == plain.selected
    assert full.stored == [number for number, _, _ in plain.bank] and len(full) == min(12, capacity)


def test_the_plain_bank_chooses_what_is_alike():
    """Three bright images, then three dark ones: each takes its own kind, the older of two equals first."""
    net = nn.Sequential(nn.BatchNorm2d(3)).double().eval()
    bank = PlainBank(net, "0", neighbors=2)
    chosen = []
    for number, brightness in enumerate((1.0, 1.0, 1.0, 0.1, 0.1, 0.1)):
        noise = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(number), dtype=torch.float64)
        bank(noise * brightness)
        chosen.append(sorted(bank.selected))
    assert chosen == [[], [0], [0, 1], chosen[3], chosen[4], [3, 4]]
    assert 3 in chosen[4]
