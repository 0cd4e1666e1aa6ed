"""The embedded data set: determinism, exact labels and depth, independence of style, size and order."""

import dataclasses
import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from dglab.data.streets import STREETS, Scene, StreetsDataset, render
from dglab.data.streets.blend import blend
from dglab.data.streets.style import PAINTS
from dglab.utils.errors import InputError

SMALL = {"height": 32, "width": 64}
REPOSITORY = Path(__file__).parents[2]


def digest(scene: Scene) -> str:
    return hashlib.sha256(b"".join(part.tobytes() for part in scene)).hexdigest()


def test_the_same_name_gives_the_same_bytes_in_another_process():
    code = (
        "import hashlib; from dglab.data.streets import STREETS, render\n"
        "for letter in 'GSIMC':\n"
        "    scene = render(STREETS[letter], 'val', 11)\n"
        "    print(hashlib.sha256(b''.join(part.tobytes() for part in scene)).hexdigest())"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert run.stdout.split() == [digest(render(STREETS[letter], "val", 11)) for letter in "GSIMC"]


def test_scenes_differ_between_domains_splits_and_indices():
    names = [(letter, split, index) for letter in STREETS for split in ("train", "val") for index in (0, 1)]
    assert len({digest(render(STREETS[letter], split, i, **SMALL)) for letter, split, i in names}) == len(names)


@pytest.mark.parametrize("letter", STREETS)
def test_every_class_occurs_and_nothing_else(letter):
    seen = set()
    for index in range(150):
        seen |= set(np.unique(render(STREETS[letter], "train", index, **SMALL).label).tolist())
        if len(seen - {255}) == 19 and index >= 20:
            break
    assert seen - {255} == set(range(19))
    assert (255 in seen) == (STREETS[letter].content.bonnet is not None)


def test_another_style_keeps_label_and_depth_and_changes_the_image():
    for letter, domain in STREETS.items():
        own = render(domain, "train", 3)
        for other in STREETS.values():
            if other.letter != letter:
                painted = render(domain, "train", 3, style=other.style)
                np.testing.assert_array_equal(painted.label, own.label)
                np.testing.assert_array_equal(painted.depth, own.depth)
                difference = np.abs(painted.image.astype(int) - own.image.astype(int)).mean()
                assert difference > 5
        assert digest(render(domain, "train", 3, style=domain.style)) == digest(own)


def test_styles_and_contents_are_frozen_and_complete():
    for domain in STREETS.values():
        assert set(PAINTS) <= set(domain.style.palette)
        for part in (domain, domain.style, domain.content):
            field = dataclasses.fields(part)[0].name
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(part, field, None)
        for part in (domain.style, domain.content):
            for name, value in vars(part).items():
                if isinstance(value, tuple) and len(value) == 2 and all(isinstance(v, float | int) for v in value):
                    assert value[0] <= value[1], f"{domain.letter} {name}: {value}"


def test_scene_does_not_depend_on_length_or_order():
    short, long = StreetsDataset("M", "train", 3, **SMALL), StreetsDataset("M", "train", 50, **SMALL)
    backwards = [long[index] for index in (2, 1, 0)][::-1]
    for (image, label), (other_image, other_label) in zip(short, backwards, strict=True):
        assert torch.equal(image, other_image) and torch.equal(label, other_label)


def test_depth_falls_down_the_road_and_the_sky_is_farthest():
    for domain in STREETS.values():
        for index in range(4):
            scene = render(domain, "train", index)
            sky, road = scene.label == 10, scene.label == 0
            assert scene.depth.dtype == np.float32 and np.isfinite(scene.depth).all() and scene.depth.min() > 0
            if sky.any():
                assert scene.depth[sky].min() > scene.depth[~sky].max()
            rows = [scene.depth[row][road[row]] for row in range(road.shape[0]) if road[row].any()]
            assert max(np.ptp(row) for row in rows) < 0.01 * max(row.max() for row in rows)  # one depth per row
            assert (np.diff([row.mean() for row in rows]) < 0).all()


def test_things_stand_on_the_ground_at_their_depth():
    """A car is nearer than the ground that would be seen through it: it hides what lies behind."""
    scene = render(STREETS["C"], "train", 5)
    for column in range(scene.label.shape[1]):
        rows = np.flatnonzero(scene.label[:, column] == 13)
        if len(rows) and rows[-1] + 1 < len(scene.label) and scene.label[rows[-1] + 1, column] == 0:
            assert scene.depth[rows[-1], column] <= 1.35 * scene.depth[rows[-1] + 1, column]


@pytest.mark.parametrize("height, width", [(32, 64), (33, 65), (97, 101), (64, 300), (150, 64)])
def test_any_size(height, width):
    for domain in STREETS.values():
        scene = render(domain, "train", 1, height=height, width=width)
        assert scene.image.shape == (height, width, 3) and scene.image.dtype == np.uint8
        assert scene.label.shape == (height, width) and scene.label.dtype == np.uint8
        assert scene.depth.shape == (height, width) and scene.depth.dtype == np.float32


def test_a_larger_picture_shows_the_same_scene():
    for domain in STREETS.values():
        for index in range(3):
            small = render(domain, "train", index)
            large = render(domain, "train", index, height=192, width=384)
            assert (large.label[::2, ::2] == small.label).mean() >= 0.90
            shrunk = large.image.reshape(96, 2, 192, 2, 3).mean((1, 3))
            assert np.abs(shrunk.mean((0, 1)) - small.image.mean((0, 1))).max() < 6  # the same paints, the same light


def test_dataset():
    dataset = StreetsDataset("G", "train", 8, **SMALL)
    assert len(dataset) == 8 and (dataset.letter, dataset.name, dataset.split) == ("G", "streets G", "train")
    assert dataset.stems[7] == "G_train_0007"
    image, label = dataset[-1]
    assert image.shape == (3, 32, 64) and label.shape == (32, 64)
    assert image.dtype == label.dtype == torch.uint8
    assert torch.equal(image, dataset[7][0])
    with pytest.raises(IndexError):
        dataset[8]
    assert len(list(dataset)) == 8  # IndexError ends an iteration
    assert list(STREETS) == ["G", "S", "I", "M", "C"]


@pytest.mark.parametrize(
    "arguments, expected",
    [
        ({"letter": "X"}, "G, S, I, M, C"),
        ({"split": "test"}, "train, val"),
        ({"length": 0}, "at least 1"),
        ({"height": 31}, "at least 32 x 64"),
        ({"width": 63}, "at least 32 x 64"),
    ],
)
def test_bad_input(arguments, expected):
    with pytest.raises(InputError, match=expected):
        StreetsDataset(**({"letter": "G", "split": "train", "length": 1} | arguments))


def test_bad_input_to_render():
    with pytest.raises(InputError, match="train, val"):
        render(STREETS["G"], "test", 0)
    with pytest.raises(InputError, match="0 or more"):
        render(STREETS["G"], "train", -1)
    with pytest.raises(InputError, match="at least 32 x 64"):
        render(STREETS["G"], "train", 0, height=8)


@pytest.mark.parametrize(("first", "second"), [("G", "C"), ("S", "M"), ("I", "S")])
def test_a_blend_ends_in_the_two_styles_and_lies_between_them(first, second):
    a, b = (STREETS[letter].style for letter in (first, second))
    painted = [render(STREETS["M"], "val", 2, **SMALL, style=blend(a, b, share)) for share in (0, 0.5, 1)]
    for end, style in ((0, a), (2, b)):
        own = render(STREETS["M"], "val", 2, **SMALL, style=style)
        np.testing.assert_array_equal(painted[end].image, own.image)
    assert all((scene.label == painted[0].label).all() for scene in painted)
    mean = [scene.image.mean((0, 1)) for scene in painted]
    assert (mean[1] >= np.minimum(mean[0], mean[2]) - 8).all() and (mean[1] <= np.maximum(mean[0], mean[2]) + 8).all()
    with pytest.raises(InputError, match="share 1.5: expected 0"):
        blend(a, b, 1.5)
