"""What a reader sees: figures by subject, and the page."""

from dglab.utils.extras import extras_named

with extras_named("dglab.report"):
    import matplotlib  # noqa: F401
    import pandas  # noqa: F401
