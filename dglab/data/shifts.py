"""Photometric shifts by a dose: a domain gap of known size in which labels do not change."""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset
from torchvision.transforms.v2 import functional as transforms

from dglab.data.streams import Joined
from dglab.utils.errors import InputError
from dglab.utils.randomness import own_randomness, set_seed

CPU = torch.device("cpu")


def _cast(x: Tensor, dose: float) -> Tensor:
    """The light of a sodium lamp: less green, hardly any blue."""
    return x * torch.tensor([1.0, 1 - 0.4 * dose, 1 - 0.8 * dose])[:, None, None]


def _blur(x: Tensor, dose: float) -> Tensor:
    """Gaussian, in proportion to the image: four pixels of 180 at dose 1."""
    sigma = dose * x.shape[-2] / 45
    return transforms.gaussian_blur(x, 2 * math.ceil(2 * sigma) + 1, sigma)


SHIFTS: Mapping[str, Callable[[Tensor, float], Tensor]] = {  # of images 3 x H x W in [0, 1]; the dose is above 0
    "dark": lambda x, dose: transforms.adjust_brightness(x, 1 - dose),
    "haze": lambda x, dose: (1 - dose) * x + 0.7 * dose,
    "flat": lambda x, dose: transforms.adjust_gamma(x, 1 / (1 + 2 * dose)),
    "contrast": lambda x, dose: transforms.adjust_contrast(x, 1 - dose),
    "cast": _cast,
    "noise": lambda x, dose: transforms.gaussian_noise(x, sigma=0.3 * dose),
    "blur": _blur,
}
COLOUR = ("dark", "contrast", "haze", "cast")  # a change of colours alone: the first moments tell most of it
DETAIL = ("noise", "blur")  # a change of what is next to what
SEVERITIES = (0.15, 0.3, 0.45, 0.6, 0.75)  # the doses of the study: docs/predictions.md


def shifted(image: Tensor, shift: str, dose: float, seed: int = 0) -> Tensor:
    """An image under a shift.

    Args:
        image: uint8, 3 x H x W.
        shift: of :data:`SHIFTS`.
        dose: 0 (as it is) to 1.
        seed: of noise.

    Raises:
        InputError: for an unknown shift, or a dose outside of [0, 1].
    """
    if shift not in SHIFTS:
        raise InputError(f"shift {shift!r}: expected one of {', '.join(SHIFTS)}")
    if not 0 <= dose <= 1:
        raise InputError(f"the dose is {dose}; expected 0 (the image as it is) to 1")
    if dose == 0:
        return image
    with own_randomness(CPU):
        set_seed(seed, CPU)
        changed = SHIFTS[shift](image / 255, dose)
    return (255 * changed).round().to(torch.uint8)


class Shifted(Dataset):
    """A data set under a photometric shift; image i has noise of its own, the same in each pass.

    Args:
        dataset: of (image uint8 3 x H x W, anything).
        shift, dose: see :func:`shifted`.
    """

    def __init__(self, dataset: Dataset, shift: str, dose: float) -> None:
        self.dataset, self.shift, self.dose = dataset, shift, dose
        self.letter = f"{getattr(dataset, 'letter', '')} {shift}".strip()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, label = self.dataset[index]
        return shifted(image, self.shift, self.dose, seed=index), label


def half_shifted(dataset: Dataset, shift: str, dose: float) -> Joined:
    """Two targets at a known distance on one stream: every second image under a shift, the others as they are.

    Args:
        dataset: of a domain, with its ``letter``.
        shift, dose: see :func:`shifted`.
    """
    plain, other = (Subset(dataset, range(first, len(dataset), 2)) for first in (0, 1))
    plain.letter = other.letter = dataset.letter
    return Joined([plain, Shifted(other, shift, dose)])
