"""TN, AdaBN, re-estimation and the bank against hand-computed statistics and brute force."""

import copy
import io
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from dglab.models import build_model
from dglab.testtime import (
    AdaBN,
    ImageBank,
    SourceNormalization,
    Style,
    TargetNormalization,
    preserved_statistics,
    reestimate_statistics,
    style_distance,
)
from dglab.utils.errors import InputError

pytestmark = pytest.mark.numerical


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    net = build_model("thin", seed=1)
    net.train()
    with torch.no_grad():
        for _ in range(3):
            net(torch.rand(4, 3, 32, 48))  # running statistics worth the name
    return net.eval()


def images(n, seed=0, size=(32, 48)):
    return torch.rand(n, 3, *size, generator=torch.Generator().manual_seed(seed))


def by_batch_statistics(model, x):
    """Brute force: a deep copy whose BatchNorm layers are in training mode, dropout off."""
    twin = copy.deepcopy(model).eval()
    for m in twin.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm):
            m.train()
    with torch.no_grad():
        return twin(x)


def snapshot(model):
    return (
        {k: v.clone() for k, v in model.state_dict().items()},
        {n: m.training for n, m in model.named_modules()},
        sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()),
        torch.get_rng_state(),
    )


def assert_untouched(model, before):
    state, modes, hooks, rng = snapshot(model)
    assert all(torch.equal(state[k], v) for k, v in before[0].items())
    assert modes == before[1] and hooks == before[2] and torch.equal(rng, before[3])


def test_tn_of_six_numbers_by_hand():
    """Values 1, 3 | 2, 6 | 4, 2: mean 3, biased variance (4+0+1+9+1+1)/6 = 8/3."""
    net = nn.Sequential(nn.BatchNorm2d(1, eps=0.0)).eval()
    x = torch.tensor([[1.0, 3.0], [2.0, 6.0], [4.0, 2.0]]).reshape(3, 1, 1, 2)
    expected = (x - 3) / (8 / 3) ** 0.5
    torch.testing.assert_close(TargetNormalization(net)(x), expected)
    torch.testing.assert_close(SourceNormalization(net)(x), x)  # running mean 0, variance 1
    mean, var = 0.25 * 0 + 0.75 * 3, 0.25 * 1 + 0.75 * 8 / 3
    torch.testing.assert_close(TargetNormalization(net, prior=0.25)(x), (x - mean) / var**0.5)


@pytest.mark.parametrize("m", [1, 2, 5])
def test_tn_equals_training_mode_batchnorm(model, m):
    before = snapshot(model)
    torch.testing.assert_close(
        TargetNormalization(model)(images(m)), by_batch_statistics(model, images(m)), rtol=1e-4, atol=1e-4
    )
    assert_untouched(model, before)


def test_source_normalization_is_eval_mode_whatever_the_mode(model):
    with torch.no_grad():
        expected = model(images(2))
    twin = copy.deepcopy(model).train()
    before = snapshot(twin)
    torch.testing.assert_close(SourceNormalization(twin)(images(2)), expected)
    assert_untouched(twin, before)


def test_prior_one_is_source_bn(model):
    torch.testing.assert_close(TargetNormalization(model, prior=1.0)(images(3)), SourceNormalization(model)(images(3)))


def test_mixed_modes_dropout_and_buffers_survive_an_exception():
    class Failing(nn.Module):
        def __init__(self):
            super().__init__()
            self.bn, self.drop = nn.BatchNorm2d(3), nn.Dropout(0.5)

        def forward(self, x):
            self.drop(self.bn(x))
            raise RuntimeError("inside the model")

    net = Failing().train()
    net.bn.eval()
    before = snapshot(net)
    for predictor in (TargetNormalization(net), SourceNormalization(net)):
        with pytest.raises(RuntimeError, match="inside"):
            predictor(images(2))
        assert_untouched(net, before)


def test_one_value_per_channel_falls_back_to_source_with_one_warning():
    net = nn.Sequential(nn.BatchNorm2d(3), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3)).eval()
    net[2].running_mean.fill_(0.5)
    tn = TargetNormalization(net)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        out = tn(images(1))
        tn(images(1, seed=1))
    assert len(caught) == 1 and "one value per channel" in str(caught[0].message)
    pooled = F.batch_norm(images(1), None, None, training=True).mean((2, 3), keepdim=True)
    torch.testing.assert_close(out, (pooled - 0.5) / (1 + 1e-5) ** 0.5, rtol=1e-4, atol=1e-5)


def test_constant_images_give_finite_predictions(model):
    flat = torch.full((2, 3, 32, 48), 0.5)
    assert torch.isfinite(TargetNormalization(model)(flat)).all()
    bank = ImageBank(model)
    assert torch.isfinite(bank(flat)).all() and np.isfinite(bank.distances).all()


def test_adabn_on_one_batch_is_tn_on_it_and_forgets_nothing_of_the_model(model):
    before = snapshot(model)
    adabn = AdaBN(model).fit(images(5))
    torch.testing.assert_close(adabn(images(5)), TargetNormalization(model)(images(5)))
    assert_untouched(model, before)
    adabn.reset()
    with pytest.raises(InputError, match="fit"):
        adabn(images(1))
    with pytest.raises(InputError, match="no batch"):
        AdaBN(model).fit([])


def test_adabn_pools_moments_over_batches_by_total_variance():
    net = nn.Sequential(nn.BatchNorm2d(3)).eval()  # one layer: pooling is exact
    x = images(7)
    pooled = AdaBN(net).fit([x[:3], x[3:4], x[4:]])
    torch.testing.assert_close(pooled(x), F.batch_norm(x, None, None, training=True), rtol=1e-4, atol=1e-5)


def test_reestimated_statistics_are_what_torch_accumulates(model):
    twin, batches = copy.deepcopy(model), [images(4, seed=s) for s in range(3)]
    torch.optim.swa_utils.update_bn(batches, twin)
    twin.eval()
    before = snapshot(model)
    with preserved_statistics(model):
        assert reestimate_statistics(model, batches) is model
        for (name, a), b in zip(model.named_buffers(), twin.buffers(), strict=True):
            if "running" in name:
                torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
        reestimate_statistics(model, batches[0])  # one batch by itself
        reestimate_statistics(twin, batches[:1])
        for (name, a), b in zip(model.named_buffers(), twin.buffers(), strict=True):
            assert torch.equal(a, b) or "running" not in name
    assert_untouched(model, before)
    with pytest.raises(InputError, match="no batch"):
        reestimate_statistics(model, [])


def test_eq_10_is_the_symmetric_kl_of_torch_distributions():
    torch.manual_seed(0)
    a, b = (Style(torch.randn(5, 8), torch.rand(5, 8) + 0.1) for _ in range(2))
    p, q = Normal(*a), Normal(*b)
    expected = (kl_divergence(p, q) + kl_divergence(q, p)).mean(-1)
    torch.testing.assert_close(style_distance(a, b), expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(style_distance(a, a), torch.zeros(5))


class BruteForceBank:
    """The bank of section 3.4 written out on a list, with everything computed afresh."""

    def __init__(self, model, layer, neighbors, capacity, policy, min_gap=0):
        self.model, self.layer, self.m, self.q, self.policy, self.gap = (
            model,
            layer,
            neighbors,
            capacity,
            policy,
            min_gap,
        )
        self.seen = []

    def style(self, image):
        kept = {}
        handle = self.model.get_submodule(self.layer).register_forward_hook(lambda m, i, o: kept.update(o=o))
        with torch.no_grad():
            self.model(image[None])
        handle.remove()
        f = kept["o"][0].flatten(1).double()
        return f.mean(1), f.std(1, correction=0).clamp_min(1e-5)

    def __call__(self, image):
        t, style = len(self.seen), self.style(image)
        pool = [(i, im, s) for i, (im, s) in enumerate(self.seen) if i >= t - self.q and t - i > self.gap]

        def distance(s):
            p, q = Normal(*style), Normal(*s)
            return (kl_divergence(p, q) + kl_divergence(q, p)).mean().item()

        ranked = sorted(pool, key=lambda e: (distance(e[2]), e[0]) if self.policy == "style" else -e[0])[: self.m]
        ranked.sort(key=lambda e: (distance(e[2]), e[0]))
        out = by_batch_statistics(self.model, torch.stack([image] + [im for _, im, _ in ranked]))[:1]
        self.seen.append((image, style))
        return out, [i for i, _, _ in ranked], [distance(s) for _, _, s in ranked]


@pytest.mark.parametrize(
    ("policy", "min_gap", "layer"), [("style", 0, 1), ("queue", 0, 2), ("style", 3, None), ("style", 0, "layer3")]
)
def test_bank_equals_brute_force_over_a_stream(model, policy, min_gap, layer):
    path = {1: "layer1", 2: "layer2", None: "layer1"}.get(layer, layer)
    bank = ImageBank(model, layer, neighbors=3, capacity=6, policy=policy, min_gap=min_gap)
    brute = BruteForceBank(model, path, 3, 6, policy, min_gap)
    before = snapshot(model)
    stream = images(14, seed=3) * torch.linspace(0.3, 1, 14)[
        torch.randperm(14, generator=torch.Generator().manual_seed(1))
    ].reshape(-1, 1, 1, 1)
    for start, stop in ((0, 1), (1, 2), (2, 6), (6, 14)):  # a batch is that many arrivals in order
        out = bank(stream[start:stop])
        expected = [brute(image) for image in stream[start:stop]]
        logits = torch.cat([e[0] for e in expected])
        assert (out - logits).abs().max() <= 1e-4 * logits.abs().max()
        assert bank.selected == expected[-1][1]
        assert bank.distances == pytest.approx(expected[-1][2], rel=1e-3, abs=1e-5)
    assert len(bank) == 6
    assert_untouched(model, before)


def test_ties_go_to_the_older(model):
    bank = ImageBank(model, neighbors=2)
    x = images(1)
    for _ in range(4):
        bank(x)
    assert bank.selected == [0, 1] and bank.distances == [0, 0]


def test_cold_start_alone_or_by_source(model):
    x = images(1)
    torch.testing.assert_close(ImageBank(model)(x), TargetNormalization(model)(x))
    torch.testing.assert_close(ImageBank(model, cold_start="source")(x), SourceNormalization(model)(x))


def test_fifo_keeps_the_last_and_random_removal_is_seeded(model):
    stream = images(9, seed=5)
    fifo = ImageBank(model, capacity=3)
    fifo(stream)
    assert fifo.stored == [6, 7, 8]
    kept = []
    for seed in (0, 0, 1, 2):
        bank = ImageBank(model, capacity=3, removal="random", seed=seed)
        bank(stream)
        kept.append(bank.stored)
        assert len(bank) == 3
    assert kept[0] == kept[1] and (kept[0] != kept[2] or kept[0] != kept[3])


def test_random_and_oracle_policies(model):
    stream, domains = images(12, seed=6), list("ab" * 6)
    bank = ImageBank(model, policy="random", neighbors=2)
    bank(stream)
    again = ImageBank(model, policy="random", neighbors=2)
    again(stream)
    assert bank.selected == again.selected and len(set(bank.selected)) == 2
    oracle = ImageBank(model, policy="oracle", neighbors=3)
    for image, domain in zip(stream, domains, strict=True):
        oracle(image[None], domain=domain)
        assert all(domains[i] == domain for i in oracle.selected)
    with pytest.raises(InputError, match="domain"):
        oracle(stream[:1])
    for numbers in (torch.tensor([0, 1] * 6), np.array([0, 1] * 6)):  # as a data loader gives them
        other = ImageBank(model, policy="oracle", neighbors=3)
        other(stream, domain=numbers)
        assert other.selected == oracle.selected


def test_streams_are_independent_and_state_restores(model):
    bank = ImageBank(model, neighbors=2, capacity=4, removal="random", policy="random", seed=3)
    stream = images(10, seed=8)
    bank(stream[:5])
    bank.stream("left")(stream[:2])
    assert len(bank) == 4 and len(bank.stream("left")) == 2 and len(bank.stream("right")) == 0
    file = io.BytesIO()
    torch.save(bank.state_dict(), file)
    file.seek(0)
    twin = ImageBank(model, neighbors=2, capacity=4, removal="random", policy="random", seed=3)
    twin.load_state_dict(torch.load(file, weights_only=True))
    torch.testing.assert_close(bank(stream[5:]), twin(stream[5:]))
    assert bank.selected == twin.selected
    torch.testing.assert_close(bank.stream("left")(stream[5:6]), twin.stream("left")(stream[5:6]))
    bank.reset()
    assert len(bank) == 0 and bank.selected == []


def test_observed_images_fill_the_bank_without_prediction(model):
    a, b = ImageBank(model), ImageBank(model)
    a(images(5))
    b.observe(images(5))
    torch.testing.assert_close(a(images(1, seed=2)), b(images(1, seed=2)))
    assert a.selected == b.selected


@pytest.mark.parametrize("statistics", ["joint", "cached"])
def test_a_bank_goes_in_and_out_of_inference_mode(model, statistics):
    usual, alternating = (ImageBank(model, neighbors=2, capacity=3, statistics=statistics) for _ in range(2))
    for number, image in enumerate(images(8).split(1)):
        expected = usual(image)
        with torch.inference_mode(number % 3 != 1):
            assert torch.equal(alternating(image.clone()), expected)
        assert alternating.selected == usual.selected and alternating.distances == usual.distances
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


def test_output_keeps_the_models_form_for_the_current_image_only(model):
    class Wrapped(nn.Module):
        def __init__(self, form):
            super().__init__()
            self.net, self.form = model, form

        def forward(self, x):
            return self.form(self.net(x))

    for form in (lambda y: {"out": y, "aux": y[:, :2]}, lambda y: (y, y + 1)):
        bank = ImageBank(Wrapped(form), style_layer="net.layer1")
        out = bank(images(3))
        plain = ImageBank(model)(images(3))
        first = out["out"] if isinstance(out, dict) else out[0]
        torch.testing.assert_close(first, plain)


def test_parts_of_an_output_without_rows_and_masks_are_left_as_they_are(model):
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = model

        def forward(self, x):
            y = self.net(x)
            return {"out": y, "temperature": torch.tensor(2.0), "sure": y.amax(1) > 0, "name": "net"}

    out = ImageBank(Wrapped(), style_layer="net.layer1")(images(3))
    torch.testing.assert_close(out["out"], ImageBank(model)(images(3)))
    assert out["temperature"] == 2 and out["name"] == "net" and out["sure"].shape == (3, 32, 48)


def test_statistics_that_overflow_enter_no_bank_and_no_buffer(model):
    huge = 1e30 * images(2)
    bank, before = ImageBank(model), snapshot(model)
    for refused in (lambda: bank(huge), lambda: bank.observe(huge), lambda: AdaBN(model).fit(huge),
                    lambda: reestimate_statistics(model, [huge])):  # fmt: skip
        with pytest.raises(InputError, match="finite"):
            refused()
    assert len(bank) == 0
    assert_untouched(model, before)


def test_a_model_in_half_precision(model):
    half, x = copy.deepcopy(model).to(torch.bfloat16), images(3).to(torch.bfloat16)
    whole = TargetNormalization(model)(images(3))
    for predictor in (TargetNormalization(half), TargetNormalization(half, prior=0.01), AdaBN(half).fit(x)):
        out = predictor(x)
        assert out.dtype == torch.bfloat16 and (out.float() - whole).abs().max() < 0.1 * whole.abs().max()
    assert torch.isfinite(ImageBank(half, prior=0.5)(x)).all() and torch.isfinite(ImageBank(half)(x)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"neighbors": 0}, "neighbors"),
        ({"capacity": 0}, "capacity"),
        ({"policy": "nearest"}, "style, queue, random, oracle"),
        ({"removal": "lifo"}, "fifo, random"),
        ({"style_layer": 5}, "1 = layer1, 2 = layer2"),
        ({"style_layer": "layer9"}, "1 = layer1"),
        ({"prior": 1.5}, "prior"),
        ({"statistics": "guessed"}, "joint"),
    ],
)
def test_wrong_settings_say_what_is_right(model, options, message):
    with pytest.raises(InputError, match=message):
        ImageBank(model, **options)


def test_bad_images_are_refused_before_anything_changes(model):
    bank = ImageBank(model)
    bank(images(2))
    bad = images(2)
    bad[1, 0, 0, 0] = float("nan")
    for wrong in (bad, images(0), images(2)[0], (images(2) * 255).byte(), images(1, size=(32, 40)), "image"):
        with pytest.raises(InputError):
            bank(wrong)
        assert len(bank) == 2 and bank.arrivals == 2
    with pytest.raises(InputError, match="NaN"):
        TargetNormalization(model)(bad)


def test_models_without_batchnorm_are_refused_by_name():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.GroupNorm(2, 4))
    for predictor in (SourceNormalization, TargetNormalization, AdaBN, ImageBank):
        with pytest.raises(ValueError, match="GroupNorm"):
            predictor(net)
