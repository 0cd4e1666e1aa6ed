"""Two parameters and two domains: small enough to draw every step of MLDG."""

from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from dglab.report import figures
from dglab.report.figures import base
from dglab.training import mldg_backward


class Plane(nn.Module):
    """A "network" of two parameters. A domain is a bowl: L(theta) = 1/2 (theta - c)^T A (theta - c).

    Args:
        start: theta, two numbers.
    """

    def __init__(self, start: tuple[float, float]) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(start))

    def forward(self, bowl: Tensor) -> Tensor:
        """The loss at theta. ``bowl`` is 3 x 2: the centre c, then the two rows of A."""
        step = self.theta - bowl[0]
        return 0.5 * step @ bowl[1:] @ step


def bowl(center: tuple[float, float], curvature: tuple[float, float], angle: float) -> tuple[Tensor, Tensor]:
    """A domain as a batch: the bowl with its centre, its curvatures along two axes, and their angle in degrees."""
    a = np.deg2rad(angle)
    axes = torch.tensor([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]], dtype=torch.float32)
    matrix = axes @ torch.diag(torch.tensor(curvature)) @ axes.T
    return torch.vstack([torch.tensor(center), matrix]), torch.zeros(1)  # (the "images", dummy labels)


def the_loss(output: Tensor, labels: Tensor) -> Tensor:
    """The plane returns its loss itself."""
    return output


def descend(
    start: tuple[float, float], ds: tuple, dg: tuple, *, inner_lr: float, lr: float, steps: int, order: int = 1
) -> np.ndarray:
    """The path of theta under MLDG, (steps + 1) x 2; ``inner_lr=0`` is plain descent on both domains."""
    plane, path = Plane(start), [start]
    for _ in range(steps):
        mldg_backward(plane, the_loss, ds, dg, inner_lr, order=order)
        with torch.no_grad():
            plane.theta -= lr * plane.theta.grad
        path.append(tuple(plane.theta.tolist()))
    return np.array(path)


def draw_step(start: tuple[float, float], ds: tuple, dg: tuple, *, inner_lr: float, lr: float) -> Figure:
    """One step of MLDG on the contours of both domains: inner step to theta', gradient there, outer step."""
    plane = Plane(start)
    gradients = {}
    for name, batch in (("ds", ds), ("dg", dg)):
        gradients[name] = torch.autograd.grad(plane(batch[0]), plane.theta)[0].numpy()
    theta = np.array(start)
    prime = theta - inner_lr * gradients["ds"]
    at_prime = torch.autograd.grad((there := Plane(tuple(prime.tolist())))(dg[0]), there.theta)[0].numpy()
    fig, axis = figures.figure(size=(8.5, 6))
    _contours(axis, ds, base.BLUE, "$L_{ds}$, meta-train (star: its minimum)")
    _contours(axis, dg, base.VERMILION, "$L_{dg}$, meta-test")
    arrows = (
        (theta, prime, base.BLUE, "inner step: $\\theta' = \\theta - \\eta\\,\\nabla L_{ds}(\\theta)$"),
        (prime, prime - lr * at_prime, base.VERMILION,
         "$-\\gamma\\,\\nabla L_{dg}(\\theta')$: what the rehearsed domain asks for, there"),
        (theta, theta - lr * (at_prime + gradients["ds"]), base.BLACK,
         "outer step: $-\\gamma\\,(\\nabla L_{dg}(\\theta') + \\nabla L_{ds}(\\theta))$"),
        (theta, theta - lr * (gradients["dg"] + gradients["ds"]), base.GREY, "without an inner step, for comparison"),
    )  # fmt: skip
    for tail, head, color, text in arrows:
        axis.annotate("", head, tail, arrowprops={"arrowstyle": "-|>", "color": color, "linewidth": 2.4})
        axis.plot([], [], color=color, label=text)
    axis.plot(*theta, "o", color=base.BLACK)
    axis.annotate("$\\theta$", theta, (-16, 4), textcoords="offset points", fontsize=15)
    axis.plot(*prime, "o", color=base.BLUE)
    axis.annotate("$\\theta'$", prime, (6, 6), textcoords="offset points", fontsize=15)
    axis.set(xlabel="first parameter", ylabel="second parameter", aspect="equal")
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), fontsize=11)
    return fig


def draw_paths(paths: dict[str, np.ndarray], ds: tuple, dg: tuple) -> Figure:
    """Where descent leads with and without the inner step."""
    fig, axis = figures.figure(size=(8.5, 5.5))
    _contours(axis, ds, base.BLUE, "$L_{ds}$, meta-train (star: its minimum)")
    _contours(axis, dg, base.VERMILION, "$L_{dg}$, meta-test")
    for (name, path), color, marker in zip(paths.items(), (base.GREY, base.BLACK, base.GREEN), "os^", strict=False):
        axis.plot(*path.T, color=color, marker=marker, markersize=4, linewidth=1.5, label=name)
    axis.set(xlabel="first parameter", ylabel="second parameter", aspect="equal")
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


def _contours(axis: Any, batch: tuple, color: str, text: str) -> None:
    axis.plot([], [], "*-", color=color, linewidth=0.9, alpha=0.7, markersize=9, label=text)
    x, y = np.meshgrid(np.linspace(-1.6, 2.6, 120), np.linspace(-1.2, 1.8, 100))
    points = np.stack([x, y], -1) - batch[0][0].numpy()
    values = 0.5 * np.einsum("...i,ij,...j->...", points, batch[0][1:].numpy(), points)
    axis.contour(
        x, y, values, levels=np.array([0.02, 0.1, 0.3, 0.7, 1.3, 2.2, 3.5]), colors=color, linewidths=0.9, alpha=0.7
    )
    axis.plot(*batch[0][0].numpy(), "*", color=color, markersize=14)
