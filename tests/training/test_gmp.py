"""GMP against an explicitly written reference in float64, hand-worked numbers, TorchJD's PCGrad, and its properties."""

import math
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dglab.models.multimodal import Detach, GradientReversal, build_multimodal
from dglab.training import cross_entropy
from dglab.training.gmp import VARIANTS, Coefficients, gmp_backward, modulation_coefficients, project_conflict
from dglab.training.surgery import by_torchjd
from dglab.training.two_tasks import probability_of_truth, two_tasks
from dglab.utils.errors import InputError

pytestmark = pytest.mark.numerical

ALPHAS = {"alpha_k": 0.4, "alpha_p": 0.7}


class Steeper(torch.autograd.Function):
    """Passes values through, and their gradient back times a factor."""

    @staticmethod
    def forward(ctx, x, factor):
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx, g):
        return ctx.factor * g, None


class Toy(nn.Module):
    """Linear encoders of points, as in the lesson's plane: what GMP needs and no more."""

    def __init__(self, modalities=("a", "b"), domains=2, classes=3, width=4, own_losses=True):
        super().__init__()
        names = list(modalities)
        self.encoders = nn.ModuleDict({name: nn.Sequential(nn.Linear(2, width), nn.Tanh()) for name in names})
        self.fusion = Fusion(width * len(names), classes)
        probe = nn.Identity if own_losses else Detach
        self.classifiers = nn.ModuleDict({name: nn.Sequential(probe(), nn.Linear(width, classes)) for name in names})
        self.discriminators = nn.ModuleDict(
            {name: nn.Sequential(GradientReversal(0.2), nn.Linear(width, domains)) for name in names}
        )


class Fusion(nn.Linear):
    def forward(self, features):
        return super().forward(torch.cat(features, 1))


def toy(seed=0, **options):
    torch.manual_seed(seed)
    return Toy(**options).double()


def points(modalities=("a", "b"), count=8, seed=1):
    generator = torch.Generator().manual_seed(seed)
    images = {name: torch.randn(count, 2, generator=generator, dtype=torch.float64) for name in modalities}
    return images, torch.arange(count) % 3, torch.arange(count) % 2


def gradients(model, batch, variant="gmp", loss_fn=cross_entropy, **options):
    model.zero_grad()
    losses = gmp_backward(model, loss_fn, batch, **{**ALPHAS, **options}, variant=variant)
    return losses, {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


# -------------------------------------------------------------------------------- IGDM: the coefficients


def of(**values):
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}


def test_coefficients_by_hand():
    """a: q sums to 1.5, b: 0.5; c sums to 0.4 and 1.2."""
    found = modulation_coefficients(of(a=[0.9, 0.6], b=[0.2, 0.3]), of(a=[0.1, 0.3], b=[0.5, 0.7]), 0.4, 0.7)
    assert found["a"] == pytest.approx((3, 3, 1 - math.tanh(1.2), 1 - math.tanh(2.1)))
    assert found["b"] == pytest.approx((1 / 3, 1 / 3, 1, 1))
    assert found["a"].gamma == pytest.approx(1) and Coefficients(2.0, 0.5, 1.0, 1.0).gamma == 4


def test_of_three_modalities_each_is_measured_against_the_mean_of_the_others():
    found = modulation_coefficients(of(a=[0.6], b=[0.3], c=[0.1]), of(a=[0.5], b=[0.2], c=[0.4]), 1.0, 1.0)
    assert [found[name].rho for name in "abc"] == pytest.approx([0.6 / 0.2, 0.3 / 0.35, 0.1 / 0.45])
    assert [found[name].sigma for name in "abc"] == pytest.approx([0.3 / 0.5, 0.45 / 0.2, 0.35 / 0.4])
    assert [found[name].k < 1 for name in "abc"] == [True, False, False]
    assert [found[name].p < 1 for name in "abc"] == [False, True, False]


@pytest.mark.parametrize("seed", range(20))
def test_coefficients_lie_in_0_to_1_and_are_1_where_not_ahead(seed):
    generator = torch.Generator().manual_seed(seed)
    names, power = "abcd"[: 2 + seed % 3], 10 ** (seed % 4)
    q, c = ({name: torch.rand(5, generator=generator) ** power for name in names} for _ in range(2))
    alpha_k, alpha_p = torch.rand(2, generator=generator).tolist()
    for one in modulation_coefficients(q, c, alpha_k, alpha_p).values():
        assert 0 < one.k <= 1 and 0 < one.p <= 1
        assert (one.k == 1) == (one.rho <= 1) and (one.p == 1) == (one.sigma <= 1)


def test_at_most_one_of_two_modalities_is_ahead_and_the_others_is_1():
    one, other = modulation_coefficients(of(a=[0.7], b=[0.6]), of(a=[0.4], b=[0.4]), 0.5, 0.5).values()
    assert one.rho * other.rho == pytest.approx(1) and (one.k < 1, other.k) == (True, 1) and one.p == other.p == 1


def test_no_modulation_with_alpha_0_and_more_with_a_larger_alpha():
    q, c = of(a=[0.9], b=[0.1]), of(a=[0.2], b=[0.6])
    ks = [modulation_coefficients(q, c, alpha, 0)["a"].k for alpha in (0, 0.1, 0.2, 1)]
    assert ks[0] == 1 and ks == sorted(ks, reverse=True) and ks[3] == pytest.approx(1 - math.tanh(9), rel=1e-6)


@pytest.mark.parametrize(("q", "c"), [((1, 0), (0, 1)), ((0, 1), (1, 0)), ((0, 0), (0, 0)), ((1e-300, 1), (1, 1e-300))])
@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_zeros_divide_nothing(q, c, alpha):
    found = modulation_coefficients(
        {name: torch.tensor([float(x)]) for name, x in zip("ab", q, strict=True)},
        {name: torch.tensor([float(x)]) for name, x in zip("ab", c, strict=True)},
        alpha, alpha,
    )  # fmt: skip
    for one in found.values():
        assert 0 < one.k <= 1 and 0 < one.p <= 1 and one.gamma >= 0


def test_equal_modalities_are_treated_equally():
    q = torch.rand(5)
    assert set(modulation_coefficients({"a": q, "b": q, "c": q}, {"a": q, "b": q, "c": q}, 1, 1).values()) == {
        (1, 1, 1, 1)
    }


@pytest.mark.parametrize(
    ("q", "c", "alphas", "words"),
    [
        (of(a=[0.5]), of(a=[0.5]), (1, 1), "of a; expected two modalities"),
        ({}, {}, (1, 1), "of no modality; expected two"),
        (of(a=[0.5], b=[1.1]), of(a=[0.5], b=[0.5]), (1, 1), r"semantic confidences of b begin with \[1.1"),
        (of(a=[0.5], b=[0.5]), of(a=[0.5], b=[-0.1]), (1, 1), "domain confidences of b begin with"),
        (of(a=[math.nan], b=[0.5]), of(a=[0.5], b=[0.5]), (1, 1), r"of a begin with \[nan\]; expected prob"),
        (of(a=[], b=[]), of(a=[0.5], b=[0.5]), (1, 1), "one or more"),
        (of(a=[0.5], b=[0.5, 0.5]), of(a=[0.5], b=[0.5]), (1, 1),
         "1 semantic confidences of a, 2 semantic confidences of b, .*; expected those of the same samples"),
        (of(a=[0.5], b=[0.5]), of(a=[0.5] * 2, b=[0.5] * 2), (1, 1), "1 semantic .*, 2 domain .*expected those of"),
        ([[0.5], [0.5]], of(a=[0.5], b=[0.5]), (1, 1), "the semantic confidences are a list; expected .modality"),
        (of(a=[0.5], b=[0.5]), None, (1, 1), "the domain confidences are a NoneType; expected .modality: tensor"),
        ({"a": [0.5], "b": [0.5]}, of(a=[0.5], b=[0.5]), (1, 1), "confidences of a are a list; expected a tensor of B"),
        (of(a=[0.5], b=[0.5]), {"a": 0.5, "b": 0.5}, (1, 1), "domain confidences of a are a float; expected a tensor"),
        (of(a=[0.5], b=[0.5]), of(a=[0.5], c=[0.5]), (1, 1), "domain confidences of a, c; expected the same"),
        (of(a=[0.5], b=[0.5]), of(a=[0.5], b=[0.5]), (1.5, 1), r"alpha_k is 1.5; expected a number from 0 .* to 1"),
        (of(a=[0.5], b=[0.5]), of(a=[0.5], b=[0.5]), (1, -0.1), "alpha_p is -0.1"),
        (of(a=[0.5], b=[0.5]), of(a=[0.5], b=[0.5]), (math.nan, 1), "alpha_k is nan"),
        (of(a=[0.5], b=[0.5]), of(a=[0.5], b=[0.5]), ("0.5", 1), "alpha_k is '0.5'; expected a number from 0"),
        (of(a=[0.5], b=[0.5]), of(a=[0.5], b=[0.5]), (1, None), "alpha_p is None; expected a number from 0"),
    ],
)  # fmt: skip
def test_confidences_that_are_none_are_refused(q, c, alphas, words):
    with pytest.raises(InputError, match=words):
        modulation_coefficients(q, c, *alphas)


# ------------------------------------------------------------------------------------ CAGP: the projection


def conflicting(seed, count=7):
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, count, generator=generator, dtype=torch.float64)
    return a, b if a @ b < 0 else -b


@pytest.mark.parametrize("seed", range(5))
def test_the_task_that_is_ahead_gives_way_and_is_orthogonal_to_the_other(seed):
    g_c, g_d = conflicting(seed)
    projected, kept = project_conflict(g_c, g_d, 1.5)  # classification is ahead
    assert kept is g_d and abs(projected @ g_d) < 1e-12 * g_c.norm() * g_d.norm()
    torch.testing.assert_close(projected, g_c - (g_c @ g_d) / (g_d @ g_d) * g_d)
    kept, projected = project_conflict(g_c, g_d, 0.5)
    assert kept is g_c and abs(projected @ g_c) < 1e-12 * g_c.norm() * g_d.norm()


def test_by_hand_in_the_plane():
    g_c, g_d = torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 1.0])
    assert project_conflict(g_c, g_d, math.inf)[0].tolist() == [0.5, 0.5]
    assert project_conflict(g_c, g_d, 0.0)[1].tolist() == [0.0, 1.0]


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, math.inf])
def test_without_a_conflict_nothing_changes(gamma):
    g_c, g_d = conflicting(0)
    for one, other in ((g_c, -g_d), (g_c, torch.zeros(7).double()), (torch.zeros(7).double(), g_d)):
        assert all(a is b for a, b in zip(project_conflict(one, other, gamma), (one, other), strict=True))


def test_neither_is_ahead_at_a_gamma_of_exactly_1():
    g_c, g_d = conflicting(0)
    assert project_conflict(g_c, g_d, 1.0)[0] is g_c and project_conflict(g_c, g_d, 1.0)[1] is g_d


def test_lists_are_one_vector():
    g_c, g_d = conflicting(3, count=10)
    parts = [(g[:4].view(2, 2), g[4:9], g[9]) for g in (g_c, g_d)]
    for gamma in (0.5, 2.0):
        for whole, pieces in zip(project_conflict(g_c, g_d, gamma), project_conflict(*parts, gamma), strict=True):
            torch.testing.assert_close(torch.cat([piece.reshape(-1) for piece in pieces]), whole)


def test_gradients_too_small_to_be_squared_stay_finite():
    g_c, g_d = torch.tensor([1e10]), torch.tensor([-1e-30])
    for one in project_conflict(g_c, g_d, 2.0):
        assert torch.isfinite(one).all()


@pytest.mark.parametrize(
    ("count", "gamma", "words"),
    [
        (6, 2.0, r"\(7,\).*\(6,\).*expected the same"),
        (7, -1.0, "gamma is -1"),
        (7, math.nan, "gamma is nan"),
        (7, "2", "gamma is '2'; expected a ratio of 0 or more"),
        (7, None, "gamma is None"),
    ],
)
def test_other_gradients_are_refused(count, gamma, words):
    with pytest.raises(InputError, match=words):
        project_conflict(torch.ones(7), torch.ones(count), gamma)
    with pytest.raises(InputError, match=words):
        project_conflict([torch.ones(7)], [torch.ones(count)], gamma)


def test_a_tensor_and_a_list_are_no_pair():
    with pytest.raises(InputError, match=r"shapes \(2, 3\) and \[\(3,\), \(3,\)\]; expected the same"):
        project_conflict(torch.ones(2, 3), [torch.ones(3), torch.ones(3)], 2.0)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_gradients_that_are_not_finite_are_refused(wrong, gamma):
    fine, bad = torch.ones(3), torch.tensor([-1.0, wrong, 1.0])
    for pair in ((fine, bad), (bad, fine), ([fine, fine], [fine, bad])):
        with pytest.raises(InputError, match="the gradients hold nan or inf; expected finite numbers: look at the"):
            project_conflict(*pair, gamma)


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        ((None, None), "shapes a NoneType and a NoneType; expected the same, as of one encoder: two tensors, or two"),
        ((torch.ones(2), 3.0), r"shapes \(2,\) and a float; expected"),
        (([torch.ones(2)], [None]), r"shapes \[\(2,\)\] and \['a NoneType'\]"),
        (([None], [None]), "NoneType.*; expected the same"),
    ],
)
def test_what_is_no_gradient_is_refused(pair, words):
    with pytest.raises(InputError, match=words):
        project_conflict(*pair, 2.0)


@pytest.mark.parametrize("seed", range(5))
def test_projecting_both_is_pcgrad(seed):
    aggregation = pytest.importorskip("torchjd.aggregation")
    g_c, g_d = conflicting(seed)
    both = project_conflict(g_c, g_d, 2.0)[0] + project_conflict(g_c, g_d, 0.5)[1]
    torch.testing.assert_close(both, aggregation.PCGrad()(torch.stack([g_c, g_d])))


# ------------------------------------------------------------------------------------------ the whole step


def reference(model, batch, alpha_k, alpha_p, modulate=True, project=True):
    """The method as its text has it, each gradient from a pass of its own."""
    (images, labels, domains), names = batch, list(model.encoders)

    def loss_c():
        features = [model.encoders[m](images[m]) for m in names]
        losses = F.cross_entropy(model.fusion(features), labels)
        return losses + sum(
            F.cross_entropy(model.classifiers[m](f), labels) for m, f in zip(names, features, strict=True)
        )

    def loss_d():
        told = [model.discriminators[m](model.encoders[m](images[m])) for m in names]
        return sum(F.cross_entropy(logits, domains) for logits in told)

    q, c = {}, {}
    for m in names:
        feature = model.encoders[m](images[m])
        q[m] = sum(model.classifiers[m](feature).softmax(1)[i, labels[i]].item() for i in range(len(labels)))
        c[m] = sum(model.discriminators[m](feature).softmax(1)[i, domains[i]].item() for i in range(len(labels)))
    grads, conflicts = {}, {}
    for m in names:
        others = [other for other in names if other != m]
        parameters = list(model.encoders[m].parameters())
        g_c = torch.cat([g.flatten() for g in torch.autograd.grad(loss_c(), parameters)])
        g_d = torch.cat([g.flatten() for g in torch.autograd.grad(loss_d(), parameters)])
        rho = q[m] / (sum(q[other] for other in others) / len(others))
        sigma = sum(c[other] for other in others) / len(others) / c[m]
        if modulate:
            g_c = g_c * (1 - math.tanh(alpha_k * rho) if rho > 1 else 1)
            g_d = g_d * (1 - math.tanh(alpha_p * sigma) if sigma > 1 else 1)
        conflicts[m] = bool(g_c @ g_d < 0), rho > sigma
        if project and g_c @ g_d < 0:
            if rho > sigma:
                g_c = g_c - (g_c @ g_d) / (g_d @ g_d) * g_d
            else:
                g_d = g_d - (g_c @ g_d) / (g_c @ g_c) * g_c
        pieces = (g_c + g_d).split([p.numel() for p in parameters])
        for (name, parameter), piece in zip(model.encoders[m].named_parameters(), pieces, strict=True):
            grads[f"encoders.{m}.{name}"] = piece.view_as(parameter)
    heads = {name: p for name, p in model.named_parameters() if not name.startswith("encoders")}
    whole = torch.autograd.grad(loss_c() + loss_d(), list(heads.values()))
    return grads | dict(zip(heads, whole, strict=True)), conflicts


@pytest.mark.parametrize(("modalities", "own_losses"), [("ab", True), ("ab", False), ("abc", True)])
def test_the_step_is_the_reference(modalities, own_losses):
    seen = set()
    for seed in range(6):
        model = toy(seed, modalities=modalities, own_losses=own_losses)
        batch = points(modalities, seed=seed)
        expected, conflicts = reference(model, batch, 0.4, 0.7)
        losses, found = gradients(model, batch)
        assert found.keys() == expected.keys()
        for name, grad in expected.items():
            torch.testing.assert_close(found[name], grad, rtol=1e-9, atol=1e-12, msg=name)
        assert losses.total == pytest.approx(losses.ds + losses.dg)
        seen |= set(conflicts.values())
    assert seen == {(True, True), (True, False), (False, True), (False, False)}  # all four cases of CAGP have come up


@pytest.mark.parametrize(
    ("variant", "modulate", "project"), [("joint", False, False), ("igdm", True, False), ("cagp", False, True)]
)
def test_a_variant_is_the_reference_without_its_other_half(variant, modulate, project):
    for seed in range(3):
        model, batch = toy(seed), points(seed=seed)
        expected, _ = reference(model, batch, 0.4, 0.7, modulate, project)
        for name, grad in gradients(model, batch, variant)[1].items():
            torch.testing.assert_close(grad, expected[name], rtol=1e-9, atol=1e-12)


def test_joint_is_what_backward_gives():
    model, batch = toy(), points()
    images, labels, domains = batch
    features = {m: model.encoders[m](images[m]) for m in "ab"}
    loss = F.cross_entropy(model.fusion(list(features.values())), labels)
    for m in "ab":
        loss = loss + F.cross_entropy(model.classifiers[m](features[m]), labels)
        loss = loss + F.cross_entropy(model.discriminators[m](features[m]), domains)
    loss.backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters()}
    losses, found = gradients(model, batch, "joint")
    assert losses.total == pytest.approx(loss.item(), rel=1e-12)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-10, atol=1e-14)


def watching(variant, seen):
    def step(g_c, g_d, coefficients):
        seen.append((g_c, g_d, coefficients))
        return VARIANTS[variant](g_c, g_d, coefficients)

    return step


def vector(g):
    return torch.cat([one.flatten() for one in g])


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_fills_every_gradient_and_moves_nothing(variant):
    model, batch = toy(), points()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    _, found = gradients(model, batch, variant)
    assert all(torch.isfinite(g).all() and g.any() for g in found.values()) and len(found) == len(before)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    heads = [name for name in found if not name.startswith("encoders")]
    _, joint = gradients(model, batch, "joint")
    for name in heads:
        torch.testing.assert_close(found[name], joint[name], rtol=1e-10, atol=1e-14)


def test_what_the_other_variants_do():
    """On random vectors: who gives way, what is scaled, how large the noise is."""
    g_c, g_d = ([g] for g in conflicting(1, count=5))
    coefficients = Coefficients(rho=3.0, sigma=2.0, k=0.25, p=0.5)
    (c,), (d,) = g_c, g_d
    c_gives, d_gives = c - (c @ d) / (d @ d) * d, d - (c @ d) / (c @ c) * c
    for variant, expected in (
        ("gmp", 0.25 * c_gives + 0.5 * d),
        ("unified", 0.25 * (c_gives + d)),
        ("fixed_c", 0.25 * c_gives + 0.5 * d),
        ("fixed_d", 0.25 * c + 0.5 * d_gives),
    ):
        torch.testing.assert_close(VARIANTS[variant](g_c, g_d, coefficients)[0], expected, msg=variant)
    ahead_in_invariance = coefficients._replace(sigma=4.0)
    torch.testing.assert_close(VARIANTS["fixed_c"](g_c, g_d, ahead_in_invariance)[0], 0.25 * c_gives + 0.5 * d)
    torch.testing.assert_close(VARIANTS["gmp"](g_c, g_d, ahead_in_invariance)[0], 0.25 * c + 0.5 * d_gives)

    torch.manual_seed(0)
    large = torch.randn(20000) * 3 + 1
    noise = VARIANTS["ogm_ge"]([large], [torch.zeros(20000)], coefficients)[0] - 0.25 * large
    assert noise.std().item() == pytest.approx(3, rel=0.03) and abs(noise.mean().item()) < 0.1


def test_a_function_is_a_variant_and_sees_what_is_balanced():
    model, batch, seen = toy(), points(), []
    _, found = gradients(model, batch, watching("gmp", seen))
    _, expected = gradients(model, batch)
    assert all(torch.equal(found[name], expected[name]) for name in expected) and len(seen) == 2
    tasks = two_tasks(model, cross_entropy, batch)
    coefficients = modulation_coefficients(tasks.semantic, tasks.domain, **ALPHAS)
    assert [one for *_, one in seen] == list(coefficients.values())


def test_torchjd_takes_the_projections_place():
    aggregation = pytest.importorskip("torchjd.aggregation")
    model, batch, seen = toy(4), points(seed=4), []
    _, found = gradients(model, batch, "torchjd:PCGrad")
    gradients(model, batch, watching("gmp", seen))
    for m, (g_c, g_d, one) in zip("ab", seen, strict=True):
        step = aggregation.PCGrad()(torch.stack([one.k * vector(g_c), one.p * vector(g_d)]))
        own = torch.cat([found[f"encoders.{m}.{name}"].flatten() for name, _ in model.encoders[m].named_parameters()])
        torch.testing.assert_close(own, step)
    plain = gradients(model, batch, by_torchjd(aggregation.Mean()), alpha_k=0, alpha_p=0)[1]
    joint = gradients(model, batch, "joint")[1]
    torch.testing.assert_close(2 * plain["encoders.a.0.weight"], joint["encoders.a.0.weight"])
    for name, words in (
        ("Nothing", "no aggregator 'Nothing'"),
        ("Constant", "Constant cannot be made from its name alone"),
    ):
        with pytest.raises(InputError, match=words):
            gradients(model, batch, f"torchjd:{name}")


def test_without_torchjd_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchjd", None)
    monkeypatch.delitem(sys.modules, "torchjd.aggregation", raising=False)
    with pytest.raises(InputError, match=r"the variant torchjd:PCGrad needs torchjd.*dglab\[surgery\]"):
        gradients(toy(), points(), "torchjd:PCGrad")


def test_equal_modalities_take_equal_steps():
    model, (images, labels, domains) = toy(), points()
    for part in (model.encoders, model.classifiers, model.discriminators):
        part["b"].load_state_dict(part["a"].state_dict())
    with torch.no_grad():
        model.fusion.weight[:, 4:] = model.fusion.weight[:, :4]
    _, found = gradients(model, ({"a": images["a"], "b": images["a"]}, labels, domains))
    for name in (name for name in found if name.startswith("encoders.a")):
        torch.testing.assert_close(found[name], found[name.replace(".a.", ".b.")], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("variant", ["gmp", "igdm", "cagp", "unified"])
@pytest.mark.parametrize("part", ["classifiers", "discriminators"])
def test_scaling_one_modalitys_loss_does_not_touch_anothers_encoder(variant, part):
    """A head behind whose output the loss of a is ten times as steep: b's encoder takes the same step."""
    model, batch = toy(2), points(seed=2)

    _, before = gradients(model, batch, variant)
    getattr(model, part)["a"].register_forward_hook(lambda module, inputs, output: Steeper.apply(output, 10))
    _, after = gradients(model, batch, variant)
    for name in (name for name in before if name.startswith("encoders.b")):
        torch.testing.assert_close(after[name], before[name], rtol=1e-12, atol=1e-14)
    assert not torch.allclose(after["encoders.a.0.weight"], before["encoders.a.0.weight"])


def test_zero_gradients_give_zero_steps():
    model, batch = toy(), points()
    with torch.no_grad():
        for part in (model.fusion, model.classifiers, model.discriminators):
            for parameter in part.parameters():
                parameter.zero_()
    for variant in VARIANTS:
        _, found = gradients(model, batch, variant)
        assert not any(found[name].any() for name in found if name.startswith("encoders"))


# ------------------------------------------------------------------------------------- segmentation, parts


@pytest.fixture
def network():
    model = build_multimodal(("rgb", "depth"), 2, seed=0, width=4).double().train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def pictures(count=4, unlabelled=()):
    generator = torch.Generator().manual_seed(0)
    images = {
        "rgb": torch.rand(count, 3, 16, 24, generator=generator, dtype=torch.float64),
        "depth": torch.rand(count, 1, 16, 24, generator=generator, dtype=torch.float64),
    }
    labels = torch.randint(0, 19, (count, 16, 24), generator=generator)
    labels[:, :3] = 255
    labels[list(unlabelled)] = 255
    return images, labels, torch.arange(count) % 2


def test_confidence_of_an_image_is_the_mean_over_its_labelled_pixels():
    images, labels, _ = pictures(unlabelled=[2])
    logits = torch.randn(4, 19, 16, 24, dtype=torch.float64)
    found, q = probability_of_truth(logits, labels), logits.softmax(1)
    for i in range(4):
        of_pixels = [q[i, labels[i, y, x], y, x].item() for y in range(16) for x in range(24) if labels[i, y, x] != 255]
        assert found[i].item() == pytest.approx(sum(of_pixels) / len(of_pixels) if of_pixels else 0, rel=1e-12)


def test_running_statistics_move_once_a_part_and_as_in_a_plain_pass(network):
    plain = build_multimodal(("rgb", "depth"), 2, seed=0, width=4).double().train()
    batch = pictures()
    plain(batch[0])
    gradients(network, batch)
    for name, buffer in plain.encoders.named_buffers():
        torch.testing.assert_close(dict(network.encoders.named_buffers())[name], buffer)
    moved = [buffer for name, buffer in network.named_buffers() if "num_batches" in name]
    assert set(map(int, moved)) == {1}
    gradients(network, batch, micro_batches=3)
    assert set(map(int, moved)) == {1 + 3}


def test_micro_batches_add_up_to_the_batch(network):
    network.eval()  # BatchNorm would take each part by itself
    batch = pictures(5, unlabelled=[1])
    whole_losses, whole = gradients(network, batch)
    for micro_batches in (2, 5):
        losses, found = gradients(network, batch, micro_batches=micro_batches)
        assert losses == pytest.approx(whole_losses, rel=1e-12)
        for name in whole:
            torch.testing.assert_close(found[name], whole[name], rtol=1e-9, atol=1e-13)
    with pytest.raises(InputError, match="micro_batches is 6 for a batch of 5 images"):
        gradients(network, batch, micro_batches=6)


def test_nothing_labelled_leaves_the_discriminators_alone_to_learn(network):
    losses, found = gradients(network, pictures(unlabelled=range(4)))
    assert losses.ds == 0 < losses.dg == losses.total
    assert all(
        g.any() == name.startswith(("discriminators", "encoders")) for name, g in found.items() if "weight" in name
    )


def test_ogm_ge_is_refused_in_several_processes(monkeypatch):
    monkeypatch.setattr("dglab.training.gmp.world_size", lambda: 2)
    with pytest.raises(InputError, match="ogm_ge draws noise, another in each process; train it in one"):
        gradients(toy(), points(), "ogm_ge")


# ---------------------------------------------------------------------------------------------- bad input


def without(part):
    model = toy()
    delattr(model, part)
    return model


def renamed():
    model = toy()
    model.classifiers = nn.ModuleDict({"a": model.classifiers["a"]})
    return model


def listed():
    model = toy()
    model.encoders = nn.ModuleList(model.encoders.values())
    return model


def shared():
    model = toy()
    model.encoders["b"] = model.encoders["a"]
    return model


def changed(**parts):
    """The batch with other parts: ``labels``, ``domains``, or the images of a modality."""
    images, labels, domains = points()
    labels, domains = parts.pop("labels", labels), parts.pop("domains", domains)
    return {**images, **parts}, labels, domains


@pytest.mark.parametrize(
    ("model", "change", "words"),
    [
        *((lambda part=part: without(part), {}, f"the model, a Toy, has no {part}; expected encoders, classifiers")
          for part in ("encoders", "classifiers", "discriminators", "fusion")),
        (renamed, {}, "encoders of a, b; classifiers of a; discriminators of a, b; expected one of each"),
        (listed, {}, "has encoders that are a ModuleList; expected encoders, .* each an nn.ModuleDict by modality"),
        (shared, {}, "the encoders of a and b share parameters"),
        (lambda: toy(modalities=("a",)), {}, "only one modality, a, and nothing to balance; expected two"),
        (toy, {"alpha_k": 1.01}, "alpha_k is 1.01; expected"),
        (toy, {"alpha_p": math.nan}, "alpha_p is nan"),
        (toy, {"alpha_k": "0.5"}, "alpha_k is '0.5'; expected a number from 0"),
        (toy, {"variant": "gmpp"}, "unknown variant of GMP 'gmpp'; expected one of gmp, joint, igdm"),
        (toy, {"variant": None}, "unknown variant of GMP None; expected one of gmp, .*, or a function of"),
        (toy, {"variant": 3}, "unknown variant of GMP 3; expected one of gmp"),
        (toy, {"variant": ["gmp"]}, r"unknown variant of GMP \['gmp'\]; expected one of gmp"),
        (toy, {"batch": points(("a",))}, "the batch has the modalities a, the model a, b; training needs all"),
        (toy, {"batch": changed(b=None)}, "the batch has the modalities a, the model a, b; training needs all"),
        (toy, {"batch": changed(b=[1.0] * 8)}, "images of b are a list; expected a tensor with one entry for"),
        (toy, {"batch": changed(b=torch.zeros(7, 2).double())}, "8 images of a, 7 images of b, 8 labels, 8 domains"),
        (toy, {"batch": points()[:2]}, "another form; expected .{modality: images}, labels, domains"),
        (toy, {"batch": None}, "another form; expected .{modality: images}, labels, domains"),
        (toy, {"batch": changed(labels=None)}, "the labels are a NoneType; expected a tensor with one entry for every"),
        (toy, {"batch": changed(labels=np.arange(8))}, "the labels are a ndarray; expected a tensor with one entry"),
        (toy, {"batch": changed(labels=torch.tensor(1))}, "the labels are a tensor of no dimension; expected a tensor"),
        (toy, {"batch": changed(labels=torch.arange(8))}, "labels reach from 0 to 7, and a classifier tells 3 classes"),
        (toy, {"batch": changed(labels=torch.arange(8) % 3 - 1)}, "labels reach from -1 to 1, .* from 0 to 2, or 255"),
        (toy, {"batch": changed(domains=[0, 1] * 4)}, "the domains are a list; expected a tensor with one entry"),
        (toy, {"batch": changed(domains=torch.arange(8)[:, None] % 2)}, r"shape \(8, 1\) and begin .* one for each"),
        (toy, {"batch": changed(domains=torch.arange(8) % 2 == 1)}, r"begin with \[False, True, .* whole numbers"),
        (toy, {"batch": changed(domains=torch.zeros(8).long())}, "of one domain, from which no discriminator"),
        (toy, {"batch": changed(domains=torch.arange(8) - 1)}, r"begin with \[-1, 0.*expected whole numbers from 0"),
        (toy, {"batch": changed(domains=torch.ones(8))}, r"begin with \[1.0, .*expected whole numbers from 0"),
        (toy, {"batch": changed(domains=torch.arange(8))}, "of domain 7, and a discriminator tells . domains apart"),
        (toy, {"batch": changed(domains=torch.arange(7) % 2)}, "8 images of a, 8 images of b, 8 labels, 7 domains"),
        (toy, {"variant": lambda g_c, g_d, of: None}, "for the encoder of a the variant returned a NoneType; expected "
         r"its step, a list of 2 tensors of the shapes \[\(4, 2\), \(4,\)\], as g_c has them"),
        (toy, {"variant": lambda g_c, g_d, of: g_c[:1]}, r"the variant returned \[\(4, 2\)\]; expected its step"),
        (toy, {"variant": lambda g_c, g_d, of: [g.flatten() for g in g_c]}, r"returned \[\(8,\), \(4,\)\]; expected"),
        (toy, {"variant": lambda g_c, g_d, of: vector(g_c)}, r"returned \(12,\); expected its step, a list of 2"),
    ],
)  # fmt: skip
def test_what_cannot_be_balanced_is_refused(model, change, words):
    model = model()
    batch, variant = change.pop("batch", points()), change.pop("variant", "gmp")
    with pytest.raises(InputError, match=words):
        gmp_backward(model, cross_entropy, batch, **{**ALPHAS, **change}, variant=variant)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rgb": torch.rand(4, 4, 16, 24)}, "rgb 4 x 4 x 16 x 24, depth 4 x 1 x 16 x 24; expected rgb N x 3 x H x W"),
        ({"depth": torch.rand(4, 1, 8, 12)}, "rgb 4 x 3 x 16 x 24, depth 4 x 1 x 8 x 12; expected .* one N, H and W"),
        ({"depth": torch.rand(4, 16, 24)}, "depth 4 x 16 x 24; expected rgb N x 3 x H x W, depth N x 1 x H x W"),
        ({"depth": torch.rand(3, 1, 16, 24)}, "4 images of rgb, 3 images of depth, 4 labels, 4 domains; expected one"),
    ],
)
def test_other_pictures_than_the_networks_are_refused(network, change, words):
    images, labels, domains = pictures()
    with pytest.raises(InputError, match=words):
        gradients(network, ({**images, **change}, labels, domains))


@pytest.mark.parametrize("kind", [torch.uint8, torch.int32])
def test_labels_and_domains_of_any_whole_kind(kind):
    images, labels, domains = points()
    _, expected = gradients(toy(), (images, labels, domains))
    _, found = gradients(toy(), (images, labels.to(kind), domains.to(kind)))
    assert all(torch.equal(found[name], grad) for name, grad in expected.items())


def test_joint_trains_a_single_modality():
    losses, found = gradients(toy(modalities=("a",)), points(("a",)), "joint")
    assert losses.total > 0 and all(g.any() for g in found.values())


def test_a_loss_that_is_no_number_comes_out_as_such():
    """For the trainer to refuse, with the step and the images that it knows of."""
    images, labels, domains = points()
    images["a"][0] = math.nan
    losses, found = gradients(toy(), (images, labels, domains))
    assert math.isnan(losses.total) and found["encoders.a.0.weight"].isnan().any()


def test_a_gradient_that_is_no_number_comes_out_as_such():
    model = toy()
    model.encoders["a"].register_forward_hook(lambda module, inputs, output: Steeper.apply(output, math.inf))
    losses, found = gradients(model, points())
    assert math.isfinite(losses.total) and not found["encoders.a.0.weight"].isfinite().all()
