"""Explorers, one line each in a notebook: batch size, image bank, style mixer, MLDG, dose, your own picture, GMP's
projection.

What they compute is plain Python beside the widgets, and is tested without a browser; what they look like, with one.
"""

from dglab.teaching.explorers.bank import explore_arrivals
from dglab.teaching.explorers.batch import explore_batch_size
from dglab.teaching.explorers.dose import explore_dose
from dglab.teaching.explorers.mixer import explore_styles
from dglab.teaching.explorers.own import explore_picture
from dglab.teaching.explorers.projection import explore_projection
from dglab.teaching.explorers.rehearsal import explore_mldg

__all__ = [
    "explore_arrivals",
    "explore_batch_size",
    "explore_dose",
    "explore_mldg",
    "explore_picture",
    "explore_projection",
    "explore_styles",
]
