"""GMP's figures: what they show is what the tables hold."""

import io

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from dglab import paper
from dglab.experiments.gmp_methods import ABLATION, GMP
from dglab.experiments.table import COLUMNS, TYPES
from dglab.report import figures
from dglab.report.gmp_tables import of_task
from dglab.utils.errors import InputError


@pytest.fixture(autouse=True)
def leaves_nothing_open():
    yield
    assert plt.get_fignums() == []


def draws(fig):
    fig.savefig(io.BytesIO(), format="png", dpi=30)
    return fig


def rows_of(axis):
    return [text.get_text() for text in axis.get_yticklabels()]


def points(axis, size):
    """(x, y) of the marks of a size."""
    lines = [line for line in axis.lines if line.get_markersize() == size]
    return [(x, y) for line in lines for x, y in zip(*line.get_data(), strict=True)]


@pytest.fixture
def study(gmp_table):
    frame = gmp_table()
    return lambda name: frame[frame["study"] == name]


def test_the_ablation_stands_beside_the_published_one(study):
    ours, epic, hac = draws(figures.gmp_ablation(study("gmp_ablation"))).axes
    assert rows_of(ours) == [method.label for method in ABLATION]
    means = dict((y, x) for x, y in points(ours, 11))
    assert means == pytest.approx({0: 20, 1: 21, 2: 21, 3: 20.5, 4: 22})  # joint, igdm, cagp, unified, gmp
    assert len(points(ours, 5)) == 15
    table = paper.table("gmp_table04_ablation").set_index("variant")
    for axis, column in ((epic, "epic_kitchens_accuracy"), (hac, "hac_accuracy")):
        shown = dict((y, x) for x, y in points(axis, 10))
        assert shown[rows_of(ours).index(GMP.label)] == table.loc["IGDM+CAGP (GMP)", column]
        assert shown[3] == table.loc["unified instead of decoupled modulation", column]
        assert shown[0] == paper.table("gmp_table02_gradient_strategies")[column].iloc[0]


@pytest.mark.parametrize("nothing", [None, pd.DataFrame(columns=list(COLUMNS)).astype(TYPES)])
def test_without_results_the_published_stand_alone(nothing):
    for make in (figures.gmp_ablation, figures.gmp_strategies):
        axes = draws(make(nothing)).axes
        assert [axis.get_title() for axis in axes] == ["published, EPIC-Kitchens", "published, HAC"]


def test_strategies_on_target_and_sources(study):
    target, sources, epic, _ = draws(figures.gmp_strategies(study("gmp_strategies"))).axes
    assert rows_of(target)[:3] == ["joint training", "OGM-GE", "Grad-Blending"]
    assert dict((y, x) for x, y in points(target, 11)) == pytest.approx({0: 20, 1: 20.5})
    assert dict((y, x) for x, y in points(sources, 11)) == pytest.approx({0: 20, 1: 22})  # (3 + 1) / 2 more
    published = paper.table("gmp_table02_gradient_strategies")["epic_kitchens_accuracy"]
    assert sorted(x for x, _ in points(epic, 10)) == sorted(published)


def test_branches_alone_joint_and_balanced(study):
    fig = draws(figures.gmp_branches(study("gmp_branches")))
    rgb, depth, fused = fig.axes
    assert rows_of(rgb) == ["rgb alone", "joint training", "GMP (IGDM + CAGP)"]
    assert dict((y, x) for x, y in points(rgb, 11)) == pytest.approx({-0.15: 24, 0.85: 20, 1.85: 21.5})  # the target's
    assert dict((y, x) for x, y in points(depth, 11)) == pytest.approx({-0.15: 23, 0.85: 20, 1.85: 21.5})
    assert rows_of(fused)[:2] == ["rgb alone", "depth alone"] and not points(fused, 11)


@pytest.mark.parametrize("name", ["gmp_ablation", "gmp_strategies", "gmp_branches"])
def test_two_tasks_are_not_drawn_as_one(study, name):
    own = study(name)
    both = pd.concat([own.assign(task="G+S->M", target="M", value=0.0).astype(own.dtypes), own])
    with pytest.raises(InputError, match=r"tasks G\+S->M, G\+S->C, and a figure shows one; .* gmp_tables.of_task"):
        getattr(figures, name)(both)
    alone, chosen = (draws(getattr(figures, name)(rows)).axes for rows in (own, of_task(both, name)))
    assert [points(axis, 11) for axis in alone] == [points(axis, 11) for axis in chosen]


def race():
    rows = [
        {"step": step, "modality": name, "semantic": 0.1 + step / 100, "domain": 0.25, "norm_c": 1.0, "norm_d": 0.1,
         "cosine": cosine, "rho": 1.0, "sigma": 1.0, "k": 1.0, "p": 1.0}
        for step in (0, 10, 20) for name, cosine in (("rgb", -0.5), ("depth", 0.5))
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_the_race_has_four_panels_and_a_line_a_modality():
    semantic, domain, norms, cosines = draws(figures.modality_race(race(), domains=4)).axes
    assert [t.get_text() for t in semantic.get_legend().get_texts()] == ["rgb", "depth"]
    assert domain.lines[-1].get_ydata()[0] == 0.25 and len(norms.lines) == 4
    np.testing.assert_array_equal(cosines.lines[0].get_ydata(), [-0.5] * 3)


def test_conflicts_by_layer_and_over_the_training():
    log = pd.DataFrame(
        [
            (m, s, layer, cosine)
            for m in ("agg", "mldg")
            for s in (0, 5)
            for layer, cosine in (("stem", -0.2 + s / 10), ("all", 0.1))
        ],
        columns=["train_method", "step", "layer", "cosine"],
    )
    left, right = draws(figures.gradient_conflicts(log, {"agg": "AGG", "mldg": "MLDG"})).axes
    assert [t.get_text() for t in left.get_xticklabels()] == ["stem", "all"]
    assert [t.get_text() for t in left.texts] == ["50 %", "0 %", "50 %", "0 %"]
    assert [t.get_text() for t in right.get_legend().get_texts()] == ["AGG", "MLDG"]
