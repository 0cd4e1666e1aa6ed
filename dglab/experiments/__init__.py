"""Experiments: what the studies consist of, what runs them, and the one tidy table of what came out."""

from dglab.utils.extras import extras_named

with extras_named("dglab.experiments"):
    import pandas  # noqa: F401
