"""Explorers, one line each in a notebook: batch size, image bank, MLDG.

What they compute is plain Python beside the widgets, and is tested without a browser.
"""

from dglab.teaching.explorers.bank import explore_arrivals
from dglab.teaching.explorers.batch import explore_batch_size
from dglab.teaching.explorers.rehearsal import explore_mldg

__all__ = ["explore_arrivals", "explore_batch_size", "explore_mldg"]
