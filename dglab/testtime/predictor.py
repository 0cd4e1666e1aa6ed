"""The base class of all predictors: a model with BatchNorm, and checks of its images."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dglab.models.batchnorm import batchnorm_layers
from dglab.testtime.override import Statistics, normalizing_with
from dglab.utils.errors import InputError

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class Predictor:
    """The base class of all predictors: a model with BatchNorm, and checks of its images.

    Several predictors may share a model, also in several threads: one at a time overrides its statistics, others wait.

    Args:
        model: any ``nn.Module`` with BatchNorm, not scripted.

    Raises:
        InputError: for a model without BatchNorm, or a scripted one.
    """

    def __init__(self, model: nn.Module) -> None:
        for name, module in model.named_modules():
            scripted = isinstance(module, torch.jit.ScriptModule)
            if scripted and (module is model or "BatchNorm" in module.original_name):
                raise InputError(
                    f"{name or type(model).__name__} is a scripted module, whose layers' statistics cannot be "
                    "overridden; pass the nn.Module that it was made from"
                )
        self.model = getattr(model, "_orig_mod", model)  # the module that torch.compile wraps, with the user's paths
        if not batchnorm_layers(self.model):
            norms = sorted({type(m).__name__ for m in model.modules() if "Norm" in type(m).__name__})
            raise InputError(
                f"{type(self.model).__name__} has no BatchNorm layer (found {', '.join(norms) or 'no normalization'}); "
                "test-time statistics need BatchNorm"
            )

    def check(self, images: Tensor) -> None:
        """Refuse images that would corrupt statistics.

        Raises:
            InputError: for anything but N x C x H x W floats, no image, NaN or infinity, or another device.
        """
        if not isinstance(images, Tensor) or images.ndim != 4 or not images.is_floating_point():
            got = (
                f"{images.dtype} of shape {tuple(images.shape)}"
                if isinstance(images, Tensor)
                else type(images).__name__
            )
            raise InputError(f"images are {got}; expected a float tensor N x C x H x W")
        if images.dtype not in FLOATS or images.layout != torch.strided:
            raise InputError(
                f"images are {images.dtype} of layout {images.layout}; expected a dense tensor of "
                f"{', '.join(str(dtype) for dtype in FLOATS)}"
            )
        if len(images) == 0:
            raise InputError("the batch of images is empty; pass at least one image")
        device = next((p.device for p in self.model.parameters()), images.device)
        if images.device != device:
            raise InputError(f"the images are on {images.device}, the model on {device}; move one to the other")
        if images.is_meta:
            raise InputError("images and model are on meta, where tensors hold no values; make them on a real device")
        if not torch.isfinite(images).all():
            raise InputError("the images hold NaN or infinite values; clean them before prediction")

    def predict(self, images: Tensor, statistics: Statistics) -> Any:
        """What the model returns for these images when ``statistics`` normalize."""
        self.check(images)
        with self.naming_misfits(images), normalizing_with(self.model, statistics):
            return self.model(images)

    def run(self, batches: Iterable[Tensor], statistics: Statistics) -> int:
        """Pass batches through the model, normalized by ``statistics``, which may collect; returns their number."""
        count = 0
        for images in batches:
            self.predict(images, statistics)
            count += 1
        return count

    @contextmanager
    def naming_misfits(self, images: Tensor) -> Iterator[None]:
        """Within the block, an error that the images' type or number of channels causes in the network says so."""
        try:
            yield
        except RuntimeError as error:
            takes = next((p.dtype for p in self.model.parameters() if p.is_floating_point()), images.dtype)
            if takes != images.dtype and "type" in str(error):
                raise InputError(
                    f"the images are {images.dtype}, the network's weights {takes}, and it failed over that: "
                    f"{str(error).splitlines()[0]}; pass images.to({takes})"
                ) from error
            first = next((m for m in self.model.modules() if isinstance(m, nn.Conv2d)), None)
            if first is None or first.in_channels == images.shape[1]:
                raise
            raise InputError(
                f"the images have {images.shape[1]} channels, the network takes {first.in_channels}; pass images "
                "N x C x H x W as it was trained on"
            ) from error


def check_prior(prior: float) -> float:
    """``prior`` itself if it is in [0, 1].

    Raises:
        InputError: if it is not.
    """
    if not 0 <= prior <= 1:
        raise InputError(f"prior is {prior}; expected 0 (the target's statistics) to 1 (the source's)")
    return prior
