"""GMP's projection in the plane: drag the tips of two gradients, and let one task or the other be ahead."""

import html
from collections.abc import Iterator

import numpy as np
from torch import Tensor

from dglab.teaching.explorers import drawing
from dglab.teaching.explorers.panel import Panel, slider
from dglab.teaching.gmp import Projection, arrow, relation
from dglab.training.gmp import project_conflict

LONGEST = 1.5  # of a gradient; the sum of two in conflict still fits into the view
FRAME = drawing.Frame((-2.2, 2.2), (-2.2, 2.2), (550, 544))  # one unit is as long in both directions
GIVES_WAY, BEFORE, STEP = 3, 5, 4  # looks; the gradients themselves have 0 and 1

# A tip moves the sliders of its gradient, angle and length, and these draw anew. The circle that was taken hold of is
# then gone, so the window follows the hand.
DRAG = f"""
event.preventDefault();
const panel = this.closest('.widget-vbox'), first = 2 * this.dataset.gradient;
const [angle, length] = [...panel.querySelectorAll('.dglab-controls .noUi-target')].slice(first, first + 2);
const let_go = new AbortController(), while_held = {{signal: let_go.signal}};
window.addEventListener('pointermove', e => {{
  const box = panel.querySelector('.dglab-sheet svg').getBoundingClientRect(), unit = box.width / {FRAME.size[0]};
  const x = (e.clientX - box.left) / unit - {FRAME.x(0)}, y = {FRAME.y(0)} - (e.clientY - box.top) / unit;
  angle.noUiSlider.set(Math.atan2(y, x) * 180 / Math.PI);
  length.noUiSlider.set(Math.hypot(x, y) / {FRAME.x(1) - FRAME.x(0)});
}}, while_held);
for (const end of ['pointerup', 'pointercancel']) window.addEventListener(end, () => let_go.abort(), while_held);
"""


def projection_sheet(g_c: Tensor, g_d: Tensor, gamma: float, project: Projection = project_conflict) -> str:
    """Both gradients with tips to take hold of, what is left of the one that gives way, the step before and after.

    Args:
        g_c, g_d: two numbers each.
        gamma: above 1 classification is ahead, below 1 invariance.
        project: (g_c, g_d, gamma) -> both projected; the library's, or one of your own.
    """
    c, d = g_c.numpy(), g_d.numpy()
    p_c, p_d = (g.detach().numpy() for g in project(g_c, g_d, gamma))
    arrows = [("g_c, classification", c, 0), ("g_d, invariance", d, 1)]
    for name, before, after in (("g_c", c, p_c), ("g_d", d, p_d)):
        if not np.allclose(before, after):
            arrows.append((f"what is left of {name}", after, GIVES_WAY))
    if len(arrows) > 2:
        arrows.append(("their sum before", c + d, BEFORE))
    arrows.append(("the encoder's step", p_c + p_d, STEP))

    parts = [FRAME.axes("first weight", "second weight"), drawing.arrow_heads(*{look for *_, look in arrows})]
    parts.append(FRAME.inside([drawing.arrow((0, 0), tip, look, FRAME) for _, tip, look in arrows]))
    parts += [_tip(number, tip, look) for number, (_, tip, look) in enumerate(arrows[:2])]
    said = "; ".join(f"{name} ({tip[0]:.2f}, {tip[1]:.2f})" for name, tip, _ in arrows).replace("-", "−")
    key = drawing.legend([drawing.Curve(name, [], [], look) for name, _, look in arrows])
    return drawing.words(relation(c, d, gamma)) + drawing.row(FRAME.figure(parts, said, key)) + drawing.words(said)


def _tip(number: int, tip: np.ndarray, look: int) -> str:
    color = drawing.LOOKS[look][0]
    return (
        f'<circle cx="{FRAME.x(tip[0])}" cy="{FRAME.y(tip[1])}" r="12" fill="{color}" fill-opacity="0.2" '
        f'stroke="{color}" style="cursor:grab;touch-action:none" data-gradient="{number}" '
        f'onpointerdown="{html.escape(DRAG)}"/>'
    )


def explore_projection(project: Projection = project_conflict) -> Panel:
    """Two gradients to be dragged by their tips, or by sliders for angle and length; and Gamma.

    Args:
        project: what makes (g_c, g_d, gamma) both projected gradients; the library's, or one of your own.
    """

    def draw(angle_c: float, length_c: float, angle_d: float, length_d: float, gamma: float) -> Iterator[str]:
        yield projection_sheet(arrow(angle_c, length_c), arrow(angle_d, length_d), gamma, project)

    return Panel(
        draw,
        {
            "angle_c": slider("angle of g_c", -180, 180, 20, 1),
            "length_c": slider("length of g_c", 0, LONGEST, 1.0, 0.05),
            "angle_d": slider("angle of g_d", -180, 180, 150, 1),
            "length_d": slider("length of g_d", 0, LONGEST, 0.8, 0.05),
            "gamma": slider("Γ", 0.5, 2.0, 1.5, 0.1),
        },
    )
