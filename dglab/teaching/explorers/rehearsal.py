"""MLDG on two parameters: drag theta, eta and alpha; see the inner step, the outer gradient and where it leads."""

from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure

from dglab.report.figures import base
from dglab.teaching import toy
from dglab.teaching.explorers.panel import Panel, choice, slider
from dglab.training import mldg_backward

DS = toy.bowl(center=(-0.6, 0.0), curvature=(0.3, 2.0), angle=20)  # meta-train, as in lesson 03
DG = toy.bowl(center=(1.6, 0.6), curvature=(1.2, 1.8), angle=-30)  # meta-test
LR, STEPS = 0.15, 25


class Rehearsal(NamedTuple):
    """One step of MLDG, and the path of many: arrays of 2 numbers, the path (STEPS + 1) x 2."""

    theta: np.ndarray
    ahead: np.ndarray  # theta', after the inner step
    outer: np.ndarray  # the gradient of Eq. 6
    path: np.ndarray


def outer_gradient(theta: tuple[float, float], eta: float, alpha: float, order: int) -> np.ndarray:
    """Eq. 6 at theta."""
    plane = toy.Plane(theta)
    mldg_backward(plane, toy.the_loss, DS, DG, eta, alpha, order)
    return plane.theta.grad.numpy()


def rehearse(theta: tuple[float, float], eta: float, alpha: float, order: int) -> Rehearsal:
    """What MLDG does from theta.

    Args:
        theta: the two parameters.
        eta: the inner learning rate.
        alpha: the weight of the meta-train loss.
        order: of the gradient, 1 or 2.
    """
    plane = toy.Plane(theta)
    inner = torch.autograd.grad(plane(DS[0]), plane.theta)[0].numpy()
    path = [np.array(theta)]
    for _ in range(STEPS):
        path.append(path[-1] - LR * outer_gradient(tuple(path[-1].tolist()), eta, alpha, order))
    start = path[0]
    return Rehearsal(start, start - eta * inner, outer_gradient(theta, eta, alpha, order), np.array(path))


def rehearsal_figure(found: Rehearsal) -> Figure:
    """The contours of both domains, the inner and the outer step, and the path."""
    fig = toy.draw_paths({"path of the outer steps": found.path}, DS, DG)
    axis = fig.axes[0]
    arrows = (
        (found.ahead, base.BLUE, "inner step, to $\\theta'$"),
        (found.theta - LR * found.outer, base.BLACK, "outer step"),
    )
    for head, color, text in arrows:
        axis.annotate("", head, found.theta, arrowprops={"arrowstyle": "-|>", "color": color, "linewidth": 2.4})
        axis.plot([], [], color=color, label=text)
    axis.plot(*found.theta, "o", color=base.BLACK)
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


def explore_mldg() -> Any:
    """Sliders for theta, eta, alpha and the order of the gradient."""
    panel = Panel(
        lambda first, second, eta, alpha, order: rehearsal_figure(rehearse((first, second), eta, alpha, order)),
        {
            "first": slider("first parameter", -1.5, 2.5, -1.1, 0.05),
            "second": slider("second parameter", -1.1, 1.7, 1.2, 0.05),
            "eta": slider("inner rate η", 0.0, 1.0, 0.35, 0.05),
            "alpha": slider("weight α", 0.0, 2.0, 1.0, 0.1),
            "order": choice("order", (1, 2), 1),
        },
    )
    return panel.widget
