"""What the bank keeps: cached moments by hand, images as given, sizes, state, and what it does when something fails."""

import io

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dglab.models import build_model
from dglab.testtime import ImageBank, TargetNormalization, joint
from dglab.testtime.joint import packed, unpacked
from dglab.testtime.style_index import StyleIndex
from dglab.utils.errors import InputError

pytestmark = pytest.mark.numerical


def row(*values):
    """An image of one channel and one row."""
    return torch.tensor(values).view(1, 1, 1, -1)


A, B, C, D = (
    row(1.0, 3.0),
    row(2.0, 6.0),
    row(4.0, 2.0),
    row(0.0, 0.0, 4.0, 4.0),
)  # means 2, 4, 3, 2; variances 1, 4, 1, 4


def one_layer():
    """BatchNorm alone, without eps: source statistics 0 and 1 leave an image as it is."""
    return nn.Sequential(nn.BatchNorm2d(1, eps=0.0)).eval()


def images(n, seed=0, size=(16, 24), channels=3):
    generator = torch.Generator().manual_seed(seed)
    contrast, brightness = torch.rand(2, n, channels, 1, 1, generator=generator)
    return torch.randn(n, channels, *size, generator=generator) * (0.2 + contrast) + brightness


class Net(nn.Module):
    """Two BatchNorm layers, dropout, and a head that can be made to fail."""

    def __init__(self):
        super().__init__()
        self.layer1 = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU())
        self.layer2 = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6), nn.Dropout(0.5))
        self.head = nn.Conv2d(6, 4, 1)
        self.failure, self.fails_at = None, None

    def forward(self, x):
        x = self.layer2(self.layer1(x))
        if self.failure is not None:
            self.fails_at -= 1
            if self.fails_at < 0:
                raise self.failure
        return self.head(x)


@pytest.fixture
def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Net().train()
        for _ in range(20):
            net(images(4, seed=99))
    return net


@pytest.fixture(params=["joint", "cached"])
def statistics(request):
    return request.param


def cached(model, layer="0", **options):
    return ImageBank(model, layer, statistics="cached", **options)


# ---------------------------------------------------------------------------------------------- by hand


class DeeperEachTime(nn.Module):
    """Runs one more BatchNorm layer for each image that comes."""

    def __init__(self):
        super().__init__()
        self.layer1 = nn.BatchNorm2d(3)
        self.more = nn.ModuleList(nn.BatchNorm2d(3) for _ in range(3))
        self.calls = 0

    def forward(self, x):
        x = self.layer1(x)
        for layer in self.more[: self.calls]:
            x = layer(x)
        self.calls += 1
        return x


def test_moments_of_other_layers_are_refused_by_name():
    net = DeeperEachTime().eval()
    bank = ImageBank(net, "layer1", statistics="cached")
    x = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    bank(x)
    with pytest.raises(InputError, match="other BatchNorm layers"):
        bank(x)


def test_cached_statistics_of_three_images_by_hand():
    """Total variance: B with A, (1 + 4) / 2 + 1 = 7 / 2; C with both, (1 + 4 + 1) / 3 + (1 + 1 + 0) / 3 = 8 / 3."""
    bank = cached(one_layer(), neighbors=2)
    torch.testing.assert_close(bank(A), A - 2)
    torch.testing.assert_close(bank(B), (B - 3) / (7 / 2) ** 0.5)
    torch.testing.assert_close(bank(C), (C - 3) / (8 / 3) ** 0.5)
    assert sorted(bank.selected) == [0, 1] and len(bank) == 3 and bank.stored == [0, 1, 2]


def test_prior_blends_the_pooled_moments():
    """A quarter of the source's 0 and 1, alone as with a neighbour."""
    bank = cached(one_layer(), prior=0.25)
    torch.testing.assert_close(bank(A), A - 1.5)  # mean 0.75 * 2, variance 0.75 * 1 + 0.25 * 1
    torch.testing.assert_close(bank(B), (B - 2.25) / (0.75 * 7 / 2 + 0.25) ** 0.5)
    source = cached(one_layer(), prior=1.0)
    for image in (A, B, C):
        torch.testing.assert_close(source(image), image)


def test_cold_start_alone_or_by_source():
    for cold_start, expected in (("self", A - 2), ("source", A)):
        bank = cached(one_layer(), cold_start=cold_start)
        torch.testing.assert_close(bank(A), expected)
        torch.testing.assert_close(bank(B), (B - 3) / (7 / 2) ** 0.5)  # the kept moments of A are its own in both cases


def test_images_of_different_sizes_count_alike():
    """D with A: mean 2, variance (1 + 4) / 2, although D has twice as many values."""
    bank = cached(one_layer())
    bank(A)
    torch.testing.assert_close(bank(D), (D - 2) / (5 / 2) ** 0.5)
    assert bank(A).shape == A.shape


def test_a_pooled_map_has_a_variance_only_with_neighbours():
    """Means 2 and 4, each a single value: together mean 3, variance 1; alone the source's 0 and 1, with a warning."""
    net = nn.Sequential(nn.Identity(), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(1, eps=0.0)).eval()
    for statistics in ("joint", "cached"):
        bank = ImageBank(net, "0", statistics=statistics)
        with pytest.warns(UserWarning, match="'2' sees one value per channel"):
            torch.testing.assert_close(bank(A).flatten(), torch.tensor([2.0]))
        torch.testing.assert_close(bank(B).flatten(), torch.tensor([1.0]))  # a warning would be an error here


def test_cached_is_joint_where_the_first_batchnorm_is_the_only_one():
    """Its input does not depend on what the neighbours were normalized by."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(8), nn.Tanh(), nn.Conv2d(8, 4, 3, padding=1)
    )
    banks = [ImageBank(net, "1", neighbors=3, capacity=5, statistics=kind) for kind in ("joint", "cached")]
    for batch in images(12, seed=1).split([1, 2, 4, 5]):
        a, b = (bank(batch) for bank in banks)
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
        assert banks[0].selected == banks[1].selected and banks[0].distances == banks[1].distances
    assert all(kept.ndim == 2 for kept in banks[1].memory.kept)  # moments, no images


def test_own_moments_come_from_the_features_of_the_cached_pass(net):
    """Two layers: what the second keeps of an image was normalized in the first together with its neighbours."""
    bank, stream = cached(net, "layer1", neighbors=1, cold_start="source"), images(2, seed=4)
    bank(stream)
    net.eval()
    conv1, bn1, _ = net.layer1
    with torch.no_grad():
        first, second = (conv1(image[None]) for image in stream)
        pooled = torch.cat([first, second])  # of one size: pooling is exact
        hidden = F.batch_norm(second, pooled.mean((0, 2, 3)), pooled.var((0, 2, 3), correction=0), bn1.weight, bn1.bias)
        own = net.layer2[0](hidden.relu())
        torch.testing.assert_close(bank.memory.kept[1][0, 6:], own.mean((0, 2, 3)))
        torch.testing.assert_close(bank.memory.kept[1][1, 6:], own.var((0, 2, 3), correction=0))
        source = net.layer2[0](net.layer1(stream[:1]))
    torch.testing.assert_close(bank.memory.kept[0][0, 6:], source.mean((0, 2, 3)))


# ---------------------------------------------------------------------------------------------- filling and state


def assert_same_state(a, b):
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype and torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same_state(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same_state(x, y)
    else:
        assert a == b


@pytest.mark.parametrize("removal", ["fifo", "random"])
def test_observed_images_leave_the_bank_that_calls_leave(net, statistics, removal):
    called, observed = (ImageBank(net, capacity=4, removal=removal, statistics=statistics) for _ in range(2))
    stream, domains = images(7), list("abababa")
    called(stream, domains)
    assert observed.observe(stream, domains) is None
    assert_same_state(called.state_dict(), observed.state_dict())
    assert torch.equal(called(images(2, seed=1)), observed(images(2, seed=1)))
    assert called.selected == observed.selected and called.distances == observed.distances


def reloaded(state):
    """As after a restart: through a file, read as weights only."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_state_goes_through_a_file_with_its_streams(net, statistics):
    options = dict(neighbors=2, capacity=4, policy="random", removal="random", statistics=statistics, seed=5)
    bank, twin = ImageBank(net, **options), ImageBank(net, **options)
    bank(images(6), domain="town")
    bank.stream("left")(images(3, seed=1))
    twin.load_state_dict(reloaded(bank.state_dict()))
    assert_same_state(bank.state_dict(), twin.state_dict())
    assert twin.stored == bank.stored and twin.nbytes == bank.nbytes
    for one, other in (
        (bank, twin),
        (bank.stream("left"), twin.stream("left")),
        (bank.stream("new"), twin.stream("new")),
    ):
        for batch in images(5, seed=2).split([1, 4]):
            assert torch.equal(one(batch), other(batch))
            assert one.selected == other.selected and one.distances == other.distances


def test_state_of_an_empty_bank_and_of_a_network_without_parameters(statistics):
    net = nn.Sequential(nn.BatchNorm2d(3, affine=False))
    bank, twin = (ImageBank(net, "0", statistics=statistics) for _ in range(2))
    twin.load_state_dict(reloaded(bank.state_dict()))
    assert len(twin) == 0
    bank(images(3))
    twin.load_state_dict(reloaded(bank.state_dict()))
    assert torch.equal(bank(images(1, seed=1)), twin(images(1, seed=1)))


def test_a_state_is_a_copy(net, statistics):
    bank = ImageBank(net, capacity=2, statistics=statistics)
    bank(images(2))
    state = bank.state_dict()
    kept = reloaded(state)
    bank(images(3, seed=1))
    assert_same_state(state, kept)


def test_states_that_do_not_belong_are_refused_and_change_nothing(net, statistics):
    other = {"joint": "cached", "cached": "joint"}[statistics]
    bank, wrong, large = (
        ImageBank(net, capacity=q, statistics=s) for q, s in ((3, statistics), (3, other), (4, statistics))
    )
    for one in (bank, wrong, large):
        one(images(4))
    before = reloaded(bank.state_dict())
    broken = reloaded(before)
    broken["images" if statistics == "joint" else "moments"][0].view(-1)[0] = float("inf")
    elsewhere = reloaded(before) | {"style_layer": "another"}
    half = reloaded(before) | {"streams": {"left": reloaded(before), "right": {}}}
    kept = "images" if statistics == "joint" else "moments"
    short = reloaded(before) | {kept: before[kept][:2]}
    arrivals = reloaded(before) | {"arrival": before["arrival"][:2]}
    for state, message in (
        (short, "3 domains, 3 arrivals, 2 images .* it is damaged"),
        (arrivals, "3 domains, 2 arrivals, 3 images .* it is damaged"),
        (elsewhere, "styles of 'another'"),
        (half, "not the state of a bank"),
        (wrong.state_dict(), "other statistics"),
        (large.state_dict(), "4 images, this bank's capacity is 3"),
        (broken, "not finite"),
    ):
        with pytest.raises(InputError, match=message):
            bank.load_state_dict(state)
        assert_same_state(bank.state_dict(), before)


def test_a_stream_that_the_state_lacks_is_empty_afterwards(net, statistics):
    bank = ImageBank(net, capacity=3, statistics=statistics)
    bank(images(2))
    saved = reloaded(bank.state_dict())
    later = bank.stream("later")
    later(images(2))
    bank.load_state_dict(saved)
    assert len(later) == 0 and len(bank) == 2


# ---------------------------------------------------------------------------------------------- what it takes


def test_cached_moments_of_a_resnet50_take_little_and_no_images_are_kept():
    """2 floats a channel, layer and image: 128 images of any size in less than 40 MB."""
    net = build_model("resnet50")
    channels = sum(m.num_features for m in net.modules() if isinstance(m, nn.BatchNorm2d))
    bank = ImageBank(net, capacity=128, statistics="cached")
    bank(torch.rand(1, 3, 32, 32))
    assert bank.nbytes == 2 * channels * 4 + StyleIndex(128, 256).nbytes
    assert bank.nbytes_when_full == 128 * 2 * channels * 4 + StyleIndex(128, 256).nbytes < 40e6
    bank(torch.rand(1, 3, 64, 48))
    assert bank.nbytes_when_full < 40e6 and all(kept.shape == (2, channels) for kept in bank.memory.kept)


def test_bytes_are_stored_as_bytes(net):
    """So 128 images of 769 x 769 take 128 * 3 * 769^2 bytes and their styles: less than 260 MB."""
    bank = ImageBank(net, capacity=4, preprocess=lambda images: images / 255)
    bank(torch.zeros(5, 3, 16, 24, dtype=torch.uint8))
    assert bank.nbytes == 4 * 3 * 16 * 24 + StyleIndex(4, 6).nbytes
    assert 128 * 3 * 769**2 + StyleIndex(128, 256).nbytes < 260e6


def test_preprocess_is_applied_to_the_current_image_and_to_its_neighbours(net, statistics):
    def prepare(given):
        return (given / 255 - 0.4) / 0.2

    generator = torch.Generator().manual_seed(3)
    stream = torch.randint(0, 256, (6, 3, 16, 24), generator=generator, dtype=torch.uint8)
    stream = (stream * torch.linspace(0.3, 1, 6).view(-1, 1, 1, 1)).byte()
    of_bytes = ImageBank(net, statistics=statistics, preprocess=prepare)
    of_floats = ImageBank(net, statistics=statistics)
    for batch in stream.split([1, 2, 3]):
        assert torch.equal(of_bytes(batch), of_floats(prepare(batch)))
        assert of_bytes.selected == of_floats.selected and of_bytes.distances == of_floats.distances


def test_resize_brings_neighbours_to_the_current_size(net):
    """Brute force: bilinear with antialiasing, then TN over the images together."""
    bank = ImageBank(net, neighbors=2, resize=True)
    stream = [images(1, seed, size) for seed, size in enumerate([(16, 24), (32, 20), (16, 24), (9, 31), (32, 48)])]
    for number, image in enumerate(stream):
        out = bank(image)
        neighbours = [
            F.interpolate(stream[i], image.shape[-2:], mode="bilinear", antialias=True, align_corners=False)
            for i in bank.selected
        ]
        assert len(neighbours) == min(2, number)
        expected = TargetNormalization(net)(torch.cat([image, *neighbours]))[:1]
        assert (out - expected).abs().max() <= 1e-5 * expected.abs().max()
    of_bytes = ImageBank(net, resize=True, preprocess=lambda images: images / 255)
    of_bytes((255 * images(2).clamp(0, 1)).byte())
    assert of_bytes(torch.zeros(1, 3, 8, 8, dtype=torch.uint8)).shape[0] == 1
    assert of_bytes.memory.kept[0].dtype == torch.uint8 and of_bytes.memory.kept[0].shape == (3, 16, 24)


def test_images_of_256_levels_are_kept_in_bytes_and_predict_the_same_bits(net, monkeypatch):
    """All levels come back; what is no level is kept as it is."""
    levels = torch.arange(256).reshape(1, 16, 16).expand(3, -1, -1) / 255
    assert packed(levels).dtype == torch.int8 and torch.equal(unpacked(packed(levels), torch.float32), levels)
    stream = [(255 * images(1, seed).clamp(0, 1)).round() / 255 for seed in range(6)]
    bank, twin = ImageBank(net, neighbors=2), ImageBank(net, neighbors=2)
    outputs = [bank(image) for image in stream]
    assert bank.memory.kept[0].dtype == torch.int8 and bank.memory.kept[0].nbytes == 3 * 16 * 24
    again = ImageBank(net, neighbors=2)
    again.load_state_dict(reloaded(bank.state_dict()))
    assert torch.equal(again(stream[0]), bank(stream[0]))
    with monkeypatch.context() as patch:
        patch.setattr(joint, "packed", torch.clone)
        assert all(torch.equal(twin(image), output) for image, output in zip(stream, outputs, strict=True))
    assert twin.memory.kept[0].dtype == torch.float32
    bank(torch.full((1, 3, 16, 24), 0.1234))
    assert bank.memory.kept[-1].dtype == torch.float32
    with pytest.raises(InputError, match="torch.float64, those in the bank torch.float32"):
        bank(stream[0].double())


def test_other_sizes_without_resize_are_refused_with_the_ways_out(net):
    bank = ImageBank(net)
    bank(images(2))
    with pytest.raises(InputError, match=r"resize=True.*cached.*stream\(name\)"):
        bank(images(1, size=(16, 32)))
    assert len(bank) == 2
    bank.stream("wide")(images(1, size=(16, 32)))


# ---------------------------------------------------------------------------------------------- wrong input


def with_value(value):
    x = images(2)
    x[1, 2, 3, 4] = value
    return x


BAD = {
    "nan": (lambda: with_value(float("nan")), "NaN or infinite"),
    "infinity": (lambda: with_value(float("inf")), "NaN or infinite"),
    "channels": (lambda: images(1, channels=4), "4 channels"),
    "grey": (lambda: images(1, channels=1), "1 channels"),
    "device": (lambda: images(1).to("meta"), "on meta, the model on cpu"),
    "empty": (lambda: images(0), "at least one image"),
    "one image without its dimension": (lambda: images(1)[0], r"shape \(3, 16, 24\); expected a float tensor N x C"),
    "array": (lambda: images(1).numpy(), "ndarray; expected a float tensor"),
    "none": (lambda: None, "NoneType; expected a float tensor"),
    "bytes": (lambda: (255 * images(1)).byte(), "uint8.*preprocess"),
    "integers": (lambda: images(1).long(), "int64"),
    "overflowing": (lambda: 1e30 * images(2), "not finite"),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_images_are_refused_before_and_after_the_first(net, statistics, bad):
    make, message = BAD[bad]
    bank, twin = (ImageBank(net, statistics=statistics) for _ in range(2))
    for arrived in (0, 3):
        state = reloaded(bank.state_dict())
        for refuse in (bank, bank.observe):
            with pytest.raises(InputError, match=message):
                refuse(make())
        assert_same_state(bank.state_dict(), state)
        assert len(bank) == arrived
        assert torch.equal(bank(images(3)), twin(images(3)))


@pytest.mark.parametrize("bad", ["channels", "device", "empty", "one image without its dimension", "array"])
def test_bad_images_are_refused_with_preprocess_too(net, statistics, bad):
    bank = ImageBank(net, statistics=statistics, preprocess=lambda images: images / 255)
    for _ in range(2):
        with pytest.raises(InputError):
            bank(BAD[bad][0]())
        bank((255 * images(1).clamp(0, 1)).byte())
    with pytest.raises(InputError, match="NaN"):
        ImageBank(net, preprocess=lambda images: images / 0 * 0)(images(1))


def test_floats_into_a_bank_of_bytes_are_refused(net):
    bank = ImageBank(net, preprocess=lambda images: images / 255)
    bank(torch.zeros(1, 3, 16, 24, dtype=torch.uint8))
    with pytest.raises(InputError, match="torch.float32, those in the bank torch.uint8"):
        bank(images(1))


# ---------------------------------------------------------------------------------------------- failures on the way


@pytest.mark.parametrize("failure", [RuntimeError("a hiccup"), ValueError("odd"), KeyboardInterrupt()])
@pytest.mark.parametrize("arrived", [0, 1, 6])
def test_a_model_that_fails_once_costs_nothing(net, statistics, arrived, failure):
    """Bank and model are as before, and the stream goes on as if nothing had been."""
    bank, twin = (ImageBank(net, neighbors=2, capacity=4, removal="random", statistics=statistics) for _ in range(2))
    stream = images(10, seed=6)
    for one in (bank, twin):
        one.observe(stream[:arrived]) if arrived else None
    state, tensors = reloaded(bank.state_dict()), {key: value.clone() for key, value in net.state_dict().items()}
    modes, rng = [m.training for m in net.modules()], torch.get_rng_state()
    net.failure, net.fails_at = failure, 0
    with pytest.raises(type(failure)):
        bank(stream[arrived : arrived + 1])
    net.failure = None
    assert_same_state(bank.state_dict(), state)
    assert all(torch.equal(tensors[key], value) for key, value in net.state_dict().items())
    assert modes == [m.training for m in net.modules()] and torch.equal(rng, torch.get_rng_state())
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in net.modules())
    assert torch.equal(bank(stream[arrived:]), twin(stream[arrived:])) and bank.selected == twin.selected
    assert_same_state(bank.state_dict(), twin.state_dict())


@pytest.mark.parametrize("passes", [2, 4])  # the second image of a joint bank takes three: two look for a short cut
def test_in_a_batch_the_images_before_the_failing_one_have_arrived(net, statistics, passes):
    bank, twin = (ImageBank(net, statistics=statistics) for _ in range(2))
    net.failure, net.fails_at = ValueError("a hiccup"), passes
    with pytest.raises(ValueError, match="hiccup"):
        bank(images(6))
    net.failure = None
    arrived = {("joint", 2): 1, ("joint", 4): 2, ("cached", 2): 2, ("cached", 4): 4}[statistics, passes]
    assert len(bank) == arrived
    twin(images(6)[:arrived])
    torch.testing.assert_close(bank(images(6)[arrived:]), twin(images(6)[arrived:]), rtol=1e-4, atol=1e-5)
    assert bank.selected == twin.selected and bank.stored == twin.stored


def test_cached_refuses_a_network_whose_layers_run_by_turns():
    """Moments of different layers do not belong together."""

    class ByTurns(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer1, self.left, self.right = nn.Identity(), nn.BatchNorm2d(3), nn.BatchNorm2d(3)

        def forward(self, x):
            x = self.layer1(x)
            return self.left(x) if x.mean() > 0 else self.right(x)

    bank = cached(ByTurns(), "layer1")
    bank(images(2).abs())
    with pytest.raises(InputError, match="use statistics='joint'"):
        bank(-images(1).abs())
    assert len(bank) == 2
    bank(images(1, seed=1).abs())
    ImageBank(ByTurns(), "layer1")(torch.cat([images(1).abs(), -images(1).abs()]))
