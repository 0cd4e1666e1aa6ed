"""Figures of GMP: its tables, ours beside the published ones, and gradients over a training."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from dglab.analysis.gmp_published import DATA_SETS, published_table_2, published_table_4
from dglab.analysis.intervals import on_sources, on_target, per_training
from dglab.experiments.gmp_methods import ABLATION, ALONE, BRANCHES, FUSED, GMP, JOINT, MultimodalMethod
from dglab.experiments.methods import SOURCE_BN, Shown, select
from dglab.report.figures.base import BLACK, BLUE, GREEN, GREY, MIOU, ORANGE, VERMILION, figure
from dglab.report.gmp_tables import IN_TABLE_2, Named
from dglab.utils.errors import InputError

MODALITY_LOOKS = {
    "rgb": {"color": BLUE, "linestyle": "-", "marker": "o"},
    "depth": {"color": VERMILION, "linestyle": "--", "marker": "^"},
    "normals": {"color": GREEN, "linestyle": ":", "marker": "s"},
}


def gmp_ablation(frame: pd.DataFrame | None = None) -> Figure:
    """GMP's Table 4: what each half does, ours on the unseen target beside the published accuracies.

    Small marks are single trainings, large ones their mean.

    Args:
        frame: tidy rows of the study ``gmp_ablation``, one task; None, or an empty one, leaves the published alone.

    Raises:
        InputError: for rows of several tasks.
    """
    return _beside_published(ABLATION, published_table_4(), frame, {"ours, unseen target": on_target})


def gmp_strategies(frame: pd.DataFrame | None = None) -> Figure:
    """GMP's Table 2 and the directions of projection: ours on target and sources beside the published accuracies.

    Args:
        frame: tidy rows of the study ``gmp_strategies``, one task; None, or an empty one, leaves the published alone.

    Raises:
        InputError: for rows of several tasks.
    """
    panels = {"ours, unseen target": on_target, "ours, the sources": on_sources}
    return _beside_published(IN_TABLE_2, published_table_2(), frame, panels)


def gmp_branches(frame: pd.DataFrame) -> Figure:
    """Each modality's own classifier, and the fused one: trained alone, jointly, and by GMP, under source BN.

    Args:
        frame: tidy rows of the study ``gmp_branches``, one task.

    Raises:
        InputError: for rows of several tasks.
    """
    _check_one_task(frame)
    rows = SOURCE_BN.rows(frame[frame["without"].isna()])
    views = [*BRANCHES.items(), ("fused", FUSED)]
    # above the row's line the target, below it the sources
    looks = {"unseen target": (on_target, -0.15, VERMILION, "^"), "the sources": (on_sources, 0.15, BLUE, "o")}
    fig, axes = figure(1, len(views), (4 * len(views), 3.6), sharex=True)
    for axis, (name, view) in zip(axes, views, strict=True):
        methods = (*([ALONE[name]] if name in ALONE else ALONE.values()), JOINT, GMP)
        for y, method in enumerate(methods):
            for on, offset, color, marker in looks.values():
                _marks(axis, _trainings(on(rows), method, view), y + offset, color=color, marker=marker)
        _name_rows(axis, methods)
        axis.set(title=view.label, xlabel=MIOU)
        axis.margins(x=0.1)
    for label, (*_, color, marker) in looks.items():
        axes[0].plot([], [], marker, color=color, label=label)
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig


def modality_race(log: pd.DataFrame, domains: int | None = None) -> Figure:
    """Who wins the race: confidences, gradient norms and conflicts of each modality over a training.

    Args:
        log: as :func:`dglab.analysis.gradients.race` returns it.
        domains: number of the source domains, to mark what guessing the domain would give.
    """
    fig, axes = figure(2, 2, (11, 6.4), sharex=True)
    (semantic, domain), (norms, cosines) = axes
    for name, rows in log.groupby("modality", sort=False):
        look = {**MODALITY_LOOKS[name], "markersize": 4}
        semantic.plot(rows["step"], rows["semantic"], label=name, **look)
        domain.plot(rows["step"], rows["domain"], **look)
        norms.plot(rows["step"], rows["norm_c"], **look)
        norms.plot(
            rows["step"], rows["norm_d"].replace(0, np.nan), **{**look, "linewidth": 0.8, "markersize": 0, "alpha": 0.8}
        )
        cosines.plot(rows["step"], rows["cosine"], **look)
    if domains is not None:
        domain.axhline(1 / domains, color=GREY, linestyle=(0, (5, 3)), label="guessing")
        domain.legend()
    cosines.axhline(0, color=BLACK, linewidth=1)
    semantic.legend()
    semantic.set(title="confidence in the true class, q", ylim=(0, None))
    domain.set(title="confidence in the true domain, c", ylim=(0, 1.1 * max(0.5, log["domain"].max())))
    norms.set(title="length of $g_c$ (thick) and $g_d$ (thin)", yscale="log", xlabel="step")
    norms.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    norms.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    norms.yaxis.set_minor_formatter(NullFormatter())
    reach = 1.1 * max(0.3, log["cosine"].abs().max())
    cosines.set(title="cosine of $g_c$ and $g_d$: below 0 a conflict", ylim=(-reach, reach), xlabel="step")
    return fig


def gradient_conflicts(log: pd.DataFrame, names: Mapping[str, str]) -> Figure:
    """Do meta-train and meta-test pull apart? The cosine of their gradients by layer, and over the training.

    Args:
        log: rows of :func:`dglab.analysis.gradients.domain_conflicts`, with a column ``train_method``.
        names: of the training methods to show, for display.
    """
    fig, (left, right) = figure(1, 2, (12, 4), sharey=True)
    layers = list(dict.fromkeys(log["layer"]))
    looks = ((BLUE, "o"), (VERMILION, "^"), (GREEN, "s"))
    for number, ((method, name), (color, marker)) in enumerate(zip(names.items(), looks, strict=False)):
        rows = log[log["train_method"] == method]
        for x, layer in enumerate(layers):
            cosines = rows.loc[rows["layer"] == layer, "cosine"]
            place = x + 0.3 * (number - (len(names) - 1) / 2)
            left.plot([place] * len(cosines), cosines, ".", color=color, alpha=0.35, markersize=5)
            left.plot(place, cosines.mean(), marker, color=color, markersize=9, label=name if x == 0 else None)
            share = f"{100 * (cosines < 0).mean():.0f} %"
            left.annotate(share, (x, -0.9 - 0.13 * number), ha="center", fontsize=9, color=color)
        whole = rows[rows["layer"] == layers[-1]]
        right.plot(whole["step"], whole["cosine"], color=color, marker=marker, markersize=4, label=name)
    for axis in (left, right):
        axis.axhline(0, color=BLACK, linewidth=1)
    left.set_xticks(range(len(layers)), layers)
    left.set(ylim=(-1 - 0.13 * len(names), 1.05), ylabel="cosine", title="by layer (below: how often a conflict)")
    right.set(xlabel="step", title=f"over the training ({layers[-1]} layers)")
    right.legend()
    return fig


def _beside_published(
    rows: Sequence[Named],
    published: Mapping[Named, pd.Series],
    frame: pd.DataFrame | None,
    panels: Mapping[str, Callable[[pd.DataFrame], pd.DataFrame]],
) -> Figure:
    """A row a method; ours by single trainings where there are any, a panel for each choice; the published figures."""
    ours = {}
    if frame is not None:
        _check_one_task(frame)
        ours = {title: found for title, choice in panels.items() if len(found := choice(frame))}
    rows = [row for row in rows if row in published or any(len(_trainings(one, row, FUSED)) for one in ours.values())]
    count = len(ours) + len(DATA_SETS)
    fig, axes = figure(1, count, (3.1 * count + 2, 0.5 * len(rows) + 1.4), sharey=True)
    for axis, (title, frame) in zip(axes, ours.items(), strict=False):
        for y, row in enumerate(rows):
            if isinstance(row, MultimodalMethod):
                _marks(axis, _trainings(frame, row, FUSED), y, color=BLUE, marker="o")
        axis.set(title=title, xlabel=MIOU)
        axis.margins(x=0.1)
    for axis, (column, name) in zip(axes[len(ours) :], DATA_SETS.items(), strict=True):
        for y, row in enumerate(rows):
            if row in published:
                axis.plot(published[row][column], y, "D", color=ORANGE, markersize=10)
                axis.annotate(f"{published[row][column]:.2f}", (published[row][column], y), (0, 8), ha="center",
                              textcoords="offset points", fontsize=9)  # fmt: skip
        axis.set(title=f"published, {name}", xlabel="accuracy (%)")
        axis.margins(x=0.2)
    for axis in axes:
        axis.locator_params(axis="x", nbins=5)
    _name_rows(axes[0], rows)
    return fig


def _check_one_task(frame: pd.DataFrame) -> None:
    """Refuse rows of several tasks, which would be drawn as one."""
    tasks = frame["task"].unique()
    if len(tasks) > 1:
        raise InputError(
            f"the rows are of the tasks {', '.join(tasks)}, and a figure shows one; select it by gmp_tables.of_task"
        )


def _trainings(frame: pd.DataFrame, *shown: Shown) -> np.ndarray:
    """mIoU of each training, the mean over the domains that it was tested on."""
    return per_training(select(frame, *shown, SOURCE_BN)).to_numpy(float)


def _marks(axis: Any, values: np.ndarray, y: float, *, color: str, marker: str) -> None:
    """Single trainings, small and pale, and their mean."""
    if len(values):
        axis.plot(values, [y] * len(values), marker, color=color, markersize=5, alpha=0.4)
        axis.plot(values.mean(), y, marker, color=color, markersize=11)


def _name_rows(axis: Any, rows: Sequence[Named]) -> None:
    axis.set_yticks(range(len(rows)), [row if isinstance(row, str) else row.label for row in rows])
    axis.set_ylim(len(rows) - 0.4, -0.7)
