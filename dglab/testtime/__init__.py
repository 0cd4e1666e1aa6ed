"""Test time: by whose BatchNorm statistics an image of an unseen domain is normalized."""

from dglab.testtime.adabn import AdaBN, preserved_statistics, reestimate_statistics
from dglab.testtime.advice import Advice, advise
from dglab.testtime.bank import ImageBank
from dglab.testtime.freeze import freeze
from dglab.testtime.guarded import GuardedNormalization
from dglab.testtime.normalization import SourceNormalization, TargetNormalization, shift_by_layer
from dglab.testtime.plain import PlainBank, target_normalization
from dglab.testtime.reference import SourceReference
from dglab.testtime.style import Style, style_distance, styles_of

__all__ = [
    "AdaBN",
    "Advice",
    "GuardedNormalization",
    "ImageBank",
    "PlainBank",
    "SourceNormalization",
    "SourceReference",
    "Style",
    "TargetNormalization",
    "advise",
    "freeze",
    "preserved_statistics",
    "reestimate_statistics",
    "shift_by_layer",
    "style_distance",
    "styles_of",
    "target_normalization",
]
