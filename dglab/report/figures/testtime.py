"""Figures of test time: where a shift shows, the share of source statistics, signals without labels."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dglab.classes import CLASS_NAMES
from dglab.evaluation import ConfusionMatrix
from dglab.experiments.methods import trained_in
from dglab.report.figures.base import DOMAIN_MARKERS, GREY, MIOU, domain_look, figure, method_look, plain_log


def shift_by_depth(shifts: Mapping[str, Mapping[str, float]], title: str) -> Figure:
    """How far each domain's statistics lie from the source's in every BatchNorm layer, from input to output.

    Args:
        shifts: domain -> (layer -> shift), see :func:`dglab.testtime.shift_by_layer`.
        title: of the figure.
    """
    fig, axis = figure(size=(10, 4.2))
    for (name, layers), marker in zip(shifts.items(), DOMAIN_MARKERS, strict=False):
        axis.plot(range(len(layers)), list(layers.values()), marker=marker, label=name)
    layers = list(next(iter(shifts.values())))
    axis.set_xticks(range(len(layers)), layers, rotation=45, ha="right", fontsize=9)
    axis.set(xlabel="BatchNorm layer, from input to output", title=title)
    axis.set_ylabel("shift of the mean\n(source deviations)")
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


def prior_curves(grid: pd.DataFrame, titles: Mapping[str, str]) -> Figure:
    """mIoU over the share of source statistics in TN, a panel for each unseen domain.

    Args:
        grid: as :func:`dglab.analysis.signals.prior_grid` returns it.
        titles: of the panels, by domain.
    """
    domains = list(titles)
    fig, axes = figure(1, len(domains), (4.6 * len(domains), 4.2), squeeze=False)
    for axis, domain in zip(axes[0], domains, strict=True):
        rows = grid[grid["domain"] == domain]
        for method in trained_in(rows):
            for m, part in method.rows(rows).groupby("batch_size"):
                curve = part.groupby("prior")["miou"].agg(["mean", "std"])
                look = {**method_look(method), "linestyle": "-" if m == 1 else "--"}
                axis.plot(curve.index, curve["mean"], label=f"{method.label}, M = {m}", **look)
                if m == 1:
                    low, high = curve["mean"] - curve["std"], curve["mean"] + curve["std"]
                    axis.fill_between(curve.index, low, high, color=look["color"], alpha=0.12, linewidth=0)
        axis.set(title=titles[domain], xlabel="prior: share of source statistics\n(0 = TN, 1 = source BN)")
    axes[0, 0].set_ylabel(MIOU)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return fig


def gain_over_dose(gains: pd.DataFrame) -> Figure:
    """The gain over source BN as images are changed more and more: a column of panels a shift, a row a kind of scene.

    Args:
        gains: points of mIoU, a column a test; the index is (scene, shift, dose).
    """
    scenes, shifts = (list(dict.fromkeys(gains.index.get_level_values(name))) for name in ("scene", "shift"))
    by_dose = gains.sort_index()
    size = (3.8 * len(shifts), 3 * len(scenes) + 0.6)
    fig, axes = figure(len(scenes), len(shifts), size, squeeze=False, sharex=True, sharey=True)
    for row, scene in zip(axes, scenes, strict=True):
        for axis, shift in zip(row, shifts, strict=True):
            for test, marker in zip(gains, "sDo", strict=False):
                curve = by_dose.loc[(scene, shift), test]
                axis.plot(curve.index, curve, marker=marker, label=test)
            axis.axhline(0, color=GREY, linewidth=1)
            axis.set_title(f"{shift}, scene: {scene}", fontsize=12)
        row[0].set_ylabel("gain over source BN\n(points of mIoU)")
    for axis in axes[-1]:
        axis.set(xlabel="dose (0: as it is)", xticks=sorted(set(gains.index.get_level_values("dose"))))
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=gains.shape[1])
    return fig


def signals_and_gain(frame: pd.DataFrame, correlations: pd.DataFrame, names: Mapping[str, str]) -> Figure:
    """What TN gains on each image over signals that need no label, with rank correlations.

    Args:
        frame: as :func:`dglab.analysis.signals.image_signals` returns it.
        correlations: as :func:`dglab.analysis.signals.rank_correlations` returns it.
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
