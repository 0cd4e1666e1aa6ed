"""What lesson 07 uses: two gradients as arrows in the plane, coefficients over their ratios, claims for reading."""

from collections.abc import Callable, Mapping, Sequence

import ipywidgets
import numpy as np
import pandas as pd
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from torch import Tensor

from dglab.data.streets.sensors import NO_READING
from dglab.report import figures
from dglab.report.figures import base
from dglab.report.figures.gmp import MODALITY_LOOKS
from dglab.report.overview import PARTS, gmp_claim_rows
from dglab.teaching.widgets import redraw
from dglab.training.gmp import Coefficients, modulation_coefficients, project_conflict

Projection = Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor]]


def arrow(angle: float, length: float) -> Tensor:
    """A gradient in the plane, two numbers; the angle in degrees, counterclockwise from the right."""
    radians = np.deg2rad(angle)
    return length * torch.tensor([np.cos(radians), np.sin(radians)], dtype=torch.float64)


def depth_picture(coded: Tensor) -> np.ndarray:
    """Coded depth uint8 1 x H x W as colours H x W x 4: near is light, far is dark, black is no reading."""
    depth = coded[0].numpy()
    return np.where((depth == NO_READING)[..., None], (0, 0, 0, 1), colormaps["cividis_r"](depth / (NO_READING - 1)))


def draw_projection(
    g_c: Tensor, g_d: Tensor, gamma: float, project: Projection = project_conflict, title: str = ""
) -> Figure:
    """Two gradients as arrows, what a projection makes of them, and the step before and after.

    Args:
        g_c, g_d: two numbers each.
        gamma: above 1 classification is ahead, below 1 invariance.
        project: (g_c, g_d, gamma) -> both projected; the library's, or one of your own.
        title: of the figure; none tells the angle.
    """
    p_c, p_d = (g.detach().numpy() for g in project(g_c, g_d, gamma))
    c, d = g_c.numpy(), g_d.numpy()
    fig, axis = figures.figure(size=(7.5, 5.4))
    arrows = (
        (c, base.BLUE, "-", 2.6, "$g_c$, classification"),
        (d, base.VERMILION, "-", 2.6, "$g_d$, invariance"),
        (p_c, base.BLUE, ":", 2.2, "$g_c$ after the projection"),
        (p_d, base.VERMILION, ":", 2.2, "$g_d$ after the projection"),
        (c + d, base.GREY, "-", 2.0, "their sum before"),
        (p_c + p_d, base.BLACK, "-", 2.6, "the encoder's step"),
    )
    for tip, color, dash, width, text in arrows:
        axis.annotate("", tip, (0, 0), arrowprops={"arrowstyle": "-|>", "color": color, "linewidth": width,
                                                   "linestyle": dash, "shrinkA": 0, "shrinkB": 0})  # fmt: skip
        axis.plot([], [], color=color, linestyle=dash, linewidth=width, label=text)
    reach = 1.15 * max(0.1, *(float(np.abs(tip).max()) for tip, *_ in arrows))
    axis.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", title=title or relation(c, d, gamma),
             xlabel="gradient in the first weight", ylabel="in the second weight")  # fmt: skip
    axis.locator_params(nbins=5)
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=11)
    return fig


def relation(c: np.ndarray, d: np.ndarray, gamma: float) -> str:
    """How two gradients stand to each other, and which task is ahead: a title."""
    lengths = np.linalg.norm(c) * np.linalg.norm(d)
    if lengths == 0:
        return "one of them is zero: nothing to project"
    angle = np.rad2deg(np.arccos(np.clip(c @ d / lengths, -1, 1)))
    if angle <= 90:
        return f"{angle:.0f} degrees apart: no conflict, nothing changes"
    ahead = "classification" if gamma > 1 else "invariance" if gamma < 1 else "neither task"
    return f"{angle:.0f} degrees apart: a conflict, and {ahead} is ahead"


def draw_coefficients(log: pd.DataFrame, alpha_k: float, alpha_p: float) -> Figure:
    """What IGDM holds back: k and p over their ratios, and over a training that was followed.

    Args:
        log: as :func:`dglab.analysis.gradients.race` returns it; its confidences count, and not its coefficients.
        alpha_k, alpha_p: 0 to 1.
    """
    fig, axes = figures.figure(1, 3, (13, 3.8), sharey=True, width_ratios=(1, 1.2, 1.2))
    ratios = np.linspace(0, 3, 301)
    held_back = [_at_ratio(ratio, alpha_k, alpha_p) for ratio in ratios]
    for name, color, dash in (("k", base.BLUE, "-"), ("p", base.VERMILION, "--")):
        axes[0].plot(ratios, [getattr(of, name) for of in held_back], dash, color=color, label=f"${name}$")
    axes[0].set(title="over $\\rho$ and $\\sigma$", xlabel="ratio: above 1 it is ahead", ylim=(-0.03, 1.08))
    axes[0].legend()
    found = _coefficients(log, alpha_k, alpha_p)
    for axis, name, what in ((axes[1], "k", "classification"), (axes[2], "p", "invariance")):
        for modality, rows in found.groupby("modality", sort=False):
            axis.plot(rows["step"], rows[name], label=modality, **{**MODALITY_LOOKS[modality], "markersize": 4})
        axis.set(title=f"${name}$, on the gradient of {what}", xlabel="step")
    axes[1].legend()
    return fig


def _at_ratio(ratio: float, alpha_k: float, alpha_p: float) -> Coefficients:
    """Of two modalities the one whose rho and sigma are both ``ratio``, 0 to 3."""
    share, third = torch.tensor([ratio / 3]), torch.tensor([1 / 3])
    semantic, domain = {"it": share, "other": third}, {"it": third, "other": share}
    return modulation_coefficients(semantic, domain, alpha_k, alpha_p)["it"]


def _coefficients(log: pd.DataFrame, alpha_k: float, alpha_p: float) -> pd.DataFrame:
    rows = []
    for step, at in log.groupby("step"):
        q, c = ({m: torch.tensor([v]) for m, v in zip(at["modality"], at[name], strict=True)}
                for name in ("semantic", "domain"))  # fmt: skip
        for name, of in modulation_coefficients(q, c, alpha_k, alpha_p).items():
            rows.append({"step": step, "modality": name, "k": of.k, "p": of.p})
    return pd.DataFrame(rows)


def explore_coefficients(log: pd.DataFrame) -> ipywidgets.Widget:
    """Sliders for alpha_k and alpha_p over a training that was followed."""
    return redraw(
        lambda alpha_k, alpha_p: draw_coefficients(log, alpha_k, alpha_p),
        {"alpha_k": _slider("alpha_k", 0.5, 0.0, 1.0, 0.05), "alpha_p": _slider("alpha_p", 0.5, 0.0, 1.0, 0.05)},
    )


def _slider(description: str, value: float, low: float, high: float, step: float) -> ipywidgets.FloatSlider:
    return ipywidgets.FloatSlider(
        value, min=low, max=high, step=step, description=description, continuous_update=False,
        style={"description_width": "initial"},
    )  # fmt: skip


def gmp_claims(scales: Mapping[str, pd.DataFrame], numbers: Sequence[int] = (1, 2, 3, 4)) -> pd.DataFrame:
    """The claims of GMP's paper of these numbers, its own evidence and ours, as those of the first paper.

    Args:
        scales: a tidy table of each, by name.
        numbers: of the claims, see :data:`dglab.analysis.gmp_claims.GMP_CLAIMS`.
    """
    return pd.DataFrame(gmp_claim_rows(scales, numbers)).set_index(["claim", PARTS])
