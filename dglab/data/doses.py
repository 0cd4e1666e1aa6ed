"""The gap between domains as a factor: C's scenes painted between the sources' style and C's, and beyond it.

Levels, tests and expectations stand in docs/predictions.md, written before any network was scored on these images.
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from dglab.data.domains import InMemory
from dglab.data.streets import STREETS, StreetsDataset, Style, render
from dglab.data.streets.dice import Range
from dglab.data.streets.size import StreetsSize
from dglab.data.streets.style import RGB
from dglab.utils.errors import InputError

DOSES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)  # in units of the difference between a source's and the target's style
STYLE = "style"  # the name of this shift in the column ``shift`` of the tidy table

# the ranges of style values, which a style beyond the target's must stay in; those not listed are 0 or more
_SHARES = ("clouds", "sun", "wear", "vignette")
_BOUNDS = dict.fromkeys(_SHARES, (0.0, 1.0)) | {
    "elevation": (5.0, 85.0), "exposure": (0.1, 3.0), "contrast": (0.1, 3.0), "gamma": (0.1, 3.0),
}  # fmt: skip


def between(source: Style, target: Style, dose: float) -> Style:
    """The style at ``source + dose * (target - source)``: 0 is the source's, 1 the target's, more is beyond it.

    Ranges move by their ends. Where a thing draws its colour out of several, it draws a pair, one of either style, and
    takes the colour between: at 0 and at 1 the colours are drawn as often as in the style itself.

    Args:
        source, target: styles of two domains.
        dose: 0 or more.

    Raises:
        InputError: for a dose below 0, or none.
    """
    if not 0 <= dose < np.inf:
        raise InputError(f"the dose is {dose}; expected 0 (the source's style), 1 (the target's) or any other above 0")
    palette = {name: _pairs(colours, target.palette[name], dose) for name, colours in source.palette.items()}
    sky = tuple(
        tuple(_colour(a, b, dose) for a, b in zip(pair, other, strict=True))
        for other in target.sky
        for pair in source.sky
    )
    return dataclasses.replace(
        target,
        palette=palette,
        sky=sky,
        spread=max(0.0, _mix(source.spread, target.spread, dose)),
        haze_tint=_colour(source.haze_tint, target.haze_tint, dose),
        cast=tuple(_range(a, b, dose) for a, b in zip(source.cast, target.cast, strict=True)),
        **{
            name: _range(getattr(source, name), getattr(target, name), dose, *_BOUNDS.get(name, (0.0, np.inf)))
            for name in _RANGES
        },
    )


_APART = ("palette", "sky", "spread", "haze_tint", "cast")
_RANGES = [field.name for field in dataclasses.fields(Style) if field.name not in _APART]


def _mix(a: float, b: float, dose: float) -> float:
    return b if dose == 1 else a + dose * (b - a)  # at 1 to the last bit


def _range(a: Range, b: Range, dose: float, least: float = 0.0, most: float = np.inf) -> Range:
    """Both ends moved; beyond the target a range may have shrunk to less than nothing, then they change places."""
    ends = sorted(min(max(_mix(x, y, dose), least), most) for x, y in zip(a, b, strict=True))
    return ends[0], ends[1]


def _colour(a: RGB, b: RGB, dose: float) -> RGB:
    return tuple(min(max(_mix(x, y, dose), 0.0), 255.0) for x, y in zip(a, b, strict=True))


def _pairs(source: Sequence[RGB], target: Sequence[RGB], dose: float) -> tuple[RGB, ...]:
    """All pairs, the target's in the outer loop: the draw that gives its k-th colour alone gives a pair with it."""
    return tuple(_colour(a, b, dose) for b in target for a in source)


class DosedStreets(Dataset):
    """A domain's validation scenes, scene i painted at a dose between the style of source i, in turn, and its own.

    Args:
        letter: of the target, whose content it is.
        sources: letters whose styles take turns.
        dose: see :func:`between`.
        length: number of scenes.
        height, width: pixels.
    """

    def __init__(
        self, letter: str, sources: Sequence[str], dose: float, length: int, *, height: int = 96, width: int = 192
    ) -> None:
        self._plain = StreetsDataset(letter, "val", length, height=height, width=width)
        self.letter, self.stems, self.sources, self.dose = letter, self._plain.stems, tuple(sources), dose
        self._styles = [between(STREETS[source].style, STREETS[letter].style, dose) for source in sources]

    def __len__(self) -> int:
        return len(self._plain)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Image and label, uint8 3 x H x W and H x W."""
        if not 0 <= index < len(self):
            raise IndexError(f"scene {index} of a data set of {len(self)}")
        size = {"height": self._plain.height, "width": self._plain.width}
        style = self._styles[index % len(self._styles)]
        scene = render(STREETS[self.letter], "val", index, **size, style=style)
        return torch.from_numpy(np.ascontiguousarray(scene.image.transpose(2, 0, 1))), torch.from_numpy(scene.label)


@functools.lru_cache(maxsize=len(DOSES))
def dosed_domain(letter: str, sources: tuple[str, ...], dose: float, size: StreetsSize) -> InMemory:
    """As many dosed scenes as a domain has validation images, cached in memory."""
    return InMemory(DosedStreets(letter, sources, dose, size.val_images, height=size.height, width=size.width))
