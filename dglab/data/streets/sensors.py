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
sources. A result either way is a result; the ranges below are not to be moved after looking at one.
"""

import math
from dataclasses import dataclass

from dglab.data.streets.dice import Range


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
    "M": DepthSensor(scale=(0.5, 1.8), warp=(0.1, 0.25), reach=(math.inf, math.inf)),
    "C": DepthSensor(
        scale=(0.98, 1.02), noise=(0.0008, 0.002), step=(0.001, 0.002), holes=(0.03, 0.12), reach=(120.0, 180.0)
    ),
}  # fmt: skip
