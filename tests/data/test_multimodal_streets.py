"""Depth sensors, multimodal scenes and their batches: against the exact depth, and against geometry."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from dglab.data import InMemory
from dglab.data.augmentation import RandomScaleCrop, training_augmentation
from dglab.data.batches import MultiDomainBatches
from dglab.data.multimodal import MultimodalBatches, MultimodalStreets, Stacked, augment_all
from dglab.data.streets import STREETS, StreetsDataset, render
from dglab.data.streets.canvas import Camera
from dglab.data.streets.dice import dice_for
from dglab.data.streets.sensors import SENSORS, DepthSensor, coded_depth, coded_normals, sense
from dglab.utils.errors import InputError

ALL = ("rgb", "depth", "normals")
SIZE = {"height": 32, "width": 64}


def sensed(depth, seed=0, **errors):
    sensor = DepthSensor(**{name: (value, value) for name, value in errors.items()})
    return sense(depth, sensor, dice_for("test", seed), np.random.default_rng(seed))


@pytest.fixture(scope="module")
def depth():
    return render(STREETS["G"], "val", 1).depth


# ------------------------------------------------------------------------------------------------- the sensors


def test_a_sensor_without_errors_reads_the_exact_depth_up_to_its_reach(depth):
    metres = sensed(depth, reach=80.0)
    np.testing.assert_array_equal(np.isnan(metres), depth > 80)
    seen = depth <= 80
    np.testing.assert_allclose(metres[seen], depth[seen], rtol=1e-6)


def test_scale_is_a_factor(depth):
    np.testing.assert_allclose(sensed(depth, scale=1.5, reach=2000.0), 1.5 * depth, rtol=1e-6)


def test_noise_grows_with_the_square_of_the_distance():
    deviations = []
    for z in (5.0, 10.0, 20.0):
        metres = sensed(np.full((200, 200), z, np.float32), noise=0.001)
        deviations.append(metres.std() / z**2)
    np.testing.assert_allclose(deviations, 0.001, rtol=0.05)  # of z: z^2 times that of 1 / z


def test_steps_are_of_the_inverse_depth():
    z = np.linspace(3, 60, 3000, dtype=np.float32)[None].repeat(2, 0)
    inverse = 1 / sensed(z, step=0.004)
    np.testing.assert_allclose(inverse / 0.004, np.round(inverse / 0.004), atol=1e-4)
    assert np.abs(inverse - 1 / z).max() <= 0.002 + 1e-6


def test_holes_take_the_share_that_they_should_in_patches(depth):
    hole = np.isnan(sensed(depth, holes=0.2, reach=2000.0))
    assert hole.mean() == pytest.approx(0.2, abs=0.001)
    assert (hole[:, 1:] != hole[:, :-1]).mean() < 0.04  # single pixels at random would change at 0.32 of all places


def test_a_warp_is_smooth_and_of_its_size(depth):
    relative = np.log(sensed(depth, warp=0.2, reach=2000.0) / depth)
    assert relative.std() == pytest.approx(0.2, rel=1e-3)
    assert np.abs(np.diff(relative, axis=1)).max() < 0.1


def test_the_sensors_differ_as_the_design_says():
    """The order of the design note: G and S nearly exact, C near them, I and M far; M reads something everywhere."""
    errors, holes = {}, {}
    for letter in STREETS:
        relative, lost = [], []
        for index in range(6):
            depth = render(STREETS[letter], "val", index, **SIZE).depth
            metres = sense(depth, SENSORS[letter], dice_for(letter, index), np.random.default_rng(index))
            seen = ~np.isnan(metres) & (depth < 50)
            relative.append(np.abs(np.log(metres[seen] / depth[seen])).mean())
            lost.append(np.isnan(metres).mean())
        errors[letter], holes[letter] = np.mean(relative), np.mean(lost)
    assert errors["G"] < 1e-6 < errors["S"] < errors["C"] < errors["I"] < errors["M"] and errors["M"] > 0.2
    assert holes["M"] == 0 < min(holes["G"], holes["S"]) and holes["I"] > holes["C"] + 0.05


def test_every_range_of_every_sensor_is_one():
    for sensor in SENSORS.values():
        for low, high in dataclasses.astuple(sensor):
            assert 0 <= low <= high < float("inf")


# ---------------------------------------------------------------------------------------------------- the codes


def test_equal_ratios_of_depth_are_equal_steps():
    codes = coded_depth(np.array([[0.5, 1, 250**0.5, 250, 1000, np.nan]]))
    assert codes.dtype == np.uint8 and codes.tolist() == [[0, 0, 127, 254, 254, 255]]


@pytest.mark.parametrize("normal", [(0, 0, 1), (0, 1, 0.001), (0.6, 0, 0.8), (-0.5, 0.5, 0.70711)])
def test_normals_of_a_plane_are_its_normal(normal):
    """By casting rays: in the direction (u / f, v / f, 1) the plane n . p = 5 lies at the depth 5 / (n . ray)."""
    camera = Camera(focal=0.6 * 64, cx=31.5, cy=15.5, height=1.5)
    v, u = np.mgrid[:32, :64].astype(float)
    ray = np.stack([(u - camera.cx) / camera.focal, (v - camera.cy) / camera.focal, np.ones_like(u)])
    along = np.tensordot(np.array(normal), ray, 1)
    coded = coded_normals(np.where(along > 1e-3, 5 / np.maximum(along, 1e-3), np.nan))
    found = coded[:, coded[0] != 255].T
    assert len(found) > 500
    assert np.abs((found.astype(float) - 127) / 127 - normal).max() < 0.01


def test_no_reading_has_no_normal():
    metres = np.full((9, 9), 5.0)
    metres[4, 4] = np.nan
    missing = coded_normals(metres) == 255
    assert missing[:, 3:6, 4].all() and missing[:, 4, 3:6].all() and missing.sum() == 3 * 5


# --------------------------------------------------------------------------------------------------- the scenes


def test_image_and_label_are_those_of_the_streets():
    images, label, letter = MultimodalStreets("I", "val", 3, modalities=ALL, **SIZE)[1]
    image, same = StreetsDataset("I", "val", 3, **SIZE)[1]
    assert torch.equal(images["rgb"], image) and torch.equal(label, same) and letter == "I"
    assert {name: (tuple(picture.shape), picture.dtype) for name, picture in images.items()} == {
        "rgb": ((3, 32, 64), torch.uint8), "depth": ((1, 32, 64), torch.uint8), "normals": ((3, 32, 64), torch.uint8)
    }  # fmt: skip


def test_a_modality_does_not_depend_on_the_others():
    whole = MultimodalStreets("C", "train", 4, modalities=ALL, **SIZE)[2][0]
    for name in ALL:
        alone = MultimodalStreets("C", "train", 9, modalities=(name,), **SIZE)[2][0]
        assert list(alone) == [name] and torch.equal(alone[name], whole[name])


def test_a_scene_can_be_sensed_by_another_sensor():
    own, other = (
        MultimodalStreets("M", "val", 2, **SIZE),
        MultimodalStreets("M", "val", 2, sensor=DepthSensor(), **SIZE),
    )
    (images, label, _), (swapped, same, _) = own[0], other[0]
    assert torch.equal(images["rgb"], swapped["rgb"]) and torch.equal(label, same)
    assert not torch.equal(images["depth"], swapped["depth"])
    exact = coded_depth(np.where(depth_of("M") <= 250, depth_of("M"), np.nan))
    np.testing.assert_allclose(swapped["depth"][0], exact, atol=1)  # a rounding


def depth_of(letter):
    return render(STREETS[letter], "val", 0, **SIZE).depth


def test_scenes_stacked_are_one_image():
    dataset = MultimodalStreets("G", "val", 2, modalities=("rgb", "depth"), **SIZE)
    image, label = Stacked(dataset)[1]
    assert image.shape == (4, 32, 64) and torch.equal(image[3:], dataset[1][0]["depth"])
    assert len(Stacked(dataset)) == 2 and Stacked(dataset).letter == "G" and torch.equal(label, dataset[1][1])


@pytest.mark.parametrize("modalities", [(), ("rgb", "rgb"), ("rgb", "lidar"), "rgb"])
def test_modalities_that_are_none_are_refused(modalities):
    with pytest.raises(InputError, match="expected one or more of rgb, depth, normals, each once"):
        MultimodalStreets("G", "val", 2, modalities=modalities)


# ----------------------------------------------------------------------------------------------------- batches


def domains(modalities=("rgb", "depth")):
    return [InMemory(MultimodalStreets(letter, "train", 3, modalities=modalities, **SIZE)) for letter in "GI"]


TRANSFORM = training_augmentation((24, 40), (0.6, 1.6), 0.5)


def test_a_batch_has_every_modality_and_names_the_domains():
    images, labels, drawn = MultimodalBatches(domains(ALL), 2, 5, TRANSFORM, seed=0)[3]
    assert {name: tuple(part.shape) for name, part in images.items()} == {
        "rgb": (2, 2, 3, 24, 40), "depth": (2, 2, 1, 24, 40), "normals": (2, 2, 3, 24, 40)
    }  # fmt: skip
    assert labels.shape == (2, 2, 24, 40) and drawn.tolist() == [[0, 1], [0, 1]]


def test_colours_and_labels_are_those_of_the_batches_of_images():
    """So that a run on one modality sees the same crops as one on several."""
    plain = [StreetsDataset(letter, "train", 3, **SIZE) for letter in "GI"]
    multimodal, single = (
        batches(source, 2, 5, TRANSFORM, seed=7)
        for batches, source in ((MultimodalBatches, domains()), (MultiDomainBatches, plain))
    )
    depth_alone = MultimodalBatches(domains(("depth",)), 2, 5, TRANSFORM, seed=7)
    for step in (0, 4):
        images, labels, _ = multimodal[step]
        assert torch.equal(images["rgb"], single[step][0]) and torch.equal(labels, single[step][1])
        assert torch.equal(images["depth"], depth_alone[step][0]["depth"])
        assert multimodal.images_of(step) == single.images_of(step)


def test_a_batch_is_the_same_in_any_number_of_workers():
    batches = MultimodalBatches(domains(ALL), 2, 2, TRANSFORM, seed=1)
    for (images, labels, drawn), step in zip(
        DataLoader(batches, batch_size=None, num_workers=2), range(2), strict=True
    ):
        for name, part in batches[step][0].items():
            assert torch.equal(images[name], part)
        assert torch.equal(labels, batches[step][1]) and torch.equal(drawn, batches[step][2])


def test_all_modalities_move_alike_and_nothing_but_colour_is_mixed():
    """Modalities that say at every pixel what its label is: they do so after flip, scale and crop, too."""
    label = torch.randint(0, 19, (4, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    label = label.repeat_interleave(8, 0).repeat_interleave(8, 1)
    images = {"rgb": (13 * label).expand(3, -1, -1), "depth": label[None], "normals": label.expand(3, -1, -1)}
    for seed in range(10):
        torch.manual_seed(seed)
        moved, same = augment_all(RandomScaleCrop((40, 40), (0.6, 1.6)), images, label)
        assert torch.equal(moved["depth"][0], same) and torch.equal(moved["normals"][2], same)  # 255 outside, too
        assert set(moved["depth"].unique().tolist()) <= {*range(19), 255}
        close = (moved["rgb"][0].int() - 13 * same.int()).abs() < 3
        assert close[same != 255].float().mean() > 0.5  # away from the blocks' borders


def test_in_the_mirror_right_is_left():
    scene = MultimodalStreets("G", "val", 1, modalities=ALL, **SIZE)[0]
    moved, label = augment_all(v2.RandomHorizontalFlip(p=1.0), *scene[:2])
    assert torch.equal(label, scene[1].flip(-1)) and torch.equal(moved["depth"], scene[0]["depth"].flip(-1))
    x, *yz = scene[0]["normals"].flip(-1)
    assert torch.equal(moved["normals"][1:], torch.stack(yz))
    assert torch.equal(moved["normals"][0], torch.where(x == 255, x, 254 - x)) and (x == 255).any()
    back, _ = augment_all(v2.RandomHorizontalFlip(p=1.0), moved, label)
    assert torch.equal(back["normals"], scene[0]["normals"])


def test_only_colours_are_blurred():
    scene = MultimodalStreets("G", "val", 1, modalities=ALL, **SIZE)[0]
    moved, label = augment_all(training_augmentation((32, 64), (1.0, 1.0), 1.0).transforms[-1], *scene[:2])
    assert not torch.equal(moved["rgb"], scene[0]["rgb"]) and torch.equal(label, scene[1])
    assert torch.equal(moved["depth"], scene[0]["depth"]) and torch.equal(moved["normals"], scene[0]["normals"])
