"""The paper's claims beside hand-made tables and those of tiny."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

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


def verdict_of(number, frame):
    return next(verdict for verdict in judge(frame) if verdict.claim.number == number)


def test_a_claim_is_judged_by_its_differences():
    def of(gaps):
        agg = table_of({seed: 30.0 + 0.1 * seed for seed in range(3)}, "agg")
        mldg = table_of({seed: 30.0 + gap for seed, gap in enumerate(gaps)}, "mldg")
        return verdict_of(1, pd.concat([agg, mldg]))

    assert of([2.0, 2.1, 1.9]).outcome == "holds, as far as tested"  # the part on three sources is missing
    assert of([-2.0, -2.1, -1.9]).outcome == "contradicted, as far as tested"
    assert of([-2.0, 2.0, 0.1]).outcome == "open, as far as tested"
    assert of([0.1, 0.0, 0.2]).outcome == "no difference, as far as tested"
    assert of([2.0, 2.1, 1.9]).parts[0].difference.mean == pytest.approx(1.9)


def test_seeds_of_training_methods_are_no_pairs():
    """The same values in another order of seeds give the same interval, whose width is Welch's standard error."""
    agg = table_of({seed: value for seed, value in enumerate([30.0, 31.0, 32.5])}, "agg")
    orders = ([33.0, 34.0, 36.0], [36.0, 33.0, 34.0])
    first, second = (
        verdict_of(1, pd.concat([agg, table_of(dict(enumerate(values)), "mldg")])).parts[0].difference
        for values in orders
    )
    assert tuple(first) == pytest.approx(tuple(second))
    error = np.sqrt(np.var([30.0, 31.0, 32.5], ddof=1) / 3 + np.var(orders[0], ddof=1) / 3)
    assert first.high - first.mean == pytest.approx(stats.t.ppf(1 - 0.05 / 4, 4) * error)  # two parts: Bonferroni


def test_parts_that_disagree():
    def rows(test, values, study="adabn", **more):
        part = table_of(dict(enumerate(values)), "mldg").assign(test_method=test, study=study, **more)
        return part.assign(task="G+S+I+M->C", statistics="joint" if test == "sib" else None)

    def outcome(sib, adabn):
        return verdict_of(12, pd.concat([rows("sib", sib), rows("adabn", adabn)])).outcome

    assert outcome([30.0, 31.0, 32.0], [29.0, 30.1, 31.0]) == "holds"
    assert outcome([30.0, 31.0, 32.0], [30.1, 30.9, 32.1]) == "no difference"
    assert outcome([30.0, 31.0, 32.0], [31.0, 32.1, 33.0]) == "contradicted"
    assert outcome([30.0, 31.0, 32.0], [28.0, 31.0, 34.0]) == "open"


def test_stronger_backbones_have_a_part_each():
    """Three networks; MLDG with SIB is above AGG in two of them, and below it in the third."""

    def rows(backbone, agg, sib):
        parts = [table_of(dict(enumerate(agg)), "agg"), table_of(dict(enumerate(sib)), "mldg")]
        parts[1] = parts[1].assign(test_method="sib", statistics="joint")
        return pd.concat(parts).assign(study="backbones", task="G+S+I+M->C", backbone=backbone)

    low, high = [30.0, 30.1, 29.9], [33.0, 33.1, 32.9]
    good = [rows("thin-fpn", low, high), rows("hrnet-w18", low, high)]
    found = verdict_of(11, pd.concat([*good, rows("efficientnet-lite0", low, high)]))
    assert found.outcome == "holds" and [part.name for part in found.parts] == [
        "MLDG+SIB - AGG, thin-fpn", "MLDG+SIB - AGG, hrnet-w18", "MLDG+SIB - AGG, efficientnet-lite0"
    ]  # fmt: skip
    assert verdict_of(11, pd.concat([*good, rows("efficientnet-lite0", high, low)])).outcome == "contradicted"
    assert verdict_of(11, pd.concat(good)).outcome == "holds, as far as tested"
    error = np.sqrt(2 * np.var(low, ddof=1) / 3)
    assert found.parts[0].difference.high - 3 == pytest.approx(stats.t.ppf(1 - 0.05 / 6, 4) * error)  # Bonferroni
    assert str(verdict_of(11, pd.DataFrame(columns=list(COLUMNS))).parts[0]).endswith("not run")


def test_one_training_of_each_method_decides_nothing():
    frame = pd.concat([table_of({0: 1.0}, "agg"), table_of({1: 9.0}, "mldg")])
    assert verdict_of(1, frame).outcome == "open, as far as tested"


def test_what_the_table_does_not_hold_is_not_run(frames):
    empty = pd.DataFrame(columns=list(COLUMNS))
    verdicts = judge(empty)
    assert [v.claim for v in verdicts] == list(paper.CLAIMS)
    assert {v.outcome for v in verdicts} == {"not run"}
    judged = {"ablation": {1, 2, 3}, "batch_size": {5}, "selection_policy": {6}, "style_layer": {7},
              "source_and_target": {10}, "adabn": {12}}  # fmt: skip
    for study, numbers in judged.items():
        assert {v.claim.number for v in judge(frames[study]) if v.outcome != "not run"} == numbers
    # One training decides nothing; Tables 4, 8 and 10 are extra studies, and tiny's bank never holds 128.
    outcomes = {v.claim.number: v.outcome for v in judge(pd.concat(frames.values()))}
    assert {n for n, outcome in outcomes.items() if outcome == "not run"} == {4, 8, 9, 11}
    assert {outcome.split(",")[0] for outcome in outcomes.values()} == {"not run", "open"}


def test_no_verdict_rests_on_what_a_method_is_called(frames, request):
    frame = pd.concat(frames.values())
    before = judge(frame)
    request.getfixturevalue("other_labels")
    assert judge(frame.assign(method="?")) == before
