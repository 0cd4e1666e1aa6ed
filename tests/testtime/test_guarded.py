"""The source reference and the guarded default against explicit numbers, and by what they promise."""

import copy
import dataclasses
import warnings

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from dglab.models import build_model
from dglab.testtime import (
    GuardedNormalization,
    ImageBank,
    SourceNormalization,
    SourceReference,
    TargetNormalization,
    advise,
    freeze,
)
from dglab.utils.errors import InputError

EPS = 1e-5


def network(seed=0, channels=4):
    """Two convolutions with BatchNorm in double precision, whose running statistics come from random images."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(3, channels, 3, bias=False), nn.BatchNorm2d(channels), nn.ReLU(),
        nn.Conv2d(channels, 5, 3, bias=False), nn.BatchNorm2d(5),
    ).double()  # fmt: skip
    net.train()
    with torch.no_grad():
        for _ in range(30):
            net(scenes(8, seed=_ + 100))
    return net.eval()


def scenes(n, seed=0, gain=1.0, offset=0.0, size=(12, 16)):
    """Images that differ in brightness and contrast, as those of one domain do."""
    generator = torch.Generator().manual_seed(seed)
    brightness, contrast, pixels = (
        torch.rand(n, *shape, generator=generator, dtype=torch.float64) for shape in ((1, 1, 1), (1, 1, 1), (3, *size))
    )
    return gain * (0.2 * brightness + (0.5 + 0.3 * contrast) * pixels) + offset


def bn_layers(net):
    return {name: m for name, m in net.named_modules() if isinstance(m, nn.BatchNorm2d)}


def moments(features):
    """Means and log-variances of each image, N x 2 x C, in numpy."""
    features = features.detach().numpy()
    return np.stack([features.mean((2, 3)), np.log(features.var((2, 3)) + EPS)], 1)


def inputs_under_source(net, images):
    """What reaches each BatchNorm layer under source BN."""
    kept, hooks = {}, []
    for name, layer in bn_layers(net).items():
        hooks.append(layer.register_forward_pre_hook(lambda m, i, name=name: kept.update({name: i[0]})))
    with torch.no_grad():
        net(images)
    for hook in hooks:
        hook.remove()
    return kept


@pytest.fixture(scope="module")
def net():
    return network()


@pytest.fixture(scope="module")
def reference(net):
    images = torch.cat([scenes(20, seed=1), scenes(20, seed=2, gain=0.9), scenes(20, seed=3, offset=0.05)])
    return SourceReference.measure(net, images, domains="a" * 20 + "b" * 20 + "c" * 20)


def snapshot(model):
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
    state = {k: v.clone() for k, v in model.state_dict().items()}
    return state, {n: m.training for n, m in model.named_modules()}, hooks, torch.get_rng_state()


def assert_untouched(model, before):
    state, modes, hooks, rng = snapshot(model)
    assert all(torch.equal(state[k], v) for k, v in before[0].items())
    assert modes == before[1] and hooks == before[2] and torch.equal(rng, before[3])


# ------------------------------------------------------------------------------------------------- the reference


def test_the_reference_is_an_analysis_of_variance_of_the_images_moments(net):
    images, labels = scenes(9, seed=5), np.array(list("abcabcabc"))
    before = snapshot(net)
    measured = SourceReference.measure(net, images.split(4), domains=labels)
    assert_untouched(net, before)
    assert (measured.images, measured.domains) == (9, 3)
    for name, features in inputs_under_source(net, images).items():
        x = moments(features)
        groups = [x[labels == letter] for letter in "abc"]
        within = sum(((g - g.mean(0)) ** 2).sum(0) for g in groups) / (9 - 3)
        between = np.maximum(np.var([g.mean(0) for g in groups], axis=0, ddof=1) - within / 3, 0)
        floor = 1e-6 * np.stack([features.var((2, 3), correction=0).mean(0).numpy(), np.ones(features.shape[1])])
        layer = measured.layers[name]
        for got, expected in zip(layer, (x.mean(0), within, between + floor), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-7)


def test_without_domains_no_spread_averages_out(net):
    images = scenes(8, seed=6)
    for domains in (None, ["only"] * 8):
        measured = SourceReference.measure(net, images, domains)
        for name, features in inputs_under_source(net, images).items():
            assert not measured.layers[name].within.any()
            np.testing.assert_allclose(measured.layers[name].between, moments(features).var(0, ddof=1), rtol=1e-3)


def test_batches_and_a_tensor_give_the_same_reference(net):
    images, domains = scenes(7, seed=7), [0, 1, 0, 1, 0, 1, 0]
    whole = SourceReference.measure(net, images, domains)
    parts = SourceReference.measure(net, (image[None] for image in images), iter(domains))
    counted = SourceReference.measure(net, images, torch.tensor(domains))  # as a data loader gives them
    for other in (parts, counted):
        for name in whole.layers:
            for a, b in zip(whole.layers[name], other.layers[name], strict=True):
                torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_save_and_load(reference, net, tmp_path):
    path = tmp_path / "new" / "reference.safetensors"
    reference = dataclasses.replace(reference, home=0.35)
    reference.save(path)
    loaded = SourceReference.load(path)
    loaded.check(net)
    assert loaded.running == reference.running and loaded.home == 0.35 and (loaded.images, loaded.domains) == (60, 3)
    assert list(loaded.layers) and all(
        torch.equal(a, b) for n in reference.layers for a, b in zip(loaded.layers[n], reference.layers[n], strict=True)
    )
    a, b = GuardedNormalization(net, reference), GuardedNormalization(net, loaded)
    assert torch.equal(a(scenes(1, offset=0.3)), b(scenes(1, offset=0.3)))
    assert a.share == b.share


def test_the_reference_of_a_resnet50_takes_a_mebibyte_at_most(tmp_path):
    model = build_model("resnet50", seed=0)
    SourceReference.measure(model, torch.rand(2, 3, 33, 33)).save(tmp_path / "reference")
    assert (tmp_path / "reference").stat().st_size <= 2**20


@pytest.mark.parametrize("other", ["channels", "layers", "weights"])
def test_another_networks_reference_is_refused(reference, other):
    if other == "channels":
        model, words = network(channels=6), "layer '1' and 0 more do not fit Sequential"
    elif other == "layers":
        model, words = nn.Sequential(nn.BatchNorm2d(3)).eval(), "do not fit"
    else:
        model, words = network(seed=1), "other weights or running statistics"
    for use in (lambda: reference.check(model), lambda: GuardedNormalization(model, reference)):
        with pytest.raises(InputError, match=words) as error:
            use()
        assert "SourceReference.measure" in str(error.value)


def test_the_same_network_in_half_precision_keeps_its_reference(reference, net):
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        reference.check(copy.deepcopy(net).to(dtype))


@pytest.mark.parametrize(
    ("images", "domains", "words"),
    [
        (scenes(1), None, "two or more source images"),
        (scenes(3), "abc", "two or more source images"),
        (scenes(1).expand(4, -1, -1, -1), None, "all alike"),
        (scenes(3), "ab", "more images than domains"),
        (scenes(3), "abab", "more domains than images"),
        ([], None, "nothing to measure"),
        (scenes(2) * torch.nan, None, "NaN"),
        (scenes(2).to(torch.uint8), None, "expected a float tensor"),
    ],
)
def test_measure_refuses_what_tells_nothing(net, images, domains, words):
    before = snapshot(net)
    with pytest.raises(InputError, match=words):
        SourceReference.measure(net, images, domains)
    assert_untouched(net, before)


def test_measure_refuses_a_model_without_source_statistics():
    with pytest.raises(InputError, match="no BatchNorm layer"):
        SourceReference.measure(nn.Conv2d(3, 4, 3), scenes(2).float())
    bare = nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False)).eval()
    with pytest.raises(InputError, match="running statistics"):
        SourceReference.measure(bare, scenes(2).float())


@pytest.mark.parametrize("damage", ["missing", "text", "truncated", "a checkpoint", "negative", "nan"])
def test_load_refuses_what_is_no_reference(reference, net, tmp_path, damage):
    from safetensors import safe_open
    from safetensors.torch import save_file

    path = tmp_path / "reference.safetensors"
    reference.save(path)
    if damage == "missing":
        path.unlink()
    elif damage == "text":
        path.write_text("no reference")
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:200])
    elif damage == "a checkpoint":
        save_file(net.state_dict(), path)
    else:
        with safe_open(path, "pt") as file:
            about, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        tensors["1"][1, 0, 0] = -1.0 if damage == "negative" else torch.nan
        save_file(tensors, path, about)
    with pytest.raises(InputError, match="reference.safetensors"):
        SourceReference.load(path)


# ------------------------------------------------------------------------------------------------------- the guard


def distances_by_hand(net, reference, images):
    """d of each image and layer under source BN, layers x images, in numpy."""
    rows = []
    for name, features in inputs_under_source(net, images).items():
        center, within, between = (part.double().numpy() for part in reference.layers[name])
        rows.append(((moments(features) - center) ** 2 / (within + between)).mean((1, 2)))
    return np.stack(rows)


def share_by_hand(distance, home=0.0):
    return home + (1 - home) * max(0.0, 1 - (2 / distance) ** 2)


@pytest.mark.parametrize("m", [1, 2, 5])
@pytest.mark.parametrize("offset", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("home", [0.0, 0.25])
def test_the_guard_is_its_formulas(net, reference, m, offset, home):
    images, before = scenes(m, seed=8, gain=1 - offset / 2, offset=offset), snapshot(net)
    guard = GuardedNormalization(net, dataclasses.replace(reference, home=home))
    output = guard(images)
    d = distances_by_hand(net, reference, images)
    distance = (1 + d.mean(0).sum()) / (1 + m)  # before any image has come, one that is ordinary
    assert guard.distances == pytest.approx(dict(zip("14", d.mean(1), strict=True)), rel=1e-6)
    assert guard.guard.distance == pytest.approx(distance, rel=1e-6)
    assert guard.share == pytest.approx(share_by_hand(distance, home), abs=1e-6)
    torch.testing.assert_close(output, TargetNormalization(net, prior=1 - guard.share)(images))
    assert_untouched(net, before)


def test_the_offsets_of_the_test_above_are_ordinary_between_and_far(net, reference):
    shares = []
    for offset in (0.0, 0.3, 1.0):
        guard = GuardedNormalization(net, reference)
        guard(scenes(5, seed=8, gain=1 - offset / 2, offset=offset))
        shares.append(guard.share)
    assert shares[0] == 0 < shares[1] < shares[2] < 1


def test_evidence_is_the_mean_over_the_stream_and_forgets_after_sixteen_images(net, reference):
    guard, distance, seen = GuardedNormalization(net, reference), 1.0, 1
    for seed in range(30):
        image = scenes(1, seed=seed, offset=0.02 * (seed % 3))  # ordinary: each is looked at
        guard(image)
        seen = min(seen + 1, 16)
        distance += (distances_by_hand(net, reference, image).mean() - distance) / seen
        assert guard.guard.distance == pytest.approx(distance, rel=1e-6)
    guard.reset()
    assert (guard.guard.distance, guard.guard.seen, guard.share) == (1.0, 1, 0.0)


def passes(net, guard, images):
    """How often the network runs for these images."""
    calls = []
    hook = net[0].register_forward_hook(lambda *_: calls.append(1))
    guard(images)
    hook.remove()
    return len(calls)


def test_an_ordinary_target_costs_one_pass_and_a_far_one_little_more_on_a_stream(net, reference):
    ordinary, far = GuardedNormalization(net, reference), GuardedNormalization(net, reference)
    assert [passes(net, ordinary, scenes(1, seed=seed)) for seed in range(20)] == [1] * 20
    cost = [passes(net, far, scenes(1, seed=seed, offset=3.0)) for seed in range(40)]
    assert cost[:8] == [2] * 8 and sum(cost[8:]) == 32 + 1


def test_a_far_stream_that_becomes_ordinary_is_followed(net, reference):
    guard = GuardedNormalization(net, reference)
    for seed in range(30):
        guard(scenes(1, seed=seed, offset=0.5))
    shares = [guard.share]
    for seed in range(100):
        guard(scenes(1, seed=seed))
        shares.append(guard.share)
    assert shares[0] > 0.9 and min(shares[:20]) > 0.9 and max(shares[-20:]) < 0.05


def test_a_single_image_of_the_sources_may_lie_far_out_and_a_stream_does_not(net, reference):
    guard, shares = GuardedNormalization(net, reference), []
    for image in torch.cat([scenes(20, seed=40), scenes(20, seed=41, gain=0.9), scenes(20, seed=42, offset=0.05)]):
        guard(image[None])
        shares.append(guard.share)
    d = distances_by_hand(net, reference, scenes(60, seed=43)).mean(0)
    assert d.max() > 2 > d.mean() and max(shares) == 0


def test_far_targets_come_close_to_tn(net, reference):
    guard, images = GuardedNormalization(net, reference), 50 * scenes(4, seed=10) + 50
    torch.testing.assert_close(guard(images), TargetNormalization(net)(images), rtol=1e-2, atol=1e-2)
    assert guard.share > 0.999


def test_the_order_in_a_batch_plays_no_part(net, reference):
    images = scenes(4, seed=13, offset=0.5)
    flipped = GuardedNormalization(net, reference)(images.flip(0)).flip(0)
    torch.testing.assert_close(flipped, GuardedNormalization(net, reference)(images))


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "inference"])
def test_memory_formats_and_inference_mode(net, reference, layout):
    images, guard = scenes(3, seed=14, offset=0.5), GuardedNormalization(net, reference)
    expected = guard(images)
    guard.reset()
    given = images.to(memory_format=torch.channels_last) if layout == "channels_last" else images
    with torch.inference_mode(layout == "inference"):
        torch.testing.assert_close(guard(given), expected)


def test_without_a_reference_it_is_a_prior_of_08_and_says_so_once(net):
    with pytest.warns(UserWarning, match="no source reference") as caught:
        guard = GuardedNormalization(net)
        for seed in range(3):
            images = scenes(2, seed=seed)
            torch.testing.assert_close(guard(images), TargetNormalization(net, prior=0.8)(images))
    assert len(caught) == 1 and guard.distances == {} and guard.share == pytest.approx(0.2)


def test_the_share_is_that_of_the_last_call(net, reference):
    guard = GuardedNormalization(net, reference)
    guard(scenes(4, offset=3.0))
    far = guard.share
    black = torch.cat([scenes(1, offset=3.0), torch.zeros_like(scenes(1))])
    with pytest.warns(UserWarning, match="of one colour"):
        guard(black)
    assert far > 0.5 and guard.share == 0
    guard(scenes(4, offset=3.0))
    assert guard.share > 0.5
    guard.reset()
    assert guard.share == reference.home


def test_an_image_of_one_colour_is_predicted_by_source_bn_with_one_warning(net, reference):
    guard, flat = GuardedNormalization(net, reference), torch.full((1, 3, 12, 16), 0.25, dtype=torch.float64)
    with pytest.warns(UserWarning, match="of one colour") as caught:
        assert torch.equal(guard(flat), SourceNormalization(net)(flat))
        batch = torch.cat([scenes(2), flat])
        assert torch.equal(guard(batch), SourceNormalization(net)(batch))
    assert len(caught) == 1
    guard(scenes(1))
    assert list(guard.distances) == ["1", "4"]


def test_bad_images_and_models_are_refused_and_leave_no_trace(net, reference):
    guard, before = GuardedNormalization(net, reference), snapshot(net)
    for images, words in (
        (scenes(1) * torch.nan, "NaN"),
        (scenes(0), "empty"),
        (torch.zeros(1, 3, 12, 16, dtype=torch.uint8), "expected a float tensor"),
        (scenes(1)[:, :2], "2 channels"),
        (scenes(1) * 1e200, "not finite"),
    ):
        with pytest.raises(InputError, match=words):
            guard(images)
        assert_untouched(net, before)
    with pytest.raises(InputError, match="no BatchNorm"), warnings.catch_warnings():
        GuardedNormalization(nn.Conv2d(3, 4, 3))


def test_a_stream_may_change_its_size(net, reference):
    guard = GuardedNormalization(net, reference)
    for size in ((12, 16), (24, 20), (12, 16)):
        images = scenes(1, seed=15, size=size, offset=1.0)
        torch.testing.assert_close(guard(images), TargetNormalization(net, prior=1 - guard.share)(images))


def test_a_layer_without_running_statistics_keeps_its_own():
    torch.manual_seed(0)
    net = nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False), nn.BatchNorm2d(3)).double().eval()
    reference = SourceReference.measure(net, scenes(6))
    assert list(reference.layers) == ["1"]
    guard = GuardedNormalization(net, reference)
    with torch.no_grad():
        guard(scenes(2))
    assert list(guard.distances) == ["1"]


def test_one_value_per_channel_keeps_source_statistics_with_a_warning():
    net = nn.Sequential(nn.BatchNorm2d(3), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3)).double().eval()
    reference = SourceReference.measure(net, scenes(6))
    guard = GuardedNormalization(net, reference)
    with pytest.warns(UserWarning, match="one value per channel"):
        guard(scenes(1, offset=5.0))
    assert list(guard.distances) == ["0"]
    with pytest.warns(UserWarning, match="one value per channel") as caught:
        frozen = freeze(net, [*scenes(2, offset=5.0).split(1)], reference)
    assert len(caught) == 1 and torch.equal(frozen[2].running_mean, net[2].running_mean)
    assert not torch.equal(frozen[0].running_mean, net[0].running_mean)


# -------------------------------------------------------------------------------------------------------- the bank


@pytest.mark.parametrize("statistics", ["joint", "cached"])
def test_a_guarded_bank_blends_by_the_guards_share(net, reference, statistics):
    """Both ways: the prior of each arrival is what the guard alone would take for it."""
    options = {"style_layer": "0", "neighbors": 2, "capacity": 4, "policy": "queue", "statistics": statistics}
    bank, guard = ImageBank(net, guard=reference, **options), GuardedNormalization(net, reference)
    stream, before = scenes(12, seed=16, offset=0.5), snapshot(net)
    for number, image in enumerate(stream.split(1)):
        guard(image)
        twin = ImageBank(net, prior=1 - guard.share, **options)
        if statistics == "joint" and number:
            twin.observe(stream[max(0, number - 2) : number])
        elif number:
            continue  # what it keeps depends on all shares before
        torch.testing.assert_close(bank(image), twin(image))
    assert 0 < guard.share < 1
    assert statistics == "cached" or bank.guard.share == guard.share
    assert_untouched(net, before)


def test_a_cached_guarded_bank_is_one_pass_once_it_has_looked(net, reference):
    bank = ImageBank(net, "0", neighbors=3, statistics="cached", guard=reference)
    bank(scenes(8, seed=17, offset=1.0))
    calls = []
    hook = net[4].register_forward_hook(lambda m, inputs, output: calls.append(len(output)))
    bank(scenes(8, seed=18, offset=1.0))
    hook.remove()
    assert calls == [1] * 8


@pytest.mark.parametrize("statistics", ["joint", "cached"])
def test_the_state_of_a_guarded_bank_has_its_guard(net, reference, statistics):
    """A process that restarts goes on as if it had not, on each stream."""
    options = {"neighbors": 2, "capacity": 4, "statistics": statistics}
    bank, again = (ImageBank(net, "0", guard=reference, **options) for _ in range(2))
    bank(scenes(9, seed=16, offset=0.5)), bank.stream("b")(scenes(5, seed=17, offset=1.0))
    again.load_state_dict(bank.state_dict())
    assert again.guard.share == bank.guard.share > 0 and again.stream("b").guard.state == bank.stream("b").guard.state
    for one, other in ((bank, again), (bank.stream("b"), again.stream("b"))):
        further = scenes(30, seed=18, offset=0.5)  # past the next look
        torch.testing.assert_close(one(further), other(further), rtol=0, atol=0)
        assert one.guard.state == other.guard.state
    with pytest.raises(InputError, match="of a bank with a guard, unlike this one"):
        ImageBank(net, "0", **options).load_state_dict(bank.state_dict())


def test_a_bank_refuses_another_networks_reference_and_a_prior_beside_it(net, reference):
    with pytest.raises(InputError, match="other weights"):
        ImageBank(network(seed=1), "0", guard=reference)
    with pytest.raises(InputError, match="both a prior"):
        ImageBank(net, "0", prior=0.5, guard=reference)


# ------------------------------------------------------------------------------- networks that are not so regular


class Twice(nn.Module):
    """One layer on two scales, as a head shared by the levels of a pyramid."""

    def __init__(self):
        super().__init__()
        self.bn = nn.BatchNorm2d(3).double()

    def forward(self, x):
        return self.bn(x) + nn.functional.interpolate(self.bn(x[:, :, ::2, ::2]), x.shape[-2:])


class Early(nn.Module):
    """A second layer that runs for large images alone, and a third that runs in training alone."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.auxiliary = (nn.BatchNorm2d(3).double() for _ in range(3))

    def forward(self, x):
        x = self.a(x)
        x = self.b(x) if x.shape[-1] > 8 else x
        return self.auxiliary(x) if self.training else x


class Some(nn.Module):
    """A second layer that runs for the brighter images of a batch alone."""

    def __init__(self):
        super().__init__()
        self.a, self.b = (nn.BatchNorm2d(3).double() for _ in range(2))

    def forward(self, x):
        y, bright = self.a(x), x.mean((1, 2, 3)) > x.mean()
        return torch.where(bright[:, None, None, None], self.b(y[bright]).mean(), y) if bright.any() else y


class Tokens(nn.Module):
    """A layer whose rows are positions, as in LeViT."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.BatchNorm2d(3).double(), nn.BatchNorm1d(3).double()

    def forward(self, x):
        x = self.a(x)
        return self.b(x.permute(0, 2, 3, 1).flatten(0, 2)).reshape(len(x), *x.shape[2:], 3).permute(0, 3, 1, 2)


def adapted(net):
    """With running statistics of the sources."""
    net.train()
    for seed in range(40):
        net(scenes(8, seed=seed + 100))
    return net.eval()


@pytest.mark.parametrize("kind", [Twice, Early, Some, Tokens])
def test_source_images_are_ordinary_for_networks_of_every_kind(kind):
    net = adapted(kind())
    reference = SourceReference.measure(net, scenes(32, seed=1), [0, 1] * 16)
    guard = GuardedNormalization(net, reference)
    for image in scenes(32, seed=2).split(1):
        guard(image)
    assert 0.5 < guard.guard.distance < 1.5 and guard.share == 0
    assert advise(net, scenes(8, seed=3), reference).recommendation == "source"
    guard(scenes(4, offset=3.0))
    assert guard.share > 0.5


def test_a_layer_shared_by_two_scales_has_the_mean_of_its_calls():
    net, images = Twice().eval(), scenes(6)
    center = SourceReference.measure(net, images).layers["bn"].center
    both = torch.from_numpy(np.concatenate([moments(images), moments(images[:, :, ::2, ::2])])).mean(0)
    torch.testing.assert_close(center, both.float())


def test_layers_that_small_images_skip_are_left_out_of_a_look():
    net = adapted(Early())
    reference = SourceReference.measure(net, scenes(16, seed=1))
    assert set(reference.layers) == {"a", "b"}
    mixed = [scenes(4, seed=2), scenes(4, seed=3, size=(6, 6))]
    for batches in (mixed, mixed[::-1]):
        assert [row.layer for row in advise(net, batches, reference).reasons] == ["a"]
        freeze(net, batches, reference)


def test_silent_channels_are_left_out():
    """Depthwise networks have channels that are dead, or fire in a few pixels of a few images."""
    net = nn.Sequential(nn.Conv2d(3, 8, 1, bias=False), nn.ReLU(), nn.BatchNorm2d(8)).double().eval()
    with torch.no_grad():
        net[0].weight[0] = -1  # dead behind the ReLU
        net[0].weight[1:] = net[0].weight[1:].abs()
    plain = scenes(32, seed=1)
    reference = SourceReference.measure(net, plain)
    guard = GuardedNormalization(net, reference)
    guard(scenes(8, seed=3))
    assert guard.share == 0 and np.isfinite(guard.guard.distance)
    alone = nn.Sequential(nn.Conv2d(3, 7, 1, bias=False), nn.ReLU(), nn.BatchNorm2d(7)).double().eval()
    alone[0].weight.data = net[0].weight.data[1:].clone()
    expected = GuardedNormalization(alone, SourceReference.measure(alone, plain))
    expected(scenes(8, seed=3))
    assert guard.guard.distance == pytest.approx(expected.guard.distance, rel=1e-6)


def test_a_black_frame_among_the_source_images_is_left_out(net):
    images = scenes(9, seed=4)
    black = torch.zeros_like(images[:1])
    own = SourceReference.measure(net, images, [0, 1, 2] * 3)
    for given, labels in ((torch.cat([images[:4], black, images[4:]]), [0, 1, 2, 0, 9, 1, 2, 0, 1, 2]),
                          ([images[:4], black, images[4:]], [0, 1, 2, 0, 9, 1, 2, 0, 1, 2])):  # fmt: skip
        found = SourceReference.measure(net, given, labels)
        assert (found.images, found.domains) == (9, 3)
        for name, layer in own.layers.items():
            for a, b in zip(layer, found.layers[name], strict=True):
                torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


# ------------------------------------------------------------------------------------------------------- freezing


def test_a_frozen_copy_predicts_as_the_guard_by_plain_batchnorm(net, reference):
    images, before = scenes(4, seed=20, offset=0.5), snapshot(net)
    frozen = freeze(net, images, reference)
    assert_untouched(net, before)
    assert type(frozen) is type(net) and not frozen.training and not any(m._forward_pre_hooks for m in frozen.modules())
    with torch.no_grad():
        torch.testing.assert_close(frozen(images), GuardedNormalization(net, reference)(images))
        one = frozen(images[:1])
    torch.testing.assert_close(one, frozen(images)[:1])  # whatever comes with it
    for key, value in net.state_dict().items():
        assert "running" in key or torch.equal(value, frozen.state_dict()[key])


def test_freezing_by_parts_counts_all_images_as_one_look():
    net = nn.Sequential(nn.BatchNorm2d(3)).double().eval()  # one layer: nothing was normalized on the way
    net[0].running_mean += 0.5
    reference, images = SourceReference.measure(net, scenes(12, seed=1), [0, 1, 2] * 4), scenes(6, offset=0.6)
    whole, parts = freeze(net, images, reference), freeze(net, images.split(4), reference)
    for key, value in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[key], value)
    with pytest.warns(UserWarning, match="no source reference"):
        prior = freeze(net, images)
    torch.testing.assert_close(prior[0].running_mean, 0.8 * net[0].running_mean + 0.2 * images.mean((0, 2, 3)))
    with pytest.raises(InputError, match="no image"):
        freeze(net, [], reference)


def test_an_image_of_one_colour_is_not_frozen_into_a_network(net, reference):
    images, black = scenes(3, seed=20, offset=0.5), torch.zeros(1, *scenes(1).shape[1:], dtype=torch.float64)
    own = freeze(net, images, reference).state_dict()
    for given in (torch.cat([images, black]), [black, images], [images, black]):
        for key, value in freeze(net, given, reference).state_dict().items():
            assert torch.equal(value, own[key]), key
    with pytest.raises(InputError, match="images of a single colour alone"):
        freeze(net, black, reference)


def test_a_layer_that_runs_twice_gets_the_statistics_of_both_calls():
    class Again(nn.Module):
        def __init__(self):
            super().__init__()
            self.bn = nn.BatchNorm2d(3).double()

        def forward(self, x):
            return self.bn(3 * self.bn(x))

    net, images = Again().eval(), scenes(4, offset=0.6)
    measured = SourceReference.measure(net, scenes(12, seed=1), [0, 1, 2] * 4)
    frozen = freeze(net, images, dataclasses.replace(measured, home=1.0)).bn  # home 1: TN
    first = (images - images.mean((0, 2, 3), keepdim=True)) / images.var((0, 2, 3), correction=0, keepdim=True).sqrt()
    both = torch.cat([images, 3 * first])
    torch.testing.assert_close(frozen.running_mean, both.mean((0, 2, 3)), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(frozen.running_var, both.var((0, 2, 3), correction=0), rtol=1e-3, atol=1e-3)


def test_a_copy_that_was_frozen_in_inference_mode_can_be_trained_further(net, reference):
    images = scenes(4, seed=20, offset=0.5)
    with torch.inference_mode():
        frozen = freeze(net, images, reference)
    frozen.train()(images).sum().backward()
    assert all(p.grad is not None for p in frozen.parameters())


def test_statistics_that_half_precision_cannot_hold_are_not_frozen():
    net = nn.Sequential(nn.BatchNorm2d(3)).half().eval()
    with pytest.warns(UserWarning, match="no source reference"), pytest.raises(InputError, match="are not finite"):
        freeze(net, 5_000 * scenes(4).half())


def test_a_frozen_copy_exports_to_onnx(net, reference, tmp_path):
    images = scenes(2, seed=21, offset=0.6)
    frozen = freeze(net, images, reference).float()
    torch.onnx.export(frozen, (images.float(),), str(tmp_path / "frozen.onnx"))
    session = onnxruntime.InferenceSession(str(tmp_path / "frozen.onnx"), providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {session.get_inputs()[0].name: images.float().numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(output, frozen(images.float()).numpy(), rtol=1e-4, atol=1e-4)


def test_a_last_layer_that_looks_at_all_images_is_not_cut_off_in_double_precision(net):
    """It moves an image by 5e-6, which single precision would take for rounding."""

    class Mixing(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            y = self.net(x)
            return y + 5e-6 * y.mean(0, keepdim=True)

    model, past, present = Mixing().eval(), *scenes(2).split(1)
    bank = ImageBank(model, "net.0", neighbors=1, capacity=4)
    bank(past)
    expected = TargetNormalization(model)(torch.cat([present, past]))[:1]
    torch.testing.assert_close(bank(present), expected, rtol=0, atol=1e-9 * expected.abs().max().item())
