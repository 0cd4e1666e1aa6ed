"""The figure of dose and response."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dglab.report.figures.base import BLUE, GREEN, GREY, VERMILION, figure


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
