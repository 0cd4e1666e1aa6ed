"""The figures of the tables, drawn from small tables made by hand: what stands where, and what it is called."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from dglab.analysis.signals import prior_grid
from dglab.experiments.methods import (
    AGG,
    BN_REESTIMATED,
    MLDG,
    MLDG_INNER_0,
    SIB,
    SOURCE_BN,
    TN_1,
    TN_4,
    TRAINING_METHODS,
)
from dglab.experiments.table import COLUMNS, TYPES
from dglab.report import figures
from dglab.report.figures.base import COLORS, MARKERS

LABELS = ["AGG", "AGG2", "split", "by domain", "by domain, 2x", "MLDG inner 0", "MLDG", "MLDG mean"]
BANKS = ("qib", "sib", "random", "oracle")


def rows(method, test_method, values, metric="miou", **fields):
    """Rows of one training method under one test: values by training seed, or by (training seed, order)."""
    common = {
        "study": "own", "preset": "tiny", "data": "streets", "task": "G+S->C", "target": "C", "domain_evaluated": "C",
        "train_method": method.method, "test_method": test_method, "metric": metric,
        "inner_lr": 0.02 * method.inner_step if method.method.startswith("mldg") else None,
        "prior": 0.0 if test_method in ("tn", *BANKS) else None,
        "statistics": "joint" if test_method in BANKS else None,
    }  # fmt: skip
    keys = [key if isinstance(key, tuple) else (key, None) for key in values]
    return [
        {**common, **fields, "train_seed": seed, "test_seed": order, "value": value}
        for (seed, order), value in zip(keys, values.values(), strict=True)
    ]


def table(*parts):
    return pd.DataFrame([row for part in parts for row in part], columns=list(COLUMNS)).astype(TYPES)


def points(axis, marker):
    """(x, y) of all marks of this kind, in the order in which they were drawn."""
    lines = [line for line in axis.lines if line.get_marker() == marker]
    return [(float(x), float(y)) for line in lines for x, y in zip(*line.get_data(), strict=True)]


def texts(labels):
    return [label.get_text() for label in labels]


@pytest.fixture
def three_tests():
    """Each training method k under source BN, re-estimated BN, TN with M = 4: 10 k, 10 k + 1, 10 k + 3; seed 1: + 2."""
    parts = []
    for k, method in enumerate(TRAINING_METHODS):
        parts += [
            rows(method, "bn", {0: 10 * k, 1: 10 * k + 2}),
            rows(method, "bn-reestimated", {0: 10 * k + 1, 1: 10 * k + 3}),
            rows(method, "tn", {(0, 0): 10 * k + 2, (0, 1): 10 * k + 4, (1, 0): 10 * k + 5}, batch_size=4),
            rows(method, "tn", {0: 99}, batch_size=1),
        ]
    return table(*parts)


def test_the_ablation_shows_single_trainings_and_their_mean(three_tests):
    fig = figures.ablation(three_tests, [SOURCE_BN, BN_REESTIMATED, TN_4])
    assert [axis.get_title() for axis in fig.axes] == ["source BN", "BN re-estimated", "TN, M = 4"]
    assert texts(fig.axes[0].get_yticklabels()) == LABELS
    for axis, first in zip(fig.axes, (0, 1, 3), strict=True):
        assert axis.get_xlabel() == "mIoU (%)"
        assert len(axis.lines) == 2 * len(TRAINING_METHODS)
        for k, method in enumerate(TRAINING_METHODS):  # two trainings, each the mean of its orders, and their mean
            assert points(axis, MARKERS[method]) == [(10 * k + first + x, k) for x in (0, 2, 1)]
    low, high = fig.axes[0].get_ylim()
    assert low > high  # AGG on top


def test_normalizations_show_mean_and_deviation_for_each_task(three_tests):
    other = three_tests.assign(task="G+C->S", value=three_tests["value"] + 100)
    titles = {"G+S->C": "C unseen", "G+C->S": "S unseen", "S+C->G": "nothing here"}
    fig = figures.normalizations(pd.concat([three_tests, other]), [SOURCE_BN, TN_4], titles)
    assert [axis.get_title() for axis in fig.axes[:3]] == list(titles.values()) and not fig.axes[3].get_visible()
    for axis, labelled in zip(fig.axes, (False, True, True), strict=False):  # where no panel stands below
        shown = [label.get_text() for label in axis.get_xticklabels() if label.get_visible()]
        assert shown == (["source BN", "TN, M = 4"] if labelled else [])
    assert texts(fig.legends[0].get_texts()) == LABELS
    for axis, extra in zip(fig.axes[:2], (0, 100), strict=True):
        assert axis.get_ylabel() == "mIoU (%)" and len(axis.containers) == len(TRAINING_METHODS)
        for k, bars in enumerate(axis.containers):
            x, y = (np.asarray(part, float) for part in bars.lines[0].get_data())
            np.testing.assert_allclose(y, [10 * k + 1 + extra, 10 * k + 4 + extra])
            assert list(np.round(x)) == [0, 1]
            [segments] = bars.lines[2]
            lengths = [float(bar[1, 1] - bar[0, 1]) for bar in segments.get_segments()]
            np.testing.assert_allclose(lengths, 2 * 2**0.5)  # of two values that differ by 2, up and down


def test_batch_size_draws_a_curve_and_a_flat_line_for_each_method():
    def of(method, bn, tn):
        return [
            rows(method, "bn", {0: bn - 1, 1: bn + 1}),
            *(rows(method, "tn", {(0, 0): y, (0, 1): y + 2, (1, 0): y + 3}, batch_size=m) for m, y in tn.items()),
        ]

    frame = table(*of(AGG, 30, {4: 21, 1: 20}), *of(MLDG, 25, {1: 30, 4: 33}), *of(MLDG_INNER_0, 50, {1: 60, 4: 66}))
    fig = figures.batch_size(frame)
    [axis] = fig.axes
    assert texts(axis.get_legend().get_texts()) == ["AGG + TN", "MLDG + TN", "source BN"]
    assert points(axis, "o") == [(1, 22), (4, 23)] and points(axis, "^") == [(1, 32), (4, 35)]
    flat = [line.get_ydata()[0] for line in axis.lines if len(line.get_ydata()) and line.get_linestyle() == "--"]
    assert flat == [30, 25]
    assert texts(axis.get_xticklabels()) == ["1", "4"] and axis.get_xscale() == "log"
    assert axis.get_ylabel() == "mIoU (%)" and axis.get_title() == "G+S → C, streets (tiny)"
    assert len(axis.collections) == 2  # a band each
    several = figures.batch_size(frame, [AGG, MLDG, MLDG_INNER_0]).axes[0]
    assert len(several.collections) == 0 and len(several.get_legend().get_texts()) == 4


def test_the_gain_is_over_the_mean_of_agg_and_that_of_tn_a_networks_own(three_tests):
    fig = figures.gain_explained(three_tests)
    left, right = fig.axes
    assert (left.get_title(), right.get_title()) == (
        "gain over the mean of AGG, source BN", "TN (M = 4) over re-estimated BN"
    )  # fmt: skip
    assert texts(left.get_yticklabels()) == LABELS
    for k, method in enumerate(TRAINING_METHODS):
        own = points(left, MARKERS[method])
        assert own == [(10 * k - 1, k), (10 * k + 1, k), (10 * k, k)]  # both seeds, 2 apart, and their mean
        assert points(right, MARKERS[method]) == [(2, k)] * 3
    for axis in fig.axes:
        assert axis.get_xlabel() == "difference in mIoU (points)"
        assert [tuple(line.get_xdata()) for line in axis.lines if line.get_marker() == "None"] == [(0, 0)]


def test_sources_and_target_are_told_apart():
    def of(method, first):
        return [
            rows(method, test, {0: value, 1: value + 2}, domain_evaluated=letter)
            for test, more in (("bn", 0), ("sib", 5))
            for letter, value in zip("CGS", (first + more, first + more + 10, first + more + 20), strict=True)
        ]

    fig = figures.source_and_target(table(*of(AGG, 20), *of(MLDG, 40)))
    assert [axis.get_title() for axis in fig.axes] == ["trained with AGG", "trained with MLDG"]
    for axis, first in zip(fig.axes, (20, 40), strict=True):
        assert texts(axis.get_xticklabels()) == ["C\n(target)", "G\n(source)", "S\n(source)"]
        assert texts(axis.get_legend().get_texts()) == ["source BN", "SIB"]
        found = [bars.lines[0].get_ydata().tolist() for bars in axis.containers]
        assert found == [[first + 1 + more, first + 11 + more, first + 21 + more] for more in (0, 5)]
    assert fig.axes[0].get_ylabel() == "mIoU (%)"


def test_a_point_stands_over_its_own_domain_even_where_others_are_missing():
    """A study that was stopped: SIB has run on S alone, MLDG nowhere."""
    parts = [
        rows(AGG, "bn", {0: value}, domain_evaluated=letter) for letter, value in zip("CGS", (1, 2, 3), strict=True)
    ]
    fig = figures.source_and_target(table(*parts, rows(AGG, "sib", {0: 9}, domain_evaluated="S")))
    left, right = fig.axes
    assert (
        texts(left.get_xticklabels()) == texts(right.get_xticklabels()) == ["C\n(target)", "G\n(source)", "S\n(source)"]
    )
    [(place, value)] = left.containers[1].lines[0].get_xydata()
    assert (round(place), value) == (2, 9) and len(right.containers[0].lines[0].get_xdata()) == 0


def test_selection_policies_stand_side_by_side():
    tests = ["bn", "adabn", ("tn", 1), ("tn", 4), ("tn", 5), "random", "qib", "sib", "oracle"]
    parts = []
    for method, first in ((AGG, 10), (MLDG, 30)):
        for x, test in enumerate(tests):
            name, size = test if isinstance(test, tuple) else (test, None)
            if method is AGG and name in ("random", "oracle"):
                continue
            parts.append(rows(method, name, {0: first + x, 1: first + x + 2}, batch_size=size))
    fig = figures.selection_policy(table(*parts))
    [axis] = fig.axes
    assert texts(axis.get_xticklabels()) == [
        "source BN", "AdaBN", "TN, M = 1", "TN, M = 4", "TN, M = 5", "random 4", "QIB", "SIB", "oracle"
    ]  # fmt: skip
    assert texts(axis.get_legend().get_texts()) == ["AGG", "MLDG"]
    of_mldg = points(axis, "^")
    assert [y for _, y in of_mldg] == [30 + x + more for x in range(9) for more in (0, 2, 1)]
    assert all(abs(x - round(x)) < 0.2 for x, _ in of_mldg)
    assert [y for _, y in points(axis, "o") if not np.isnan(y)] == [
        10 + x + m for x in (0, 1, 2, 3, 4, 6, 7) for m in (0, 2, 1)
    ]
    assert axis.get_ylabel() == "mIoU (%)"


@pytest.mark.parametrize("published", [None, pd.DataFrame({"x": [1, 2, 3], "miou": [52.0, 53, 51]})])
def test_a_sweep_shows_scores_accuracy_and_the_papers(published):
    parts = [
        rows(MLDG, "sib", {(0, 0): y, (0, 1): y + 2, (1, 0): y + 5}, metric, style_layer=layer)
        for metric, first in (("miou", 20), ("selection_accuracy", 70))
        for layer, y in (("1", first), ("2", first + 10))
    ]
    fig = figures.sweep(table(*parts), "style_layer", "style layer", published)
    assert len(fig.axes) == (2 if published is None else 3)
    for axis, first in zip(fig.axes, (20, 70), strict=False):
        assert axis.get_xlabel() == "style layer" and texts(axis.get_xticklabels()) == ["1", "2"]
        assert [line.get_ydata().tolist() for line in axis.lines] == [
            [first + 1, first + 11], [first + 5, first + 15], [first + 3, first + 13]  # two trainings, and their mean
        ]  # fmt: skip
    assert [axis.get_ylabel() for axis in fig.axes[:2]] == ["mIoU (%)", "from the same domain (%)"]
    if published is not None:
        assert fig.axes[2].lines[0].get_ydata().tolist() == [52, 53, 51] and fig.axes[2].get_title() == "the paper"


def test_queue_sizes_stand_on_a_logarithmic_axis():
    parts = [
        rows(MLDG, "sib", {0: q}, metric, capacity=q) for metric in ("miou", "selection_accuracy") for q in (4, 16)
    ]
    fig = figures.sweep(table(*parts), "capacity", "queue size Q", log=True)
    assert [axis.get_xscale() for axis in fig.axes] == ["log", "log"]
    assert texts(fig.axes[0].get_xticklabels()) == ["4", "16"]


def test_prior_curves_end_at_source_bn():
    parts = []
    for method, first in ((AGG, 10), (MLDG, 40)):
        for letter in "CM":
            parts.append(rows(method, "bn", {0: first, 1: first + 2}, domain_evaluated=letter))
            for m in (1, 4):
                values = {0: first + 5 + m, 1: first + 5 + m}
                parts.append(rows(method, "tn", values, domain_evaluated=letter, batch_size=m, prior=0.5))
    fig = figures.prior_curves(prior_grid(table(*parts)), {"C": "Cityscapes", "M": "Mapillary"})
    assert [axis.get_title() for axis in fig.axes] == ["Cityscapes", "Mapillary"]
    assert texts(fig.legends[0].get_texts()) == ["AGG, M = 1", "AGG, M = 4", "MLDG, M = 1", "MLDG, M = 4"]
    for axis in fig.axes:
        found = [list(zip(*map(list, line.get_data()), strict=True)) for line in axis.lines]
        assert found == [[(0.5, first + 5 + m), (1, first + 1)] for first in (10, 40) for m in (1, 4)]
        assert len(axis.collections) == 2  # bands at M = 1
        assert axis.get_xlabel().startswith("prior: share of source statistics")
    assert fig.axes[0].get_ylabel() == "mIoU (%)"


def test_every_training_method_has_a_look_of_its_own():
    assert len({to_hex(color) for color in COLORS.values()}) == len(set(MARKERS.values())) == len(TRAINING_METHODS)


def test_no_figure_rests_on_what_a_method_is_called(three_tests, request):
    """With other names, the same marks in the same places; and the names are the new ones."""

    def draw(frame):
        drawn = [
            figures.ablation(frame, [SOURCE_BN, TN_1, TN_4, SIB]),
            figures.normalizations(frame, [SOURCE_BN, TN_4], {"G+S->C": "C"}),
            figures.batch_size(frame),
            figures.gain_explained(frame),
            figures.source_and_target(frame),
            figures.selection_policy(frame),
        ]
        marks = [
            (line.get_marker(), to_hex(line.get_color()), np.asarray(line.get_data(), float).round(9).tolist())
            for fig in drawn
            for axis in fig.axes
            for line in axis.lines
        ]
        return str(marks), [text for fig in drawn for axis in fig.axes for text in texts(axis.get_yticklabels())]

    before, names = draw(three_tests)
    request.getfixturevalue("other_labels")
    after, other_names = draw(three_tests.assign(method="?"))
    assert before == after and "MLDG" in names and "MLDG" not in other_names


def test_no_figure_stays_open(three_tests):
    figures.gain_explained(three_tests)
    assert plt.get_fignums() == []


def test_the_gain_by_domain_is_that_of_each_training():
    parts = []
    for domain, gain in (("C", 1), ("G", -2)):
        for k, method in enumerate(TRAINING_METHODS[:3]):
            parts += [
                rows(method, "bn", {0: 10, 1: 12}, domain_evaluated=domain),
                rows(method, "tn", {0: 10 + gain * k, 1: 12 + gain * k}, batch_size=4, domain_evaluated=domain),
            ]
    fig = figures.gain_by_domain(table(*parts), {"C": "C, unseen", "G": "G, a source"})
    assert [axis.get_title() for axis in fig.axes] == ["C, unseen", "G, a source"]
    assert texts(fig.axes[0].get_yticklabels()) == [method.label for method in TRAINING_METHODS[:3]]
    for axis, gain in zip(fig.axes, (1, -2), strict=True):
        assert axis.get_xlabel() == "TN - source BN (points)"
        for k, method in enumerate(TRAINING_METHODS[:3]):
            assert points(axis, MARKERS[method]) == [(gain * k, k)] * 3  # of both trainings, and their mean
