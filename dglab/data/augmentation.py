"""The paper's augmentation: random flip, random scale, random Gaussian blur, a crop of fixed size; or its authors'.

The authors' public code (github.com/koncle/TSMLDG, ``dataset/transforms.py`` and ``natural_datasets.py``) does more
than the paper says: it rotates, blurs more weakly, and scales relative to a long side that is fixed for each data set.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from dglab.classes import IGNORED

AUGMENTATIONS = ("paper", "authors")
LONG_SIDES = {"G": 1914, "S": 1280, "I": 1280, "M": 2590, "C": 2048}  # pixels, of the authors' data sets


class RandomScaleCrop(v2.Transform):
    """Scale by a random factor, then crop at a random place; what lies outside the image is ignored.

    The window is cut before it is resized, so that only the pixels in use are touched. Where the scaled image is
    smaller than the crop it is padded, images with 0 and labels with 255: a pad of class 0 would teach road.

    Args:
        size: height and width of the crop, pixels.
        scale: range of the factor, drawn uniformly (the paper: 0.5 to 2.0).
        long_side: the factor is relative to an image whose longer side has so many pixels; None: to the image itself.
    """

    def __init__(self, size: tuple[int, int], scale: tuple[float, float], long_side: int | None = None) -> None:
        super().__init__()
        self.size, self.scale, self.long_side = size, scale, long_side

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the factor and, for each axis, where the window lies in the image and in the crop."""
        factor = torch.empty(()).uniform_(*self.scale).item()
        if self.long_side is not None:
            factor *= self.long_side / max(flat_inputs[0].shape[-2:])
        axes = []
        for length, crop in zip(flat_inputs[0].shape[-2:], self.size, strict=True):
            window = min(length, max(1, round(crop / factor)))  # extent in the image
            extent = crop if window < length else min(crop, max(1, round(length * factor)))  # the same in the crop
            start = int(torch.randint(length - window + 1, ()))
            before = int(torch.randint(crop - extent + 1, ()))
            axes.append((start, window, extent, before, crop - extent - before))
        return {"rows": axes[0], "columns": axes[1]}

    def transform(self, inpt: Tensor, params: dict[str, Any]) -> Tensor:
        """Cut, resize (labels by nearest neighbour), pad."""
        top, height, new_height, pad_top, pad_bottom = params["rows"]
        left, width, new_width, pad_left, pad_right = params["columns"]
        window = F.resized_crop(inpt, top, left, height, width, [new_height, new_width], antialias=True)
        fill = IGNORED if isinstance(inpt, tv_tensors.Mask) else 0
        return F.pad(window, [pad_left, pad_top, pad_right, pad_bottom], fill=fill)


class GaussianBlur(v2.GaussianBlur):
    """torchvision's Gaussian blur at a fourth of its time on a CPU: the same draws, the same picture.

    Torchvision convolves with the whole K x K kernel. Here columns and rows take turns, and channels, which one by
    one fit into the cache. Float sums in another order round about ten values in a million to their neighbour.
    """

    def transform(self, inpt: Tensor, params: dict[str, Any]) -> Tensor:
        """Blur an image (uint8 C x H x W); a label stays as it is."""
        if not isinstance(inpt, tv_tensors.Image):
            return inpt
        (width, height), (sigma_x, sigma_y) = self.kernel_size, params["sigma"]
        margins = [width // 2, width // 2, height // 2, height // 2]
        blurred = []
        for channel in inpt.as_subclass(Tensor):
            mirrored = functional.pad(channel[None].float(), margins, mode="reflect")
            blurred.append(_smoothed(_smoothed(mirrored, -1, width, sigma_x), -2, height, sigma_y))
        return tv_tensors.wrap(torch.cat(blurred).round_().to(inpt.dtype), like=inpt)


def _smoothed(image: Tensor, dim: int, size: int, sigma: float) -> Tensor:
    """Means of ``size`` neighbours along ``dim``, Gaussian weights; shorter by ``size - 1``."""
    weights = torch.softmax(-(torch.arange(size) - size // 2).square() / (2 * sigma**2), dim=0).tolist()
    length = image.shape[dim] - size + 1
    result = weights[0] * image.narrow(dim, 0, length)
    for start, weight in enumerate(weights[1:], 1):
        result.add_(image.narrow(dim, start, length), alpha=weight)
    return result


def training_augmentation(size: tuple[int, int], scale: tuple[float, float], blur: float) -> v2.Transform:
    """Flip, scale, crop and blur an image and its label together.

    Args:
        size: of the crop, H x W pixels.
        scale: range of the random scale.
        blur: probability of a Gaussian blur (5 x 5, sigma 0.1 to 2 pixels; the paper names no parameters).
    """
    return v2.Compose(
        [
            RandomScaleCrop(size, scale),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([GaussianBlur(5, (0.1, 2.0))], p=blur),
        ]
    )


def authors_augmentation(
    size: tuple[int, int], scale: tuple[float, float], blur: float, long_side: int | None
) -> v2.Transform:
    """The same as the authors' code does it: and half of the images rotated by up to 10 degrees.

    They rotate after they scale; the order plays no part. What a rotation leaves empty is 255 in the label here. There
    it is 0 before the ids are mapped, and so teaches road in the corners of GTA5 and Mapillary.

    Args:
        size, scale, blur: as in :func:`training_augmentation`; the blur's sigma is 0 to 1 pixel.
        long_side: of the data set, see :class:`RandomScaleCrop`.
    """
    fill = {tv_tensors.Image: 0, tv_tensors.Mask: IGNORED}
    rotation = v2.RandomRotation(10, interpolation=v2.InterpolationMode.BILINEAR, fill=fill)
    return v2.Compose(
        [
            v2.RandomApply([rotation], p=0.5),
            RandomScaleCrop(size, scale, long_side),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([GaussianBlur(5, (1e-3, 1.0))], p=blur),
        ]
    )


def augmentations(
    name: str, letters: Iterable[str], size: tuple[int, int], scale: tuple[float, float], blur: float, *, real: bool
) -> dict[str, v2.Transform]:
    """The augmentation of each domain, by letter.

    Args:
        name: one of :data:`AUGMENTATIONS`.
        letters: of the domains.
        size, scale, blur: as in :func:`training_augmentation`.
        real: whether images have a camera's size, so that the authors' long sides of the paper's five apply; those of
            other domains, and drawn ones, are scaled relative to themselves.
    """
    if name == "paper":
        return dict.fromkeys(letters, training_augmentation(size, scale, blur))
    sides = LONG_SIDES if real else {}
    return {letter: authors_augmentation(size, scale, blur, sides.get(letter)) for letter in letters}


def augment(transform: v2.Transform, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Apply a transform to an image (uint8 3 x H x W) and its label (uint8 H x W)."""
    image, label = transform(tv_tensors.Image(image), tv_tensors.Mask(label))
    return image.as_subclass(Tensor), label.as_subclass(Tensor)
