"""Checks of what a bank is given: options, images, domains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from dglab.testtime.policies import POLICIES
from dglab.utils.errors import InputError

if TYPE_CHECKING:
    from dglab.testtime.bank import ImageBank

AT_A_TIME = 32  # images whose styles are computed in one batch, to bound the memory
REMOVALS = ("fifo", "random")
STATISTICS = ("joint", "cached")
COLD_STARTS = ("self", "source")


def check_names(**options: str) -> None:
    """Refuse an unknown value of an option."""
    allowed = {"policy": tuple(POLICIES), "removal": REMOVALS, "statistics": STATISTICS, "cold_start": COLD_STARTS}
    for what, value in options.items():
        if value not in allowed[what]:
            raise InputError(f"{what} is {value!r}; expected one of {', '.join(allowed[what])}")


def check_numbers(**options: tuple[Any, int]) -> None:
    """Refuse what is no integer or too small; each option is given as (value, smallest allowed)."""
    for what, (value, least) in options.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InputError(f"{what} is {value!r}; expected an integer of {least} or more")


def check_given(bank: ImageBank, images: Tensor) -> None:
    """Refuse what the bank's ``check`` refuses, and images that do not match the stored ones."""
    if bank.options["preprocess"] is None:
        if isinstance(images, Tensor) and images.dtype == torch.uint8:
            raise InputError(
                "images are uint8; pass floats as the model wants them, or give the bank a preprocess callable "
                "that makes them, for example preprocess=lambda images: images / 255"
            )
        bank.check(images)
    else:
        if not isinstance(images, Tensor) or images.ndim != 4 or len(images) == 0:
            got = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
            raise InputError(f"images are {got}; expected a tensor N x C x H x W with at least one image")
        for part in images.split(AT_A_TIME):
            bank.check(bank.ready(part))
    bank.statistics.check(images, bank.memory.kept)


def domains_of(bank: ImageBank, domain: Any, count: int) -> list[Any]:
    """The domain of each image, None where it is not given.

    Args:
        bank: its oracle policy needs all of them.
        domain: one for each image, or one for all.
        count: number of images.
    """
    domain = domain.tolist() if isinstance(domain, (Tensor, np.ndarray)) else domain  # compared by value, not identity
    domains = list(domain) if isinstance(domain, (list, tuple)) else [domain] * count
    if len(domains) != count:
        raise InputError(f"got {len(domains)} domains for {count} images; pass one for each, or one for all")
    if bank.options["policy"] == "oracle" and None in domains:
        raise InputError("the oracle policy needs the domain of each image: bank(images, domain=[...])")
    return domains
