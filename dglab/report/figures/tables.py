"""Figures of the paper's tables and of Figure 5, drawn from the tidy table."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dglab.analysis.intervals import summarize
from dglab.report.figures.base import BLACK, BLUE, GREY, MARKERS, MIOU, VARIANT_COLORS, VERMILION, figure


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


def _task_title(frame: pd.DataFrame) -> str:
    return f"{frame['task'].iloc[0].replace('->', ' → ')}, {frame['data'].iloc[0]} ({frame['preset'].iloc[0]})"
