"""Figures of the paper's tables and of Figure 5, drawn from the tidy table."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dglab.analysis.intervals import common_seeds, summarize
from dglab.experiments.methods import (
    ADABN,
    AGG,
    BN_REESTIMATED,
    MLDG,
    ORACLE,
    QIB,
    RANDOM,
    SIB,
    SOURCE_BN,
    TN_1,
    TN_4,
    TN_5,
    Normalization,
    Shown,
    TrainingMethod,
    select,
    trained_in,
)
from dglab.report.figures.base import BLACK, BLUE, GREY, MIOU, VERMILION, domain_look, figure, method_look
from dglab.tasks import sources_of


def ablation(frame: pd.DataFrame, normalizations: Sequence[Normalization]) -> Figure:
    """Table 3 with its controls: mIoU of every training method under several normalizations.

    Small marks are single trainings (each the mean over orders of arrival), large ones their mean.

    Args:
        frame: the tidy table of the study ``ablation``, one task.
        normalizations: a panel each.
    """
    count = len(normalizations)
    fig, axes = figure(1, count, (3.1 * count + 1, 3.6), sharey=True, sharex=True, squeeze=False)
    for axis, normalization in zip(axes[0], normalizations, strict=True):
        for y, method in enumerate(trained_in(frame)):
            values = _trainings(frame, method, normalization)
            _marks(axis, values, [y] * len(values), method)
            _marks(axis, [values.mean()], [y], method, large=True)
        axis.set(title=normalization.label, xlabel=MIOU)
        _methods_on(axis, frame)
    axes[0][0].invert_yaxis()
    return fig


def normalizations(frame: pd.DataFrame, shown: Sequence[Normalization], titles: Mapping[str, str]) -> Figure:
    """mIoU of every training method under several normalizations, a panel for each task.

    Args:
        frame: tidy rows of these tasks.
        shown: the normalizations, from left to right.
        titles: of the panels, by task.
    """
    columns = min(2, len(titles))
    lines = -(-len(titles) // columns)
    fig, axes = figure(lines, columns, (7 * columns, 3.8 * lines), sharex=True, squeeze=False)
    for place, (axis, (task, title)) in enumerate(zip(axes.flat, titles.items(), strict=False)):
        rows = frame[frame["task"] == task]
        methods = trained_in(rows)
        for number, method in enumerate(methods):
            values = [_trainings(rows, method, normalization) for normalization in shown]
            x = np.arange(len(shown)) + 0.12 * (number - (len(methods) - 1) / 2)
            axis.errorbar(
                x,
                [v.mean() for v in values],
                np.nan_to_num([v.std() for v in values]),
                linestyle="",
                elinewidth=1.2,
                label=method.label,
                **method_look(method),
            )
        axis.set_title(title)
        axis.set_xticks(range(len(shown)), [one.label for one in shown], rotation=30, ha="right")
        axis.tick_params(labelbottom=place + columns >= len(titles))  # where no panel stands below
        axis.set_ylabel(MIOU)
        for edge in np.arange(len(shown) - 1) + 0.5:
            axis.axvline(edge, color=GREY, linewidth=0.5, alpha=0.5)
    for axis in axes.flat[len(titles) :]:
        axis.set_visible(False)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return fig


def batch_size(frame: pd.DataFrame, methods: Sequence[TrainingMethod] = (AGG, MLDG)) -> Figure:
    """Figure 5: mIoU of TN over the test batch size M; source BN as a flat line of the same colour.

    Bands show the deviation over trainings, for two methods at most: more would cover each other.

    Args:
        frame: the tidy table of the study ``batch_size``, one task.
        methods: which training methods to draw.
    """
    fig, axis = figure(size=(8, 4.5))
    for method in methods:
        look = method_look(method)
        curve = summarize(select(frame, method, test_method="tn"), ["batch_size"]).sort_values("batch_size")
        m, mean = curve["batch_size"].to_numpy(float), curve["mean"].to_numpy()
        axis.plot(m, mean, label=f"{method.label} + TN", **look)
        if len(methods) <= 2:
            deviation = curve["train_sd"].fillna(0).to_numpy()
            axis.fill_between(m, mean - deviation, mean + deviation, color=look["color"], alpha=0.12)
        axis.axhline(_trainings(frame, method, SOURCE_BN).mean(), color=look["color"], linestyle=(0, (5, 3)))
    axis.plot([], [], color=GREY, linestyle=(0, (5, 3)), label="source BN")
    axis.set_xscale("log", base=2)
    ticks = sorted(frame["batch_size"].dropna().unique())
    axis.set_xticks(ticks, [str(int(t)) for t in ticks])
    axis.set(xlabel="test batch size M (images normalized together)", ylabel=MIOU, title=_task_title(frame))
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


def gain_explained(frame: pd.DataFrame) -> Figure:
    """What each control already explains: the gain over AGG under source BN, and TN's benefit, by training method.

    The first is over the mean of AGG's trainings (the same seed makes no pair of two methods), the second a network's
    own.

    Args:
        frame: the tidy table of the study ``ablation``, one task.
    """
    fig, axes = figure(1, 2, (11, 3.6), sharey=True)
    for y, method in enumerate(trained_in(frame)):
        over_agg = _trainings(frame, method, SOURCE_BN) - _trainings(frame, AGG, SOURCE_BN).mean()
        of_tn = _trainings(frame, method, TN_4) - _trainings(frame, method, BN_REESTIMATED)
        for axis, gaps in zip(axes, (over_agg, of_tn), strict=True):
            _marks(axis, gaps, [y] * len(gaps), method)
            _marks(axis, [gaps.mean()], [y], method, large=True)
    axes[0].set(title=f"gain over the mean of {AGG.label}, source BN", xlabel="difference in mIoU (points)")
    axes[1].set(title="TN (M = 4) over re-estimated BN", xlabel="difference in mIoU (points)")
    _methods_on(axes[0], frame)
    axes[0].invert_yaxis()
    for axis in axes:
        axis.axvline(0, color=BLACK, linewidth=1)
    return fig


def gain_by_domain(frame: pd.DataFrame, titles: Mapping[str, str]) -> Figure:
    """What TN (M = 4) adds to source BN on each domain, by training method: a panel a domain.

    Args:
        frame: tidy rows of networks with the same sources, tested on several domains.
        titles: of the panels, by domain.
    """
    fig, axes = figure(1, len(titles), (2.6 * len(titles) + 1.5, 3.4), sharey=True, sharex=True, squeeze=False)
    for axis, (domain, title) in zip(axes[0], titles.items(), strict=True):
        rows = frame[frame["domain_evaluated"] == domain]
        for y, method in enumerate(trained_in(frame)):
            gaps = _gain_of_tn(method.rows(rows))
            _marks(axis, gaps, [y] * len(gaps), method)
            _marks(axis, [gaps.mean()], [y], method, large=True)
        axis.axvline(0, color=BLACK, linewidth=1)
        axis.set(title=title, xlabel="TN - source BN (points)")
    _methods_on(axes[0][0], frame)
    axes[0][0].invert_yaxis()
    return fig


def domains_per_pass(frame: pd.DataFrame) -> Figure:
    """What TN (M = 4) adds to source BN, over the number of domains in a BatchNorm batch of training: a panel for each
    set of sources, a curve for each domain that is tested on; faint lines are single trainings.

    Args:
        frame: the tidy table of the study ``domains_per_pass``.
    """
    rows = frame[frame["study"] == "domains_per_pass"]
    sources = rows["task"].map(sources_of)
    panels = sources.unique()
    domains = list(dict.fromkeys(rows["domain_evaluated"]))
    fig, axes = figure(1, len(panels), (4.6 * len(panels) + 1.5, 4.4), sharey=True, squeeze=False)
    for axis, letters in zip(axes[0], panels, strict=True):
        of_sources = rows[sources == letters]
        for domain, part in of_sources.groupby("domain_evaluated", sort=False):
            look = domain_look(domains.index(domain))
            by_count = {count: _gain_of_tn(own) for count, own in part.groupby("domains_per_pass")}
            each = pd.DataFrame(by_count).dropna()
            for gains in each.to_numpy():
                axis.plot(each.columns, gains, color=look["color"], alpha=0.25, linewidth=1.2)
            place = "a source" if domain in letters.split("+") else "unseen"
            dashes = "-" if place == "unseen" else (0, (5, 2))
            axis.plot(each.columns, each.mean(), linestyle=dashes, label=f"{domain} ({place})", **look)
        axis.axhline(0, color=BLACK, linewidth=1)
        ticks = sorted(of_sources["domains_per_pass"].dropna().unique())
        axis.set_xscale("log", base=2)
        axis.set_xticks(ticks, [str(int(tick)) for tick in ticks])
        axis.set(title=f"trained on {letters}", xlabel="domains in a BatchNorm batch of four images")
    axes[0][0].set_ylabel("TN - source BN\n(points of mIoU)")
    lines = {line.get_label(): line for axis in axes[0] for line in axis.lines if " (" in str(line.get_label())}
    fig.legend(lines.values(), lines, loc="outside right center", title="tested on")
    return fig


def _gain_of_tn(rows: pd.DataFrame) -> pd.Series:
    """TN (M = 4) - source BN by training seed."""
    return _trainings(rows, TN_4) - _trainings(rows, SOURCE_BN)


def source_and_target(frame: pd.DataFrame) -> Figure:
    """Table 9: mIoU on each domain, the unseen target marked, with source BN and with SIB.

    Args:
        frame: the tidy table of the study ``source_and_target``, one task.
    """
    fig, axes = figure(1, 2, (11, 3.8), sharey=True)
    looks = {SOURCE_BN: {"fmt": "o", "color": BLUE}, SIB: {"fmt": "^", "color": VERMILION}}
    domains = frame["domain_evaluated"].unique().tolist()
    targets = set(frame["target"])
    for axis, method in zip(axes, (AGG, MLDG), strict=True):
        for offset, (normalization, look) in enumerate(looks.items()):
            means = summarize(select(frame, method, normalization), ["domain_evaluated"])
            x = means["domain_evaluated"].map(domains.index) + 0.14 * (offset - 0.5)
            axis.errorbar(x, means["mean"], means["train_sd"], capsize=3, label=normalization.label, **look)
        axis.set_xticks(range(len(domains)), [f"{d}\n({'target' if d in targets else 'source'})" for d in domains])
        axis.set(title=f"trained with {method.label}", xlabel="domain evaluated")
        axis.legend()
    axes[0].set_ylabel(MIOU)
    fig.suptitle(f"{_task_title(frame)}; bars: ± deviation over trainings", fontsize=12)
    return fig


def selection_policy(frame: pd.DataFrame) -> Figure:
    """Table 5: mIoU on the mixed stream by the rule that chooses whom an image is normalized with.

    Args:
        frame: the tidy table of the study ``selection_policy``.
    """
    rules = (SOURCE_BN, ADABN, TN_1, TN_4, TN_5, RANDOM, QIB, SIB, ORACLE)
    fig, axis = figure(size=(9, 4.2))
    for offset, method in enumerate((AGG, MLDG)):
        for x, rule in enumerate(rules):
            values = _trainings(frame, method, rule)
            place = x + 0.2 * (offset - 0.5)
            _marks(axis, [place] * len(values), values, method)
            _marks(axis, [place], [values.mean()], method, large=True, label=method.label if x == 0 else None)
    axis.set_xticks(range(len(rules)), [rule.label for rule in rules], rotation=20)
    axis.set(ylabel=MIOU, title=_task_title(frame))
    axis.legend(title="trained with", loc="center left", bbox_to_anchor=(1.01, 0.5))
    return fig


def sweep(
    frame: pd.DataFrame, column: str, xlabel: str, paper: pd.DataFrame | None = None, *, log: bool = False
) -> Figure:
    """Tables 6 and 7: mIoU and selection accuracy of SIB over one of its settings, the paper's mIoU beside ours.

    Of training seeds that every setting has, so that a step of the mean is no change of networks.

    Args:
        frame: the tidy table of ``style_layer`` or ``queue_size``.
        column: the setting.
        paper: the published table with the columns ``x`` and ``miou``, or None.
        log: a base-2 axis.
    """
    frame = common_seeds(frame, column)
    trainings, preset = frame["train_seed"].nunique(), "".join(frame["preset"].unique())
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
        axis.set(xlabel=xlabel, ylabel=ylabel, title=f"ours, {preset} (n = {trainings})")
    if paper is not None:
        axes[2].plot(paper["x"], paper["miou"], color=GREY, marker="o")
        axes[2].set(xlabel=xlabel, ylabel=MIOU, title="the paper")
    for axis in axes:
        if log:
            axis.set_xscale("log", base=2)
        ticks = sorted(set(axis.lines[-1].get_xdata()))
        axis.set_xticks(ticks, [str(int(t)) for t in ticks])
    return fig


def _trainings(frame: pd.DataFrame, *shown: Shown) -> pd.Series:
    """mIoU by training seed, each the mean over orders of arrival."""
    return select(frame, *shown, metric="miou").groupby("train_seed")["value"].mean()


def _marks(
    axis: Any, x: Sequence, y: Sequence, method: TrainingMethod, *, large: bool = False, label: str | None = None
) -> None:
    """Single trainings, small and pale, or their mean."""
    look = {"markersize": 11} if large else {"markersize": 5, "alpha": 0.4}
    axis.plot(x, y, linestyle="", label=label, **method_look(method), **look)


def _methods_on(axis: Any, frame: pd.DataFrame) -> None:
    methods = trained_in(frame)
    axis.set_yticks(range(len(methods)), [method.label for method in methods])


def _task_title(frame: pd.DataFrame) -> str:
    return f"{frame['task'].iloc[0].replace('->', ' → ')}, {frame['data'].iloc[0]} ({frame['preset'].iloc[0]})"
