"""How a street looks: the style of a domain, and the values one image draws from it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dglab.data.streets.canvas import Material
from dglab.data.streets.dice import Dice, Range

RGB = tuple[int, int, int]
M = Material


@dataclass(frozen=True)
class Style:
    """The appearance of a domain. Ranges are (low, high); each image draws one value.

    Attributes:
        palette: for each name in :data:`PAINTS` the colours (RGB, 0-255) from which each thing draws one.
        spread: standard deviation of a thing's colour around the drawn one, 0-255.
        sky: colours of the sky at the horizon and at the zenith; each image draws one pair.
        clouds: share of the sky under clouds, 0-1.
        exposure: brightness factor of the whole image, 1 is neutral.
        sun: share of the light that comes straight from the sun, 0 (overcast, no shadows) to 1.
        elevation: height of the sun above the horizon in degrees; a low sun is warm and throws long shadows.
        texture: strength of the surfaces' grain, 0 (flat, computer-drawn) to about 1.5.
        wear: how worn the lane markings are, 0-1.
        haze: extinction per metre; 0.01 leaves 37 % of a thing's contrast at 100 m.
        haze_tint: colour of the haze, RGB 0-255.
        cast: factors on red, green and blue, as three ranges.
        saturation: 0 is grey, 1 leaves the colours as they are.
        contrast: 1 is neutral, above it darks get darker and brights brighter.
        gamma: exponent on the image in 0-1; above 1 darkens the middle tones.
        blur: standard deviation of the blur in pixels at a width of 192.
        grain: standard deviation of the sensor noise, 0-255.
        vignette: loss of brightness in the corners, 0-1.
        outline: sharpening of edges, 0 (none) to about 1 (crisp, computer-drawn).
    """

    palette: Mapping[str, tuple[RGB, ...]]
    spread: float
    sky: tuple[tuple[RGB, RGB], ...]
    clouds: Range
    exposure: Range
    sun: Range
    elevation: Range
    texture: Range
    wear: Range
    haze: Range
    haze_tint: RGB
    cast: tuple[Range, Range, Range]
    saturation: Range
    contrast: Range
    gamma: Range
    blur: Range
    grain: Range
    vignette: Range
    outline: Range


# material -> (name of its paint, grain of the fine noise, grain of the coarse noise, pixels of noise per metre)
MATERIALS: dict[Material, tuple[str, float, float, float]] = {
    M.SKY: ("marking", 0.0, 0.0, 1.0),  # painted over with the sky
    M.GROUND: ("terrain", 0.0, 0.0, 16.0),  # painted over with road, sidewalk and terrain
    M.FACADE: ("facade", 0.06, 0.07, 14.0),
    M.ROOF: ("roof", 0.12, 0.06, 24.0),
    M.WALL: ("wall", 0.09, 0.12, 20.0),
    M.FENCE: ("fence", 0.08, 0.05, 20.0),
    M.BARK: ("bark", 0.18, 0.05, 40.0),
    M.LEAF: ("leaf", 0.26, 0.22, 34.0),
    M.METAL: ("metal", 0.05, 0.05, 20.0),
    M.SIGN: ("sign", 0.02, 0.03, 20.0),
    M.SIGN_RIM: ("sign rim", 0.02, 0.03, 20.0),
    M.HOUSING: ("housing", 0.03, 0.03, 20.0),
    M.LAMP_RED: ("lamp red", 0.0, 0.0, 1.0),
    M.LAMP_AMBER: ("lamp amber", 0.0, 0.0, 1.0),
    M.LAMP_GREEN: ("lamp green", 0.0, 0.0, 1.0),
    M.CAR: ("car", 0.02, 0.08, 12.0),
    M.TRUCK: ("truck", 0.03, 0.06, 10.0),
    M.BUS: ("bus", 0.02, 0.05, 10.0),
    M.TRAM: ("tram", 0.02, 0.05, 10.0),
    M.GLASS: ("glass", 0.04, 0.3, 10.0),
    M.TYRE: ("tyre", 0.04, 0.04, 20.0),
    M.HEADLIGHT: ("headlight", 0.0, 0.0, 1.0),
    M.TAILLIGHT: ("taillight", 0.0, 0.0, 1.0),
    M.SKIN: ("skin", 0.03, 0.03, 30.0),
    M.HAIR: ("hair", 0.05, 0.03, 30.0),
    M.SHIRT: ("cloth", 0.05, 0.10, 40.0),
    M.TROUSERS: ("trousers", 0.05, 0.08, 40.0),
    M.HELMET: ("helmet", 0.02, 0.05, 30.0),
    M.CYCLE: ("cycle", 0.03, 0.05, 30.0),
    M.PLATE: ("plate", 0.02, 0.02, 20.0),
    M.BONNET: ("bonnet", 0.01, 0.10, 6.0),
}

PAINTS = tuple(dict.fromkeys(paint for paint, *_ in MATERIALS.values())) + ("asphalt", "paving", "kerb", "window")


@dataclass
class Mood:
    """The values one image has drawn from the ranges of its style (see :class:`Style` for their meaning)."""

    sky: tuple[RGB, RGB]
    clouds: float
    exposure: float
    sun: float
    elevation: float
    azimuth: float  # radians, 0 is ahead, positive to the right
    texture: float
    wear: float
    haze: float
    cast: np.ndarray
    saturation: float
    contrast: float
    gamma: float
    blur: float
    grain: float
    vignette: float
    outline: float
    seed: float

    @property
    def ambient(self) -> float:
        """Light from the sky alone, which falls on every surface."""
        return 1.06 - 0.4 * self.sun

    @property
    def direct(self) -> float:
        """Light of the sun on a surface that faces it."""
        return 0.68 * self.sun

    @property
    def sun_direction(self) -> tuple[float, float, float]:
        """Unit vector to the sun: right, up, ahead."""
        up, flat = math.sin(self.elevation), math.cos(self.elevation)
        return flat * math.sin(self.azimuth), up, flat * math.cos(self.azimuth)


def draw_mood(style: Style, d: Dice) -> Mood:
    """Draw one image's values from the ranges of a style."""
    cast = np.array([d.between(*channel) for channel in style.cast], np.float32)
    return Mood(
        sky=d.choice(style.sky), clouds=d.between(*style.clouds), exposure=d.between(*style.exposure),
        sun=d.between(*style.sun), elevation=math.radians(d.between(*style.elevation)),
        azimuth=d.between(-math.pi, math.pi), texture=d.between(*style.texture), wear=d.between(*style.wear),
        haze=d.between(*style.haze), cast=cast, saturation=d.between(*style.saturation),
        contrast=d.between(*style.contrast), gamma=d.between(*style.gamma), blur=d.between(*style.blur),
        grain=d.between(*style.grain), vignette=d.between(*style.vignette), outline=d.between(*style.outline),
        seed=d.unit(),
    )  # fmt: skip
