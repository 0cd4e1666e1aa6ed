"""Devices by name, and what is set for a whole process."""

import pytest
import torch

from dglab.utils.errors import InputError
from dglab.utils.machine import choose_device


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is here")
def test_a_device_that_is_not_here_is_refused():
    with pytest.raises(InputError, match="'cuda' is not available here; use --device cpu"):
        choose_device("cuda")
    assert choose_device("auto") in ("cpu", "mps")


@pytest.mark.parametrize("device", ["cpu:x", "cuda:x", "gpu", "", "meta"])
def test_a_device_that_is_none_is_refused(device):
    with pytest.raises(InputError, match=f"unknown device '{device}'; expected auto, cpu, cuda or mps"):
        choose_device(device)


def test_a_device_of_the_right_kind_but_a_number_too_many_is_refused():
    assert choose_device("cpu:0") == "cpu:0"
    for device in ("cpu:1", "cuda:99"):
        with pytest.raises(InputError, match=f"'{device}' is not available here"):
            choose_device(device)
