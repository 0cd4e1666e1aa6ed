"""The multimodal network: its parts, what a missing modality does, and the gradient reversal."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dglab.data.multimodal import MultimodalStreets, Stacked
from dglab.models.multimodal import (
    DOORS,
    Branch,
    GradientReversal,
    MultimodalNetwork,
    Without,
    build_multimodal,
    set_progress,
    upsampled,
)
from dglab.utils.errors import InputError

pytestmark = pytest.mark.numerical

SIZE = (40, 72)


def pictures(modalities=("rgb", "depth"), count=2, size=SIZE):
    generator = torch.Generator().manual_seed(0)
    return {name: torch.rand(count, DOORS[name].channels, *size, generator=generator) for name in modalities}


@pytest.fixture(scope="module")
def model():
    return build_multimodal(("rgb", "depth"), 3, seed=0).eval()


@pytest.mark.parametrize("modalities", [("rgb", "depth"), ("depth",), ("rgb", "depth", "normals")])
@pytest.mark.parametrize("size", [(32, 64), (33, 47)])
def test_logits_have_the_size_of_the_images(modalities, size):
    model = build_multimodal(modalities, 3, seed=0, width=4)
    images = pictures(modalities, size=size)
    assert model(images).shape == (2, 19, *size)
    for name in modalities:
        feature = model.encoders[name](images[name])
        assert model.classifiers[name](feature).shape[:2] == (2, 19) and model.discriminators[name](feature).shape == (
            2,
            3,
        )
        assert torch.equal(
            model.eval().branch(images, name),
            upsampled(model.classifiers[name](model.encoders[name](images[name])), size),
        )
    assert all(p.requires_grad for p in model.parameters())


def test_it_fits_a_laptop(model):
    assert sum(p.numel() for p in model.parameters()) < 1e6


def test_a_seed_gives_the_weights_and_leaves_the_global_state():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    a, b, c = (build_multimodal(("rgb", "depth"), 3, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(state, torch.get_rng_state())
    for name, weights in a.state_dict().items():
        assert torch.equal(weights, b.state_dict()[name])
    assert not torch.equal(a.encoders["rgb"].stem[0].weight, c.encoders["rgb"].stem[0].weight)


def test_stacked_images_are_those_by_modality(model):
    images = pictures()
    assert torch.equal(model(torch.cat([images["rgb"], images["depth"]], 1)), model(images))


def test_the_parts_are_what_the_network_runs(model):
    images = pictures()
    features = [model.encoders[name](images[name]) for name in model.encoders]
    fused = F.interpolate(model.fusion(features), size=SIZE, mode="bilinear", align_corners=False)
    torch.testing.assert_close(model(images), fused)


# --------------------------------------------------------------------------------------------- missing modalities


def test_a_missing_modality_is_a_feature_of_zeros(model):
    images = pictures()
    feature = model.encoders["rgb"](images["rgb"])
    expected = upsampled(model.fusion([feature, torch.zeros_like(feature)]), SIZE)
    assert torch.equal(model({"rgb": images["rgb"]}), expected)
    assert not torch.allclose(model(images), expected)
    assert torch.equal(Without(model, ["depth"])(torch.cat(list(images.values()), 1)), expected)


def test_a_branch_sees_its_modality_alone(model):
    images = pictures()
    other = {**images, "rgb": 1 - images["rgb"]}
    branch = Branch(model, "depth")
    assert torch.equal(*(branch(torch.cat(list(these.values()), 1)) for these in (images, other)))


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (torch.rand(1, 3, 32, 32), "3 channels, the network takes 4 .rgb 3, depth 1.; stack them"),
        ({}, "of the modalities none; expected one or more of rgb, depth"),
        ({"lidar": torch.rand(1, 1, 32, 32)}, "of the modalities lidar; expected"),
        ({"rgb": torch.rand(1, 3, 32, 32), "depth": None}, "depth NoneType; expected .* depth N x 1 x H x W, with"),
        ({"rgb": torch.rand(1, 1, 32, 32)}, "are rgb 1 x 1 x 32 x 32; expected rgb N x 3 x H x W, with one N"),
        ({"depth": torch.rand(1, 32, 32)}, "are depth 1 x 32 x 32; expected depth N x 1 x H x W"),
        (pictures(size=SIZE) | pictures(["depth"], size=(32, 64)), "rgb 2 x 3 x 40 x 72, depth 2 x 1 x 32 x 64; exp"),
        (pictures(count=2) | pictures(["depth"], count=3), "rgb 2 x .*, depth 3 x .* with one N, H and W"),
    ],
)
def test_other_images_are_refused(model, images, words):
    with pytest.raises(InputError, match=words):
        model(images)


def test_other_modalities_are_refused(model):
    for modalities in ((), ("rgb", "lidar"), ("rgb", "rgb"), "rgb"):
        with pytest.raises(InputError, match="expected one or more of rgb, depth, normals, each once"):
            MultimodalNetwork(modalities)
    with pytest.raises(InputError, match="no modality 'lidar'; it has rgb, depth"):
        Branch(model, "lidar")
    with pytest.raises(InputError, match="there is nothing else; leave one"):
        Without(model, ["rgb", "depth"])
    with pytest.raises(InputError, match="a Linear has no modalities"):
        Branch(nn.Linear(1, 1), "rgb")


def test_a_branch_without_its_images_is_refused(model):
    with pytest.raises(InputError, match="the branch of depth is asked for, and the images are of rgb; pass those of"):
        model.branch(pictures(["rgb"]), "depth")
    with pytest.raises(InputError, match="no modality 'lidar'; it has rgb, depth"):
        model.branch(pictures(), "lidar")


@pytest.mark.parametrize("num_domains", [1, 0, None, 2.5])
def test_a_discriminator_needs_two_domains(num_domains):
    with pytest.raises(InputError, match=rf"num_domains is {num_domains}; expected 2 or more"):
        MultimodalNetwork(("rgb", "depth"), num_domains)


# ------------------------------------------------------------------------------------------------- what comes in


def test_no_reading_is_a_zero_beside_a_mask():
    coded = torch.tensor([0, 127, 254, 255.0]).view(1, 1, 1, 4) / 255
    depth, mask = DOORS["depth"].prepare(coded)[0]
    torch.testing.assert_close(depth[0], torch.tensor([-1, -1 / 255, 253 / 255, 0]))
    assert mask.tolist() == [[1, 1, 1, 0]]
    coded = torch.tensor([[254, 127, 127], [127, 0, 127], [255, 255, 255]]).T.reshape(1, 3, 1, 3) / 255
    normals = DOORS["normals"].prepare(coded)[0, :, 0].T
    torch.testing.assert_close(normals, torch.tensor([[1.0, 0, 0], [0, -1, 0], [0, 0, 0]]), atol=1e-5, rtol=0)


def test_it_takes_the_streets():
    dataset = MultimodalStreets("I", "val", 1, modalities=("rgb", "depth", "normals"), height=32, width=64)
    model = build_multimodal(dataset.modalities, 2, seed=0, width=4).eval()
    images = {name: picture[None].float() / 255 for name, picture in dataset[0][0].items()}
    logits = model(images)
    assert torch.isfinite(logits).all()
    assert torch.equal(model(Stacked(dataset)[0][0][None].float() / 255), logits)


# ------------------------------------------------------------------------------------------- heads of one modality


def test_reversal_passes_through_and_turns_the_gradient():
    for progress, strength in ((0.0, 0.0), (0.5, 2 / (1 + math.exp(-5)) - 1), (1.0, math.tanh(5))):
        reversal = GradientReversal(progress)
        x = torch.randn(3, requires_grad=True)
        y = reversal(x)
        assert torch.equal(x, y) and reversal.strength == pytest.approx(strength, abs=1e-12)
        y.backward(torch.tensor([1.0, -2.0, 0.0]))
        torch.testing.assert_close(x.grad, -strength * torch.tensor([1.0, -2.0, 0.0]))


def test_progress_reaches_every_reversal_and_is_no_part_of_the_weights(model):
    set_progress(model, 0.25)
    assert {model.discriminators[name][0].progress for name in model.encoders} == {0.25}
    assert not any("progress" in name for name in model.state_dict())
    set_progress(nn.Linear(1, 1), 0.5)  # has none


def test_an_encoder_cannot_silence_its_discriminator(model):
    """Features moved so that each hidden unit's input is 50 lower: plain ReLUs would all be silent."""
    *_, linear, norm, relu, out = discriminator = model.discriminators["rgb"]
    features = torch.randn(4, linear.in_features, 2, 3, generator=torch.Generator().manual_seed(0))
    move = torch.linalg.lstsq(linear.weight, torch.full((linear.out_features, 1), -50.0)).solution.view(1, -1, 1, 1)
    plain = out(relu(linear((features + move).mean((2, 3)))))
    assert torch.equal(plain, out.bias.expand_as(plain))
    gradients = []
    for moved in (features, features + move):
        moved = moved.detach().requires_grad_()
        F.cross_entropy(discriminator(moved), torch.tensor([0, 1, 2, 0])).backward()
        gradients.append(moved.grad)
    assert gradients[0].abs().sum() > 0
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("own_losses", [False, True])
def test_whether_a_modalitys_classifier_teaches_its_encoder(own_losses):
    model = build_multimodal(("rgb", "depth"), 3, seed=0, width=4, own_losses=own_losses)
    model.classifiers["rgb"](model.encoders["rgb"](pictures()["rgb"])).sum().backward()
    assert (model.encoders["rgb"].stem[0].weight.grad is not None) == own_losses
    assert (
        model.classifiers["rgb"][1][0].weight.grad is not None and model.encoders["depth"].stem[0].weight.grad is None
    )


def test_the_style_stages_exist(model):
    assert [model.get_submodule(path) for path in model.stages][0] is model.encoders["rgb"].layer1
