"""A segmentation network of several modalities: one encoder each, fusion by concatenation, and two heads a modality.

The parts have the names that :func:`dglab.training.gmp.gmp_backward` asks for, so a network from elsewhere may take
this one's place: ``encoders``, ``classifiers`` and ``discriminators``, each an ``nn.ModuleDict`` by modality, and
``fusion``, a module on the list of features.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import segmentation

from dglab.classes import NUM_CLASSES
from dglab.models.networks import IMAGENET_MEAN, IMAGENET_STD, thin_resnet
from dglab.utils.errors import InputError


def normalized_colours(images: Tensor) -> Tensor:
    """Colours in [0, 1] -> mean 0 and deviation 1, N x 3 x H x W, as for ImageNet."""
    mean, std = (images.new_tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (images - mean) / std


def depth_and_mask(images: Tensor) -> Tensor:
    """Coded depth in [0, 1], 1 where there is no reading -> N x 2 x H x W: depth in [-1, 1] or 0, and the mask."""
    seen = (images < 1).to(images.dtype)
    return torch.cat([(2 * images - 1) * seen, seen], dim=1)


def directions(images: Tensor) -> Tensor:
    """Coded normals in [0, 1], 1 where there is no reading -> N x 3 x H x W, unit vectors or 0."""
    return (255 * images - 127) / 127 * (images < 1)


class Door(NamedTuple):
    """The input of a modality: its channels, those of the first convolution, and the function from one to the other."""

    channels: int
    seen: int
    prepare: Callable[[Tensor], Tensor]


DOORS = {
    "rgb": Door(3, 3, normalized_colours),
    "depth": Door(1, 2, depth_and_mask),
    "normals": Door(3, 3, directions),
}


class Encoder(nn.Module):
    """The thin ResNet without its head: pictures N x C x H x W in [0, 1] -> features N x 8 W' x H/8 x W/8.

    Args:
        modality: a key of :data:`DOORS`.
        width: W', channels of the first stage; 16 makes 0.3 M parameters.
    """

    def __init__(self, modality: str, width: int = 16) -> None:
        super().__init__()
        trunk, self.door = thin_resnet(width=width), DOORS[modality]
        self.stem = trunk.stem
        self.stem[0] = nn.Conv2d(self.door.seen, width, 3, 2, 1, bias=False)
        self.layer1, self.layer2, self.layer3, self.layer4 = trunk.layer1, trunk.layer2, trunk.layer3, trunk.layer4

    def forward(self, pictures: Tensor) -> Tensor:
        return self.layer4(self.layer3(self.layer2(self.layer1(self.stem(self.door.prepare(pictures))))))


class Concatenation(nn.Module):
    """Fusion: a fully convolutional head on the concatenated features of all modalities, N x C x h x w each."""

    def __init__(self, channels: Sequence[int], num_classes: int) -> None:
        super().__init__()
        self.head = segmentation.fcn.FCNHead(sum(channels), num_classes)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        return self.head(torch.cat(list(features), dim=1))


class GradientReversal(nn.Module):
    """Passes features through, and their gradient back with the sign turned: the discriminator learns, they unlearn.

    The strength grows over training, 2 / (1 + exp(-10 p)) - 1 with p from 0 to 1: a discriminator that knows nothing
    yet has nothing to say. The discriminator itself learns at full strength throughout.

    Source: Ganin and Lempitsky, ICML 2015; the schedule is that of Ganin et al., JMLR 2016, section 5.2.2. To take it
    for GMP is our choice, for GMP's source leaves the schedule open.

    Attributes:
        progress: p, the share of the training that is done; :func:`set_progress` moves it.
    """

    def __init__(self, progress: float = 1.0) -> None:
        super().__init__()
        self.progress = progress

    @property
    def strength(self) -> float:
        """The factor on the gradient, without its sign; 0 to almost 1."""
        return 2 / (1 + math.exp(-10 * self.progress)) - 1

    def forward(self, features: Tensor) -> Tensor:
        return _Reversed.apply(features, self.strength)


class _Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return features.view_as(features)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradient, None


def set_progress(model: nn.Module, progress: float) -> None:
    """Set the progress of the training, 0 to 1, in every gradient reversal of a model; other models have none."""
    for module in model.modules():
        if isinstance(module, GradientReversal):
            module.progress = progress


class Detach(nn.Module):
    """Passes features through and no gradient back: what follows reads the features and does not shape them."""

    def forward(self, features: Tensor) -> Tensor:
        return features.detach()


class MultimodalNetwork(nn.Module):
    """One thin ResNet a modality, their features concatenated into one classifier; and for each modality by itself a
    classifier, which says how much its encoder knows of the classes, and a domain discriminator behind a gradient
    reversal.

    Ours, because the paper classifies videos: the discriminator sees an image's mean feature, by one hidden layer with
    LayerNorm; each modality's own classifier is a head like the fused one, and by default a probe that does not train
    its encoder, so that only the fused loss does, as in the network that the paper starts from.

    Args:
        modalities: keys of :data:`DOORS`, in the order in which stacked images hold their channels.
        num_domains: source domains, of which the discriminators tell; two or more.
        num_classes: K.
        width: of each encoder, see :class:`Encoder`.
        own_losses: let each modality's own classifier teach its encoder, too.

    Raises:
        InputError: for unknown modalities, none, or one named twice; for less than two domains.
    """

    def __init__(
        self,
        modalities: Sequence[str] = ("rgb", "depth"),
        num_domains: int = 4,
        num_classes: int = NUM_CLASSES,
        width: int = 16,
        *,
        own_losses: bool = False,
    ) -> None:
        super().__init__()
        unknown = [name for name in modalities if name not in DOORS]
        if unknown or not modalities or len(set(modalities)) < len(modalities):
            raise InputError(
                f"the modalities are {modalities!r}; expected one or more of {', '.join(DOORS)}, each once"
            )
        if not isinstance(num_domains, int) or num_domains < 2:
            raise InputError(
                f"num_domains is {num_domains!r}; expected 2 or more, for the discriminators tell source domains apart"
            )
        channels = 8 * width
        self.encoders = nn.ModuleDict({name: Encoder(name, width) for name in modalities})
        self.fusion = Concatenation([channels] * len(modalities), num_classes)
        self.classifiers = nn.ModuleDict(
            {
                name: nn.Sequential(
                    nn.Identity() if own_losses else Detach(), segmentation.fcn.FCNHead(channels, num_classes)
                )
                for name in modalities
            }
        )
        self.discriminators = nn.ModuleDict({name: _discriminator(channels, num_domains) for name in modalities})
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @property
    def stages(self) -> tuple[str, ...]:
        """The style stages 1-4, as module paths: those of the first modality's encoder."""
        first = next(iter(self.encoders))
        return tuple(f"encoders.{first}.layer{number}" for number in (1, 2, 3, 4))

    def forward(self, images: Tensor | Mapping[str, Tensor]) -> Tensor:
        """The fused logits N x K x H x W.

        Args:
            images: by modality, in [0, 1], each N x C x H x W; or one tensor of all their channels stacked. A modality
                may be missing from a mapping: its feature is then zero everywhere, as of an encoder that sees nothing
                (ours; the others are not scaled up, and training never shows the fusion such a case).
        """
        images = self.by_modality(images)
        features = {name: self.encoders[name](pictures) for name, pictures in images.items()}
        nothing = torch.zeros_like(next(iter(features.values())))
        logits = self.fusion([features.get(name, nothing) for name in self.encoders])
        return upsampled(logits, next(iter(images.values())).shape[-2:])

    def branch(self, images: Tensor | Mapping[str, Tensor], modality: str) -> Tensor:
        """The logits N x K x H x W of one modality's own classifier; ``images`` as in :meth:`forward`.

        Raises:
            InputError: for a modality that the network, or ``images``, does not have.
        """
        _check_known(self, [modality])
        images = self.by_modality(images)
        if modality not in images:
            raise InputError(
                f"the branch of {modality} is asked for, and the images are of {', '.join(images)}; pass those of "
                f"{modality}, too"
            )
        pictures = images[modality]
        return upsampled(self.classifiers[modality](self.encoders[modality](pictures)), pictures.shape[-2:])

    def by_modality(self, images: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Images by modality; a tensor of all their channels is split into them.

        Raises:
            InputError: for another number of channels, a modality that the network does not have, or none at all; for
                images of modalities that are not of one N, H and W.
        """
        channels = {name: DOORS[name].channels for name in self.encoders}
        if isinstance(images, Tensor):
            if images.shape[1] != sum(channels.values()):
                each = ", ".join(f"{name} {count}" for name, count in channels.items())
                raise InputError(
                    f"the images have {images.shape[1]} channels, the network takes {sum(channels.values())} ({each}); "
                    "stack them in this order, or pass them by modality"
                )
            return dict(zip(channels, images.split(list(channels.values()), dim=1), strict=True))
        if not images or not set(images) <= set(self.encoders):
            raise InputError(
                f"the images are of the modalities {', '.join(images) or 'none'}; expected one or more of "
                f"{', '.join(self.encoders)}, which this network was built for"
            )
        _check_pictures(images, channels)
        return dict(images)


def _check_pictures(images: Mapping[str, Tensor], channels: Mapping[str, int]) -> None:
    """Refuse what is no picture of its modality, and pictures of several numbers or sizes."""
    ok = all(isinstance(x, Tensor) and x.ndim == 4 and x.shape[1] == channels[name] for name, x in images.items())
    if not ok or len({(len(x), *x.shape[2:]) for x in images.values()}) > 1:
        got = (f"{name} {' x '.join(map(str, getattr(x, 'shape', [type(x).__name__])))}" for name, x in images.items())
        expected = (f"{name} N x {channels[name]} x H x W" for name in images)
        raise InputError(f"the images are {', '.join(got)}; expected {', '.join(expected)}, with one N, H and W")


def _discriminator(channels: int, num_domains: int) -> nn.Module:
    """Features N x C x h x w -> logits N x D of the domain that an image is from.

    The hidden layer is normalized image by image: without that, the reversed gradient moves the features until none of
    its ReLUs fires, and from then on there is no domain gradient.
    """
    hidden = channels // 2
    return nn.Sequential(
        GradientReversal(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(channels, hidden), nn.LayerNorm(hidden), nn.ReLU(), nn.Linear(hidden, num_domains),
    )  # fmt: skip


def upsampled(logits: Tensor, size: Sequence[int]) -> Tensor:
    """Logits N x K x h x w resized to (H, W), bilinear; returned as they are if they have this size."""
    if logits.shape[-2:] == tuple(size):
        return logits
    logits = logits.contiguous(memory_format=torch.channels_last)  # much faster on a CPU, as is what follows
    return F.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=False)


class Branch(nn.Module):
    """One modality's own classifier as a network by itself: stacked images -> its logits N x K x H x W."""

    def __init__(self, model: MultimodalNetwork, modality: str) -> None:
        super().__init__()
        _check_known(model, [modality])
        self.model, self.modality = model, modality
        self.stages = tuple(f"model.encoders.{modality}.layer{number}" for number in (1, 2, 3, 4))

    def forward(self, images: Tensor) -> Tensor:
        return self.model.branch(images, self.modality)


class Without(nn.Module):
    """A network whose sensor for some modalities has failed: stacked images -> the fused logits N x K x H x W."""

    def __init__(self, model: MultimodalNetwork, missing: Sequence[str]) -> None:
        super().__init__()
        _check_known(model, missing)
        if set(missing) == set(model.encoders):
            raise InputError(f"{', '.join(missing)} would be missing, and there is nothing else; leave one modality")
        self.model, self.missing = model, tuple(missing)
        first = next(name for name in model.encoders if name not in missing)
        self.stages = tuple(f"model.encoders.{first}.layer{number}" for number in (1, 2, 3, 4))

    def forward(self, images: Tensor) -> Tensor:
        images = self.model.by_modality(images)
        return self.model({name: pictures for name, pictures in images.items() if name not in self.missing})


def _check_known(model: nn.Module, modalities: Sequence[str]) -> None:
    if not isinstance(model, MultimodalNetwork):
        raise InputError(f"a {type(model).__name__} has no modalities; pass a network that --method gmp has trained")
    for name in modalities:
        if name not in model.encoders:
            raise InputError(f"the network has no modality {name!r}; it has {', '.join(model.encoders)}")


def build_multimodal(
    modalities: Sequence[str], num_domains: int, seed: int | None = None, **options: Any
) -> MultimodalNetwork:
    """A multimodal network, its weights drawn from ``seed`` without touching the global random state.

    Args:
        modalities, num_domains, options: of :class:`MultimodalNetwork`.
        seed: of the initial weights; None draws from the global state.
    """
    if seed is None:
        return MultimodalNetwork(modalities, num_domains, **options)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return MultimodalNetwork(modalities, num_domains, **options)
