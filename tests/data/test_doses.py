"""Styles between two domains and beyond: what they are at 0 and 1, that they move in a line, and that scenes stay."""

import dataclasses

import numpy as np
import pytest
import torch

from dglab.data.doses import DOSES, DosedStreets, between
from dglab.data.streets import STREETS, StreetsDataset, Style, render
from dglab.utils.errors import InputError

SOURCE, TARGET = STREETS["G"].style, STREETS["C"].style


def test_at_one_the_images_are_the_targets_and_at_zero_the_sources_styles():
    own, at_one = (
        StreetsDataset("C", "val", 4, height=32, width=64),
        DosedStreets("C", "GS", 1.0, 4, height=32, width=64),
    )
    for index in range(4):
        for a, b in zip(own[index], at_one[index], strict=True):
            assert torch.equal(a, b)
    at_zero = between(SOURCE, TARGET, 0.0)
    for name in ("haze_tint", "spread", "cast", "sun", "blur", "contrast", "saturation"):
        assert getattr(at_zero, name) == getattr(SOURCE, name)
    for paint, colours in SOURCE.palette.items():  # each as often as in the style itself
        drawn = list(at_zero.palette[paint])
        assert {colour: drawn.count(colour) / len(drawn) for colour in set(colours)} == pytest.approx(
            {colour: colours.count(colour) / len(colours) for colour in set(colours)}
        )


def test_a_style_moves_in_a_line():
    half, far = between(SOURCE, TARGET, 0.5), between(SOURCE, TARGET, 1.5)
    for name in ("saturation", "contrast", "haze"):
        a, b, c, d = (np.array(getattr(style, name)) for style in (SOURCE, half, TARGET, far))
        np.testing.assert_allclose(b, (a + c) / 2)
        np.testing.assert_allclose(sorted(c + (c - a) / 2), d)
    assert half.haze_tint == tuple((a + c) / 2 for a, c in zip(SOURCE.haze_tint, TARGET.haze_tint, strict=True))


@pytest.mark.parametrize("source", "GSIM")
def test_beyond_the_target_every_value_is_still_one(source):
    style = between(STREETS[source].style, TARGET, 1.5)
    for field in dataclasses.fields(Style):
        value = getattr(style, field.name)
        if field.name not in ("palette", "sky", "spread", "haze_tint"):
            for low, high in value if field.name == "cast" else [value]:
                assert 0 <= low <= high
        if field.name in ("clouds", "sun", "wear", "vignette"):
            assert value[1] <= 1
    colours = np.array([colour for several in style.palette.values() for colour in several])
    assert colours.min() >= 0 and colours.max() <= 255
    assert render(STREETS["C"], "val", 0, height=32, width=64, style=style).image.std() > 10


def test_the_dose_changes_the_picture_alone_and_the_sources_take_turns():
    sets = {dose: DosedStreets("C", "GM", dose, 4, height=32, width=64) for dose in DOSES}
    scenes = {dose: [of_dose[index] for index in range(2)] for dose, of_dose in sets.items()}
    for index in range(2):
        assert all(torch.equal(scenes[0.0][index][1], scenes[dose][index][1]) for dose in DOSES)
        distance = [(scenes[dose][index][0].float() - scenes[1.0][index][0].float()).abs().mean() for dose in DOSES]
        assert distance[DOSES.index(1.0)] == 0 and distance[0] > distance[1] > distance[2] > distance[3] > 0
        assert distance[-1] > distance[-2] > 0
    alone = DosedStreets("C", "M", 0.0, 4, height=32, width=64)
    assert torch.equal(alone[1][0], scenes[0.0][1][0]) and not torch.equal(alone[0][0], scenes[0.0][0][0])


@pytest.mark.parametrize("dose", [-0.1, float("nan"), float("inf")])
def test_a_dose_that_is_none_is_refused(dose):
    with pytest.raises(InputError, match="expected 0"):
        between(SOURCE, TARGET, dose)
