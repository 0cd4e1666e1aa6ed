"""Shifts of colour: dose 0 changes nothing, more of it changes more, labels stay."""

import pytest
import torch

from dglab.data import streets_domains
from dglab.data.shifts import SHIFTS, Shifted, shifted
from dglab.utils.errors import InputError


@pytest.mark.parametrize("shift", SHIFTS)
def test_doses(shift):
    part = streets_domains(32, 64, train_images=1, val_images=2)["C"].val
    image, label = part[1]
    assert torch.equal(shifted(image, shift, 0.0), image)
    gaps = [(shifted(image, shift, dose).float() - image.float()).abs().mean() for dose in (0.0, 0.3, 0.6, 0.9)]
    assert gaps == sorted(gaps) and gaps[-1] > 10
    again = Shifted(part, shift, 0.6)
    assert len(again) == 2 and torch.equal(again[1][0], shifted(image, shift, 0.6)) and torch.equal(again[1][1], label)


def test_an_unknown_shift_is_named():
    with pytest.raises(InputError, match="'bright': expected one of dark, haze, flat"):
        shifted(torch.zeros(3, 4, 4, dtype=torch.uint8), "bright", 0.5)
