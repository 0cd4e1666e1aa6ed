"""Segmentation networks by name, each with its style stages named.

Every network here takes images N x 3 x H x W, float in [0, 1], normalizes their colours itself as where its ImageNet
weights come from, and returns logits N x 19 x H x W at the input's size. Networks from elsewhere need none of this:
the functions of :mod:`dglab.training` and the predictors of :mod:`dglab.testtime` take any ``nn.Module``.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet, segmentation

from dglab.classes import NUM_CLASSES
from dglab.models.weights import StateDict, fill
from dglab.utils.errors import InputError
from dglab.utils.extras import extras_named

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class SegmentationModel(nn.Module):
    """A backbone of four stages and a fully convolutional head; colours are normalized inside.

    Args:
        stem: image to the input of the first stage.
        stages: the four stages ``layer1`` to ``layer4``; the style of an image is read off one of them.
        head: features of the last stage to class logits at the features' size.
        mean, std: of the colours, as where the backbone's ImageNet weights come from; 3 values each, images in [0, 1].
    """

    stages = ("layer1", "layer2", "layer3", "layer4")  # the style stages 1-4, as module paths

    def __init__(
        self,
        stem: nn.Module,
        stages: Sequence[nn.Module],
        head: nn.Module,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.stem, self.head = stem, head
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem((images - self.mean) / self.std)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))  # N x C x h x w, usually an eighth of H and W
        logits = self.head(x).contiguous(memory_format=torch.channels_last)  # N x 19 x h x w
        # with channels last, upsampling, loss and argmax are several times faster on a CPU
        return F.interpolate(logits, size=images.shape[-2:], mode="bilinear", align_corners=False)


def thin_resnet(num_classes: int = NUM_CLASSES, width: int = 16, *, ibn: bool = False) -> SegmentationModel:
    """A ResNet with one basic block a stage and output stride 8: 0.3 M parameters, for a laptop's CPU.

    Source: He et al., CVPR 2016 (blocks from torchvision), dilated in the last stage as in the paper's ResNet-50.
    """

    w1, w2, w3, w4 = width, 2 * width, 4 * width, 8 * width
    stem = nn.Sequential(nn.Conv2d(3, w1, 3, 2, 1, bias=False), nn.BatchNorm2d(w1), nn.ReLU(inplace=True))
    stages = [_basic_block(w1, w1), _basic_block(w1, w2, 2), _basic_block(w2, w3, 2), _basic_block(w3, w4)]
    if ibn:
        to_ibn_a(stages[:3])
    model = SegmentationModel(stem, stages, segmentation.fcn.FCNHead(w4, num_classes))
    for conv in (m for m in model.layer4.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)):
        # dilation instead of stride, for output stride 8
        conv.dilation = conv.padding = (2, 2)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model


class PyramidHead(nn.Module):
    """A decoder with skip connections: from stage to stage back up to the finest that it is given.

    At each step the coarser map is upsampled and added to the finer stage's features, both projected to one width, and
    a convolution smooths the sum. What an eighth of the image cannot hold, a pole or a person, a quarter can.

    Source: Lin et al., "Feature pyramid networks for object detection", CVPR 2017; for segmentation Kirillov et al.,
    "Panoptic feature pyramid networks", CVPR 2019, of which this is a small form.

    Args:
        channels: of the stages, finest first.
        num_classes: of the logits.
        width: of the decoder.
    """

    def __init__(self, channels: Sequence[int], num_classes: int, width: int = 48) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(_convolution(count, width, 1) for count in channels)
        self.smooth = nn.ModuleList(_convolution(width, width, 3) for _ in channels[:-1])
        self.classifier = nn.Sequential(nn.Dropout(0.1), nn.Conv2d(width, num_classes, 1))

    def forward(self, stages: Sequence[Tensor]) -> Tensor:
        *finer, x = [lateral(features) for lateral, features in zip(self.lateral, stages, strict=True)]
        for features, smooth in zip(reversed(finer), self.smooth, strict=True):
            up = F.interpolate(x, size=features.shape[-2:], mode="bilinear", align_corners=False)
            x = smooth(features + up)
        return self.classifier(x)


class PyramidModel(SegmentationModel):
    """A backbone of four stages whose head gets the outputs of the last three, or of all."""

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem((images - self.mean) / self.std)
        stages = []
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            stages.append(x := layer(x))  # N x C x a half, a quarter, an eighth, a sixteenth of H and W
        shown = stages[-len(self.head.lateral) :]
        logits = self.head(shown).contiguous(memory_format=torch.channels_last)  # as in SegmentationModel
        return F.interpolate(logits, size=images.shape[-2:], mode="bilinear", align_corners=False)


def thin_fpn(num_classes: int = NUM_CLASSES, width: int = 16, *, ibn: bool = False, half: bool = False) -> PyramidModel:
    """The thin ResNet without dilation, down to a sixteenth, and a decoder back up to a quarter: 0.4 M parameters.

    Args:
        num_classes: of the logits.
        width: channels of the first stage.
        ibn: as an IBN-Net, see :class:`IBN`.
        half: the decoder goes on up to a half, which takes more than twice the time.
    """
    w1, w2, w3, w4 = width, 2 * width, 4 * width, 8 * width
    stem = _convolution(3, w1, 3, stride=2)
    stages = [_basic_block(w1, w1), _basic_block(w1, w2, 2), _basic_block(w2, w3, 2), _basic_block(w3, w4, 2)]
    if ibn:
        to_ibn_a(stages[:3])
    finest = (w1,) if half else ()
    model = PyramidModel(stem, stages, PyramidHead((*finest, w2, w3, w4), num_classes))
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    nn.init.normal_(model.head.classifier[1].weight, std=0.01)  # all classes nearly equal at the start
    return model


def _convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def _basic_block(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
    project = nn.Sequential(resnet.conv1x1(inputs, outputs, stride), nn.BatchNorm2d(outputs))
    return resnet.BasicBlock(inputs, outputs, stride, project if inputs != outputs else None)


def dilated_resnet(
    depth: int,
    num_classes: int = NUM_CLASSES,
    head: str = "fcn",
    *,
    ibn: bool = False,
    weights: StateDict | None = None,
) -> SegmentationModel:
    """A torchvision ResNet at output stride 8 with an FCN or DeepLabV3 head, the paper's network.

    The authors' public code has another stem (three 3 x 3 convolutions instead of one of 7 x 7, as in the
    PyTorch-Encoding library, whose weights it loads); the paper says ResNet-50, which is this one.

    Args:
        depth: 18, 50 or 101. ResNet-18 has no dilated form in torchvision and keeps its stride of 32.
        head: ``"fcn"`` or ``"deeplabv3"`` (Chen et al., arXiv 1706.05587).
        ibn: as an IBN-Net, see :class:`IBN`.
        weights: of ImageNet, in the layout of torchvision's ResNet (of the IBN-Net authors' if ``ibn``); None draws
            them.
    """
    builder = {18: resnet.resnet18, 50: resnet.resnet50, 101: resnet.resnet101}[depth]
    dilation = None if depth == 18 else [False, True, True]
    backbone = builder(weights=None, replace_stride_with_dilation=dilation)
    stages = [backbone.layer1, backbone.layer2, backbone.layer3, backbone.layer4]
    if ibn:
        to_ibn_a(stages[:3])
    if weights is not None:
        fill(backbone, weights, without=("fc.",))
    heads = {"fcn": segmentation.fcn.FCNHead, "deeplabv3": segmentation.deeplabv3.DeepLabHead}
    stem = nn.Sequential(backbone.conv1, backbone.bn1, backbone.relu, backbone.maxpool)
    return SegmentationModel(stem, stages, heads[head](backbone.fc.in_features, num_classes))


class IBN(nn.Module):
    """IBN: half of the channels use InstanceNorm, the others BatchNorm.

    InstanceNorm removes the style of a single image, BatchNorm keeps what separates the classes. The attributes are
    named as in the published weights. Source: Pan et al., "Two at Once", ECCV 2018, the variant IBN-a.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.IN = nn.InstanceNorm2d(channels // 2, affine=True)
        self.BN = nn.BatchNorm2d(channels - channels // 2)

    def forward(self, x: Tensor) -> Tensor:
        alone, together = x.split((self.IN.num_features, self.BN.num_features), dim=1)
        return torch.cat((self.IN(alone), self.BN(together)), dim=1)


def to_ibn_a(stages: Sequence[nn.Module]) -> None:
    """Replace the first BatchNorm of each residual block by an :class:`IBN`, in all of these stages."""
    for module in (m for stage in stages for m in stage.modules()):
        if isinstance(module, (resnet.BasicBlock, resnet.Bottleneck)):
            module.bn1 = IBN(module.bn1.num_features)


class ResolutionStage(nn.Module):
    """One stage of HRNet: a coarser branch joins the others, then all exchange features.

    Attributes:
        finest: passes the branch of the finest resolution through, as the one tensor that carries the style.
    """

    def __init__(self, transition: nn.ModuleList, stage: nn.Module) -> None:
        super().__init__()
        self.transition, self.stage, self.finest = transition, stage, nn.Identity()

    def forward(self, branches: Tensor | list[Tensor]) -> list[Tensor]:
        branches = branches if isinstance(branches, list) else [branches]  # the first stage has one
        branches = [*branches, branches[-1]]  # the new branch is made of the coarsest
        fine, *coarser = self.stage([change(x) for change, x in zip(self.transition, branches, strict=True)])
        return [self.finest(fine), *coarser]


class ResolutionHead(nn.Sequential):
    """HRNet's head: all branches upsampled to the finest and concatenated, then two 1 x 1 convolutions."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__(
            nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, num_classes, 1)
        )

    def forward(self, branches: list[Tensor]) -> Tensor:
        size = branches[0].shape[-2:]
        upsampled = [F.interpolate(x, size=size, mode="bilinear", align_corners=False) for x in branches]
        return super().forward(torch.cat(upsampled, dim=1))


class HRNet(SegmentationModel):
    """High-resolution network: parallel branches at 1/4 to 1/32. Images are padded to a multiple of 32."""

    stages = ("layer1", "layer2.finest", "layer3.finest", "layer4.finest")

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        padded = F.pad(images, (0, -width % 32, 0, -height % 32), mode="replicate")
        return super().forward(padded)[..., :height, :width]


def hrnet(num_classes: int = NUM_CLASSES, width: int = 48, *, weights: StateDict | None = None) -> HRNet:
    """HRNetV2 for segmentation. Source: Sun et al., arXiv 1904.04514; the backbone is timm's.

    Args:
        width: channels of the finest branch, 18 to 64. The paper says "HRNet" alone; 48 is the width with which its
            inventors report Cityscapes.
        weights: of ImageNet, in timm's layout; None draws them.
    """
    with extras_named("the backbone hrnet"):
        import timm  # imported here because it takes seconds

    backbone = timm.create_model(f"hrnet_w{width}", features_only=True, feature_location="")
    if weights is not None:
        fill(backbone, weights, without=("incre_modules.", "downsamp_modules.", "final_layer.", "classifier."))
    stem = nn.Sequential(
        backbone.conv1, backbone.bn1, backbone.act1, backbone.conv2, backbone.bn2, backbone.act2
    )  # fmt: skip
    stages = [
        backbone.layer1,
        ResolutionStage(backbone.transition1, backbone.stage2),
        ResolutionStage(backbone.transition2, backbone.stage3),
        ResolutionStage(backbone.transition3, backbone.stage4),
    ]
    return HRNet(stem, stages, ResolutionHead(15 * width, num_classes))  # 1 + 2 + 4 + 8 times the width


def efficientnet_lite0(num_classes: int = NUM_CLASSES, *, weights: StateDict | None = None) -> SegmentationModel:
    """EfficientNet-Lite0 with an FCN head: 3.2 M parameters, and ImageNet weights in a package, without a download.

    At output stride 16, for dilated depthwise convolutions at 8 would take a CPU five times as long. Padding,
    BatchNorm's epsilon and the colours' normalization (127 and 128 of 255) are those of Google's weights, not the
    usual ones. Source: Tan and Le, ICML 2019, without squeeze-and-excitation; the backbone is timm's.

    Args:
        weights: of ImageNet, in the layout of timm's ``tf_efficientnet_lite0``; None draws them.
    """
    with extras_named("the backbone efficientnet-lite0"):
        import timm  # as above

    backbone = timm.create_model("tf_efficientnet_lite0", output_stride=16)
    if weights is not None:
        fill(backbone, weights, without=("conv_head.", "bn2.", "classifier."))
    blocks = backbone.blocks
    stem = nn.Sequential(backbone.conv_stem, backbone.bn1, blocks[0])  # 1/2
    stages = [blocks[1], blocks[2], blocks[3:5], blocks[5:7]]  # 1/4, 1/8, 1/16 twice
    head = segmentation.fcn.FCNHead(backbone.feature_info[-1]["num_chs"], num_classes)
    return SegmentationModel(stem, stages, head, mean=[127 / 255] * 3, std=[128 / 255] * 3)


BACKBONES: dict[str, Callable[..., SegmentationModel]] = {
    "thin": thin_resnet,
    "thin-fpn": thin_fpn,
    "thin-fpn-half": functools.partial(thin_fpn, half=True),
    "thin-fpn-ibn-a": functools.partial(thin_fpn, ibn=True),
    "thin-ibn-a": functools.partial(thin_resnet, ibn=True),
    "resnet18": functools.partial(dilated_resnet, 18),
    "resnet50": functools.partial(dilated_resnet, 50),
    "resnet101": functools.partial(dilated_resnet, 101),
    "resnet18-ibn-a": functools.partial(dilated_resnet, 18, ibn=True),
    "resnet50-ibn-a": functools.partial(dilated_resnet, 50, ibn=True),
    "resnet101-ibn-a": functools.partial(dilated_resnet, 101, ibn=True),
    "deeplabv3": functools.partial(dilated_resnet, 50, head="deeplabv3"),
    "hrnet": hrnet,
    "hrnet-w18": functools.partial(hrnet, width=18),
    "efficientnet-lite0": efficientnet_lite0,
}
IBN_NETS = {
    "thin": "thin-ibn-a",
    "thin-fpn": "thin-fpn-ibn-a",
    "resnet18": "resnet18-ibn-a",
    "resnet50": "resnet50-ibn-a",
    "resnet101": "resnet101-ibn-a",
}  # the IBN-Net of each backbone that has one


def build_model(name: str, seed: int | None = None, weights: StateDict | None = None) -> SegmentationModel:
    """A network by name, its weights drawn from ``seed`` without touching the global random state.

    Args:
        name: a key of :data:`BACKBONES`.
        seed: of the initial weights; None draws from the global state, as torch does.
        weights: of the backbone, from ImageNet (see :mod:`dglab.models.weights`); None draws them, as the head's
            always are.

    Raises:
        InputError: for an unknown name, or weights that do not fit.
    """
    if name not in BACKBONES:
        raise InputError(f"unknown backbone {name!r}; the backbones are {', '.join(BACKBONES)}")
    given = {} if weights is None else {"weights": weights}
    if seed is None:
        return BACKBONES[name](**given)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # only the CPU: torch.manual_seed would also reseed GPUs
        return BACKBONES[name](**given)


def logits_of(output: Any) -> Tensor:
    """The logits in the output of a segmentation network, of any of the usual forms.

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
