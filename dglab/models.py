"""Segmentation networks by name, each with its style stages named.

Every network here takes images N x 3 x H x W, float in [0, 1], applies the ImageNet normalization itself, and
returns logits N x 19 x H x W at the input's size. Networks from elsewhere need none of this: the functions of
:mod:`dglab.training` and the predictors of :mod:`dglab.testtime` take any ``nn.Module``.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet, segmentation

from dglab.classes import NUM_CLASSES
from dglab.errors import InputError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class SegmentationModel(nn.Module):
    """A backbone of four stages and a fully convolutional head, with the ImageNet normalization at its door.

    Args:
        stem: image to the input of the first stage.
        stages: the four stages ``layer1`` to ``layer4``; the style of an image is read off one of them.
        head: features of the last stage to class logits at the features' size.
    """

    stages = ("layer1", "layer2", "layer3", "layer4")  # the style stages 1-4, as module paths

    def __init__(self, stem: nn.Module, stages: list[nn.Module], head: nn.Module) -> None:
        super().__init__()
        self.stem, self.head = stem, head
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem((images - self.mean) / self.std)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))  # N x C x H/8 x W/8
        logits = self.head(x).contiguous(memory_format=torch.channels_last)  # N x 19 x H/8 x W/8
        # with the classes innermost, upsampling, loss and argmax are several times faster on a CPU
        return F.interpolate(logits, size=images.shape[-2:], mode="bilinear", align_corners=False)


def thin_resnet(num_classes: int = NUM_CLASSES, width: int = 16) -> SegmentationModel:
    """A ResNet with one basic block a stage and output stride 8: 0.3 M parameters, for a laptop's CPU.

    Source: He et al., CVPR 2016 (blocks from torchvision), dilated in the last stage as in the paper's ResNet-50.
    """

    def block(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
        project = nn.Sequential(resnet.conv1x1(inputs, outputs, stride), nn.BatchNorm2d(outputs))
        return resnet.BasicBlock(inputs, outputs, stride, project if inputs != outputs else None)

    w1, w2, w3, w4 = width, 2 * width, 4 * width, 8 * width
    stem = nn.Sequential(nn.Conv2d(3, w1, 3, 2, 1, bias=False), nn.BatchNorm2d(w1), nn.ReLU(inplace=True))
    model = SegmentationModel(
        stem,
        [block(w1, w1), block(w1, w2, 2), block(w2, w3, 2), block(w3, w4)],
        segmentation.fcn.FCNHead(w4, num_classes),
    )
    for conv in (m for m in model.layer4.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)):
        # a wider view in place of the stride that output stride 8 forgoes
        conv.dilation = conv.padding = (2, 2)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model


def dilated_resnet(depth: int, num_classes: int = NUM_CLASSES, head: str = "fcn") -> SegmentationModel:
    """A torchvision ResNet at output stride 8 with an FCN or DeepLabV3 head, the paper's network.

    The weights are drawn at random; ImageNet's are not loaded yet.

    Args:
        depth: 18, 50 or 101. ResNet-18 has no dilated form in torchvision and keeps its stride of 32.
        head: ``"fcn"`` or ``"deeplabv3"``.
    """
    builder = {18: resnet.resnet18, 50: resnet.resnet50, 101: resnet.resnet101}[depth]
    dilation = None if depth == 18 else [False, True, True]
    backbone = builder(weights=None, replace_stride_with_dilation=dilation)
    channels = backbone.fc.in_features
    heads = {"fcn": segmentation.fcn.FCNHead, "deeplabv3": segmentation.deeplabv3.DeepLabHead}
    stem = nn.Sequential(backbone.conv1, backbone.bn1, backbone.relu, backbone.maxpool)
    stages = [backbone.layer1, backbone.layer2, backbone.layer3, backbone.layer4]
    return SegmentationModel(stem, stages, heads[head](channels, num_classes))


BACKBONES: dict[str, Callable[[], SegmentationModel]] = {
    "thin": thin_resnet,
    "resnet18": lambda: dilated_resnet(18),
    "resnet50": lambda: dilated_resnet(50),
    "resnet101": lambda: dilated_resnet(101),
    "deeplabv3": lambda: dilated_resnet(50, head="deeplabv3"),
}


def build_model(name: str, seed: int | None = None) -> SegmentationModel:
    """A network by name, its weights drawn from ``seed`` without touching the global random state.

    Args:
        name: a key of :data:`BACKBONES`.
        seed: of the initial weights; None draws from the global state, as torch does.

    Raises:
        InputError: for an unknown name.
    """
    if name not in BACKBONES:
        raise InputError(f"unknown backbone {name!r}; the backbones are {', '.join(BACKBONES)}")
    if seed is None:
        return BACKBONES[name]()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # the CPU's alone: torch.manual_seed would reseed GPUs, too
        return BACKBONES[name]()


def logits_of(output: Any) -> Tensor:
    """The logits in whatever a segmentation network returns.

    A tensor is taken as it is, a mapping at ``"out"`` (torchvision) or ``"logits"``, a tuple or list at its first
    element.

    Raises:
        InputError: for anything else.
    """
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        for key in ("out", "logits"):
            if key in output:
                return output[key]
        raise InputError(f"the model returned a mapping with keys {list(output)}; expected 'out' or 'logits'")
    if isinstance(output, (tuple, list)) and output and isinstance(output[0], Tensor):
        return output[0]
    raise InputError(f"the model returned {type(output).__name__}; expected a tensor, a mapping with 'out', or a tuple")
