"""Where a film cuts."""

import numpy as np
import pytest

from dglab.testtime.scenes import colours, find_scenes


def film(shots, frames, seed=0):
    """Shots of a few frames: noise of one brightness each, which flickers a little from frame to frame."""
    rng = np.random.default_rng(seed)
    return [
        np.clip(rng.normal(level + rng.normal(0, 3), 20, (48, 64, 3)), 0, 255).astype(np.uint8)
        for level in shots
        for _ in range(frames)
    ]


def test_colours_are_histograms_of_every_fourth_row_and_column():
    [image] = film([100], 1)
    expected = [np.histogram(image[::4, ::4, c], bins=16, range=(0, 256))[0] / (12 * 16) for c in range(3)]
    np.testing.assert_allclose(colours(image), expected)


@pytest.mark.parametrize(
    ("shots", "expected"), [((60, 200), [5, 5]), ((60, 200, 60), [5, 5, 5]), ((120,), [5]), ((120, 122), [10])]
)
def test_a_film_falls_into_its_shots(shots, expected):
    scenes = find_scenes([colours(frame) for frame in film(shots, 5)])
    assert [len(scene) for scene in scenes] == expected
    assert sum(scenes, []) == list(range(sum(expected)))


def test_photographs_which_all_differ_are_one_stream():
    shots = np.random.default_rng(1).permutation(np.linspace(20, 230, 24))
    assert len(find_scenes([colours(image) for image in film(shots, 1)])) == 1


@pytest.mark.parametrize("count", [1, 2])
def test_one_and_two_images_are_one_scene(count):
    assert find_scenes([colours(image) for image in film((20, 220)[:count], 1)]) == [list(range(count))]
