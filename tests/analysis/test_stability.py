"""How far figures move on other instructions: numbers worked by hand."""

import numpy as np
import pandas as pd
import pytest

from dglab.analysis.stability import move_rows, moves, replaced, verdict_rows
from dglab.experiments.methods import MLDG, SOURCE_BN, TN_4
from dglab.experiments.table import COLUMNS, TYPES


def table(values, preset="full"):
    """MLDG's mIoU by test and seed; TN has two orders of arrival, half a point above and below."""
    rows = [
        {"study": "ablation", "preset": preset, "task": "G+S+I+M->C", "target": "C", "domain_evaluated": "C",
         "train_method": "mldg", "inner_lr": 0.1, "test_method": test, "batch_size": size, "prior": prior,
         "train_seed": seed, "test_seed": order, "metric": "miou", "value": value + spread}
        for test, size, prior, orders in (("bn", None, None, ((None, 0),)), ("tn", 4, 0.0, ((0, -0.5), (1, 0.5))))
        for seed, value in values[test].items()
        for order, spread in orders
    ]  # fmt: skip
    return pd.DataFrame(rows).reindex(columns=list(COLUMNS)).astype(TYPES)


@pytest.fixture
def recorded():
    return table({"bn": {10: 30, 11: 32, 12: 34}, "tn": {10: 33, 11: 34, 12: 35}})


@pytest.fixture
def again():
    return table({"bn": {10: 31, 11: 30}, "tn": {10: 33, 11: 31}})


def test_moves_are_of_the_same_networks(recorded, again):
    bn, tn = moves(recorded, again)
    assert (bn.method, bn.test, tn.test) == (MLDG, SOURCE_BN, TN_4)
    assert bn.gaps.tolist() == [1, -2] and tn.gaps.tolist() == [0, -3]
    assert bn.deviation == pytest.approx(2) and tn.deviation == pytest.approx(1)  # of all three seeds
    row = move_rows(recorded, again)[0]
    assert (row["networks"], row["mean move"], row["largest move"]) == ("2", "-0.50", "-2.00")
    assert row["deviation of the moves"] == f"{3 / np.sqrt(2):.2f}"
    assert row["expected of a second draw"] == f"{2 * np.sqrt(2):.2f}"


def test_only_the_trials_that_ran_again_are_replaced(recorded, again):
    mixed = replaced(recorded, again.sample(frac=1, random_state=0))
    assert len(mixed) == len(recorded) and mixed.dtypes.equals(recorded.dtypes)
    bn = mixed[mixed["test_method"] == "bn"].set_index("train_seed")["value"]
    assert bn.to_dict() == {10: 31, 11: 30, 12: 34}
    pd.testing.assert_frame_equal(replaced(recorded, recorded), recorded)


def test_a_verdict_that_moves_is_marked():
    steady = table({"bn": {10: 30, 11: 31, 12: 32}, "tn": {10: 33.0, 11: 34.1, 12: 35.05}})
    changed = table({"bn": {10: 30, 11: 31}, "tn": {10: 39.0, 11: 29.0}})
    rows = {row["claim"][:2]: row for row in verdict_rows(steady, changed)}
    assert rows["2."]["recorded"] == "holds, as far as tested" and rows["2."]["changed"] == "yes"
    assert rows["2."]["with these networks"].startswith("open") and rows["1."]["changed"] == ""
    assert rows["1."]["these alone, again"] == "not run"


def test_a_verdict_of_the_networks_alone_is_marked():
    """Eighteen networks more hold a verdict where it is that two by themselves change."""
    steady = {seed: 33 + 0.1 * seed for seed in range(10, 30)}
    first = table({"bn": {seed: value - 3 for seed, value in steady.items()}, "tn": steady})
    moved = table({"bn": {10: 30.0, 11: 33.0}, "tn": {10: 34.5, 11: 34.0}})
    row = next(row for row in verdict_rows(first, moved) if row["claim"].startswith("2."))
    assert row["recorded"] == row["with these networks"] == row["these alone, recorded"] == "holds, as far as tested"
    assert row["these alone, again"].startswith("open") and row["changed"] == "alone"
