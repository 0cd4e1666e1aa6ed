"""Photometric shifts: dose 0 changes nothing, more of it changes more, labels stay; each beside its own arithmetic."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from scipy import ndimage

from dglab.data import streets_domains
from dglab.data.shifts import COLOUR, DETAIL, SHIFTS, Shifted, half_shifted, shifted
from dglab.utils.errors import InputError


@pytest.fixture(scope="module")
def part():
    return streets_domains(32, 64, train_images=1, val_images=3)["C"].val


@pytest.mark.parametrize("shift", SHIFTS)
def test_doses(shift, part):
    image, label = part[1]
    assert torch.equal(shifted(image, shift, 0.0), image)
    gaps = [(shifted(image, shift, dose).float() - image.float()).abs().mean() for dose in (0.0, 0.3, 0.6, 0.9)]
    assert gaps == sorted(gaps) and gaps[-1] > 5
    state = torch.get_rng_state()
    again = Shifted(part, shift, 0.6)
    assert len(again) == 3 and torch.equal(again[1][0], again[1][0]) and torch.equal(again[1][1], label)
    assert torch.equal(again[1][0], shifted(image, shift, 0.6, seed=1)) and torch.equal(torch.get_rng_state(), state)


def test_what_each_shift_is(part):
    """By Pillow, SciPy, or by hand; within one grey level, as roundings differ."""
    image = part[0][0]
    pixels = image.numpy().transpose(1, 2, 0)
    picture, values = Image.fromarray(pixels), pixels.astype(float)
    grey = (values @ [0.2989, 0.587, 0.114]).mean()
    expected = {
        "dark": np.array(ImageEnhance.Brightness(picture).enhance(0.6)),
        "haze": 0.6 * values + 0.28 * 255,
        "flat": 255 * (values / 255) ** (1 / 1.8),
        "contrast": 0.6 * values + 0.4 * grey,
        "cast": values * [1, 0.84, 0.68],
        "blur": ndimage.gaussian_filter(values, (0.4 * 32 / 45, 0.4 * 32 / 45, 0), mode="mirror", radius=(1, 1, 0)),
    }
    for shift, right in expected.items():
        found = shifted(image, shift, 0.4).numpy().transpose(1, 2, 0)
        assert np.abs(found - right).max() <= 1.01, shift
    grey = torch.full((3, 64, 64), 128, dtype=torch.uint8)
    noise = shifted(grey, "noise", 0.4).float() - 128
    assert noise.std() == pytest.approx(0.3 * 0.4 * 255, rel=0.03) and abs(noise.mean()) < 1
    assert not torch.equal(shifted(grey, "noise", 0.4, seed=1), shifted(grey, "noise", 0.4, seed=2))
    assert set(COLOUR) | set(DETAIL) == set(SHIFTS) - {"flat"}


def test_half_of_a_domain_beside_the_other(part):
    stream = half_shifted(part, "dark", 0.6)
    assert [stream.domain_of(i) for i in range(3)] == ["C", "C", "C dark"]
    assert torch.equal(stream[0][0], part[0][0]) and torch.equal(stream[1][0], part[2][0])
    assert torch.equal(stream[2][0], shifted(part[1][0], "dark", 0.6)) and torch.equal(stream[2][1], part[1][1])


def test_what_is_no_shift_is_named():
    image = torch.zeros(3, 4, 4, dtype=torch.uint8)
    with pytest.raises(InputError, match="'bright': expected one of dark, haze, flat"):
        shifted(image, "bright", 0.5)
    with pytest.raises(InputError, match=r"the dose is 1.5; expected 0 \(the image as it is\) to 1"):
        shifted(image, "dark", 1.5)
