"""The embedded data set "streets": drawn street scenes in five domains, with exact labels and depth.

The letters stand in for GTA5 (G), SYNTHIA (S), IDD (I), Mapillary Vistas (M) and Cityscapes (C). A scene is made in
two steps that know nothing of each other's draws: its :class:`Content` gives the geometry, from which label and depth
follow, and its :class:`Style` gives the colours. So the same scene can be painted in another domain's style.

Everything is seeded by name (domain, split, index): the same call gives the same bytes in every process.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from dglab.data.streets.content import Content
from dglab.data.streets.dice import dice_for
from dglab.data.streets.domains import STREETS, StreetDomain
from dglab.data.streets.geometry import draw_geometry
from dglab.data.streets.layout import lay_out
from dglab.data.streets.painter import Painter
from dglab.data.streets.style import Style
from dglab.utils.errors import InputError
from dglab.utils.seeds import derive_seed

__all__ = ["SPLITS", "STREETS", "Content", "Scene", "StreetDomain", "StreetsDataset", "Style", "render"]

SPLITS = ("train", "val")
MIN_HEIGHT, MIN_WIDTH = 32, 64


class Scene(NamedTuple):
    """One scene.

    Attributes:
        image: H x W x 3 uint8, RGB.
        label: H x W uint8, classes 0-18 and 255 (ignored).
        depth: H x W float32, metres along the viewing axis; the sky lies at 1000.
    """

    image: np.ndarray
    label: np.ndarray
    depth: np.ndarray


def render(
    domain: StreetDomain, split: str, index: int, *, height: int = 96, width: int = 192, style: Style | None = None
) -> Scene:
    """Draw one scene of a domain.

    The scene is drawn at twice the size. The image is averaged down from there; label and depth are taken at one
    pixel of each block of four, so that they have hard edges.

    Args:
        domain: content and style, for example ``STREETS["G"]``.
        split: "train" or "val".
        index: number of the scene in its split, 0 or more.
        height, width: size in pixels, at least 32 x 64. Another size shows the same scene.
        style: paint the scene in this style instead of the domain's own. Label and depth stay the same.

    Raises:
        InputError: unknown split, negative index, or a size that is too small.
    """
    _check(split, height, width)
    if index < 0:
        raise InputError(f"scene index {index}: expected 0 or more; count scenes from 0")
    name = (domain.letter, split, index)
    layout = lay_out(domain.content, *name)
    geometry = draw_geometry(layout, dice_for(*name, "details"), 2 * width, 2 * height)
    rng = np.random.default_rng(derive_seed("streets", *name, "noise"))
    image = Painter(geometry, style or domain.style, dice_for(*name, "style"), rng).paint()
    label = np.ascontiguousarray(geometry.label[::2, ::2])
    depth = np.ascontiguousarray(geometry.depth[::2, ::2])
    return Scene(image, label, depth)


def _check(split: str, height: int, width: int) -> None:
    if split not in SPLITS:
        raise InputError(f"split {split!r}: expected one of {', '.join(SPLITS)}; choose one of these")
    if height < MIN_HEIGHT or width < MIN_WIDTH:
        raise InputError(
            f"size {height} x {width} (height x width): expected at least {MIN_HEIGHT} x {MIN_WIDTH}; "
            "ask for a larger picture"
        )


class StreetsDataset(Dataset):
    """Scenes of one domain as tensors; drawn when asked for, nothing is stored.

    Args:
        letter: "G", "S", "I", "M" or "C".
        split: "train" or "val".
        length: number of scenes, at least 1. Scene i does not depend on it.
        height, width: size in pixels, at least 32 x 64.

    Raises:
        InputError: unknown letter or split, length below 1, or a size that is too small.
    """

    def __init__(self, letter: str, split: str, length: int, *, height: int = 96, width: int = 192) -> None:
        if letter not in STREETS:
            raise InputError(f"domain {letter!r}: expected one of {', '.join(STREETS)}; choose one of these letters")
        if length < 1:
            raise InputError(f"length {length}: expected at least 1; ask for one scene or more")
        _check(split, height, width)
        self.letter, self.split, self.length = letter, split, length
        self.height, self.width = height, width

    @property
    def name(self) -> str:
        """The domain's name, as "streets G"."""
        return STREETS[self.letter].name

    @property
    def stems(self) -> list[str]:
        """One name per scene, as a file would have: "G_train_0007"."""
        return [f"{self.letter}_{self.split}_{index:04d}" for index in range(self.length)]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Scene ``index`` as (image, label): 3 x H x W and H x W, uint8. Negative indices count from the end."""
        if not -self.length <= index < self.length:
            raise IndexError(f"scene {index} of a data set of {self.length}")
        scene = render(STREETS[self.letter], self.split, index % self.length, height=self.height, width=self.width)
        image = torch.from_numpy(np.ascontiguousarray(scene.image.transpose(2, 0, 1)))
        return image, torch.from_numpy(scene.label)
