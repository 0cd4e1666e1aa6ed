"""MLDG's gradient against other libraries' on a network with BatchNorm and dropout, in float64."""

import functools

import pytest
import torch
from torch import nn

from dglab.bench import train as bench_module
from dglab.bench.measure import measure, peak_memory, random_images
from dglab.bench.train import LIBRARIES, bench_train, higher_backward, multimodal_cases
from dglab.models import build_model
from dglab.models.multimodal import build_multimodal
from dglab.training import cross_entropy, gmp_backward, mldg_backward

pytestmark = pytest.mark.numerical


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.Tanh(),
        nn.Dropout(0.3),
        nn.ConvTranspose2d(8, 19, 2, stride=2),
    ).double()


def batch(seed, count):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 19, (count, 8, 12), generator=generator)
    labels[:, 0] = 255
    return torch.rand(count, 3, 8, 12, generator=generator, dtype=torch.float64), labels


def gradients(net, backward, **options):
    """The gradient of one step, dropout drawn from the same seed each time; the parameters stay as they are."""
    before = [p.detach().clone() for p in net.parameters()]
    net.zero_grad()
    torch.manual_seed(3)
    backward(net, cross_entropy, batch(1, 3), batch(2, 2), 0.3, **options)
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), before, strict=True))
    return [p.grad.clone() for p in net.parameters()]


@pytest.mark.parametrize("library", LIBRARIES)
def test_second_order_equals_that_of(library, net):
    if library == "torchopt":
        pytest.importorskip("torchopt")  # compiled, and not for every platform
    ours, theirs = gradients(net, mldg_backward, order=2), gradients(net, LIBRARIES[library])
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    first = gradients(net, mldg_backward, order=1)
    assert not torch.allclose(first[0], theirs[0], rtol=1e-2)  # the second-order term matters here


def test_first_order_equals_that_of_higher_with_a_constant_inner_gradient(net):
    ours, theirs = gradients(net, mldg_backward, order=1), gradients(net, higher_backward, order=1)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("library", LIBRARIES)
def test_second_order_holds_one_copy_of_the_parameters_more_than(library):
    if library == "torchopt":
        pytest.importorskip("torchopt")
    model = build_model("thin", seed=0).train()
    images, labels = random_images(4, (32, 64), "cpu")
    halves = (images[:2], labels[:2]), (images[2:], labels[2:])
    peaks = []
    for backward in (functools.partial(mldg_backward, order=2), LIBRARIES[library]):
        model.zero_grad()
        peaks.append(peak_memory(functools.partial(backward, model, cross_entropy, *halves, 0.1), "cpu"))
    one_copy = sum(p.nbytes for p in model.parameters())
    assert peaks[0] < 1.005 * peaks[1] + one_copy  # the libraries do not keep running statistics from moving, ours does


def test_the_plain_multimodal_step_of_the_bench_is_gmps_without_balancing():
    model = build_multimodal(("rgb", "depth"), 2, seed=0, width=4).double().eval()
    images, labels = batch(0, 4)
    batch_of_two = {"rgb": images, "depth": images[:, :1]}, labels, torch.arange(4) % 2
    multimodal_cases(model, batch_of_two)["multimodal, plain"]()
    plain = [p.grad.clone() for p in model.parameters()]
    gmp_backward(model, cross_entropy, batch_of_two, alpha_k=1, alpha_p=1, variant="joint")
    torch.testing.assert_close([p.grad for p in model.parameters()], plain, rtol=1e-9, atol=1e-13)


def test_the_bench_compares_in_one_run(monkeypatch):
    monkeypatch.setattr(
        bench_module, "measure", lambda cases, device: measure(cases, device=device, rounds=2, warmup=1)
    )
    records = {record["case"]: record for record in bench_train("thin", (32, 64), "cpu")}
    assert list(records)[:4] == ["AGG", "split", "MLDG, order 1", "MLDG, order 2"] and "order 2, higher" in records
    assert records["AGG"]["ratio"] == records["AGG"]["peak_ratio"] == 1
    assert list(records)[-2:] == ["multimodal, plain", "multimodal, GMP"]
    assert records["multimodal, plain"]["ratio"] == records["multimodal, plain"]["peak_ratio"] == 1
    for name, record in records.items():
        plain = records["multimodal, plain" if "multimodal" in name else "AGG"]
        assert record["peak_mib"] == pytest.approx(record["peak_ratio"] * plain["peak_mib"])
    assert records["split"]["peak_ratio"] < 0.9 < records["MLDG, order 2"]["peak_ratio"]  # half the images at a time
