"""MLDG on two parameters: drag theta, eta and alpha; see the inner step, the outer gradient and where it leads."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

from dglab.report.figures import base
from dglab.teaching import toy
from dglab.teaching.explorers import drawing
from dglab.teaching.explorers.panel import Panel, choice, slider
from dglab.training import mldg_backward

DS = toy.bowl(center=(-0.6, 0.0), curvature=(0.3, 2.0), angle=20)  # meta-train, as in lesson 03
DG = toy.bowl(center=(1.6, 0.6), curvature=(1.2, 1.8), angle=-30)  # meta-test
LR, STEPS = 0.15, 25
VIEW = ((-2.0, 3.0), (-1.6, 2.1))  # of the two parameters
LEVELS = (0.05, 0.2, 0.5, 1.0, 1.8, 3.0)  # of the loss


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


def rehearsal_sheet(found: Rehearsal) -> str:
    """The contours of both domains, the inner and the outer step, and the path."""
    frame = drawing.Frame(VIEW[0], VIEW[1], (640, 480))
    parts = [frame.axes("first parameter", "second parameter"), drawing.arrow_heads(0, 4)]
    for domain, look in ((DS, 0), (DG, 1)):
        parts.append(_contours(domain[0].numpy(), look, frame))
    parts.append(drawing.polyline([(frame.x(x), frame.y(y)) for x, y in found.path.clip(-9, 9)], 2))
    outer = found.theta - LR * found.outer
    parts += [drawing.arrow(found.theta, found.ahead, 0, frame), drawing.arrow(found.theta, outer, 4, frame)]
    parts.append(_dot(found.theta, base.BLACK, frame) + _dot(found.path[-1], drawing.LOOKS[2][0], frame))
    for text, (x, y) in (("θ", found.theta), ("θ′", found.ahead)):
        parts.append(f'<text x="{frame.x(x) + 8}" y="{frame.y(y) - 8}" font-size="20">{text}</text>')
    key = drawing.legend([
        drawing.Curve("meta-train loss (cross: its minimum), and the inner step to θ′", [], [], 0),
        drawing.Curve("meta-test loss", [], [], 1),
        drawing.Curve("outer step", [], [], 4),
        drawing.Curve(f"path of {STEPS} outer steps", [], [], 2),
    ])  # fmt: skip
    said = f"contours of two losses; from θ = {_pair(found.theta)} the inner step goes to θ′ = {_pair(found.ahead)}"
    said += f", the path of {STEPS} outer steps to {_pair(found.path[-1])}"
    return drawing.row(frame.figure(parts, said, key)) + drawing.words(
        f"θ = {_pair(found.theta)}; θ′ = {_pair(found.ahead)}; outer gradient {_pair(found.outer)}; "
        f"after {STEPS} steps {_pair(found.path[-1])}"
    )


def _contours(bowl: np.ndarray, look: int, frame: drawing.Frame) -> str:
    """Level lines of 1/2 (x - c)^T A (x - c), which are ellipses, and a cross at c."""
    (cx, cy), matrix = bowl[0], bowl[1:]
    curvatures, axes = np.linalg.eigh(matrix)  # columns
    turn = np.linspace(0, 2 * np.pi, 73)
    color = drawing.LOOKS[look][0]
    lines = []
    circle = np.stack([np.cos(turn), np.sin(turn)], 1)
    for level in LEVELS:
        ring = bowl[0] + (np.sqrt(2 * level / curvatures) * circle) @ axes.T
        lines.append(drawing.polyline([(frame.x(x), frame.y(y)) for x, y in ring], look, 0.45))
    x, y = frame.x(cx), frame.y(cy)
    lines.append(f'<path d="M{x - 6} {y}h12M{x} {y - 6}v12" stroke="{color}" stroke-width="3"/>')
    return frame.inside(lines)


def _dot(place: np.ndarray, color: str, frame: drawing.Frame) -> str:
    return f'<circle cx="{frame.x(place[0])}" cy="{frame.y(place[1])}" r="5" fill="{color}"/>'


def _pair(values: np.ndarray) -> str:
    return f"({values[0]:.2f}, {values[1]:.2f})".replace("-", "−")


def explore_mldg() -> Panel:
    """Sliders for theta, eta, alpha and the order of the gradient."""

    def draw(first: float, second: float, **values: Any) -> Iterator[str]:
        yield rehearsal_sheet(rehearse((first, second), **values))

    return Panel(
        draw,
        {
            "first": slider("first parameter", -1.5, 2.5, -1.1, 0.05),
            "second": slider("second parameter", -1.1, 1.7, 1.2, 0.05),
            "eta": slider("inner rate η", 0.0, 1.0, 0.35, 0.05),
            "alpha": slider("weight α", 0.0, 2.0, 1.0, 0.1),
            "order": choice("order", (1, 2), 1),
        },
    )
