"""What lesson 07 draws: arrows, coefficients, claims."""

import numpy as np
import pandas as pd
import pytest
import torch

from dglab.teaching import gmp as lesson
from dglab.training.gmp import project_conflict


def log():
    """Two looks at two modalities: first rgb is ahead in classification and depth in invariance, then neither is."""
    rows = [(0, "rgb", 0.6, 0.5), (0, "depth", 0.3, 0.25), (10, "rgb", 0.5, 0.3), (10, "depth", 0.5, 0.3)]
    return pd.DataFrame(rows, columns=["step", "modality", "semantic", "domain"])


def tips(axis):
    return [np.array(text.xy) for text in axis.texts]


def test_an_arrow_has_its_angle_and_length():
    torch.testing.assert_close(lesson.arrow(90, 2.0), torch.tensor([0.0, 2.0], dtype=torch.float64))


def test_depth_is_light_near_dark_far_and_black_without_a_reading():
    near, far, none = lesson.depth_picture(torch.tensor([[[0, 254, 255]]], dtype=torch.uint8))[0]
    assert near[:3].mean() > 0.6 and far[:3].sum() > 0.2 and far[:3].mean() < 0.4 and none.tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize(("gamma", "ahead"), [(1.5, "classification"), (0.5, "invariance"), (1.0, "neither task")])
def test_arrows_are_what_the_projection_makes(gamma, ahead):
    g_c, g_d = lesson.arrow(20, 1.0), lesson.arrow(150, 0.8)
    (axis,) = lesson.draw_projection(g_c, g_d, gamma).axes
    p_c, p_d = project_conflict(g_c, g_d, gamma)
    expected = [g_c, g_d, p_c, p_d, g_c + g_d, p_c + p_d]
    np.testing.assert_allclose(tips(axis), [tip.numpy() for tip in expected], atol=1e-12)
    assert axis.get_title() == f"130 degrees apart: a conflict, and {ahead} is ahead"
    assert max(np.abs(tips(axis)).max(), 0) < axis.get_xlim()[1]


def test_a_projection_of_ones_own_and_no_conflict():
    g_c, g_d = lesson.arrow(0, 1.0), lesson.arrow(60, 1.0)
    (axis,) = lesson.draw_projection(g_c, g_d, 2.0).axes
    assert axis.get_title() == "60 degrees apart: no conflict, nothing changes"
    (axis,) = lesson.draw_projection(g_c, g_d, 2.0, project=lambda c, d, _: (0 * c, d), title="mine").axes
    assert axis.get_title() == "mine" and not tips(axis)[2].any()
    (axis,) = lesson.draw_projection(0 * g_c, g_d, 2.0).axes
    assert "zero" in axis.get_title()


def test_coefficients_over_ratios_and_over_a_training():
    fig = lesson.draw_coefficients(log(), 0.5, 0.2)
    curves, k, p = fig.axes
    for line, alpha in zip(curves.lines, (0.5, 0.2), strict=True):
        x, y = line.get_data()
        np.testing.assert_allclose(y, np.where(x > 1, 1 - np.tanh(alpha * x), 1), atol=1e-6)
    of_k, of_p = ({line.get_label(): line.get_ydata() for line in axis.lines} for axis in (k, p))
    np.testing.assert_allclose(of_k["rgb"], [1 - np.tanh(0.5 * 2), 1])  # rho = 0.6 / 0.3
    np.testing.assert_allclose(of_p["depth"], [1 - np.tanh(0.2 * 2), 1])  # sigma = 0.5 / 0.25
    assert (of_k["depth"] == 1).all() and (of_p["rgb"] == 1).all()


def test_a_picture_follows_the_sliders():
    controls, screen = lesson.explore_coefficients(log()).children
    before = bytes(screen.value)
    for slider in controls.children:
        slider.value = slider.max
    assert bytes(screen.value) != before and bytes(screen.value).startswith(b"\x89PNG")


def test_claims_for_reading_say_what_is_not_run():
    from dglab.experiments.table import COLUMNS, TYPES

    table = lesson.gmp_claims({"mine": pd.DataFrame(columns=list(COLUMNS)).astype(TYPES)}, [1, 3])
    assert [(claim[:2], part) for claim, part in table.index] == [("1.", "verdict"), ("3.", "verdict")]
    assert set(table["mine"]) == {"not run"}
