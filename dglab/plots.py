"""Every figure of the lessons and the report. Functions of plain data, each returning a matplotlib Figure.

Colours are Okabe and Ito's, which stay apart for colour-blind readers; line styles and markers say the same once more.
"""

import io
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
from matplotlib.ticker import NullFormatter
from torch import Tensor

from dglab.classes import CLASS_NAMES, IGNORED, PALETTE, colorize
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


def training_curve(log: pd.DataFrame, window: int = 20, steps: int | None = None) -> Figure:
    """The losses of one run, raw and averaged over a moving window, with the learning rate.

    Args:
        log: columns step, lr, ds, dg, total, as :func:`dglab.training.watching.read_log` gives them.
        window: steps to average over.
        steps: of the whole run, for one that is still training; None ends the axis at the last step.
    """
    fig, (left, right) = figure(1, 2, (11, 3.8), width_ratios=(2, 1))
    for column, color, dash in (("ds", BLUE, "-"), ("dg", VERMILION, "--")):
        if log[column].notna().any():
            left.plot(log["step"], log[column], color=color, alpha=0.25, linewidth=1)
            left.plot(log["step"], log[column].rolling(window, 1).mean(), dash, color=color, label=f"$L_{{{column}}}$")
            left.legend()
    left.set(xlabel="step", ylabel="cross-entropy", title=f"each step, and the mean of {window}")
    right.plot(log["step"], log["lr"], color=BLACK)
    right.set(xlabel="step", ylabel="learning rate")
    if steps is not None:
        left.set_xlim(0, steps)
        right.set_xlim(0, steps)
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


def normalizations(
    frame: pd.DataFrame, tests: Sequence[tuple[str, str, int | None]], titles: Mapping[str, str]
) -> Figure:
    """mIoU of every training method under several normalizations, a panel for each task.

    Args:
        frame: tidy rows of these tasks.
        tests: (name on the axis, suffix of the method, batch size or None), from left to right.
        titles: of the panels, by task.
    """
    columns = min(2, len(titles))
    lines = -(-len(titles) // columns)
    fig, axes = figure(lines, columns, (7 * columns, 3.8 * lines), sharex=True, squeeze=False)
    rows = frame[frame["metric"] == "miou"]
    for axis, (task, title) in zip(axes.flat, titles.items(), strict=False):
        for number, variant in enumerate(VARIANT_COLORS):
            means, deviations = [], []
            for _, suffix, size in tests:
                found = rows[(rows["task"] == task) & (rows["method"] == variant + suffix)]
                found = found if size is None else found[found["batch_size"] == size]
                values = found.groupby("train_seed")["value"].mean()
                means.append(values.mean())
                deviations.append(values.std())
            x = np.arange(len(tests)) + 0.12 * (number - (len(VARIANT_COLORS) - 1) / 2)
            look = {"color": VARIANT_COLORS[variant], "marker": MARKERS[variant]}
            axis.errorbar(x, means, np.nan_to_num(deviations), linestyle="", elinewidth=1.2, label=variant, **look)
        axis.set_title(title)
        axis.set_xticks(range(len(tests)), [name for name, _, _ in tests], rotation=30, ha="right")
        axis.set_ylabel(MIOU)
        for edge in np.arange(len(tests) - 1) + 0.5:
            axis.axvline(edge, color=GREY, linewidth=0.5, alpha=0.5)
    for axis in axes.flat[len(titles) :]:
        axis.set_visible(False)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return fig


def batch_size(frame: pd.DataFrame, variants: Sequence[str] = ("AGG", "MLDG")) -> Figure:
    """Figure 5: mIoU of TN over the test batch size M; source BN as a flat line of the same colour.

    Bands show the deviation over trainings, for two methods at most: more would cover each other.

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
        if len(variants) <= 2:
            deviation = curve["train_sd"].fillna(0).to_numpy()
            axis.fill_between(m, mean - deviation, mean + deviation, color=color, alpha=0.12)
        for value in means[means["method"] == variant]["mean"]:
            axis.axhline(value, color=color, linestyle=(0, (5, 3)))
    axis.plot([], [], color=GREY, linestyle=(0, (5, 3)), label="source BN")
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
        (axes[1], "selection_accuracy", "from the same domain (%)"),
    ):
        rows = frame[frame["metric"] == metric].astype({column: float})
        each = rows.groupby(["train_seed", column])["value"].mean().reset_index()
        for _, run in each.groupby("train_seed"):
            axis.plot(run[column], run["value"], color=VERMILION, alpha=0.3, linewidth=1.2)
        mean = each.groupby(column)["value"].mean()
        axis.plot(mean.index, mean, color=VERMILION, marker="^")
        axis.set(xlabel=xlabel, ylabel=ylabel, title="ours (faint: single trainings)")
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


def shift_by_depth(shifts: Mapping[str, Mapping[str, float]], title: str) -> Figure:
    """How far each domain's statistics lie from the source's in every BatchNorm layer, from input to output.

    Args:
        shifts: domain -> (layer -> shift), see :func:`dglab.testtime.shift_by_layer`.
        title: of the figure.
    """
    fig, axis = figure(size=(10, 4.2))
    for (name, layers), marker in zip(shifts.items(), "os^Dv<>P*X", strict=False):
        axis.plot(range(len(layers)), list(layers.values()), marker=marker, label=name)
    layers = list(next(iter(shifts.values())))
    axis.set_xticks(range(len(layers)), layers, rotation=45, ha="right", fontsize=9)
    axis.set(xlabel="BatchNorm layer, from input to output", title=title)
    axis.set_ylabel("shift of the mean\n(source deviations)")
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


def cosine_curve(inner_lrs: Sequence[float], curves: Mapping[str, Sequence[float]], used: float) -> Figure:
    """Cosine between first- and second-order gradients over the inner learning rate; the one in use is marked."""
    fig, axis = figure(size=(7.5, 4))
    for (name, cosines), marker in zip(curves.items(), "os^", strict=False):
        axis.plot(inner_lrs, cosines, marker=marker, label=name)
    axis.axvline(used, color=GREY, linestyle="--", label="in use")
    axis.set(xscale="log", xlabel="inner learning rate $\\eta$", ylabel="cosine, first against second order")
    axis.legend()
    return fig


DOMAIN_MARKERS = "os^Dv<>P*X"


def domain_look(number: int) -> dict[str, str]:
    """Colour and marker of the first, second, ... domain of a figure."""
    colors = list(VARIANT_COLORS.values())
    return {"color": colors[number % len(colors)], "marker": DOMAIN_MARKERS[number % len(DOMAIN_MARKERS)]}


def plain_log(axis: Any) -> None:
    """Plain numbers on a logarithmic x axis: 0.5 rather than 5 x 10^-1."""
    low, high = axis.get_xlim()
    ticks = [d * 10.0**e for e in range(-6, 7) for d in (1, 2, 5) if low <= d * 10.0**e <= high]
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.xaxis.set_minor_formatter(NullFormatter())


def picture_grid(rows: Mapping[str, Sequence[Any]], titles: Sequence[str], labels: Sequence[str] = ()) -> Figure:
    """Pictures in a grid, rows named on the left and columns on top.

    Args:
        rows: name of the row -> one picture for each column.
        titles: names of the columns.
        labels: which rows hold label maps; their classes are then listed below.
    """
    first = as_picture(next(iter(rows.values()))[0])
    height, width = first.shape[:2]
    tall = 12 / len(titles) * height / width
    high = len(rows) * (tall + 0.06) + (1.0 if labels else 0.4)
    fig, axes = figure(len(rows), len(titles), (12, high), squeeze=False)
    for r, (name, pictures) in enumerate(rows.items()):
        for c, picture in enumerate(pictures):
            show(axes[r][c], picture, titles[c] if r == 0 else "", label=name in labels)
        axes[r][0].text(-0.04, 0.5, name, transform=axes[r][0].transAxes, rotation=90, ha="right", va="center")
    if labels:
        maps = [np.asarray(picture) for name in labels for picture in rows[name]]
        present = sorted({int(i) for label in maps for i in np.unique(label)} - {IGNORED})
        class_legend(fig, present, columns=8)
    return fig


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


def small_label_maps(maps: Mapping[str, Any]) -> Figure:
    """Label maps of a few pixels, the class written into each.

    Args:
        maps: title -> H x W integers, 0-18 and 255.
    """
    fig, axes = figure(1, len(maps), (4.2 * len(maps), 2.9), squeeze=False)
    for axis, (title, label) in zip(axes[0], maps.items(), strict=True):
        label = np.asarray(label)
        show(axis, label, title, label=True)
        for (y, x), i in np.ndenumerate(label):
            dark = colorize(label)[y, x].mean() < 128
            name = "ignored" if i == IGNORED else CLASS_NAMES[i]
            axis.text(x, y, f"{name}\n{i}", ha="center", va="center", fontsize=12, color="white" if dark else BLACK)
        for line in range(1, label.shape[1]):
            axis.axvline(line - 0.5, color="white", linewidth=2)
        for line in range(1, label.shape[0]):
            axis.axhline(line - 0.5, color="white", linewidth=2)
    return fig


def value_strips(panels: Mapping[str, Mapping[str, Any]], xlabel: str) -> Figure:
    """A few numbers as marks on a line, one panel after another; a vertical bar marks the mean.

    All panels but the first have the same axis.

    Args:
        panels: title of the panel -> name of the series -> its values.
        xlabel: what the values are.
    """
    fig, axes = figure(1, len(panels), (4.2 * len(panels), 2.8), squeeze=False, sharey=True)
    for axis, (title, series) in zip(axes[0], panels.items(), strict=True):
        for i, values in enumerate(series.values()):
            values = np.asarray(values, float).ravel()
            axis.plot(values, np.full(len(values), i), linestyle="", markersize=10, alpha=0.8, **domain_look(4 * i))
            axis.plot([values.mean()] * 2, [i - 0.28, i + 0.28], color=domain_look(4 * i)["color"])
        axis.set(title=title, xlabel=xlabel, ylim=(len(series) - 0.5, -0.5))
        axis.set_yticks(range(len(series)), list(series), fontsize=12)
    if len(panels) > 2:  # what came out is compared from panel to panel
        limits = [axis.get_xlim() for axis in axes[0][1:]]
        for axis in axes[0][1:]:
            axis.set_xlim(min(low for low, _ in limits), max(high for _, high in limits))
    return fig


def setting_ranges(settings: Mapping[str, Mapping[str, tuple[float, float]]], units: Mapping[str, str]) -> Figure:
    """From where to where each setting goes in each domain, one panel a setting.

    Args:
        settings: name of the setting -> domain -> (low, high).
        units: name of the setting -> what its numbers mean.
    """
    columns = 4
    rows = -(-len(settings) // columns)
    fig, axes = figure(rows, columns, (12, 2.5 * rows + 0.2), squeeze=False, sharey=True)
    for axis in axes.flat[len(settings) :]:
        axis.set_axis_off()
    for axis, (name, ranges) in zip(axes.flat, settings.items(), strict=False):
        for i, (low, high) in enumerate(ranges.values()):
            axis.plot([low, high], [i, i], linewidth=5, solid_capstyle="butt", markersize=8, **domain_look(i))
        axis.set_title(name)
        axis.set(xlabel=units[name], ylim=(len(ranges) - 0.5, -0.5))
        axis.set_yticks(range(len(ranges)), list(ranges), fontsize=12)
    return fig


def channel_statistics(frame: pd.DataFrame) -> Figure:
    """Brightness and contrast of each colour channel by domain: the mean over images and their deviation.

    Args:
        frame: columns domain, channel, mean, deviation; one row for each image and channel.
    """
    looks = {"red": (VERMILION, "v"), "green": (GREEN, "s"), "blue": (BLUE, "^")}
    names = list(dict.fromkeys(frame["domain"]))
    fig, axes = figure(1, 2, (12, 0.75 * len(names) + 1.6), sharey=True)
    for axis, value, title in ((axes[0], "mean", "mean: brightness"), (axes[1], "deviation", "deviation: contrast")):
        for offset, (channel, (color, marker)) in enumerate(looks.items()):
            values = frame[frame["channel"] == channel].groupby("domain", sort=False)[value]
            y = np.arange(len(names)) + 0.22 * (offset - 1)
            axis.errorbar(values.mean(), y, xerr=values.std(), fmt=marker, color=color, capsize=3, label=channel)
        axis.set(title=title, xlabel="value of a pixel, 0 to 1")
    axes[0].set_yticks(range(len(names)), names, fontsize=12)
    axes[0].invert_yaxis()
    axes[1].legend(title="channel", loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


def own_and_others(frame: pd.DataFrame) -> Figure:
    """How far each image is from its own domain and from the others: one small mark an image, the mean large.

    Args:
        frame: columns domain, own, others.
    """
    names = list(dict.fromkeys(frame["domain"]))
    fig, axes = figure(1, 2, (12, 0.55 * len(names) + 1.7), sharey=True, sharex=True)
    rng = np.random.default_rng(0)
    for axis, value, title in ((axes[0], "own", "to its own domain"), (axes[1], "others", "to the other domains")):
        for i, name in enumerate(names):
            values = frame.loc[frame["domain"] == name, value].to_numpy()
            y = i + rng.uniform(-0.22, 0.22, len(values))
            axis.plot(values, y, linestyle="", markersize=5, alpha=0.35, **domain_look(i))
            axis.plot(values.mean(), i, markersize=13, markeredgecolor=BLACK, **domain_look(i))
        axis.set(title=f"mean distance of an image {title}", xlabel="style distance, Eq. 10", xscale="log")
        plain_log(axis)
    axes[0].set_yticks(range(len(names)), names, fontsize=12)
    axes[0].invert_yaxis()
    return fig


def style_plane(places: pd.DataFrame, share: Sequence[float]) -> Figure:
    """The styles of single images in a plane, a colour and a marker for each domain.

    Args:
        places: columns domain, first, second.
        share: of the variance, on the first and the second axis.
    """
    fig, axis = figure(size=(9, 5.5))
    for i, (name, rows) in enumerate(places.groupby("domain", sort=False)):
        axis.plot(rows["first"], rows["second"], linestyle="", label=name, alpha=0.75, **domain_look(i))
    axis.set(
        xlabel=f"first principal component ({100 * share[0]:.0f} % of the variance)",
        ylabel=f"second ({100 * share[1]:.0f} %)",
    )
    axis.legend(title="domain", loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


def style_against_content(table: pd.DataFrame, reference: str) -> Figure:
    """How far a domain moves by its content alone, by its style alone, and by both.

    Args:
        table: of :func:`dglab.domains.style_against_content`.
        reference: the domain that everything is compared with.
    """
    fig, axis = figure(size=(9, 0.55 * len(table) + 1.9))
    for i, kind in enumerate(table):
        y = np.arange(len(table)) + 0.16 * (i - 1)
        axis.plot(table[kind], y, linestyle="", markersize=10, label=kind, **domain_look((0, 4, 2)[i % 3]))
    axis.axvline(table.attrs["within"], color=BLACK, linestyle="--", label=f"nothing: within {reference}")
    axis.set_yticks(range(len(table)), list(table.index), fontsize=12)
    axis.set(xscale="log", xlabel=f"mean distance to the images of {reference}, Eq. 10", ylabel="other domain")
    axis.set_ylim(len(table) - 0.5, -0.5)
    plain_log(axis)
    axis.legend(title="taken from the other", loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


def depth(image: Any, label: Any, metres: np.ndarray, farthest: float = 100.0) -> Figure:
    """An image with its label and its depth map; beyond ``farthest`` metres one colour."""
    height, width = np.asarray(label).shape
    fig, axes = figure(1, 3, (13, 13 / 3 * height / width + 0.6))
    show(axes[0], image, "image")
    show(axes[1], label, "label", label=True)
    picture = axes[2].imshow(np.minimum(metres, farthest), cmap="cividis_r", norm="log")
    axes[2].set_title("depth", fontsize=11)
    axes[2].set_axis_off()
    ticks = [t for t in (2, 5, 10, 20, 50, 100) if metres.min() <= t <= farthest]
    bar = fig.colorbar(picture, ax=axes[2], label="metres, log scale", ticks=ticks, shrink=0.8)
    bar.ax.set_yticks(ticks, [f"{t}" for t in ticks])
    bar.ax.minorticks_off()
    return fig


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


def prior_curves(grid: pd.DataFrame, titles: Mapping[str, str]) -> Figure:
    """mIoU over the share of source statistics in TN, a panel for each unseen domain.

    Args:
        grid: as :func:`dglab.experiments.when.prior_grid` returns it.
        titles: of the panels, by domain.
    """
    domains = list(titles)
    fig, axes = figure(1, len(domains), (4.6 * len(domains), 4.2), squeeze=False)
    for axis, domain in zip(axes[0], domains, strict=True):
        rows = grid[grid["domain"] == domain]
        for (method, m), part in rows.groupby(["method", "batch_size"]):
            curve = part.groupby("prior")["miou"].agg(["mean", "std"])
            look = {"color": VARIANT_COLORS[method], "marker": MARKERS[method], "linestyle": "-" if m == 1 else "--"}
            axis.plot(curve.index, curve["mean"], label=f"{method}, M = {m}", **look)
            if m == 1:
                low, high = curve["mean"] - curve["std"], curve["mean"] + curve["std"]
                axis.fill_between(curve.index, low, high, color=look["color"], alpha=0.12, linewidth=0)
        axis.set(title=titles[domain], xlabel="prior: share of source statistics\n(0 = TN, 1 = source BN)")
    axes[0, 0].set_ylabel(MIOU)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return fig


def signals_and_gain(frame: pd.DataFrame, correlations: pd.DataFrame, names: Mapping[str, str]) -> Figure:
    """What TN gains on each image over signals that need no label, with rank correlations.

    Args:
        frame: as :func:`dglab.experiments.when.image_signals` returns it.
        correlations: as :func:`dglab.experiments.when.rank_correlations` returns it.
        names: the signals' columns and what to write on their axes.
    """
    fig, axes = figure(1, len(names), (4.6 * len(names), 4.6), sharey=True)
    for axis, (signal, name) in zip(axes, names.items(), strict=True):
        for number, (domain, part) in enumerate(frame.groupby("domain", sort=False)):
            look = domain_look(number)
            label = f"{domain} ({'source' if part['seen'].all() else 'unseen'})"
            axis.scatter(part[signal], part["gain"], s=22, alpha=0.7, linewidths=0, label=label, **look)
        axis.axhline(0, color=GREY, linewidth=1)
        found = correlations[correlations["signal"] == signal].set_index("scope")
        lines = [f"{scope}: ρ = {r.rho:+.2f} [{r.low:+.2f}, {r.high:+.2f}]" for scope, r in found.iterrows()]
        axis.set_title("\n".join(lines), fontsize=11)
        axis.set_xlabel(name)
        if signal == "style_distance":
            axis.set_xscale("log")
            plain_log(axis)
    axes[0].set_ylabel("gain of TN (M = 1) over source BN\non one image (points of mIoU)")
    handles, labels = axes[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return fig
