"""Resizing images and logits."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from dglab.utils.errors import InputError
from dglab.utils.machine import refuse_what_cannot_fit


def resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Resize images or logits N x C x H' x W' to (H, W), bilinear and antialiased; no copy if they have this size."""
    if maps.shape[-2:] == tuple(size):
        return maps
    wide = maps.to(torch.promote_types(maps.dtype, torch.float32))  # half precision cannot be resized on a CPU
    return F.interpolate(wide, tuple(size), mode="bilinear", antialias=True, align_corners=False).to(maps.dtype)


def together(images: Sequence[Tensor], device: torch.device | str) -> Tensor:
    """Stack images 3 x H x W into one batch of floats in [0, 1]; others are resized to the first one's size.

    Args:
        images: uint8, or floats in [0, 1], which stay as they are.
        device: where the batch goes.

    Raises:
        InputError: for images of another kind, or a batch that does not fit into memory.
    """
    refuse_what_cannot_fit(
        4 * images[0].numel() * len(images), f"a batch of {len(images)} images", "normalize fewer images together"
    )
    if all(image.shape == images[0].shape for image in images):
        return _as_floats(torch.stack(tuple(images)).to(device))  # M x 3 x H x W
    floats = (_as_floats(image[None].to(device)) for image in images)
    return torch.cat([resized(image, images[0].shape[-2:]) for image in floats])  # M x 3 x H x W


def _as_floats(images: Tensor) -> Tensor:
    if images.dtype == torch.uint8:
        return images.float() / 255
    if not images.is_floating_point():
        raise InputError(f"the images of the data set are {images.dtype}; expected uint8, or floats in [0, 1]")
    return images
