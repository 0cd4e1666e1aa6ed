"""Means, the two kinds of deviation, and paired differences, against scipy and by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from dglab.analysis.intervals import (
    Difference,
    cached_against_joint,
    contrast,
    paired_difference,
    per_domain,
    per_training,
    seed_correlation,
    summarize,
)
from dglab.experiments.methods import AGG, MLDG, SIB, SIB_CACHED, SOURCE_BN
from dglab.experiments.table import COLUMNS


def table_of(values, train_method="mldg", study="ablation", **more):
    """Rows of mIoU from {(train_seed, test_seed): value}."""
    rows = [
        {"study": study, "task": "G+S->C", "train_method": train_method, "test_method": "bn", "train_seed": a,
         "test_seed": b, "metric": "miou", "value": value, "batch_size": None, "target": "C", "domain_evaluated": "C",
         "inner_lr": 0.1 if train_method == "mldg" else None, **more}
        for (a, b), value in values.items()
    ]  # fmt: skip
    return pd.DataFrame(rows).reindex(columns=list(COLUMNS))


def test_two_kinds_of_deviation_by_hand():
    """Trainings 0: 10, 12 and 1: 20, 26. Their means 11 and 23, their deviations over orders 1.414 and 4.243."""
    frame = table_of({(0, 0): 10, (0, 1): 12, (1, 0): 20, (1, 1): 26})
    row = summarize(frame, ["train_method"]).iloc[0]
    assert (row["mean"], row["trainings"]) == (17, 2)
    assert row["train_sd"] == pytest.approx(12 / 2**0.5)  # of 11 and 23
    assert row["test_sd"] == pytest.approx((2 / 2**0.5 + 6 / 2**0.5) / 2)


def test_a_deviation_of_one_value_is_not_zero_but_unknown():
    row = summarize(table_of({(0, 0): 10, (0, 1): 12}), ["train_method"]).iloc[0]
    assert np.isnan(row["train_sd"]) and row["test_sd"] == pytest.approx(2**0.5)
    row = summarize(table_of({(0, pd.NA): 10, (1, pd.NA): 12}), ["train_method"]).iloc[0]
    assert np.isnan(row["test_sd"]) and row["train_sd"] == pytest.approx(2**0.5)


def test_groups_keep_what_is_empty_and_metrics_do_not_mix():
    frame = pd.concat([
        table_of({(0, 0): 10}), table_of({(0, 0): 30}, batch_size=4), table_of({(0, 0): 90}, metric="absent_classes"),
        table_of({(0, 0): 50}, "agg"),
    ])  # fmt: skip
    found = summarize(frame, ["train_method", "batch_size"]).set_index("train_method")["mean"]
    assert found["mldg"].tolist() == [10, 30] and found["agg"] == 50
    assert summarize(frame, ["train_method"], "absent_classes")["mean"].tolist() == [90]


@pytest.mark.parametrize("count", [2, 3, 10])
def test_the_interval_is_the_paired_t_tests(count):
    rng = np.random.default_rng(count)
    better, worse = (pd.Series(rng.normal(mean, 1, count)) for mean in (1, 0))
    expected = stats.ttest_rel(better, worse).confidence_interval(0.95)
    found = paired_difference(better, worse)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.mean == pytest.approx((better - worse).mean()) and found.trainings == count


def test_pairs_are_matched_by_seed_and_the_others_left_out():
    better = pd.Series([5.0, 1.0, 99.0], index=[1, 0, 7])
    worse = pd.Series([0.0, 3.0, 50.0], index=[0, 1, 8])
    found = paired_difference(better, worse)
    assert (found.mean, found.trainings) == (1.5, 2)  # (1 - 0 + 5 - 3) / 2


def test_one_training_decides_nothing():
    found = paired_difference(pd.Series([9.0]), pd.Series([1.0]))
    assert found == Difference(8.0, -np.inf, np.inf, 1) and found.verdict == "open" and str(found) == "+8.00"
    with pytest.raises(ValueError, match="no training seed"):
        paired_difference(pd.Series([9.0], index=[0]), pd.Series([1.0], index=[1]))


def test_what_a_difference_says():
    assert str(Difference(2, 1, 3, 3)) == "+2.00 [+1.00, +3.00]" and str(Difference(-2, -np.inf, np.inf, 1)) == "-2.00"


def test_values_per_training_average_the_orders_of_arrival():
    frame = pd.concat([table_of({(0, 0): 10, (0, 1): 14, (1, 0): 20}), table_of({(0, 0): 99}, batch_size=5)])
    values = per_training(frame[frame["batch_size"].isna()], MLDG)
    assert values.to_dict() == {("G+S->C", 0): 12, ("G+S->C", 1): 20}


def test_the_deviation_over_orders_of_each_training():
    frame = table_of({(0, 0): 10, (0, 1): 14, (1, 0): 20, (1, 1): 21})
    values = per_training(frame, MLDG, aggregate="std")
    assert values.tolist() == pytest.approx([8**0.5, 0.5**0.5])


def test_a_control_without_inner_step_is_not_taken_for_mldg():
    frame = pd.concat([table_of({(0, 0): 10}), table_of({(0, 0): 30}, inner_lr=0.0), table_of({(0, 0): 70}, "agg")])
    assert per_training(frame, MLDG).tolist() == [10] and per_training(frame, AGG).tolist() == [70]
    assert per_training(frame, train_method="mldg", inner_lr=0.0).tolist() == [30]


def test_cached_against_joint_reads_the_table(frames):
    frame = frames["cached_statistics"]
    table = cached_against_joint(frame).set_index(["task", "trained with"])
    assert len(table) == 4
    rows = frame[frame["task"] == "G+S+I->C+M"]
    joint, cached = (per_training(rows, AGG, kind).mean() for kind in (SIB, SIB_CACHED))
    row = table.loc[("G+S+I->C+M", "AGG")]
    assert row["joint"] == pytest.approx(joint) and row["cached"] == pytest.approx(cached)
    assert row["difference"] == f"{cached - joint:+.2f}" and 0 < row["agreement"] <= 100
    half = frame[(frame["task"] != "G+S+I->C+M") | (frame["statistics"] == "joint")]  # a study that was stopped
    assert set(cached_against_joint(half)["task"]) == {"G+S+I+M->C"}


def test_per_domain_keeps_the_domains_apart(frames):
    frame = frames["source_and_target"]
    values = per_domain(frame, AGG, SOURCE_BN)
    assert list(values.index.names) == ["task", "train_seed", "domain_evaluated"] and len(values) == 5
    rows = frame[(frame["metric"] == "miou") & (frame["train_method"] == "agg") & (frame["test_method"] == "bn")]
    assert values.xs("G", level="domain_evaluated").item() == rows[rows["domain_evaluated"] == "G"]["value"].item()


def test_a_contrast_of_two_is_welchs_interval():
    rng = np.random.default_rng(0)
    first, second = pd.Series(rng.normal(2, 1, 7)), pd.Series(rng.normal(0, 3, 5))
    for level in (0.95, 0.99):
        found = contrast([(1, first), (-1, second)], level=level)
        welch = stats.ttest_ind(first, second, equal_var=False).confidence_interval(level)
        assert tuple(found)[:4] == pytest.approx((first.mean() - second.mean(), *welch, 12))


def test_a_contrast_of_four_groups_by_hand():
    groups = [pd.Series(values) for values in ([5.0, 7.0], [1.0, 3.0], [2.0, 4.0], [0.0, 1.0])]
    found = contrast(list(zip((1, -1, -1, 1), groups, strict=True)))
    assert found.mean == pytest.approx((6 - 2) - (3 - 0.5))
    # variances of the means: 1, 1, 1 and 1/4, of one degree of freedom each
    freedom = (1 + 1 + 1 + 1 / 4) ** 2 / (1 + 1 + 1 + 1 / 16)
    assert found.high - found.mean == pytest.approx(stats.t.ppf(0.975, freedom) * np.sqrt(3.25))


def test_trainings_without_any_spread_give_a_point():
    found = contrast([(1, pd.Series([2.0, 2.0])), (-1, pd.Series([1.5, 1.5]))])
    assert tuple(found)[:3] == (0.5, 0.5, 0.5)


def test_one_training_in_a_group_bounds_nothing():
    found = contrast([(1, pd.Series([1.0])), (-1, pd.Series([0.0, 0.1]))])
    assert found.mean == pytest.approx(0.95) and (found.low, found.high) == (-np.inf, np.inf)
    with pytest.raises(ValueError, match="no training"):
        contrast([(1, pd.Series([np.nan])), (-1, pd.Series([0.0]))])


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.1, 2, "holds"), (-2, -0.1, "contradicted"), (-0.4, 0.4, "no difference"), (-0.4, 0.6, "open"),
     (-0.6, 0.4, "open"), (0.1, 0.2, "holds"),
     (0, 2, "open")],
)  # fmt: skip
def test_a_verdict_by_its_interval(low, high, verdict):
    assert Difference((low + high) / 2, low, high, 5).verdict == verdict


@pytest.mark.parametrize(("shared", "expected"), [(0.0, 0.0), (1.0, 0.5), (3.0, 0.9)])
def test_seed_correlation_finds_what_seeds_share(shared, expected):
    rng = np.random.default_rng(1)
    common = rng.normal(0, shared, 400)
    frames = [
        table_of({(seed, 0): 10 * k + common[seed] + rng.normal() for seed in range(400)}, f"method {k}")
        for k in range(3)
    ]
    assert seed_correlation(pd.concat(frames)) == pytest.approx(expected, abs=0.1)
