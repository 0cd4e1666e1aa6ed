"""Analysis of the tidy table: means and intervals, the paper's claims, signals that need no label."""

from dglab.utils.extras import extras_named

with extras_named("dglab.analysis"):
    import pandas  # noqa: F401
    import scipy  # noqa: F401
