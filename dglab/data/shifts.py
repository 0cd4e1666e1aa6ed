"""Shifts of colour by a dose: a domain gap of known size in which labels do not change."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.utils.data import Dataset

from dglab.utils.errors import InputError

SHIFTS: Mapping[str, Callable[[Tensor, float], Tensor]] = {  # of images in [0, 1]; dose 0 changes nothing
    "dark": lambda x, dose: (1 - dose) * x,
    "haze": lambda x, dose: (1 - dose) * x + 0.7 * dose,
    "flat": lambda x, dose: x ** (1 / (1 + 2 * dose)),
}


def shifted(image: Tensor, shift: str, dose: float) -> Tensor:
    """An image under a shift.

    Args:
        image: uint8, 3 x H x W.
        shift: of :data:`SHIFTS`.
        dose: 0 (as it is) to 1.

    Raises:
        InputError: for an unknown shift.
    """
    if shift not in SHIFTS:
        raise InputError(f"shift {shift!r}: expected one of {', '.join(SHIFTS)}")
    return (255 * SHIFTS[shift](image / 255, dose)).round().to(torch.uint8)


class Shifted(Dataset):
    """A data set with shifted colours.

    Args:
        dataset: of (image uint8 3 x H x W, anything).
        shift, dose: see :func:`shifted`.
    """

    def __init__(self, dataset: Dataset, shift: str, dose: float) -> None:
        self.dataset, self.shift, self.dose = dataset, shift, dose

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, label = self.dataset[index]
        return shifted(image, self.shift, self.dose), label
