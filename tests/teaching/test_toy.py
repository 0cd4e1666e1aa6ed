"""The toy of lesson 03: its steps against numbers worked out by hand, and what its figures show of them."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from dglab.report.figures import base
from dglab.teaching import toy

ROUND = toy.bowl(center=(1.0, 0.0), curvature=(1.0, 1.0), angle=0)
STEEP = toy.bowl(center=(0.0, 2.0), curvature=(4.0, 0.5), angle=90)  # along the axes, the other way round


def test_a_bowl_has_its_centre_and_its_curvatures():
    torch.testing.assert_close(STEEP[0], torch.tensor([[0.0, 2.0], [0.5, 0.0], [0.0, 4.0]]))
    assert toy.Plane((0.0, 2.0))(STEEP[0]).item() == 0
    assert toy.Plane((2.0, 3.0))(STEEP[0]).item() == pytest.approx(0.5 * (0.5 * 2**2 + 4 * 1**2))
    tilted = toy.bowl((0.0, 0.0), (4.0, 0.5), 30)[0][1:]
    assert torch.linalg.eigvalsh(tilted).tolist() == pytest.approx([0.5, 4])
    assert toy.the_loss(torch.tensor(3.0), torch.zeros(1)) == 3


@pytest.mark.parametrize(("inner_lr", "order"), [(0.0, 1), (0.25, 1), (0.25, 2)])
def test_descent_by_hand(inner_lr, order):
    path = toy.descend((0.0, 0.0), ROUND, STEEP, inner_lr=inner_lr, lr=0.1, steps=2, order=order)
    a, b = np.eye(2), np.diag([0.5, 4.0])
    theta, expected = np.zeros(2), [np.zeros(2)]
    for _ in range(2):
        of_ds = a @ (theta - [1, 0])
        of_dg = b @ (theta - inner_lr * of_ds - [0, 2])
        if order == 2:
            of_dg = of_dg - inner_lr * a @ of_dg
        theta = theta - 0.1 * (of_ds + of_dg)
        expected.append(theta)
    np.testing.assert_allclose(path, expected, rtol=1e-5, atol=1e-6)


def arrows(axis):
    """(tail, head, colour) of the arrows, which have no text."""
    return [
        (tuple(np.round(text.xyann, 6)), tuple(np.round(text.xy, 6)), text.arrowprops["color"])
        for text in axis.texts
        if text.arrow_patch is not None
    ]


def test_a_step_is_drawn_with_its_four_arrows():
    [axis] = toy.draw_step((0.0, 0.0), ROUND, STEEP, inner_lr=0.5, lr=0.1).axes
    # the gradients: (-1, 0) of ds, (0, -8) of dg, and (0.25, -8) of dg at theta' = (0.5, 0)
    assert arrows(axis) == [
        ((0, 0), (0.5, 0), base.BLUE),
        ((0.5, 0), (0.475, 0.8), base.VERMILION),
        ((0, 0), (0.075, 0.8), base.BLACK),
        ((0, 0), (0.1, 0.8), base.GREY),
    ]
    assert [text.get_text() for text in axis.texts if text.get_text()] == ["$\\theta$", "$\\theta'$"]
    words = [text.get_text() for text in axis.get_legend().texts]
    assert len(words) == 6 and "meta-train" in words[0] and "meta-test" in words[1]
    assert words[2].startswith("inner step") and words[4].startswith("outer step")
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("first parameter", "second parameter")
    stars = [line.get_data() for line in axis.lines if line.get_marker() == "*" and len(line.get_xdata())]
    assert [np.ravel(star).tolist() for star in stars] == [[1, 0], [0, 2]]


def test_paths_are_drawn_over_the_contours_of_both_domains():
    paths = {
        "plain descent": toy.descend((0.0, 0.0), ROUND, STEEP, inner_lr=0.0, lr=0.1, steps=3),
        "MLDG": toy.descend((0.0, 0.0), ROUND, STEEP, inner_lr=0.5, lr=0.1, steps=3),
    }
    [axis] = toy.draw_paths(paths, ROUND, STEEP).axes
    words = [text.get_text() for text in axis.get_legend().texts]
    assert words[2:] == ["plain descent", "MLDG"]
    drawn = {line.get_label(): line for line in axis.lines}
    for name, path in paths.items():
        assert np.array_equal(drawn[name].get_xydata(), path)
    assert [to_hex(drawn[name].get_color()).upper() for name in paths] == [base.GREY, base.BLACK]
    assert len(axis.collections) == 2 and drawn["MLDG"].get_marker() != drawn["plain descent"].get_marker()
