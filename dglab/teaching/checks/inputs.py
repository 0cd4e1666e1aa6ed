"""Random inputs that the exercises share, in double precision."""

from collections import OrderedDict

import torch
from torch import Generator, Tensor, nn

from dglab.classes import NUM_CLASSES

H, W = 12, 16


def between(low: float, high: float, shape: tuple[int, ...], generator: Generator) -> Tensor:
    """Uniform numbers between two bounds."""
    return low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)


def whole(low: int, high: int, generator: Generator) -> int:
    """A whole number from ``low`` to ``high``."""
    return int(torch.randint(low, high + 1, (), generator=generator))


def network(generator: Generator) -> nn.Module:
    """A small network in evaluation mode, whose parameters and running statistics are not those of the start.

    Its parts are called as in the lessons' ResNet: stem, layer1, layer2, head.
    """

    def block(channels: int, width: int) -> tuple[nn.Module, nn.Module, nn.Module]:
        return nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()

    model = nn.Sequential()
    model.stem = nn.Sequential(*block(3, 6))
    model.layer1 = nn.Sequential(OrderedDict(zip(("conv1", "bn1", "relu"), block(6, 8), strict=True)))
    model.layer2 = nn.Sequential(OrderedDict(zip(("conv1", "bn1", "relu"), block(8, 8), strict=True)))
    model.head = nn.Conv2d(8, NUM_CLASSES, 1)
    model = model.double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(between(-0.5, 0.5, parameter.shape, generator))
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.weight.copy_(between(0.5, 1.5, layer.weight.shape, generator))
                layer.running_mean.copy_(between(-0.3, 0.3, layer.weight.shape, generator))
                layer.running_var.copy_(between(0.5, 2, layer.weight.shape, generator))
    return model


def batch(count: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Images N x 3 x H x W in [0, 1] and labels N x H x W, of which each image leaves out another share."""
    return between(0, 1, (count, 3, H, W), generator), labels(count, H, W, generator)


def labels(count: int, height: int, width: int, generator: Generator) -> Tensor:
    """Labels 0-18; from each image some whole rows are 255, ignored."""
    found = torch.randint(0, NUM_CLASSES, (count, height, width), generator=generator)
    for number in range(count):
        found[number, : whole(0, height - 2, generator) if number else height // 2] = 255
    return found
