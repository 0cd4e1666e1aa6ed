"""Streets in several modalities: camera, depth, surface normals; and batches of them.

Every modality is a uint8 picture C x H x W. In depth and normals 255 says that there is no reading, as it says in a
label that a pixel does not count.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from dglab.data.batches import MultiDomainBatches
from dglab.data.streets import STREETS, StreetsDataset, render
from dglab.data.streets.dice import dice_for
from dglab.data.streets.sensors import NO_READING, SENSORS, DepthSensor, coded_depth, coded_normals, sense
from dglab.utils.errors import InputError
from dglab.utils.seeds import derive_seed

Images = dict[str, Tensor]  # by modality


class Normals(tv_tensors.Mask):
    """Coded surface normals: never interpolated; a horizontal flip changes the sign of their x component."""


@F.register_kernel(F.horizontal_flip, Normals)
def _mirrored(normals: Normals) -> Normals:
    flipped = normals.as_subclass(Tensor).flip(-1)
    flipped[0] = torch.where(flipped[0] == NO_READING, flipped[0], 254 - flipped[0])
    return tv_tensors.wrap(flipped, like=normals)


# modality -> how the augmentation treats it. Only an Image is blurred. A Mask is resized by nearest neighbour, because
# the mean of two distances is a place where nothing is; padding is 255.
KINDS: dict[str, type[tv_tensors.TVTensor]] = {"rgb": tv_tensors.Image, "depth": tv_tensors.Mask, "normals": Normals}


def check_modalities(modalities: Sequence[str]) -> tuple[str, ...]:
    """The modalities themselves, if there is one or more, each known and named once."""
    known = set(modalities) <= set(KINDS)
    if isinstance(modalities, str) or not modalities or not known or len(set(modalities)) < len(modalities):
        raise InputError(
            f"the modalities are {modalities!r}; expected one or more of {', '.join(KINDS)}, each once (rgb+depth for "
            "a command)"
        )
    return tuple(modalities)


class MultimodalStreets(StreetsDataset):
    """Scenes of one domain as its camera and its depth sensor see them; drawn when asked for, nothing is stored.

    Images and labels are those of :class:`dglab.data.streets.StreetsDataset`. The reading of a sensor is seeded by
    name, as the drawing is: it does not depend on what else is asked for.

    Args:
        letter, split, length, height, width: as there.
        modalities: which ones, in this order: ``"rgb"`` (3 channels), ``"depth"`` (1, see
            :func:`dglab.data.streets.sensors.coded_depth`), ``"normals"`` (3, of the sensed depth).
        sensor: another depth sensor than the domain's own.
    """

    def __init__(
        self,
        letter: str,
        split: str,
        length: int,
        *,
        modalities: Sequence[str] = ("rgb", "depth"),
        height: int = 96,
        width: int = 192,
        sensor: DepthSensor | None = None,
    ) -> None:
        super().__init__(letter, split, length, height=height, width=width)
        self.modalities, self.sensor = check_modalities(modalities), sensor or SENSORS[letter]

    def __getitem__(self, index: int) -> tuple[Images, Tensor, str]:
        """Scene ``index`` as ({modality: uint8 C x H x W}, label uint8 H x W, the domain's letter)."""
        if not -self.length <= index < self.length:
            raise IndexError(f"scene {index} of a data set of {self.length}")
        name = (self.letter, self.split, index % self.length)
        scene = render(STREETS[self.letter], *name[1:], height=self.height, width=self.width)
        rng = np.random.default_rng(derive_seed("streets", *name, "sensor noise"))
        metres = sense(scene.depth, self.sensor, dice_for(*name, "sensor"), rng)
        coded = {
            "rgb": lambda: scene.image.transpose(2, 0, 1),
            "depth": lambda: coded_depth(metres)[None],
            "normals": lambda: coded_normals(metres),
        }
        images = {name: torch.from_numpy(np.ascontiguousarray(coded[name]())) for name in self.modalities}
        return images, torch.from_numpy(scene.label), self.letter


class MultimodalBatches(MultiDomainBatches):
    """The batch of every training step, of several modalities; the arguments are those of the batches of images.

    Flip, scale and crop are one for all modalities of a scene. Ours: a scaled depth map keeps its metres, as if the
    lens zoomed.
    """

    def __getitem__(self, step: int) -> tuple[Images, Tensor, Tensor]:
        """{modality: B x D x C x H x W}, labels B x D x H x W, both uint8; domains B x D, 0 to D - 1."""
        rows = self._rows(step)
        names = rows[0][0][0]
        images = {name: torch.stack([torch.stack([drawn[name] for drawn, _ in row]) for row in rows]) for name in names}
        labels = torch.stack([torch.stack([label for _, label in row]) for row in rows])
        return images, labels, torch.arange(len(self.domains)).expand(len(rows), -1)

    def _augment(self, transform: v2.Transform, images: Images, label: Tensor, _: str) -> tuple[Images, Tensor]:
        return augment_all(transform, images, label)


def augment_all(transform: v2.Transform, images: Images, label: Tensor) -> tuple[Images, Tensor]:
    """Apply a transform to all modalities of a scene (uint8 C x H x W each) and its label (uint8 H x W) alike."""
    wrapped = {name: KINDS[name](image) for name, image in images.items()}
    images, label = transform(wrapped, tv_tensors.Mask(label))
    return {name: image.as_subclass(Tensor) for name, image in images.items()}, label.as_subclass(Tensor)


def flatten_modalities(batch: tuple[Images, Tensor, Tensor]) -> tuple[Images, Tensor, Tensor]:
    """The batch of a step, B x D x ..., as one of (B D) x ... scenes."""
    images, labels, domains = batch
    return {name: x.flatten(0, 1) for name, x in images.items()}, labels.flatten(0, 1), domains.flatten()


class Stacked(Dataset):
    """Multimodal scenes as (image, label) with all modalities stacked: one image of more channels.

    What predicts and scores images of three channels takes these as well; :class:`dglab.models.multimodal.
    MultimodalNetwork` takes them apart.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset, self.letter = dataset, dataset.letter

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        images, label, _ = self.dataset[index]
        return torch.cat(list(images.values())), label
