"""The look of all figures, and the pieces that they share.

Colours are Okabe and Ito's, which stay apart for colour-blind readers; line styles and markers say the same once more.
"""

import io
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import NullFormatter
from torch import Tensor

from dglab.classes import CLASS_NAMES, PALETTE, colorize
from dglab.experiments.methods import TRAINING_METHODS, TrainingMethod

# Okabe & Ito, "Color universal design", 2008
BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip
GREY = "#777777"
# of the training methods, by what selects their rows and not by what they are called
COLORS = dict(zip(TRAINING_METHODS, (BLUE, SKY, GREEN, BLACK, GREY, PURPLE, VERMILION, ORANGE), strict=True))
MARKERS = dict(zip(TRAINING_METHODS, "osDX*v^P", strict=True))
DOMAIN_COLORS = (BLUE, SKY, GREEN, PURPLE, VERMILION, ORANGE)
DOMAIN_MARKERS = "os^Dv<>P*X"
MIOU = "mIoU (%)"


def style() -> AbstractContextManager[None]:
    """The look of all figures: readable from the back of a lecture hall."""
    return plt.rc_context({
        "figure.constrained_layout.use": True, "figure.dpi": 100, "savefig.dpi": 130, "font.size": 12,
        "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 13, "axes.grid": True,
        "grid.alpha": 0.3, "legend.frameon": False, "lines.linewidth": 2, "lines.markersize": 7,
        "axes.prop_cycle": mpl.cycler(color=[BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY]),
    })  # fmt: skip


def figure(rows: int = 1, columns: int = 1, size: tuple[float, float] = (7, 4), **options: Any) -> tuple[Figure, Any]:
    """A figure in our style that no notebook shows twice."""
    with style():
        fig, axes = plt.subplots(rows, columns, figsize=size, **options)
    plt.close(fig)
    return fig, axes


def as_picture(image: Tensor | np.ndarray) -> np.ndarray:
    """3 x H x W (uint8 or float in [0, 1]) or H x W x 3 -> H x W x 3 for ``imshow``."""
    array = np.asarray(image)
    return array.transpose(1, 2, 0) if array.ndim == 3 and array.shape[0] == 3 else array


def show(axis: Any, picture: Any, title: str = "", *, label: bool = False) -> None:
    """An image, or a label map in the Cityscapes colours, without ticks."""
    axis.imshow(
        colorize(np.asarray(picture)) if label else as_picture(picture), interpolation="nearest" if label else None
    )
    axis.set_title(title, fontsize=11)
    axis.set_axis_off()


def class_legend(fig: Figure, present: Sequence[int] | None = None, columns: int = 7) -> None:
    """The 19 classes (or those present) in their colours, below the figure."""
    ids = range(len(CLASS_NAMES)) if present is None else present
    patches = [Patch(color=np.array(PALETTE[i]) / 255, label=CLASS_NAMES[i]) for i in ids]
    fig.legend(handles=patches, loc="outside lower center", ncols=columns, fontsize=10, handlelength=1)


def method_look(method: TrainingMethod) -> dict[str, str]:
    """Colour and marker of a training method, the same in all figures."""
    return {"color": COLORS[method], "marker": MARKERS[method]}


def domain_look(number: int) -> dict[str, str]:
    """Colour and marker of the first, second, ... domain of a figure."""
    return {"color": DOMAIN_COLORS[number % len(DOMAIN_COLORS)], "marker": DOMAIN_MARKERS[number % len(DOMAIN_MARKERS)]}


def plain_log(axes: Any, direction: str = "x") -> None:
    """Plain numbers on a logarithmic axis, x or y, as many as there is room for: 0.5 rather than 5 x 10^-1."""
    axis = axes.xaxis if direction == "x" else axes.yaxis
    low, high = axis.get_view_interval()
    digits = (1, 1.5, 2, 3, 4, 6, 8) if high < 10 * low else (1, 2, 5) if high < 1000 * low else (1,)
    ticks = [d * 10.0**e for e in range(-6, 7) for d in digits if low <= d * 10.0**e <= high]
    axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.set_minor_formatter(NullFormatter())


def as_jpeg(fig: Figure, quality: int = 75) -> Any:
    """A figure full of photographs for a notebook: as a PNG it would take five times the space.

    Returns:
        An ``IPython.display.Image``.
    """
    from IPython.display import Image  # the command line draws figures without it

    buffer = io.BytesIO()
    options = {"quality": quality, "subsampling": 0, "optimize": True}
    fig.savefig(buffer, format="jpeg", dpi=fig.dpi, bbox_inches="tight", pil_kwargs=options)
    return Image(buffer.getvalue(), format="jpeg")
