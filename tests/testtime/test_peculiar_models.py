"""Models that call their BatchNorm layers in other ways, merge weights in ``train()``, or compute in half precision."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.ops import FrozenBatchNorm2d

from dglab.testtime import AdaBN, ImageBank, SourceNormalization, TargetNormalization
from dglab.testtime.style_layer import find_style_layer
from dglab.utils.errors import InputError

pytestmark = pytest.mark.numerical


def images(n, seed=0, side=8):
    generator = torch.Generator().manual_seed(seed)
    contrast, brightness = torch.rand(2, n, 3, 1, 1, generator=generator)
    return torch.randn(n, 3, side, side, generator=generator) * (0.2 + contrast) + brightness


class Net(nn.Module):
    """Two BatchNorm layers; ``call`` says how the second is called."""

    def __init__(self, call=lambda norm, x: norm(x), **options):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layer1 = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
            self.norm, self.head = nn.BatchNorm2d(4, **options), nn.Conv2d(4, 5, 1)
            self.call = call
            self.train()
            for seed in range(3):
                self(images(4, seed=90 + seed))
        self.eval()

    def forward(self, x):
        return self.head(self.call(self.norm, self.layer1(x)))


PREDICTORS = {
    "source": SourceNormalization,
    "tn": TargetNormalization,
    "adabn": lambda net: AdaBN(net).fit(images(2)),
    "joint": lambda net: ImageBank(net, "layer1"),
    "cached": lambda net: ImageBank(net, "layer1", statistics="cached"),
}


def tensors(net):
    values = dict(net.named_parameters()) | dict(net.named_buffers())
    return {name: (id(value), value._version, value.clone()) for name, value in values.items()}


def assert_untouched(net, before):
    after = tensors(net)
    assert after.keys() == before.keys()
    for name, (identity, version, value) in before.items():
        assert after[name][:2] == (identity, version) and torch.equal(after[name][2], value)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


@pytest.mark.parametrize("predictor", PREDICTORS)
def test_a_layer_may_be_given_its_input_by_name(predictor):
    usual, named = (PREDICTORS[predictor](net) for net in (Net(), Net(lambda norm, x: norm(input=x))))
    for batch in images(6).split([1, 1, 1, 3]):
        assert torch.equal(usual(batch), named(batch))


def functional(norm, x):
    return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, norm.training, 0.1, norm.eps)


def merged(norm, x):
    """As networks do that merge a convolution with its statistics at every pass."""
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return x * scale[:, None, None] + (norm.bias - norm.running_mean * scale)[:, None, None]


AROUND = {"functional": functional, "forward": lambda norm, x: norm.forward(x), "merged": merged,
          "twice": lambda norm, x: norm.forward(norm(x))}  # fmt: skip


@pytest.mark.parametrize("predictor", PREDICTORS)
@pytest.mark.parametrize("around", AROUND)
def test_statistics_that_are_used_around_their_layer_are_refused_by_name(around, predictor):
    net = Net(AROUND[around])
    net.train() if around == "twice" else net.eval()  # in whatever mode
    before = tensors(net)
    with pytest.raises(InputError, match="of BatchNorm layer 'norm' are used other than by calling the layer"):
        PREDICTORS[predictor](net)(images(2))
    assert_untouched(net, before)
    net.eval()
    assert torch.isfinite(net(images(2))).all()


def test_a_layer_without_statistics_called_around_is_refused_too():
    net = Net(lambda norm, x: norm.forward(x), track_running_stats=False)
    with pytest.raises(InputError, match="layer 'norm' are used other than"):
        ImageBank(net, "layer1")(images(1))


def test_what_a_networks_code_asks_of_its_statistics_without_their_values_it_gets():
    def looks(norm, x):
        assert norm.running_mean.shape == (4,) and norm.running_var.dtype == torch.float32
        return norm(x.to(norm.running_mean.device))

    assert torch.equal(TargetNormalization(Net(looks))(images(2)), TargetNormalization(Net())(images(2)))


class Merging(nn.Conv2d):
    """As low-rank adapters: in evaluation mode the update is merged into the weights, in training mode taken out."""

    def __init__(self, *args):
        super().__init__(*args)
        self.update, self.merged, self.calls = nn.Parameter(0.1 * torch.ones_like(self.weight)), False, []

    def train(self, mode=True):
        self.calls.append(mode)
        if mode == self.merged:
            self.weight.data += -self.update.data if mode else self.update.data
            self.merged = not mode
        return super().train(mode)

    def forward(self, x):
        return F.conv2d(x, self.weight if self.merged else self.weight + self.update, self.bias)


@pytest.mark.parametrize("predictor", PREDICTORS)
@pytest.mark.parametrize("training", [True, False])
def test_a_module_that_merges_weights_when_its_mode_changes_is_left_alone(training, predictor):
    net = nn.Sequential(Net(), Merging(5, 4, 1))
    plain = copy.deepcopy(net)
    net.train(training)
    plain.eval()
    before, calls = tensors(net), list(net[1].calls)
    layer = "0.layer1"
    make = {
        "joint": lambda net: ImageBank(net, layer),
        "cached": lambda net: ImageBank(net, layer, statistics="cached"),
    }
    found, expected = (make.get(predictor, PREDICTORS[predictor])(one)(images(3)) for one in (net, plain))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert net[1].calls == calls and all(m.training == training for m in net.modules())
    assert_untouched(net, before)


# ------------------------------------------------------------------------------------------------- half precision


def norms(kind):
    if kind == "frozen":
        net = nn.Sequential(nn.Identity(), FrozenBatchNorm2d(3))
    else:
        net = nn.Sequential(nn.Identity(), nn.BatchNorm2d(3, affine=kind != "no_affine"))
    if kind != "no_affine":
        net[1].weight.data.copy_(torch.tensor([0.5, 1.0, 2.0]))
        net[1].bias.data.copy_(torch.tensor([0.1, 0.0, -0.3]))
    return net.eval()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", ["affine", "no_affine", "frozen"])
def test_moments_that_half_precision_cannot_hold(kind, dtype):
    """Variances around 3e8, beyond float16's 65,504; means of 1000 beside deviations of 2, beyond bfloat16's digits."""
    half, whole = norms(kind).to(dtype), norms(kind).double()
    stream = [images(1, seed).to(dtype) for seed in range(5)]
    large = [(20_000 * x).to(dtype) for x in stream]
    shifted = [(1000 + 8 * torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(seed))).to(dtype)
               for seed in range(5)]  # fmt: skip
    for batches in (large, shifted):
        together = torch.cat(batches)
        before, expected = tensors(half), TargetNormalization(whole)(together.double())
        for predictor in (TargetNormalization(half), AdaBN(half).fit(together)):
            found = predictor(together)
            assert found.dtype == dtype
            assert (found.double() - expected).abs().max() <= 2 * torch.finfo(dtype).eps * expected.abs().max()
        for statistics in ("joint", "cached"):
            bank, reference = (ImageBank(net, "0", neighbors=2, statistics=statistics) for net in (half, whole))
            for x in batches:
                found, expected_row = bank(x), reference(x.double())
                assert found.dtype == dtype and bank.selected == reference.selected
                assert (found - expected_row).abs().max() <= 2 * torch.finfo(dtype).eps * expected_row.abs().max()
        assert_untouched(half, before)


def test_source_statistics_in_half_precision_are_the_models_own():
    net = Net().to(torch.bfloat16)
    x = images(3).to(torch.bfloat16)
    with torch.no_grad():
        assert torch.equal(SourceNormalization(net)(x), net(x))


# ------------------------------------------------------------------------------------------- odd modes and inputs


@pytest.mark.parametrize("statistics", ["joint", "cached"])
def test_a_state_loaded_in_inference_mode_goes_on_outside_of_it(statistics):
    options = dict(style_layer="layer1", neighbors=2, capacity=3, statistics=statistics, removal="random")
    bank, twin = ImageBank(Net(), **options), ImageBank(Net(), **options)
    stream = images(9)
    bank(stream[:4])
    with torch.inference_mode():
        twin.load_state_dict({**bank.state_dict()})
    for batch in stream[4:].split([1, 1, 3]):
        assert torch.equal(bank(batch), twin(batch)) and bank.selected == twin.selected


@pytest.mark.parametrize("predictor", PREDICTORS)
def test_predictors_made_in_inference_mode_go_on_outside_of_it(predictor):
    usual = PREDICTORS[predictor](Net())
    with torch.inference_mode():
        made = PREDICTORS[predictor](Net())  # a network of inference tensors, too
        first = made(images(1))
    assert torch.equal(first, usual(images(1)))
    assert torch.equal(made(images(2, seed=1)), usual(images(2, seed=1)))


class Failing(Net):
    failing = False

    def forward(self, x):
        x = super().forward(x)
        if self.failing:
            raise ValueError("a hiccup")
        return x


@pytest.mark.parametrize("statistics", ["joint", "cached"])
def test_a_failed_call_draws_nothing(statistics):
    net = Failing()
    options = dict(neighbors=1, capacity=4, policy="random", removal="random", statistics=statistics)
    bank, twin, stream = ImageBank(net, "layer1", **options), ImageBank(net, "layer1", **options), images(20)
    for image in stream.split(1):
        net.failing = True
        for _ in range(2):
            with pytest.raises(ValueError, match="hiccup"):
                bank(image)
        net.failing = False
        assert torch.equal(bank(image), twin(image)) and bank.selected == twin.selected
        assert bank.stored == twin.stored


def test_what_is_no_state_is_refused_and_streams_are_loaded_with_it_or_not_at_all():
    bank = ImageBank(Net(), "layer1", capacity=2)
    bank(images(2))
    bank.stream("left")(images(1))
    state = bank.state_dict()
    for wrong in ({}, None, [], {"arrivals": 3}):
        with pytest.raises(InputError, match="this is not the state of a bank: it lacks .*moments"):
            bank.load_state_dict(wrong)
    other = ImageBank(Net(), "layer1", capacity=2)
    state["streams"]["left"]["styles"][0].fill_(float("nan"))
    with pytest.raises(InputError, match="not finite"):
        other.load_state_dict(state)
    assert len(other) == 0 and other.arrivals == 0


@pytest.mark.parametrize("predictor", ["source", "tn", "joint", "cached"])
def test_images_of_another_type_or_without_values_are_refused_by_name(predictor):
    one, net = PREDICTORS[predictor](Net()), Net()
    for wrong, message in (
        (images(1).double(), r"images are torch.float64, the network's weights torch.float32.*images.to"),
        (images(1).half(), "images are torch.float16, the network's weights torch.float32"),
        (images(1).to(torch.float8_e4m3fn), "float8_e4m3fn of layout .* expected a dense tensor of torch.float16"),
        (images(1).to(torch.complex64), "complex64"),
        (images(1).to_sparse(), "torch.sparse_coo"),
        (images(1).to("meta"), "on meta, the model on cpu"),
    ):
        with pytest.raises(InputError, match=message):
            one(wrong)
    with pytest.raises(InputError, match="on meta, where tensors hold no values"):
        PREDICTORS[predictor](net.to("meta"))(images(1).to("meta"))
    assert one(images(1)).shape == (1, 5, 8, 8)


# ---------------------------------------------------------------------------------------------- the style layer


class WithStages(Net):
    def __init__(self, stages):
        super().__init__()
        self.stages = stages


class WithMethod(Net):
    def stages(self):
        return ["layer1"]


class WithProperty(Net):
    @property
    def stages(self):
        raise AttributeError("not yet")


def odd_stages():
    yield from (WithStages(odd) for odd in (3, None, "layer1", b"x", [1, 2], ["layer9"], {"a": 1}, nn.ModuleList(), ()))
    yield from (WithMethod(), WithProperty())


def test_stages_that_list_no_paths_are_left_aside():
    """timm's HRNet has a number there, others a method or modules."""
    for net in odd_stages():
        assert find_style_layer(net, "layer1.0") == "layer1.0"
        assert find_style_layer(net, None) == find_style_layer(net, 1) == "layer1"
        assert torch.equal(ImageBank(net, "layer1")(images(2)), ImageBank(Net(), "layer1")(images(2)))
    for declared in (["norm", "layer1"], ("norm", "layer1")):
        assert (
            find_style_layer(WithStages(declared), 2) == "layer1"
            and find_style_layer(WithStages(declared), 1) == "norm"
        )


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)), "for example one of 0, 1$"),
        (nn.Sequential(nn.Sequential(nn.BatchNorm2d(3))), "for example one of 0, 0.0$"),
        (nn.BatchNorm2d(3), "BatchNorm2d has no module inside .* wrap it in nn.Sequential$"),
    ],
)
def test_a_message_that_offers_layers_names_some(net, message):
    for wrong in (None, 1, "layer1"):
        with pytest.raises(InputError, match=message):
            ImageBank(copy.deepcopy(net), wrong)
