"""What a depth sensor makes of a scene's exact depth, one kind of sensor in each domain.

The design, fixed before the first training on it. GMP's point of departure is that the modality that is best on the
sources need not be best on an unseen target. Style (:mod:`dglab.data.streets.domains`) shifts colours; a sensor shifts
depth; and the two shifts are not of one size in one domain:

========  ==============================  =========================================  ================================
domain    stands in for                   its depth comes from                       so, from the other domains
========  ==============================  =========================================  ================================
G         GTA5                            the game's depth buffer: exact, 250 m      depth near, colours far (garish)
S         SYNTHIA                         the renderer: exact, stored in coarse      depth near, colours far
                                          steps, 100 m                               (bluish, outlined)
I         IDD                             a cheap stereo rig: noisy, loosely         both far: short-sighted holes;
                                          calibrated, many holes, 40 to 70 m         dust and haze
M         Mapillary Vistas                a guess from one photograph: smooth and    depth far, colours near (they
                                          without holes, but of unknown scale, bent  spread over those of the others)
                                          by a slow error; even the sky gets one
C         Cityscapes                      a good stereo rig: calibrated, a little    depth near (between G and I),
                                          noise, few holes, 120 to 180 m             colours far (grey, blurred)
========  ==============================  =========================================  ================================

Expected, not measured: towards C depth should lose less than RGB, towards M more, whichever of the two leads on the
sources. A result either way is a result; the ranges below are not to be moved after looking at one. What came out is in
the rows of :func:`dglab.report.gmp_tables.shift_rows`.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from dglab.data.streets.dice import Dice, Range

NEAR, FAR = 1.0, 250.0  # metres, where the coded depth begins and ends
NO_READING = 255  # in a coded depth or normal, as 255 in a label
FOCAL = 0.6  # of the width: the focal length that normals are computed with


@dataclass(frozen=True)
class DepthSensor:
    """How a domain's sensor errs. Ranges are (low, high); each image draws one value.

    Attributes:
        scale: factor on every distance; 1 is calibrated.
        warp: standard deviation of a smooth relative error, which bends the scene over a fourth of the picture.
        noise: standard deviation of the inverse depth, pixel by pixel, in 1 / metres: a stereo rig's error in
            disparity. At z metres it makes a relative error of z times as much.
        step: quantization of the inverse depth in 1 / metres; 0 is none.
        holes: share of the pixels without a reading, 0 to 1, in patches.
        reach: metres beyond which there is no reading. The sky lies at 1000 metres.
    """

    scale: Range = (1.0, 1.0)
    warp: Range = (0.0, 0.0)
    noise: Range = (0.0, 0.0)
    step: Range = (0.0, 0.0)
    holes: Range = (0.0, 0.0)
    reach: Range = (250.0, 250.0)


SENSORS: dict[str, DepthSensor] = {
    "G": DepthSensor(),
    "S": DepthSensor(step=(0.001, 0.001), reach=(100.0, 100.0)),
    "I": DepthSensor(
        scale=(0.94, 1.06), warp=(0.0, 0.04), noise=(0.002, 0.006), step=(0.002, 0.004), holes=(0.1, 0.3),
        reach=(40.0, 70.0),
    ),
    "M": DepthSensor(scale=(0.5, 1.8), warp=(0.1, 0.25), reach=(2000.0, 2000.0)),
    "C": DepthSensor(
        scale=(0.98, 1.02), noise=(0.0008, 0.002), step=(0.001, 0.002), holes=(0.03, 0.12), reach=(120.0, 180.0)
    ),
}  # fmt: skip


def sense(depth: np.ndarray, sensor: DepthSensor, dice: Dice, rng: np.random.Generator) -> np.ndarray:
    """What a sensor reads of a scene.

    Args:
        depth: H x W float32, exact metres.
        sensor: how it errs.
        dice: draws this image's values from the sensor's ranges.
        rng: draws the fields: warp, holes, noise.

    Returns:
        H x W float32 metres, nan where there is no reading.
    """
    scale, warp, noise = (dice.between(*values) for values in (sensor.scale, sensor.warp, sensor.noise))
    step, holes, reach = (dice.between(*values) for values in (sensor.step, sensor.holes, sensor.reach))
    bent = scale * depth * np.exp(warp * _smooth(rng, depth.shape, 4))
    inverse = 1 / bent + noise * rng.standard_normal(depth.shape)  # 1 / metres
    if step:
        inverse = np.round(inverse / step) * step
    patches = _smooth(rng, depth.shape, 16)
    seen = (depth <= reach) & (inverse > 0) & (patches >= np.quantile(patches, holes))
    return np.divide(1, inverse, out=np.full(depth.shape, np.nan), where=seen).astype(np.float32)


def _smooth(rng: np.random.Generator, shape: tuple[int, int], patches: int) -> np.ndarray:
    """A smooth random field of mean 0 and deviation 1, with so many independent patches along the width."""
    height, width = shape
    grid = rng.standard_normal((max(2, round(patches * height / width)) + 1, patches + 1))
    field = F.interpolate(torch.from_numpy(grid)[None, None], shape, mode="bicubic", align_corners=True)[0, 0].numpy()
    return (field - field.mean()) / field.std()


def coded_depth(metres: np.ndarray) -> np.ndarray:
    """Depth as a uint8 picture: 0 at 1 m, 254 at 250 m and beyond, equal ratios equal steps (2 %); 255 is no reading.

    Args:
        metres: H x W, nan where there is no reading.
    """
    ratio = np.log(np.clip(metres, NEAR, FAR) / NEAR) / math.log(FAR / NEAR)
    return np.where(np.isnan(metres), NO_READING, np.round(254 * ratio)).astype(np.uint8)


def coded_normals(metres: np.ndarray) -> np.ndarray:
    """Surface normals of a depth map as a uint8 picture 3 x H x W: 127 + 127 (right, down, ahead); 255 is no reading.

    In a pinhole image the inverse depth of a plane is linear, 1 / z = a u + b v + c in pixels from the middle, and the
    plane's normal is (f a, f b, c), pointing away from the camera. So two differences of neighbours give it. Ours: each
    camera's focal length and vanishing point are taken as 0.6 widths and the middle.

    Args:
        metres: H x W, nan where there is no reading; there, and beside it, is no normal.
    """
    height, width = metres.shape
    inverse = 1 / metres
    b, a = np.gradient(inverse)
    v, u = np.mgrid[:height, :width] - np.array([(height - 1) / 2, (width - 1) / 2])[:, None, None]
    normal = np.stack([FOCAL * width * a, FOCAL * width * b, inverse - a * u - b * v])  # 3 x H x W
    normal = normal / np.linalg.norm(normal, axis=0)
    return np.where(np.isnan(normal).any(0), NO_READING, np.round(127 + 127 * normal)).astype(np.uint8)
