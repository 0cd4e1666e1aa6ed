"""Figures of images and label maps: galleries, predictions side by side (Figure 4), depth."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from dglab.classes import CLASS_NAMES, IGNORED, colorize
from dglab.report.figures.base import BLACK, as_picture, class_legend, figure, show


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


def predictions(columns: Mapping[str, Sequence[Any]], compared: tuple[str, str] | None = None) -> Figure:
    """Figure 4: image, predictions and ground truth side by side, one example a row.

    Args:
        columns: title -> pictures of the examples; the column called ``image`` holds images, all others label maps.
        compared: the titles of two predictions; a box in every picture marks where these differ most.
    """
    count = len(next(iter(columns.values())))
    height, width = np.asarray(next(iter(columns.values()))[0]).shape[-2:]
    wide = 13 / len(columns)
    fig, axes = figure(count, len(columns), (13, count * (wide * height / width + 0.08) + 1.1), squeeze=False)
    for c, (title, pictures) in enumerate(columns.items()):
        for r, picture in enumerate(pictures):
            show(axes[r][c], picture, title if r == 0 else "", label=title != "image")
    for r in range(count if compared else 0):
        top, left, high, wide = most_different(*(np.asarray(columns[title][r]) for title in compared))
        for axis in axes[r]:  # white in black: seen on every colour
            for color, width in ((BLACK, 3.5), ("white", 1.5)):
                corner = (left - 0.5, top - 0.5)
                axis.add_patch(Rectangle(corner, wide, high, fill=False, edgecolor=color, linewidth=width))
    class_legend(fig, columns=10)
    return fig


def most_different(first: np.ndarray, second: np.ndarray, share: float = 1 / 3) -> tuple[int, int, int, int]:
    """The window in which two label maps differ in most pixels; the first of several.

    Args:
        first, second: H x W integers.
        share: of the height and of the width that the window has.

    Returns:
        Its top row, left column, height and width.
    """
    differs = (first != second).astype(np.int64)
    height, width = (max(1, round(size * share)) for size in differs.shape)
    sums = np.pad(differs.cumsum(0).cumsum(1), ((1, 0), (1, 0)))  # over all rows above and columns to the left
    inside = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    top, left = np.unravel_index(inside.argmax(), inside.shape)
    return int(top), int(left), height, width


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
