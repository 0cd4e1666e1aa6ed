"""Test-time normalization of other libraries' networks: against copies in training mode and a bank on plain lists.

Networks and images are in float64, where what remains of a difference is a mistake; in float32 the same network gives
other last bits on other processors, and dozens of normalizations of small maps amplify them.
"""

import copy
import functools
import warnings
from collections import OrderedDict

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from timm.layers.norm_act import freeze_batch_norm_2d
from torch import nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves, tree_map, tree_structure
from torchvision.models import segmentation
from torchvision.ops import FrozenBatchNorm2d

from dglab.testtime import AdaBN, ImageBank, SourceNormalization, TargetNormalization
from dglab.testtime.style_layer import find_style_layer
from dglab.utils.errors import InputError

pytestmark = pytest.mark.numerical

NEIGHBORS, CAPACITY = 2, 3


class OnTimm(nn.Module):
    """A pixel classifier on a backbone of timm: its list of features, or its last feature map."""

    def __init__(self, name, features_only):
        super().__init__()
        self.backbone = timm.create_model(name, pretrained=False, features_only=features_only)
        self.features_only = features_only
        channels = self.backbone.feature_info.channels()[-1] if features_only else self.backbone.num_features
        self.head = nn.Conv2d(channels, 5, 1)

    def forward(self, x):
        features = self.backbone(x)[-1] if self.features_only else self.backbone.forward_features(x)
        return F.interpolate(self.head(features), x.shape[-2:], mode="bilinear"), features  # a tuple


def torchvision_net(name, **options):
    return lambda: getattr(segmentation, name)(weights=None, weights_backbone=None, num_classes=5, **options)


def smp_net(architecture, encoder):
    return lambda: architecture(encoder, encoder_weights=None, classes=5)


NETS = {  # builder, style layer, side of the images
    "fcn_resnet50": (torchvision_net("fcn_resnet50", aux_loss=True), "backbone.layer1", 48),
    "deeplabv3_mobilenet": (torchvision_net("deeplabv3_mobilenet_v3_large"), "backbone.3", 64),
    "lraspp_mobilenet": (torchvision_net("lraspp_mobilenet_v3_large"), "backbone.3", 64),
    "timm_resnet18d": (lambda: OnTimm("resnet18d", True), "backbone.layer1", 64),
    "timm_regnety_002": (lambda: OnTimm("regnety_002", False), "backbone.s1", 96),
    "timm_efficientnet_b0": (lambda: OnTimm("efficientnet_b0", True), "backbone.blocks.1", 96),
    "timm_hrnet_w18_small": (lambda: OnTimm("hrnet_w18_small", True), "backbone.layer1", 64),
    "smp_unet": (smp_net(smp.Unet, "resnet18"), "encoder.layer1", 64),
    "smp_deeplabv3plus": (smp_net(smp.DeepLabV3Plus, "mobilenet_v2"), "encoder.features.3", 64),
    "smp_fpn": (smp_net(smp.FPN, "tu-regnety_002"), "encoder.model.s1", 96),
    "smp_linknet": (smp_net(smp.Linknet, "tu-mobilenetv3_small_050"), "encoder.model.blocks.0", 64),
}


def images(n, seed=0, side=64):
    """Images of clearly different styles, so that no two neighbours are equally far."""
    generator = torch.Generator().manual_seed(seed)
    contrast, brightness = torch.rand(2, n, 3, 1, 1, generator=generator)
    return (torch.randn(n, 3, side, side, generator=generator) * (0.2 + contrast) + brightness).double()


def randomized(net, seed=0):
    """Random scales and offsets (some libraries start with zeros, which hide a branch), some source statistics.

    In float64.
    """
    generator = torch.Generator().manual_seed(seed)
    layers = [m for m in net.modules() if isinstance(m, _BatchNorm)]
    for layer in layers:
        if layer.affine:
            nn.init.uniform_(layer.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(layer.bias, 0, 0.2, generator=generator)
        layer.momentum = 1.0
    with torch.no_grad():
        net.double().train()(images(4, seed=99))
    return net  # in training mode: a predictor has to see to dropout itself


@pytest.fixture(scope="module", params=NETS)
def named_net(request):
    """A network, its style layer and a stream of images."""
    build, style_layer, side = NETS[request.param]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return randomized(build()), style_layer, images(6, seed=1, side=side)


class ByHand:
    """The bank of section 3.4 and its cached form, on lists, with copies of a network whose layers it may change.

    Args:
        net: with BatchNorm layers that follow their mode.
    """

    def __init__(self, net, style_layer, neighbors=NEIGHBORS, capacity=CAPACITY):
        self.net, self.style_layer, self.neighbors, self.capacity, self.seen = net, style_layer, neighbors, capacity, []

    @functools.cached_property
    def source_net(self):
        return copy.deepcopy(self.net).eval()

    @functools.cached_property
    def joint_net(self):
        def use_batch(layer, inputs):
            layer.train(inputs[0].numel() > inputs[0].shape[1])  # torch refuses a single value per channel

        twin = copy.deepcopy(self.net).eval()
        for layer in (m for m in twin.modules() if isinstance(m, _BatchNorm)):
            layer.register_forward_pre_hook(use_batch)
        return twin

    @functools.cached_property
    def cached_net(self):
        twin = copy.deepcopy(self.net).eval()
        for layer in (m for m in twin.modules() if isinstance(m, _BatchNorm)):
            layer.forward = self.explicit_forward(layer)
        return twin

    def source(self, batch):
        with torch.no_grad():
            return self.source_net(batch)

    def joint(self, batch):
        """What the network gives for a batch in training mode, without dropout."""
        with torch.no_grad():
            return self.joint_net(batch)

    def explicit_forward(self, layer):
        def forward(x):
            dims = [0, *range(2, x.ndim)]
            mean, variance = x.mean(dims), x.var(dims, correction=0)
            call = len(self.own)
            self.own.append((mean, variance))
            if self.kept:
                means = torch.stack([mean, *(moments[call][0] for moments in self.kept)])
                variances = torch.stack([variance, *(moments[call][1] for moments in self.kept)])
                mean, variance = means.mean(0), variances.mean(0) + means.var(0, correction=0)
            elif x.numel() == x.shape[1]:
                mean, variance = layer.running_mean, layer.running_var
            column = [-1] + [1] * (x.ndim - 2)
            y = (x - mean.view(column)) / (variance.view(column) + layer.eps).sqrt()
            if layer.affine:
                y = y * layer.weight.view(column) + layer.bias.view(column)
            for part in ("drop", "act"):  # what timm's fused layers do beside
                y = getattr(layer, part, nn.Identity())(y)
            return y

        return forward

    def cached(self, image, kept):
        """What the network gives for an image by moments pooled with kept ones; the image's own moments."""
        self.own, self.kept = [], kept
        with torch.no_grad():
            return self.cached_net(image[None]), self.own

    def style(self, image):
        features = []
        handle = self.source_net.get_submodule(self.style_layer).register_forward_hook(
            lambda m, i, output: features.append(output)
        )
        self.source(image[None])
        handle.remove()
        flat = features[0][0].flatten(1)
        return Normal(flat.mean(1), flat.std(1, correction=0).clamp_min(1e-5))

    def __call__(self, image, statistics):
        """The model's output for an image and the arrival numbers of its neighbours."""
        style = self.style(image)
        candidates = list(enumerate(self.seen))[-self.capacity :]

        def distance(entry):
            other = entry[1][1]
            return (kl_divergence(style, other) + kl_divergence(other, style)).mean().item()

        near = sorted(candidates, key=distance)[: self.neighbors]
        if statistics == "joint":
            output, moments = self.joint(torch.stack([image, *(seen[0] for _, seen in near)])), None
        else:
            output, moments = self.cached(image, [seen[2] for _, seen in near])
        self.seen.append((image, style, moments))
        return output, [number for number, _ in near]


def assert_close(outputs, expected, tolerance=1e-9):
    """Every tensor of the first rows: within ``tolerance`` of its largest absolute value; and of one form."""
    assert tree_structure(outputs) == tree_structure(expected)
    for a, b in zip(tree_leaves(outputs), tree_leaves(expected), strict=True):
        if not isinstance(b, torch.Tensor):
            assert a == b
            continue
        b = b[: len(a)].double()
        assert (a.double() - b).abs().max() <= tolerance * b.abs().max()


def row_of(outputs, row):
    return tree_map(lambda part: part[row : row + 1] if isinstance(part, torch.Tensor) else part, outputs)


def assert_bank_is_right(net, style_layer, stream, statistics, reference=None, tolerance=1e-9):
    """A bank over a stream, one image at a time and then two at once, against :class:`ByHand`."""
    by_hand = ByHand(reference or net, style_layer)
    bank = ImageBank(net, style_layer, neighbors=NEIGHBORS, capacity=CAPACITY, statistics=statistics)
    for start, stop in ((0, 1), (1, 2), (2, 3), (3, 4), (4, 6)):
        with warnings.catch_warnings():
            if start == 0:
                warnings.simplefilter("ignore", UserWarning)  # a map pooled to 1 x 1 has no variance of its own
            outputs = bank(stream[start:stop])
        for row in range(stop - start):
            output, selected = by_hand(stream[start + row].double(), statistics)
            assert_close(row_of(outputs, row), output, tolerance)
        assert bank.selected == selected


def snapshot(net):
    """Values, identities and version counts of all tensors, modes, hooks, what hangs at the modules, the RNG."""
    tensors = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    return (
        {name: value.clone() for name, value in tensors.items()},
        {name: (id(value), value._version, value.requires_grad) for name, value in tensors.items()},
        {name: (m.training, [*vars(m)], type(m), vars(m).get("forward")) for name, m in net.named_modules()},
        [len(hooks) for m in net.modules() for hooks in vars(m).values() if isinstance(hooks, OrderedDict)],
        torch.get_rng_state(),
    )


def assert_untouched(net, before):
    values, identities, modules, hooks, rng = snapshot(net)
    assert all(torch.equal(values[name], value) for name, value in before[0].items())
    assert identities == before[1] and modules == before[2] and hooks == before[3] and torch.equal(rng, before[4])


def test_tn_is_batchnorm_in_training_mode(named_net):
    net, style_layer, stream = named_net
    before, by_hand = snapshot(net), ByHand(net, style_layer)
    assert_close(TargetNormalization(net)(stream[:3]), by_hand.joint(stream[:3]))
    assert_close(SourceNormalization(net)(stream[:3]), by_hand.source(stream[:3]))
    assert_untouched(net, before)


@pytest.mark.parametrize("statistics", ["joint", "cached"])
def test_bank_is_the_one_on_lists(named_net, statistics):
    net, style_layer, stream = named_net
    before = snapshot(net)
    assert_bank_is_right(net, style_layer, stream, statistics)
    assert_untouched(net, before)


def test_one_value_per_channel_warns_only_without_neighbours():
    net = randomized(NETS["deeplabv3_mobilenet"][0]())
    for statistics in ("joint", "cached"):
        bank = ImageBank(net, "backbone.3", statistics=statistics)
        with pytest.warns(UserWarning, match="one value per channel"):
            bank(images(1))
        bank(images(2, seed=1))  # a warning would be an error here


class Small(nn.Module):
    """Convolutions with a shortcut around the last BatchNorm, after dropout; ``between`` is what a test puts in."""

    def __init__(self, between=None, norm=nn.BatchNorm2d):
        super().__init__()
        self.layer1 = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), norm(8), nn.ReLU())
        self.between = between or nn.Identity()
        self.layer2 = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), norm(8), nn.Dropout(0.5))
        self.head = nn.Conv2d(16, 5, 1)

    def forward(self, x):
        x = self.between(self.layer1(x))
        return {"logits": self.head(torch.cat([x, self.layer2(x)], dim=1)), "stride": 2}


def small(seed=0, **options):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return randomized(Small(**options))


class OverFeatures(nn.Module):
    """Something that works on vectors, sequences or volumes, as a gate of a feature map N x 8 x H x W."""

    def __init__(self, norm, shape):
        super().__init__()
        self.norm, self.shape = norm, shape

    def forward(self, x):
        view = self.shape(x)
        gate = self.norm(view).flatten(2).mean(2) if view.ndim > 2 else self.norm(view)
        return x * (2 + gate.reshape(len(x), 8, -1).mean(2).tanh())[..., None, None]


class Twice(nn.Module):
    """One BatchNorm layer called twice per pass, on different features."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(8)

    def forward(self, x):
        return self.norm(F.relu(self.norm(x)) ** 2 + x)


def thawed(net, kind):
    """What a frozen network was made from: a copy with layers of ``kind`` that a test can put in training mode."""
    for name, child in net.named_children():
        if "Frozen" in type(child).__name__:
            twin = kind(child.weight.shape[0], eps=child.eps, dtype=child.weight.dtype)
            twin.load_state_dict(child.state_dict(), strict=False)
            setattr(net, name, twin)
        else:
            thawed(child, kind)
    return net


def synchronized():
    return nn.SyncBatchNorm.convert_sync_batchnorm(small()), small()


def frozen():
    net = small()
    net.layer1[1] = FrozenBatchNorm2d(8).double()
    net.layer1[1].load_state_dict(small().layer1[1].state_dict())
    return net, thawed(copy.deepcopy(net), nn.BatchNorm2d)


def fused_and_frozen():
    """timm's own frozen layer, which has its activation inside."""
    net = small(norm=timm.layers.BatchNormAct2d)
    return freeze_batch_norm_2d(copy.deepcopy(net)), net


def compiled():
    return torch.compile(small(), backend="eager"), small()


def compiled_in_place():
    net = small()
    net.compile(backend="eager")
    return net, small()


def compiled_in_part():
    net = small()
    net.layer2 = torch.compile(net.layer2, backend="eager")
    return net, small()


def in_channels_last():
    return small().to(memory_format=torch.channels_last), small()


def plain(**options):
    return lambda: (small(**options), None)


def gated(norm, shape):
    return lambda: (small(between=OverFeatures(norm(), shape)), None)


VARIANTS = {  # the network, and what to compute the reference from where that is another one
    "skip_over_the_last_batchnorm": plain(),
    "synchronized": synchronized,
    "frozen": frozen,
    "fused_and_frozen": fused_and_frozen,
    "no_affine": plain(norm=functools.partial(nn.BatchNorm2d, affine=False)),
    "no_running_statistics": plain(norm=functools.partial(nn.BatchNorm2d, track_running_stats=False)),
    "compiled": compiled,
    "compiled_in_place": compiled_in_place,
    "compiled_in_part": compiled_in_part,
    "channels_last": in_channels_last,
    "batchnorm1d_of_vectors": gated(lambda: nn.BatchNorm1d(8 * 16), lambda x: F.adaptive_avg_pool2d(x, 4).flatten(1)),
    "batchnorm1d_of_sequences": gated(lambda: nn.BatchNorm1d(8), lambda x: x.flatten(2)),
    "batchnorm1d_of_strided_sequences": gated(
        lambda: nn.BatchNorm1d(8), lambda x: x.flatten(2).mT.contiguous().mT[..., ::3]
    ),
    "batchnorm3d": gated(lambda: nn.BatchNorm3d(8), lambda x: x.unflatten(2, (4, -1))),
    "one_layer_twice": lambda: (small(between=Twice()), None),
}


@pytest.mark.parametrize("statistics", ["joint", "cached"])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.filterwarnings("ignore:BatchNorm layer 'between:UserWarning")  # the first image's vector is alone
def test_variants_of_batchnorm_and_of_models(variant, statistics):
    net, reference = VARIANTS[variant]()
    reference = net if reference is None else reference
    stream = images(6, seed=1, side=32)
    if variant == "channels_last":
        stream = stream.to(memory_format=torch.channels_last)
    with torch.no_grad():
        net.eval()(stream[:1])  # what is compiled has been compiled without the bank's hooks
    net.train()
    before, by_hand = snapshot(net), ByHand(reference, "layer1")
    assert_close(TargetNormalization(net)(stream[:3]), by_hand.joint(stream[:3]))
    if variant != "one_layer_twice":  # whose two calls AdaBN pools
        assert_close(AdaBN(net).fit(stream[:3])(stream[:3]), by_hand.joint(stream[:3]))
    assert_bank_is_right(net, "layer1", stream, statistics, reference)
    assert_untouched(net, before)


def test_without_running_statistics_an_images_style_is_its_own_in_any_batch():
    net = small(norm=functools.partial(nn.BatchNorm2d, track_running_stats=False))
    together, single = ImageBank(net, "layer1"), ImageBank(net, "layer1")
    stream = images(8, seed=1, side=32)
    outputs = together(stream)
    for row, image in enumerate(stream.split(1)):
        assert_close(row_of(outputs, row), single(image))
    assert together.selected == single.selected and together.distances == pytest.approx(single.distances, rel=1e-9)


@pytest.mark.parametrize("statistics", ["joint", "cached"])
def test_a_model_in_single_precision_is_the_one_in_double(statistics):
    net, stream = small().float(), images(6, seed=1, side=32).float()
    reference = copy.deepcopy(net).double()
    assert_close(TargetNormalization(net)(stream), ByHand(reference, "layer1").joint(stream.double()), 1e-3)
    assert_bank_is_right(net, "layer1", stream, statistics, reference, tolerance=1e-3)


@pytest.mark.parametrize("statistics", ["joint", "cached"])
def test_autocast_to_half_precision_keeps_statistics_in_single(statistics):
    """The same neighbours as without, and outputs that differ by a few roundings of 8 bits."""
    net, stream = small().float(), images(8, seed=1, side=32).float()
    whole, half = (ImageBank(net, "layer1", neighbors=2, capacity=4, statistics=statistics) for _ in range(2))
    before = snapshot(net)
    for image in stream.split(1):
        expected = whole(image)["logits"]
        with torch.autocast("cpu", torch.bfloat16):
            out = half(image)["logits"]
        assert out.dtype == torch.bfloat16 and half.selected == whole.selected
        assert (out - expected).abs().max() <= 0.03 * expected.abs().max()
    assert_untouched(net, before)
    with torch.autocast("cpu", torch.bfloat16):
        assert_close(TargetNormalization(net)(stream), ByHand(net, "layer1").joint(stream), 0.02)


def without(norm):
    return nn.Sequential(nn.Conv2d(3, 4, 1), norm, nn.ReLU())


@pytest.mark.parametrize("predictor", [SourceNormalization, TargetNormalization, AdaBN, ImageBank])
@pytest.mark.parametrize(
    ("net", "message"),
    [
        (without(nn.GroupNorm(2, 4)), "found GroupNorm"),
        (without(nn.LayerNorm([4, 8, 8])), "found LayerNorm"),
        (without(nn.InstanceNorm2d(4, affine=True, track_running_stats=True)), "found InstanceNorm2d"),
        (without(nn.Identity()), "no normalization"),
    ],
)
def test_models_without_batchnorm_are_refused_by_name(predictor, net, message):
    with pytest.raises(InputError, match=message):
        predictor(net)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_scripted_modules_are_refused_by_path():
    """Their layers run in a graph that the override does not reach: half a network would keep the source's."""
    whole = torch.jit.script(without(nn.BatchNorm2d(4)).eval())
    part = nn.Sequential(nn.BatchNorm2d(3), whole)
    traced = nn.Sequential(
        nn.BatchNorm2d(3), torch.jit.trace(without(nn.BatchNorm2d(4)).eval(), torch.rand(1, 3, 8, 8))
    )
    for net, message in ((whole, "scripted module"), (part, "1.1 is a scripted"), (traced, "1.1 is a scripted")):
        for predictor in (TargetNormalization, ImageBank):
            with pytest.raises(InputError, match=message):
                predictor(net)
    TargetNormalization(nn.Sequential(torch.jit.script(nn.ReLU()), nn.BatchNorm2d(3)).double())(images(2))


def test_style_layer_by_path_by_number_and_found():
    net = NETS["fcn_resnet50"][0]()
    for given, path in (
        (None, "backbone.layer1"),
        (1, "backbone.layer1"),
        (4, "backbone.layer4"),
        ("backbone.conv1", "backbone.conv1"),
    ):
        assert find_style_layer(net, given) == path
    assert find_style_layer(NETS["smp_unet"][0](), 2) == "encoder.layer2"
    assert find_style_layer(torch.compile(Small(), backend="eager")._orig_mod, None) == "layer1"
    assert ImageBank(torch.compile(Small(), backend="eager")).style_layer == "layer1"


@pytest.mark.parametrize(
    ("name", "offered"),
    [
        ("fcn_resnet50", ["1 = backbone.layer1", "4 = backbone.layer4"]),
        ("smp_unet", ["1 = encoder.layer1", "4 = encoder.layer4"]),
        ("timm_regnety_002", ["backbone.s1", "backbone.s4"]),
        ("timm_resnet18d", ["1 = backbone.layer1"]),
        ("lraspp_mobilenet", ["backbone.3"]),
    ],
)
def test_a_wrong_style_layer_lists_the_right_ones(name, offered):
    net = NETS[name][0]()
    for wrong in ("layer9", 0, 5, True, ""):
        with pytest.raises(InputError) as caught:
            ImageBank(net, wrong)
        assert all(layer in str(caught.value) for layer in offered) and repr(wrong) in str(caught.value)


@pytest.mark.parametrize("statistics", ["joint", "cached"])
def test_parts_of_an_output_that_are_not_of_the_images_are_left_whole(statistics):
    class WithPrototypes(Small):
        def forward(self, x):
            return super().forward(x)["logits"], self.head.weight[:, :4, 0, 0]  # 5 classes x 4

    net = WithPrototypes().double()
    logits, prototypes = ImageBank(net, statistics=statistics, neighbors=2)(images(4, side=32))
    assert logits.shape == (4, 5, 16, 16) and torch.equal(prototypes, net.head.weight[:, :4, 0, 0])


def test_style_layers_that_carry_no_map_are_refused():
    net = OnTimm("resnet18d", features_only=True).double()
    with pytest.raises(InputError, match="returns no N x C x H x W"):
        ImageBank(net, "backbone")(images(1))  # a list of maps
    net.unused = nn.Conv2d(3, 3, 1).double()
    with pytest.raises(InputError, match="did not run"):
        ImageBank(net, "unused")(images(1))
