"""Over several targets the target is the unit: numbers worked by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from dglab.analysis.targets import COMPARED, over_targets, rows_over_targets
from dglab.experiments.methods import MLDG, SOURCE_BN, TN_4
from dglab.experiments.table import COLUMNS, TYPES

# mIoU of two trainings under source BN, and of the same under TN, by target
SOURCE, TARGET = {"X": (10, 12), "Y": (20, 22), "Z": (30, 30)}, {"X": (13, 15), "Y": (21, 25), "Z": (29, 31)}


@pytest.fixture
def table():
    rows = [
        {"study": "ablation", "task": f"others->{target}", "target": target, "domain_evaluated": target,
         "train_method": "mldg", "inner_lr": 0.1, "test_method": test, "batch_size": size, "prior": prior,
         "train_seed": seed, "test_seed": order, "metric": "miou", "value": value + spread}
        for test, size, prior, values, orders in (
            ("bn", None, None, SOURCE, ((None, 0),)), ("tn", 4, 0.0, TARGET, ((0, -1), (1, 1))),
        )
        for target, found in values.items()
        for seed, value in enumerate(found)
        for order, spread in orders
    ]  # fmt: skip
    return pd.DataFrame(rows).reindex(columns=list(COLUMNS)).astype(TYPES)


def test_the_target_is_the_unit(table):
    [row] = over_targets(table)
    assert (row.compared.better, row.compared.worse) == ((MLDG, TN_4), (MLDG, SOURCE_BN))
    assert {target: (gap.mean, gap.trainings) for target, gap in row.each.items()} == {
        "X": (3, 2), "Y": (2, 2), "Z": (0, 2)
    }  # fmt: skip
    gaps = np.array([3, 2, 0])
    low, high = stats.t.interval(0.975, 2, gaps.mean(), gaps.std(ddof=1) / np.sqrt(3))  # claim 2 has two parts
    assert row.overall == pytest.approx((gaps.mean(), low, high, 3, 0.5))


def test_a_target_that_one_side_lacks_is_left_out(table):
    [row] = over_targets(table[(table["target"] != "Z") | (table["test_method"] == "bn")])
    assert list(row.each) == ["X", "Y"] and row.overall.trainings == 2 and row.overall.mean == 2.5
    assert over_targets(table[table["test_method"] == "bn"]) == []
    other_seeds = (table["target"] == "X") & (table["test_method"] == "bn")
    moved = table.assign(train_seed=table["train_seed"].where(~other_seeds, table["train_seed"] + 10)).astype(TYPES)
    assert list(over_targets(moved)[0].each) == ["Y", "Z"]  # tests of X that share no network are no pairs
    agg = table[table["test_method"] == "bn"].query("target == 'X'").assign(train_method="agg")
    columns = [list(row) for row in rows_over_targets(pd.concat([table, agg]).astype(TYPES))]
    assert len(columns) == 2 and columns[0] == columns[1]  # one header for all rows
    claim_1, _ = rows_over_targets(pd.concat([table, agg]).astype(TYPES))
    assert claim_1["unseen: Y"] == "not run" and claim_1["targets"] == "1"


def test_two_tests_are_compared_on_the_sources_that_both_have_seen(table):
    """SIB is five points below source BN on A; on B, where source BN is much lower, SIB has not run."""
    bn = table[(table["test_method"] == "bn") & (table["target"] == "X")].assign(study="source_and_target")
    sib = bn.assign(test_method="sib", statistics="joint", prior=0.0, value=bn["value"] - 5)
    parts = [
        bn.assign(domain_evaluated="A"),
        bn.assign(domain_evaluated="B", value=1.0),
        sib.assign(domain_evaluated="A"),
    ]
    [row] = over_targets(pd.concat(parts).astype(TYPES))
    assert row.compared.name == "MLDG+SIB - MLDG+source BN, on the sources" and row.each["X"].mean == -5


def test_networks_trained_in_two_ways_are_no_pairs(table):
    """Only one method's values move with the seed: a paired interval would be that of the other way round."""
    mldg = table[table["test_method"] == "bn"]
    agg = mldg.assign(train_method="agg", inner_lr=None, train_seed=mldg["train_seed"] + 10)  # no seed in common
    [row] = over_targets(pd.concat([mldg, agg]).astype(TYPES))
    assert row.compared.about == "claim 1" and row.each["X"].mean == 0 and row.each["X"].trainings == 4


def test_rows_for_reading(table):
    [row] = rows_over_targets(table)
    assert row["difference"] == "MLDG+TN, M = 4 - MLDG+source BN" and row["unseen: X"].startswith("+3.00 [")
    assert row["over the targets"].startswith("+1.67 [") and row["targets"] == "3" and row["it is"] == "open"
    assert len({compared.name for compared in COMPARED}) == len(COMPARED)
