"""Figures of training: losses, and the orders of MLDG's gradient."""

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure

from dglab.report.figures.base import BLACK, BLUE, GREY, VERMILION, figure, plain_log


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
    plain_log(left, "y")
    left.legend()
    right.set(xlabel="step", ylabel="learning rate", title="poly decay, power 0.9")
    return fig


def training_curve(log: pd.DataFrame, window: int = 20, steps: int | None = None) -> Figure:
    """The losses of one run, raw and averaged over a moving window, with the learning rate.

    Args:
        log: columns step, lr, ds, dg, total, as :func:`dglab.training.log.read_log` gives them.
        window: steps to average over.
        steps: of the run, if it is still training; None ends the axis at the last logged step.
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


def cosine_curve(inner_lrs: Sequence[float], curves: Mapping[str, Sequence[float]], used: float) -> Figure:
    """Cosine between first- and second-order gradients over the inner learning rate; the one in use is marked."""
    fig, axis = figure(size=(7.5, 4))
    for (name, cosines), marker in zip(curves.items(), "os^", strict=False):
        axis.plot(inner_lrs, cosines, marker=marker, label=name)
    axis.axvline(used, color=GREY, linestyle="--", label="in use")
    axis.set(xscale="log", xlabel="inner learning rate $\\eta$", ylabel="cosine, first against second order")
    axis.legend()
    return fig
