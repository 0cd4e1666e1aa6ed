"""What the lessons use beside the library itself: toys, widgets, tables for reading."""

from dglab.utils.extras import extras_named

with extras_named("dglab.teaching"):
    import IPython  # noqa: F401
    import ipywidgets  # noqa: F401
    import matplotlib  # noqa: F401
    import pandas  # noqa: F401
