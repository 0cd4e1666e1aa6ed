"""Test time: whose statistics normalize an image of a domain that training never saw."""

from dglab.testtime.image_bank import ImageBank
from dglab.testtime.normalization import (
    AdaBN,
    SourceNormalization,
    TargetNormalization,
    preserved_statistics,
    reestimate_statistics,
    shift_by_layer,
)
from dglab.testtime.style import Style, style_distance, styles_of

__all__ = [
    "AdaBN",
    "ImageBank",
    "SourceNormalization",
    "Style",
    "TargetNormalization",
    "preserved_statistics",
    "reestimate_statistics",
    "shift_by_layer",
    "style_distance",
    "styles_of",
]
