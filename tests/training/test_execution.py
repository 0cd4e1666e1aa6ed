"""What changes how a step is executed changes nothing of what a network computes."""

import pytest
import torch
from torch import nn

from dglab.models import build_model
from dglab.models.batchnorm import batchnorm_layers
from dglab.training.execution import synchronized
from dglab.training.losses import cross_entropy
from dglab.training.mean_loss import MeanLoss
from dglab.utils.randomness import own_randomness, set_seed


@pytest.mark.parametrize("backbone", ["thin-ibn-a", "efficientnet-lite0"])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_synchronized_layers_compute_what_plain_ones_do(backbone, mode):
    """Without a group of processes torch's SyncBatchNorm is BatchNorm; timm's layers, activation and all, too."""
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    plain = build_model(backbone, seed=0).train(mode == "train")
    theta = list(plain.parameters())
    set_seed(1, images.device)
    expected = plain(images)
    model = synchronized(plain)
    set_seed(1, images.device)
    torch.testing.assert_close(model(images), expected, rtol=0, atol=0)
    assert all(isinstance(layer, nn.SyncBatchNorm) for layer in batchnorm_layers(model).values())
    assert all(a is b for a, b in zip(model.parameters(), theta, strict=True))  # an optimizer may hold them already


def test_gradients_are_taken_outside_of_autocast():
    """Autocast is for forward passes: what a gradient of the first and second order computes does not go through it."""
    seen = []

    class Watching(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            seen.append(("forward", torch.is_autocast_enabled("cpu")))
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            seen.append(("backward", torch.is_autocast_enabled("cpu")))
            return grad.clone()

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 19, 1)

        def forward(self, x):
            return Watching.apply(self.conv(x)).square()

    batch = torch.rand(2, 3, 4, 4), torch.zeros(2, 4, 4, dtype=torch.long)
    for parts in (1, 2):
        loss = MeanLoss(Net(), cross_entropy, [batch], parts)
        with torch.autocast("cpu", torch.bfloat16):
            _, grad = loss.value_and_grad(for_hessian=True)
            product = loss.hessian_vector_product(grad)
            assert torch.is_autocast_enabled("cpu")
        assert all(p.isfinite().all() and p.dtype == torch.float32 for p in product)
    assert set(seen) == {("forward", True), ("backward", False)}


def test_seeds_are_set_and_put_back():
    device = torch.device("cpu")
    before = torch.get_rng_state()
    with own_randomness(device):
        set_seed(3, device)
        first = torch.rand(4)
        torch.manual_seed(3)
        assert torch.equal(torch.rand(4), first)
    assert torch.equal(torch.get_rng_state(), before)


def test_training_seeds_no_gpu_but_its_own(monkeypatch):
    """A training on the CPU leaves the random state of the GPUs alone."""
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("every GPU was seeded"))
    set_seed(0, torch.device("cpu"))
