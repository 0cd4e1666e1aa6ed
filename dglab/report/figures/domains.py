"""Figures of domains: their classes, colours and styles, and how far they are apart."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dglab.report.figures.base import BLACK, BLUE, GREEN, VERMILION, domain_look, figure, plain_log


def class_frequencies(shares: pd.DataFrame) -> Figure:
    """Share of labelled pixels by class and domain, on a logarithmic axis.

    Args:
        shares: index = class names, columns = domains, values in percent.
    """
    fig, axis = figure(size=(12, 4.5))
    for i, (name, column) in enumerate(shares.items()):
        y = np.arange(len(column))
        axis.plot(column.to_numpy(), y, linestyle="", label=name, alpha=0.85, **domain_look(i))
    axis.set_yticks(range(len(shares)), shares.index, fontsize=9)
    axis.invert_yaxis()
    axis.set(xscale="log", xlabel="share of labelled pixels (%)", ylabel="class")
    axis.legend(title="domain", loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


def distance_matrix(distances: pd.DataFrame, title: str, unit: str) -> Figure:
    """A square table of distances as a heat map with its numbers."""
    import seaborn as sns  # imported here because it takes seconds

    fig, axis = figure(size=(6, 5))
    sns.heatmap(distances, annot=True, fmt=".2f", cmap="cividis", square=True, ax=axis, cbar_kws={"label": unit})
    axis.set(title=title, xlabel="", ylabel="")
    axis.tick_params("y", rotation=0)
    axis.grid(False)
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
        low, high = min(low for low, _ in limits), max(high for _, high in limits)
        for axis in axes[0][1:]:
            axis.set_xlim(low - 0.04 * (high - low), high + 0.04 * (high - low))  # no mark on the axis
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
        table: of :func:`dglab.analysis.domains.style_against_content`.
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
