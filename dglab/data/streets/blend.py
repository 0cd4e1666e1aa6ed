"""A style between two others."""

import math
from dataclasses import fields
from typing import Any

import numpy as np

from dglab.data.streets.style import Style
from dglab.utils.errors import InputError


def blend(first: Style, second: Style, share: float) -> Style:
    """The style that lies between two, everything in it in the same proportion.

    A scene draws the same numbers in every style, so its image in the blend has its colours, its light and its sensor
    between those of its images in both: as in the first for ``share`` 0, as in the second for 1, pixel for pixel.

    Args:
        first, second: the styles.
        share: of the second, 0 to 1.

    Raises:
        InputError: for a share outside 0 to 1.
    """
    if not 0 <= share <= 1:
        raise InputError(f"share {share}: expected 0 (the first style) to 1 (the second)")
    mixed: dict[str, Any] = {
        field.name: between(getattr(first, field.name), getattr(second, field.name), share)
        for field in fields(Style)
        if field.name not in ("palette", "sky")
    }
    mixed["palette"] = {name: of_choices(first.palette[name], second.palette[name], share) for name in first.palette}
    mixed["sky"] = of_choices(first.sky, second.sky, share)
    return Style(**mixed)


def between(a: Any, b: Any, share: float) -> Any:
    """Numbers, or tuples of tuples of them, in proportion; the ends are exact."""
    if isinstance(a, tuple):
        return tuple(between(one, other, share) for one, other in zip(a, b, strict=True))
    return a if share == 0 else b if share == 1 else float(np.interp(share, (0, 1), (a, b)))


def of_choices(a: tuple, b: tuple, share: float) -> tuple:
    """Two lists to choose from, as one as long as both fit into: each draw finds the pair that it would have found."""
    length = math.lcm(len(a), len(b))
    return tuple(between(a[i * len(a) // length], b[i * len(b) // length], share) for i in range(length))
