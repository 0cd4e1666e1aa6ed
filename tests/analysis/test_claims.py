"""The paper's claims beside hand-made tables and those of tiny."""

import pandas as pd
import pytest

from dglab import paper
from dglab.analysis.claims import judge
from dglab.experiments.table import COLUMNS


def table_of(values, train_method):
    """Rows of mIoU under source BN from {train_seed: value}."""
    rows = [
        {"study": "ablation", "task": "G+S->C", "train_method": train_method, "test_method": "bn", "train_seed": seed,
         "metric": "miou", "value": value, "target": "C", "domain_evaluated": "C",
         "inner_lr": 0.1 if train_method == "mldg" else None}
        for seed, value in values.items()
    ]  # fmt: skip
    return pd.DataFrame(rows).reindex(columns=list(COLUMNS))


def test_a_claim_is_judged_by_its_differences():
    def of(gaps):
        agg = table_of({seed: 30.0 + seed for seed in range(3)}, "agg")
        mldg = table_of({seed: 30.0 + seed + gap for seed, gap in enumerate(gaps)}, "mldg")
        return {v.claim.number: v for v in judge(pd.concat([agg, mldg]))}[1]

    assert of([2.0, 2.1, 1.9]).outcome == "holds, as far as tested"
    assert of([-2.0, -2.1, -1.9]).outcome == "does not hold"
    assert of([-2.0, 2.0, 0.1]).outcome == "open"
    assert of([2.0, 2.1, 1.9]).parts[0][1].mean == pytest.approx(2.0)


def test_seeds_that_do_not_meet_are_not_run():
    frame = pd.concat([table_of({0: 1.0}, "agg"), table_of({1: 1.0}, "mldg")])
    assert {v.outcome for v in judge(frame)} == {"not run"}


def test_what_the_table_does_not_hold_is_not_run(frames):
    empty = pd.DataFrame(columns=list(COLUMNS))
    verdicts = judge(empty)
    assert [v.claim for v in verdicts] == list(paper.CLAIMS)
    assert {v.outcome for v in verdicts} == {"not run"}
    judged = {"ablation": {1, 2, 3}, "batch_size": {5}, "selection_policy": {6}, "style_layer": {7},
              "source_and_target": {10}, "adabn": {12}}  # fmt: skip
    for study, numbers in judged.items():
        assert {v.claim.number for v in judge(frames[study]) if v.outcome != "not run"} == numbers
    # One training decides nothing; Tables 4, 8 and 10 have no study, and tiny's bank never holds 128.
    outcomes = {v.claim.number: v.outcome for v in judge(pd.concat(frames.values()))}
    assert {n for n, outcome in outcomes.items() if outcome == "not run"} == {4, 8, 9, 11}
    assert set(outcomes.values()) == {"not run", "open"}


def test_no_verdict_rests_on_what_a_method_is_called(frames, request):
    frame = pd.concat(frames.values())
    before = judge(frame)
    request.getfixturevalue("other_labels")
    assert judge(frame.assign(method="?")) == before
