"""Experiments: the studies and their trials, the runner, and the one tidy table of results."""

from dglab.utils.extras import extras_named

with extras_named("dglab.experiments"):
    import pandas  # noqa: F401
