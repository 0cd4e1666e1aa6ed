"""The figures of dose and response."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dglab.experiments.methods import TRAINING_METHODS
from dglab.report.figures.base import BLUE, GREEN, GREY, VERMILION, figure, method_look


def dose_response(response: pd.DataFrame) -> Figure:
    """Gains over source BN against the gap, a panel for each training method; bands are 95 % over trainings.

    Args:
        response: as :func:`dglab.analysis.doses.dose_response` returns it.
    """
    panels = response["trained with"].unique()
    fig, axes = figure(1, len(panels), (4.4 * len(panels), 4.2), sharey=True, squeeze=False)
    looks = list(zip(response["test"].unique(), (BLUE, VERMILION, GREEN), "os^", strict=False))
    for axis, trained in zip(axes[0], panels, strict=True):
        part = response[response["trained with"] == trained]
        for test, color, marker in looks:
            rows = part[part["test"] == test]
            if rows.empty:
                continue
            axis.plot(rows["dose"], rows["gain"], color=color, marker=marker, label=test)
            if np.isfinite(rows["low"]).all():
                axis.fill_between(rows["dose"], rows["low"], rows["high"], color=color, alpha=0.12, linewidth=0)
        axis.axhline(0, color=GREY, linewidth=1)
        axis.axvline(1, color=GREY, linewidth=1, linestyle=(0, (2, 3)))
        axis.set(title=trained, xlabel="dose (0: a source's style, 1: the target's)")
    axes[0, 0].set_ylabel("gain over source BN\n(points of mIoU)")
    lines = {line.get_label(): line for axis in axes[0] for line in axis.lines[:-2]}  # but the two that mark 0 and 1
    fig.legend(lines.values(), lines, loc="outside lower center", ncols=len(lines))
    return fig


def photometric(gains: pd.DataFrame, label: str) -> Figure:
    """What a way to normalize is worth under each photometric shift, a panel a shift, a curve a training method.

    Args:
        gains: rows of one target and one test, as :func:`dglab.analysis.doses.photometric_gains` returns them.
        label: what the gain is, for the vertical axis.
    """
    shifts = list(gains["shift"].unique())
    columns = min(3, len(shifts))
    rows = -(-len(shifts) // columns)
    size = (3.8 * columns, 2.9 * rows + 0.6)
    fig, axes = figure(rows, columns, size, squeeze=False, sharex=True, sharey=True)
    looks = {method.label: method_look(method) for method in TRAINING_METHODS}
    for axis, shift in zip(axes.flat, shifts, strict=False):
        for trained, part in gains[gains["shift"] == shift].groupby("trained with", sort=False):
            axis.plot(part["dose"], part["gain"], label=trained, **looks[trained])
        axis.axhline(0, color=GREY, linewidth=1)
        axis.set_title(shift)
    for axis in axes.flat[len(shifts) :]:
        axis.set_axis_off()
    for axis in axes[-1]:
        axis.set(xlabel="dose (0: as it is)", xticks=sorted(set(gains["dose"])))
    for axis in axes[:, 0]:
        axis.set_ylabel(f"{label}\n(points of mIoU)")
    handles = axes[0, 0].get_legend_handles_labels()
    fig.legend(*handles, loc="outside lower center", ncols=len(handles[1]))
    return fig
