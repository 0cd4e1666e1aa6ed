"""AGG, split and MLDG against explicitly built references in float64."""

import copy
import functools
import math

import pytest
import torch
from torch import nn
from torch.func import functional_call

from dglab.bench.measure import peak_memory, random_images
from dglab.models import build_model
from dglab.training import (
    TrainingConfig,
    agg_backward,
    by_domain_backward,
    cross_entropy,
    mldg_backward,
    split_backward,
)
from dglab.training.mean_loss import remember_randomness
from dglab.training.methods import METHODS, passes_of
from dglab.utils.errors import InputError

pytestmark = pytest.mark.numerical


class Net(nn.Module):
    """Small, with BatchNorm, dropout, a frozen parameter, and one that no loss depends on."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 6, 3, padding=1)
        self.bn = nn.BatchNorm2d(6)
        self.drop = nn.Dropout(0.3)
        self.b = nn.Conv2d(6, 19, 1)
        self.frozen = nn.Parameter(torch.ones(1), requires_grad=False)
        self.unused = nn.Parameter(torch.ones(2))

    def forward(self, x):
        return self.b(self.drop(torch.tanh(self.bn(self.a(x))))) * self.frozen


def batch(seed, n=3, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 19, (n, 8, 10), generator=g)
    labels[:, :2] = 255
    return torch.rand(n, 3, 8, 10, generator=g, dtype=dtype), labels


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net().double().train()


def reference(net, train, test, lr, alpha, order, moves, parts=1):
    """Algorithm 1 written out with its own copies: returns gradients by name and the buffers afterwards.

    One graph holds it all: the parts of a batch, the inner step, and for order 2 the differentiation through it.
    """
    theta = {n: p.detach().clone().requires_grad_(p.requires_grad) for n, p in net.named_parameters()}
    buffers = {n: b.clone() for n, b in net.named_buffers()}

    def loss(parameters, data, move):
        moved = {n: b.clone() for n, b in buffers.items()}
        logits = [functional_call(net, {**parameters, **moved}, (part,)) for part in data[0].tensor_split(parts)]
        value = nn.functional.cross_entropy(torch.cat(logits), data[1], ignore_index=255)
        if move:
            buffers.update(moved)
        return value

    names = [n for n, p in theta.items() if p.requires_grad]
    l_ds = loss(theta, train, moves[0])
    g = torch.autograd.grad(
        l_ds, [theta[n] for n in names], create_graph=order == 2, retain_graph=True, allow_unused=True
    )
    g = [torch.zeros_like(theta[n]) if x is None else x for n, x in zip(names, g, strict=True)]
    prime = {n: theta[n] - lr * (x if order == 2 else x.detach()) for n, x in zip(names, g, strict=True)}
    l_dg = loss({**theta, **prime}, test, moves[1])
    total = torch.autograd.grad(l_dg + alpha * l_ds, [theta[n] for n in names], allow_unused=True)
    return (
        {n: torch.zeros_like(theta[n]) if x is None else x for n, x in zip(names, total, strict=True)},
        buffers,
        l_ds,
        l_dg,
    )


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize(("running_stats", "moves"), [("meta_train", (1, 0)), ("both", (1, 1)), ("none", (0, 0))])
def test_mldg_equals_the_algorithm_written_out(net, order, running_stats, moves, parts):
    train, test = batch(1), batch(2, n=2)
    torch.manual_seed(7)
    expected, buffers, l_ds, l_dg = reference(copy.deepcopy(net), train, test, 0.3, 0.7, order, moves, parts)
    before = {n: p.detach().clone() for n, p in net.named_parameters()}
    net.a.weight.grad = torch.full_like(net.a.weight, 1e6)  # overwritten, not added to
    torch.manual_seed(7)
    losses = mldg_backward(
        net, cross_entropy, train, test, 0.3, 0.7, order, running_stats=running_stats, micro_batches=parts
    )
    for name, parameter in net.named_parameters():
        assert torch.equal(parameter, before[name])
        if parameter.requires_grad:
            torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-10, atol=1e-12)
        else:
            assert parameter.grad is None
    for name, buffer in net.named_buffers():
        torch.testing.assert_close(buffer, buffers[name], rtol=1e-12, atol=1e-12)
    assert losses.ds == pytest.approx(l_ds.item(), rel=1e-12)
    assert losses.dg == pytest.approx(l_dg.item(), rel=1e-12)
    assert losses.total == pytest.approx(l_dg.item() + 0.7 * l_ds.item(), rel=1e-12)
    assert net.bn.track_running_stats and net.training


def test_second_order_differs_from_first(net):
    grads = []
    for order in (1, 2):
        torch.manual_seed(7)
        mldg_backward(net, cross_entropy, batch(1), batch(2), 0.3, order=order)
        grads.append(net.a.weight.grad.clone())
    assert not torch.allclose(*grads, rtol=1e-3)


def test_second_order_by_hand_in_one_dimension():
    """L_ds = (w - 1)^2, L_dg = (w' - 3)^2 at w = 0, eta = 0.25: w' = 0.5, dL_dg/dw' = -5, dw'/dw = 1 - 2 eta = 0.5."""

    class Line(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.zeros(()))

        def forward(self, target):
            return (self.w - target).square().mean()

    def of(value):
        return torch.full((1,), float(value)), torch.zeros(1)

    for order, slope in ((1, -5.0), (2, -2.5)):
        line = Line()
        losses = mldg_backward(line, lambda output, labels: output, of(1), of(3), inner_lr=0.25, order=order)
        assert (losses.ds, losses.dg) == (1.0, 6.25)
        assert line.w.grad.item() == pytest.approx(slope + -2.0)
        assert line.w.item() == 0


def test_agg_is_plain_backpropagation(net):
    data = batch(3)
    twin = copy.deepcopy(net)
    torch.manual_seed(1)
    loss = cross_entropy(twin(data[0]), data[1])
    (2 * loss).backward()
    torch.manual_seed(1)
    losses = agg_backward(net, cross_entropy, data, weight=2.0)
    for (name, p), q in zip(net.named_parameters(), twin.parameters(), strict=True):
        if name == "unused":
            assert torch.equal(p.grad, torch.zeros_like(p))
        elif p.requires_grad:
            torch.testing.assert_close(p.grad, q.grad)
    assert losses.ds == pytest.approx(loss.item()) and losses.total == pytest.approx(2 * loss.item())
    assert math.isnan(losses.dg)


@pytest.mark.parametrize("parts", [2, 3])
def test_agg_and_split_in_parts_are_means_over_all_labelled_pixels(net, parts):
    images, labels = batch(3)
    labels[0] = 255  # a part without a labelled pixel, if there are three
    labels[1, :6] = 255
    twin = copy.deepcopy(net)
    torch.manual_seed(1)
    logits = torch.cat([twin(part) for part in images.tensor_split(parts)])
    loss = nn.functional.cross_entropy(logits, labels, ignore_index=255)
    loss.backward()
    torch.manual_seed(1)
    losses = agg_backward(net, cross_entropy, (images, labels), micro_batches=parts)
    assert losses.total == pytest.approx(loss.item())
    for p, q in zip(net.parameters(), twin.parameters(), strict=True):
        if q.grad is not None:
            torch.testing.assert_close(p.grad, q.grad)
    for p, q in zip(net.buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(p, q)
    net.drop.p = 0.0
    agg = agg_backward(net, cross_entropy, (images, labels), micro_batches=parts)
    gradient = net.a.weight.grad.clone()
    split = split_backward(net, cross_entropy, (images, labels), (images, labels), micro_batches=parts)
    assert split == pytest.approx((agg.total, agg.total, 2 * agg.total))
    torch.testing.assert_close(net.a.weight.grad, 2 * gradient)


@pytest.mark.parametrize("weight", [1.0, 2.0])
@pytest.mark.parametrize("parts", [1, 2])
def test_by_domain_normalizes_each_domain_by_itself(net, weight, parts):
    """One mean over the labelled pixels of all domains, though each passes, and is normalized, by itself."""
    domains = [batch(1), batch(2, n=2), batch(3)]
    domains[1][1][:] = 255  # a domain without a labelled pixel
    domains[2][1][:, :5] = 255
    twin = copy.deepcopy(net)
    torch.manual_seed(1)
    logits = [torch.cat([twin(part) for part in images.tensor_split(parts)]) for images, _ in domains]
    labels = torch.cat([labels for _, labels in domains])
    loss = nn.functional.cross_entropy(torch.cat(logits), labels, ignore_index=255)
    (weight * loss).backward()
    torch.manual_seed(1)
    losses = by_domain_backward(net, cross_entropy, domains, weight=weight, micro_batches=parts)
    assert losses.ds == pytest.approx(loss.item(), rel=1e-12) and math.isnan(losses.dg)
    assert losses.total == pytest.approx(weight * loss.item(), rel=1e-12)
    for p, q in zip(net.parameters(), twin.parameters(), strict=True):
        if q.grad is not None:
            torch.testing.assert_close(p.grad, q.grad, rtol=1e-10, atol=1e-12)
    for p, q in zip(net.buffers(), twin.buffers(), strict=True):  # moved in every pass
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_passes_hold_four_images_of_k_domains(count):
    """Images say which they are: 10 x domain + number."""
    numbers = 10 * torch.arange(4.0)[None, :] + torch.arange(4.0)[:, None]  # B x D
    data = numbers[..., None, None, None].expand(-1, -1, 3, 2, 2), numbers[..., None, None].expand(-1, -1, 2, 2)
    found = passes_of(data, count, torch.Generator().manual_seed(0))
    seen = [images[:, 0, 0, 0] for images, labels in found if torch.equal(images[:, 0], labels)]
    assert len(seen) == 4 and all(len(one) == 4 for one in seen)
    assert sorted(torch.cat(seen).tolist()) == sorted(numbers.flatten().tolist())  # each image once
    assert all(len(set((one // 10).tolist())) == count for one in seen)
    others = [passes_of(data, count, torch.Generator().manual_seed(seed)) for seed in range(8)]
    drawn = {frozenset((one[0][:, 0, 0, 0] // 10).tolist()) for passes in others for one in passes}
    assert len(drawn) == {1: 4, 4: 1}.get(count, len(drawn)) and (count != 2 or len(drawn) > 2)


@pytest.mark.parametrize(("count", "domains", "rows"), [(3, 3, 4), (2, 3, 4), (1, 2, 2), (2, 2, 1), (4, 2, 4)])
def test_passes_that_cannot_be_filled_are_refused(count, domains, rows):
    data = torch.zeros(rows, domains, 3, 2, 2), torch.zeros(rows, domains, 2, 2)
    with pytest.raises(
        InputError, match=f"domains_per_pass is {count}, with {rows} image.* of each of {domains} source"
    ):
        passes_of(data, count, torch.Generator())


def test_a_step_of_passes_is_the_mean_over_all_labelled_pixels(net):
    """Against one graph of four forward passes, each normalized by its own four images."""
    images = torch.rand(4, 4, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    labels = torch.randint(0, 19, (4, 4, 6, 6), generator=torch.Generator().manual_seed(2))
    labels[0, 1] = 255
    config = TrainingConfig(sources=tuple("GSIM"), batch_per_domain=4, domains_per_pass=1)
    twin = copy.deepcopy(net)
    for model in (net, twin):
        model.drop.p = 0.0
    losses = METHODS["agg"](net, cross_entropy, (images, labels), config, torch.Generator().manual_seed(0))
    logits = torch.stack([twin(images[:, domain]) for domain in range(4)], 1)  # B x D
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(0, 1), ignore_index=255)
    loss.backward()
    assert losses.total == pytest.approx(loss.item(), rel=1e-12)
    for p, q in zip(net.parameters(), twin.parameters(), strict=True):
        if q.grad is not None:
            torch.testing.assert_close(p.grad, q.grad, rtol=1e-10, atol=1e-12)


def test_by_domain_with_one_domain_is_agg(net):
    twin = copy.deepcopy(net)
    for model, step in ((net, lambda m: agg_backward(m, cross_entropy, batch(1))),
                        (twin, lambda m: by_domain_backward(m, cross_entropy, [batch(1)]))):  # fmt: skip
        torch.manual_seed(2)
        step(model)
    assert all(
        torch.equal(p.grad, q.grad) for p, q in zip(net.parameters(), twin.parameters(), strict=True) if p.requires_grad
    )


def test_no_domain_at_all_is_refused(net):
    with pytest.raises(InputError, match="there is no batch; pass images and labels of at least one domain"):
        by_domain_backward(net, cross_entropy, [])


@pytest.mark.parametrize(
    ("order", "micro_batches", "expected"), [(1, 1, 2), (2, 1, 2), (1, 2, 4), (2, 2, 6)]
)  # order 2 keeps the graph of a single part, and runs several once more
def test_how_often_the_network_runs(net, order, micro_batches, expected):
    runs = []
    net.register_forward_hook(lambda *_: runs.append(1))
    mldg_backward(net, cross_entropy, batch(1), batch(2), 0.1, order=order, micro_batches=micro_batches)
    assert len(runs) == expected


@pytest.mark.parametrize("micro_batches", [0, 4])
def test_more_parts_than_images_are_refused(net, micro_batches):
    message = f"micro_batches is {micro_batches} for a batch of 3 images; expected 1 to 3"
    with pytest.raises(InputError, match=message):
        agg_backward(net, cross_entropy, batch(1), micro_batches=micro_batches)
    with pytest.raises(InputError, match=message):
        mldg_backward(net, cross_entropy, batch(1), batch(2), 0.1, micro_batches=micro_batches)


def test_a_loss_without_curvature_has_the_first_orders_gradient():
    """L_ds is linear in theta, so that H is zero and autograd has nothing to differentiate twice."""

    class Linear(nn.Module):
        def __init__(self):
            super().__init__()
            self.w, self.of_dg_alone = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))

        def forward(self, x):
            return x @ self.w if len(x) == 2 else (self.w * self.of_dg_alone).square().sum()

    train, test = (torch.tensor([2.0, 3.0]), torch.zeros(2)), (torch.zeros(3), torch.zeros(3))
    grads = []
    for order in (1, 2):
        net = Linear()
        mldg_backward(net, lambda output, labels: output, train, test, inner_lr=0.1, order=order)
        grads.append([p.grad for p in net.parameters()])  # at w' = (0.8, 0.7): 2 w' + (2, 3), and 2 w'^2
    assert grads[0][0].tolist() == pytest.approx([3.6, 4.4]) and grads[0][1].tolist() == pytest.approx([1.28, 0.98])
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


def test_memory():
    """The first order needs no more than AGG although it keeps a copy of the weights; parts need less."""
    model = build_model("thin", seed=0).train()
    images, labels = random_images(8, (96, 96), "cpu")
    first, second = (images[:4], labels[:4]), (images[4:], labels[4:])

    def peak(step):
        step()  # whatever is made once
        return peak_memory(step, "cpu")

    def mldg(order, micro_batches=1):
        return peak(
            lambda: mldg_backward(model, cross_entropy, first, second, 0.1, order=order, micro_batches=micro_batches)
        )

    agg = peak(lambda: agg_backward(model, cross_entropy, (images, labels)))
    order_1 = mldg(1)
    assert order_1 < agg
    assert peak(lambda: agg_backward(model, cross_entropy, (images, labels), micro_batches=4)) < agg / 2
    assert mldg(1, 4) < order_1 and mldg(2, 4) < 0.6 * mldg(2)


def test_how_often_the_parameters_are_held():
    """Where they are most of the memory: one gradient for AGG, two for split; MLDG holds theta' besides, and order 2 in
    parts the gradient of each."""
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Conv2d(256, 256, 1) for _ in range(16)))
    copy_of_parameters = sum(p.nbytes for p in model.parameters())
    batches = [(torch.rand(2, 256, 2, 2), torch.randint(0, 19, (2, 2, 2))) for _ in range(2)]

    def copies(step):
        model.zero_grad()  # so that what a step frees of the last one's is not counted
        return peak_memory(step, "cpu") / copy_of_parameters

    one = 1.2  # and the gradient of one layer, and activations
    assert copies(lambda: agg_backward(model, cross_entropy, batches[0])) < one
    assert copies(lambda: by_domain_backward(model, cross_entropy, batches)) < one
    assert copies(lambda: split_backward(model, cross_entropy, *batches)) < 1 + one
    for options, most in (
        ({"order": 1}, 2 + one),
        ({"order": 1, "alpha": 0.5}, 2 + one),
        ({"order": 1, "micro_batches": 2}, 2 + one),
        ({"order": 2}, 2 + one),
        ({"order": 2, "micro_batches": 2}, 3 + one),
    ):
        assert 2 <= copies(functools.partial(mldg_backward, model, cross_entropy, *batches, 0.1, **options)) < most


def test_without_an_inner_step_mldg_is_split(net):
    twin = copy.deepcopy(net)
    torch.manual_seed(5)
    a = split_backward(net, cross_entropy, batch(1), batch(2))
    torch.manual_seed(5)
    b = mldg_backward(twin, cross_entropy, batch(1), batch(2), inner_lr=0.0, running_stats="both")
    assert a == pytest.approx(b)
    for p, q in zip(net.parameters(), twin.parameters(), strict=True):
        if p.requires_grad:
            torch.testing.assert_close(p.grad, q.grad)
    for p, q in zip(net.buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(p, q)


def test_a_frozen_network_is_refused(net):
    net.requires_grad_(False)
    for step in (
        lambda: agg_backward(net, cross_entropy, batch(1)),
        lambda: by_domain_backward(net, cross_entropy, [batch(1), batch(2)]),
        lambda: split_backward(net, cross_entropy, batch(1), batch(2)),
        lambda: mldg_backward(net, cross_entropy, batch(1), batch(2), 0.1),
    ):
        with pytest.raises(InputError, match="nothing to train; set requires_grad"):
            step()


def test_a_batch_without_a_labelled_pixel_gives_zero_not_nan(net):
    images, labels = batch(1)
    empty = images, torch.full_like(labels, 255)
    assert agg_backward(net, cross_entropy, empty).total == 0
    assert all(not p.grad.any() for p in net.parameters() if p.requires_grad)
    for order in (1, 2):
        losses = mldg_backward(net, cross_entropy, empty, empty, 0.1, order=order)
        assert losses == (0, 0, 0)
        losses = mldg_backward(net, cross_entropy, empty, (images, labels), 0.1, order=order)
        assert losses.ds == 0 and losses.dg > 0
        assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.requires_grad)


def test_parameters_come_back_after_an_exception(net):
    before = [p.detach().clone() for p in net.parameters()]
    calls = []

    def failing(output, labels):
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("in the meta-test pass")
        return cross_entropy(output, labels)

    with pytest.raises(RuntimeError, match="meta-test"):
        mldg_backward(net, failing, batch(1), batch(2), 0.5)
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), before, strict=True))
    assert net.bn.track_running_stats


@pytest.mark.parametrize("wrong", [{"order": 3}, {"running_stats": "all"}])
def test_unknown_options_are_refused(net, wrong):
    with pytest.raises(InputError, match="expected"):
        mldg_backward(net, cross_entropy, batch(1), batch(2), 0.1, **wrong)


def test_under_autocast_the_meta_test_pass_sees_the_inner_step(net):
    """Autocast keeps half-precision copies of weights; an inner step in place must not go on with the old ones."""
    net = net.float()
    net.drop.p = 0.0
    train, test = batch(1, dtype=torch.float32), batch(2, dtype=torch.float32)

    def dg(inner_lr, order):
        with torch.autocast("cpu", torch.bfloat16):
            return mldg_backward(copy.deepcopy(net), cross_entropy, train, test, inner_lr, order=order).dg

    moved = dg(20.0, 2) - dg(0.0, 2)
    assert abs(moved) > 0.02
    assert dg(20.0, 1) - dg(0.0, 1) == pytest.approx(moved, rel=0.1)


def test_under_autocast_parts_that_run_again_see_theta_and_not_the_inner_step(net):
    net = net.float().eval()  # so that parts are normalized as the whole is
    train, test = batch(1, dtype=torch.float32), batch(2, dtype=torch.float32)
    grads = []
    for micro_batches in (1, 2):
        with torch.autocast("cpu", torch.bfloat16):
            mldg_backward(net, cross_entropy, train, test, 5.0, order=2, micro_batches=micro_batches)
        grads.append(torch.cat([p.grad.flatten() for p in net.parameters() if p.requires_grad]))
    assert (grads[1] - grads[0]).norm() < 0.05 * grads[0].norm()


def test_dropout_that_cannot_be_repeated_is_refused():
    with pytest.raises(InputError, match="not on mps; use micro_batches=1"):
        remember_randomness(torch.device("mps"))


def test_order_2_of_a_compiled_network_is_refused(net):
    compiled_inside = copy.deepcopy(net)
    compiled_inside.bn.compile(backend="eager")
    for model, name in ((torch.compile(net, backend="eager"), "the model"), (compiled_inside, "bn")):
        with pytest.raises(InputError, match=f"{name} is compiled; pass the model as it was"):
            mldg_backward(model, cross_entropy, batch(1), batch(2), 0.1, order=2)
