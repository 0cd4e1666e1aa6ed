"""Every figure of the lessons and the report. Functions of plain data, each returning a matplotlib Figure.

Colours are Okabe and Ito's, which stay apart for colour-blind readers; line styles and markers say the same once more.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Patch
from torch import Tensor

from dglab.classes import CLASS_NAMES, PALETTE, colorize
from dglab.evaluation import ConfusionMatrix
from dglab.experiments.summary import summarize

# Okabe & Ito, "Color universal design", 2008
BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip
GREY = "#777777"
VARIANT_COLORS = {
    "AGG": BLUE,
    "AGG2": SKY,
    "split": GREEN,
    "MLDG inner 0": PURPLE,
    "MLDG": VERMILION,
    "MLDG mean": ORANGE,
}
MARKERS = {"AGG": "o", "AGG2": "s", "split": "D", "MLDG inner 0": "v", "MLDG": "^", "MLDG mean": "P"}
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


def gallery(rows: Mapping[str, Sequence[tuple[Any, Any]]]) -> Figure:
    """Images over their labels: one pair of rows a domain.

    Args:
        rows: title of each domain -> a few (image, label) pairs.
    """
    columns = max(len(pairs) for pairs in rows.values())
    height, width = np.asarray(next(iter(rows.values()))[0][1]).shape
    tall = 12 / columns * height / width
    fig, axes = figure(2 * len(rows), columns, (12, 2 * len(rows) * (tall + 0.12) + 1), squeeze=False)
    for r, (title, pairs) in enumerate(rows.items()):
        for c, (image, label) in enumerate(pairs):
            show(axes[2 * r][c], image, title if c == 0 else "")
            show(axes[2 * r + 1][c], label, label=True)
            axes[2 * r][c].title.set_horizontalalignment("left")
            axes[2 * r][c].title.set_position((0, 1))
    class_legend(fig)
    return fig


def predictions(columns: Mapping[str, Sequence[Any]]) -> Figure:
    """Figure 4: image, predictions and ground truth side by side, one example a row.

    Args:
        columns: title -> pictures of the examples; the column called ``image`` holds images, all others label maps.
    """
    count = len(next(iter(columns.values())))
    height, width = np.asarray(next(iter(columns.values()))[0]).shape[-2:]
    wide = 13 / len(columns)
    fig, axes = figure(count, len(columns), (13, count * (wide * height / width + 0.08) + 1.1), squeeze=False)
    for c, (title, pictures) in enumerate(columns.items()):
        for r, picture in enumerate(pictures):
            show(axes[r][c], picture, title if r == 0 else "", label=title != "image")
    class_legend(fig, columns=10)
    return fig


def class_frequencies(shares: pd.DataFrame) -> Figure:
    """Share of labelled pixels by class and domain, on a logarithmic axis.

    Args:
        shares: index = class names, columns = domains, values in percent.
    """
    fig, axis = figure(size=(12, 4.5))
    marks = "os^Dv<>P*X"
    for i, (name, column) in enumerate(shares.items()):
        color = list(VARIANT_COLORS.values())[i % 6]
        axis.plot(column.to_numpy(), np.arange(len(column)), marks[i % len(marks)], color=color, label=name, alpha=0.85)
    axis.set_yticks(range(len(shares)), shares.index, fontsize=9)
    axis.invert_yaxis()
    axis.set(xscale="log", xlabel="share of labelled pixels (%)", ylabel="class")
    axis.legend(title="domain", loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


def distance_matrix(distances: pd.DataFrame, title: str, unit: str) -> Figure:
    """A square table of distances as a heat map with its numbers."""
    fig, axis = figure(size=(6, 5))
    sns.heatmap(distances, annot=True, fmt=".2g", cmap="cividis", square=True, ax=axis, cbar_kws={"label": unit})
    axis.set(title=title, xlabel="", ylabel="")
    axis.grid(False)
    return fig


def loss_curves(logs: Mapping[str, pd.DataFrame], window: int = 20) -> Figure:
    """Training losses by step, averaged over a moving window, with the learning rate.

    Args:
        logs: name of the run -> its log (columns step, lr, ds, dg, total).
        window: steps to average over.
    """
    fig, (left, right) = figure(1, 2, (11, 3.8), width_ratios=(2, 1))
    for name, log in logs.items():
        for column, dash in (("ds", "-"), ("dg", "--")):
            if log[column].notna().any():
                what = name if log["dg"].isna().all() else f"{name}, $L_{{{column}}}$"
                left.plot(log["step"], log[column].rolling(window, 1).mean(), dash, label=what)
        right.plot(log["step"], log["lr"])
    left.set(xlabel="step", ylabel=f"cross-entropy (mean of {window} steps)", yscale="log")
    left.legend()
    right.set(xlabel="step", ylabel="learning rate", title="poly decay, power 0.9")
    return fig


def ablation(frame: pd.DataFrame, tests: Sequence[tuple[str, str, int | None]]) -> Figure:
    """Table 3 with its controls: mIoU of every training method under several normalizations.

    Small marks are single trainings (each the mean over orders of arrival), large ones their mean.

    Args:
        frame: the tidy table of the study ``ablation``, one task.
        tests: (title, suffix of the method, batch size or None) of each panel.
    """
    fig, axes = figure(1, len(tests), (3.1 * len(tests) + 1, 3.6), sharey=True, sharex=True, squeeze=False)
    for axis, (title, suffix, size) in zip(axes[0], tests, strict=True):
        for y, variant in enumerate(VARIANT_COLORS):
            rows = frame[(frame["metric"] == "miou") & (frame["method"] == variant + suffix)]
            rows = rows if size is None else rows[rows["batch_size"] == size]
            values = rows.groupby("train_seed")["value"].mean()
            axis.plot(
                values, [y] * len(values), MARKERS[variant], color=VARIANT_COLORS[variant], alpha=0.4, markersize=5
            )
            axis.plot(values.mean(), y, MARKERS[variant], color=VARIANT_COLORS[variant], markersize=11)
        axis.set(title=title, xlabel=MIOU)
        axis.set_yticks(range(len(VARIANT_COLORS)), VARIANT_COLORS)
    axes[0][0].invert_yaxis()
    return fig


def batch_size(frame: pd.DataFrame, variants: Sequence[str] = ("AGG", "MLDG")) -> Figure:
    """Figure 5: mIoU of TN over the test batch size M; source BN as a flat line. Bands: deviation over trainings.

    Args:
        frame: the tidy table of the study ``batch_size``, one task.
        variants: which training methods to draw.
    """
    fig, axis = figure(size=(8, 4.5))
    means = summarize(frame, ["method", "batch_size"])
    for variant in variants:
        color, marker = VARIANT_COLORS[variant], MARKERS[variant]
        curve = means[means["method"] == f"{variant}+TN"].sort_values("batch_size")
        m, mean = curve["batch_size"].to_numpy(float), curve["mean"].to_numpy()
        axis.plot(m, mean, color=color, marker=marker, label=f"{variant} + TN")
        axis.fill_between(
            m, mean - curve["train_sd"].fillna(0), mean + curve["train_sd"].fillna(0), color=color, alpha=0.12
        )
        for value in means[means["method"] == variant]["mean"]:
            axis.axhline(value, color=color, linestyle=(0, (5, 3)), label=f"{variant}, source BN")
    axis.set_xscale("log", base=2)
    ticks = sorted(frame["batch_size"].dropna().unique())
    axis.set_xticks(ticks, [str(int(t)) for t in ticks])
    axis.set(xlabel="test batch size M (images normalized together)", ylabel=MIOU, title=_task_title(frame))
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


def gain_explained(frame: pd.DataFrame) -> Figure:
    """What each control already explains: the gain over AGG under source BN, and TN's benefit, by training method."""
    fig, axes = figure(1, 2, (11, 3.6), sharey=True)
    value = (
        frame[frame["metric"] == "miou"].groupby(["method", "batch_size", "train_seed"], dropna=False)["value"].mean()
    )
    value = value.reset_index()

    def of(method: str, size: int | None = None) -> pd.Series:
        rows = value[value["method"] == method]
        rows = rows if size is None else rows[rows["batch_size"] == size]
        return rows.set_index("train_seed")["value"]

    for y, variant in enumerate(VARIANT_COLORS):
        for axis, gaps in (
            (axes[0], of(variant) - of("AGG")),
            (axes[1], of(f"{variant}+TN", 4) - of(f"{variant}+BN re-estimated")),
        ):
            axis.plot(gaps, [y] * len(gaps), MARKERS[variant], color=VARIANT_COLORS[variant], alpha=0.4, markersize=5)
            axis.plot(gaps.mean(), y, MARKERS[variant], color=VARIANT_COLORS[variant], markersize=11)
    axes[0].set(title="gain over AGG, source BN", xlabel="difference in mIoU (points)")
    axes[1].set(title="TN (M = 4) over re-estimated BN", xlabel="difference in mIoU (points)")
    axes[0].set_yticks(range(len(VARIANT_COLORS)), VARIANT_COLORS)
    axes[0].invert_yaxis()
    for axis in axes:
        axis.axvline(0, color=BLACK, linewidth=1)
    return fig


def source_and_target(frame: pd.DataFrame) -> Figure:
    """Table 9: mIoU on each domain, the unseen target marked, with source BN and with SIB."""
    fig, axes = figure(1, 2, (11, 3.8), sharey=True)
    means = summarize(frame, ["method", "domain_evaluated", "target"])
    for axis, variant in zip(axes, ("AGG", "MLDG"), strict=True):
        for offset, (suffix, marker, color) in enumerate((("", "o", BLUE), ("+SIB", "^", VERMILION))):
            rows = means[means["method"] == variant + suffix]
            x = np.arange(len(rows)) + 0.14 * (offset - 0.5)
            axis.errorbar(
                x,
                rows["mean"],
                rows["train_sd"],
                fmt=marker,
                color=color,
                capsize=3,
                label=(suffix or "source BN").lstrip("+"),
            )
        ticks = [
            d + ("\n(target)" if d == t else "\n(source)")
            for d, t in zip(rows["domain_evaluated"], rows["target"], strict=True)
        ]
        axis.set_xticks(range(len(rows)), ticks)
        axis.set(title=f"trained with {variant}", xlabel="domain evaluated")
        axis.legend()
    axes[0].set_ylabel(MIOU)
    return fig


def selection_policy(frame: pd.DataFrame) -> Figure:
    """Table 5: mIoU on the mixed stream by the rule that chooses whom an image is normalized with."""
    rules = [("source BN", "", None), ("AdaBN", "+AdaBN", None), ("TN, M = 1", "+TN", 1), ("TN, M = 4", "+TN", 4),
             ("TN, M = 5", "+TN", 5), ("random 4", "+random", None), ("QIB", "+QIB", None), ("SIB", "+SIB", None),
             ("oracle", "+oracle", None)]  # fmt: skip
    fig, axis = figure(size=(9, 4.2))
    rows = frame[frame["metric"] == "miou"]
    for offset, variant in enumerate(("AGG", "MLDG")):
        for x, (_, suffix, size) in enumerate(rules):
            chosen = rows[rows["method"] == variant + suffix]
            chosen = chosen if size is None else chosen[chosen["batch_size"] == size]
            values = chosen.groupby("train_seed")["value"].mean()
            place, color = x + 0.2 * (offset - 0.5), VARIANT_COLORS[variant]
            axis.plot([place] * len(values), values, MARKERS[variant], color=color, alpha=0.4, markersize=5)
            axis.plot(
                place, values.mean(), MARKERS[variant], color=color, markersize=11, label=variant if x == 0 else None
            )
    axis.set_xticks(range(len(rules)), [name for name, _, _ in rules], rotation=20)
    axis.set(ylabel=MIOU, title=_task_title(frame))
    axis.legend(title="trained with")
    return fig


def sweep(
    frame: pd.DataFrame, column: str, xlabel: str, paper: pd.DataFrame | None = None, *, log: bool = False
) -> Figure:
    """Tables 6 and 7: mIoU and selection accuracy of SIB over one of its settings, the paper's mIoU beside ours.

    Args:
        frame: the tidy table of ``style_layer`` or ``queue_size``.
        column: the setting.
        paper: the published table with the columns ``x`` and ``miou``, or None.
        log: a base-2 axis.
    """
    panels = 2 if paper is None else 3
    fig, axes = figure(1, panels, (4 * panels, 3.6))
    for axis, metric, ylabel in (
        (axes[0], "miou", MIOU),
        (axes[1], "selection_accuracy", "selected from the same domain (%)"),
    ):
        rows = frame[frame["metric"] == metric].astype({column: float})
        each = rows.groupby(["train_seed", column])["value"].mean().reset_index()
        for _, run in each.groupby("train_seed"):
            axis.plot(run[column], run["value"], color=VERMILION, alpha=0.3, linewidth=1.2)
        mean = each.groupby(column)["value"].mean()
        axis.plot(mean.index, mean, color=VERMILION, marker="^")
        axis.set(xlabel=xlabel, ylabel=ylabel, title="ours (thin: single trainings)")
    if paper is not None:
        axes[2].plot(paper["x"], paper["miou"], color=GREY, marker="o")
        axes[2].set(xlabel=xlabel, ylabel=MIOU, title="the paper")
    for axis in axes:
        if log:
            axis.set_xscale("log", base=2)
        ticks = sorted(set(axis.lines[-1].get_xdata()))
        axis.set_xticks(ticks, [str(int(t)) for t in ticks])
    return fig


def per_class(matrices: Mapping[str, ConfusionMatrix]) -> Figure:
    """IoU of each class, one mark a method; classes that do not occur are left out."""
    fig, axis = figure(size=(12, 4))
    marks = "o^sDvP"
    for i, (name, matrix) in enumerate(matrices.items()):
        axis.plot(np.arange(19), 100 * matrix.iou(), marks[i % 6], label=f"{name}: mIoU {100 * matrix.miou():.1f}")
    axis.set_xticks(range(19), CLASS_NAMES, rotation=45, ha="right", fontsize=10)
    axis.set(ylabel="IoU (%)", ylim=(0, 100))
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


def _task_title(frame: pd.DataFrame) -> str:
    return f"{frame['task'].iloc[0].replace('->', ' → ')}, {frame['data'].iloc[0]} ({frame['preset'].iloc[0]})"


# --- diagrams -----------------------------------------------------------------------------------------------------


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
    fig, axes = figure(1, 2, (12, 4.2))
    for axis, title, adapts in ((axes[0], "domain adaptation", True), (axes[1], "domain generalization", False)):
        for y, name in ((3.2, "source 1"), (2.1, "source 2"), (1.0, "source 3")):
            _box(axis, 1.3, y, f"{name}\nimages + labels", BLUE)
            _arrow(axis, (2.6, y), (4.0, 2.1 + 0.25 * (y - 2.1)))
        _box(axis, 5.2, 2.1, "training", GREEN)
        _box(axis, 8.6, 2.1, "test on\nthe target", VERMILION)
        _arrow(axis, (6.5, 2.1), (7.3, 2.1))
        _box(axis, 5.2, 0.1, "target\nimages, no labels", VERMILION, 2.6)
        if adapts:
            _arrow(axis, (5.2, 0.6), (5.2, 1.6), color=VERMILION)
            axis.text(5.4, 1.0, "seen in training", fontsize=10, color=VERMILION)
        else:
            _arrow(axis, (6.6, 0.3), (8.4, 1.55), color=VERMILION, dash="--")
            axis.text(7.7, 0.55, "first seen\nat test time", fontsize=10, color=VERMILION)
        axis.set(xlim=(0, 10), ylim=(-0.6, 3.9), title=title, aspect="equal")
        axis.set_axis_off()
    return fig


def framework() -> Figure:
    """Figure 2 and 3: training rehearses a shift; at test time like images lend each other their statistics."""
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
