"""Runs first in every Python that the tests start, see ``tests/conftest.py``: fewer searches for garbage.

Else a process that imports torch, torchvision and pandas spends a quarter of that time in them, 1.2 s of a core, and
tests and notebooks start some sixty.
"""

import gc

gc.set_threshold(100_000, 50, 100)
