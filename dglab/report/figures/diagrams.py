"""Diagrams: adaptation and generalization (Figure 1), the framework (Figures 2 and 3)."""

from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from dglab.report.figures.base import BLACK, BLUE, GREEN, GREY, VERMILION, figure


def _box(axis: Any, x: float, y: float, text: str, color: str, width: float = 2.3, height: float = 0.8) -> None:
    axis.add_patch(
        FancyBboxPatch(
            (x - width / 2, y - height / 2),
            width,
            height,
            "round,pad=0.08",
            facecolor=color + "22",
            edgecolor=color,
            linewidth=2,
        )
    )
    axis.text(x, y, text, ha="center", va="center", fontsize=11)


def _arrow(
    axis: Any,
    start: tuple[float, float],
    stop: tuple[float, float],
    text: str = "",
    dash: str = "-",
    color: str = BLACK,
) -> None:
    axis.add_patch(
        FancyArrowPatch(start, stop, arrowstyle="-|>", mutation_scale=16, linestyle=dash, linewidth=1.8, color=color)
    )
    if text:
        axis.text(
            (start[0] + stop[0]) / 2, (start[1] + stop[1]) / 2 + 0.16, text, ha="center", fontsize=10, color=color
        )


def adaptation_and_generalization() -> Figure:
    """Figure 1: domain adaptation sees the target's images in training, domain generalization does not."""
    fig, axes = figure(1, 2, (13, 3.9))
    for axis, title, adapts in ((axes[0], "domain adaptation", True), (axes[1], "domain generalization", False)):
        for x, width, name in ((-0.1, 6.7, "training time"), (6.8, 3.2, "test time")):
            axis.add_patch(FancyBboxPatch((x, -0.75), width, 4.9, "round,pad=0.05", facecolor="#00000009", linewidth=0))
            axis.text(x + width / 2, 3.85, name, ha="center", fontsize=12, color=GREY)
        for y, name in ((3.1, "source 1"), (2.0, "source 2"), (0.9, "source 3")):
            _box(axis, 1.3, y, f"{name}\nimages + labels", BLUE)
            _arrow(axis, (2.6, y), (4.0, 2.0 + 0.25 * (y - 2.0)))
        _box(axis, 5.2, 2.0, "training", GREEN)
        _box(axis, 8.4, 2.0, "test on\nthe target", VERMILION)
        _arrow(axis, (6.5, 2.0), (7.1, 2.0))
        target = "target\nimages, no labels"
        _box(axis, 8.4, -0.2, target, VERMILION, 2.6)
        _arrow(axis, (8.4, 0.35), (8.4, 1.5), color=VERMILION)
        if adapts:
            _box(axis, 5.2, -0.2, target, VERMILION, 2.6)
            _arrow(axis, (5.2, 0.35), (5.2, 1.5), color=VERMILION)
        else:
            axis.text(5.2, -0.2, "nothing of\nthe target", ha="center", va="center", fontsize=11, color=GREY)
        axis.set(xlim=(-0.3, 10.2), ylim=(-0.9, 4.3), aspect="equal")
        axis.set_title(title, fontsize=15)
        axis.set_axis_off()
    return fig


def framework() -> Figure:
    """Figure 2 and 3: training rehearses a shift; at test time similar images are normalized together."""
    colors = (GREY, BLUE, GREEN, VERMILION, BLACK)
    rows = {
        "training: MLDG (Eq. 3-6)": (
            "batch\n$B \\times D \\times C \\times H \\times W$",
            "meta-train domains\n$L_{ds}(\\theta)$",
            "inner step\n$\\theta' = \\theta - \\eta \\nabla L_{ds}$",
            "meta-test domains\n$L_{dg}(\\theta')$",
            "outer step on\n$L_{dg} + \\alpha L_{ds}$",
        ),
        "test time: the style-based Image Bank (SIB)": (
            "image $t$ arrives",
            "its style $(\\mu, \\sigma)$\nafter layer 1",
            "the $M$ nearest of\nthe last $Q$ (Eq. 10)",
            "normalize the $M+1$\ntogether (Eq. 8-9)",
            "keep its prediction,\nthen store it",
        ),
    }
    fig, axes = figure(2, 1, (12, 4.2))
    for axis, (title, texts) in zip(axes, rows.items(), strict=True):
        for i, (text, color) in enumerate(zip(texts, colors, strict=True)):
            _box(axis, 1.4 + 3.3 * i, 1, text, color, 2.6, 1.0)
            if i:
                _arrow(axis, (3.3 * i - 0.45, 1), (3.3 * i + 0.05, 1))
        axis.set_title(title, loc="left")
        axis.set(xlim=(-0.1, 16.1), ylim=(0.2, 1.8), aspect="equal")
        axis.set_axis_off()
    return fig
