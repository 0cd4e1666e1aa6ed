"""The paper's claims beside hand-made tables and those of tiny."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from dglab import paper
from dglab.analysis.claims import judge
from dglab.analysis.published import published_differences
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


def test_on_the_sources_tests_of_the_same_domains_are_compared():
    """SIB has been tested on the easier source alone: the gain there is 1, and not the difference of the means."""
    of = {"study": "source_and_target", "task": "G+S+I+M->C"}
    sib = {"test_method": "sib", "statistics": "joint", "prior": 0.0}
    parts = [
        table_of({0: value, 1: value + 0.1}, "mldg").assign(domain_evaluated=domain, **of, **more)
        for domain, value, more in (("G", 40.0, {}), ("S", 20.0, {}), ("G", 41.0, sib))
    ]
    [gain, _] = verdict_of(10, pd.concat(parts)).parts
    assert gain.difference.mean == pytest.approx(1.0)


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
    """The same values in another order of seeds give the same interval, which is Welch's."""
    agg = table_of({seed: value for seed, value in enumerate([30.0, 31.0, 32.5])}, "agg")
    orders = ([33.0, 34.0, 36.0], [36.0, 33.0, 34.0])
    first, second = (
        verdict_of(1, pd.concat([agg, table_of(dict(enumerate(values)), "mldg")])).parts[0].difference
        for values in orders
    )
    assert tuple(first) == pytest.approx(tuple(second))
    welch = stats.ttest_ind(orders[0], [30.0, 31.0, 32.5], equal_var=False).confidence_interval(1 - 0.05 / 2)
    assert (first.low, first.high) == pytest.approx(welch)  # two parts: Bonferroni


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


def test_deviations_are_those_of_many_orders_where_they_were_run():
    """TN varies twice as much as SIB over two orders, and as much over three: a log of 0.69, and of 0."""

    def rows(study, test, step, orders):
        part = [
            table_of(dict.fromkeys(range(3), 30 + step * order), "mldg").assign(test_seed=order) for order in orders
        ]
        more = {"statistics": "joint"} if test == "sib" else {"batch_size": 5, "prior": 0.0}
        return pd.concat(part).assign(study=study, test_method=test, task="G+S+I+M->C", **more)

    few = [rows("ablation", "tn", 0.2, range(2)), rows("ablation", "sib", 0.1, range(2))]
    many = [rows("arrival_orders", test, 0.1, range(3)) for test in ("tn", "sib")]
    for frame, expected in ((few, np.log(2)), (few + many, 0.0)):
        mean, ratio = verdict_of(3, pd.concat(frame)).parts[:2]
        assert ratio.name.startswith("log of the ratio") and ratio.difference.mean == pytest.approx(expected)
        assert mean.difference.mean == pytest.approx(-0.05)  # of the five orders of Table 3


def test_more_sources_stand_beside_the_control_by_domain():
    """The batches of G alone hold one domain: so do those of by domain, which is compared with both."""

    def rows(method, task, values):
        part = table_of(dict(enumerate(values)), method).assign(study="source_domains_fixed", task=task)
        return part.assign(test_method="sib", statistics="joint")

    four = {"agg": [34.0, 35.0], "mldg": [35.0, 36.0], "by_domain": [37.5, 38.5]}
    of_four = [rows(method, "G+S+I+M->C", values) for method, values in four.items()]
    frame = pd.concat([rows("agg", "G->C", [37.0, 38.0]), *of_four])
    verdict = verdict_of(9, frame)
    found = {part.name: part.difference.mean for part in verdict.parts if part.difference is not None}
    assert found == pytest.approx({
        "four sources - G alone, images fixed, with SIB": -2.0,
        "images fixed, with SIB: four sources by domain - G alone": 0.5,
        "images fixed, with SIB: four sources by domain - AGG": 3.5,
    })  # fmt: skip
    assert [part.name for part in verdict.parts if part.primary] == ["four sources - G alone, images fixed, with SIB"]
    assert verdict_of(9, frame[frame["train_method"] != "by_domain"]).outcome == verdict.outcome == "open"


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
    alone = verdict_of(11, good[0])  # the claim is about other networks than the preset's own
    assert alone.outcome == "not run" and alone.parts[0].difference.mean == pytest.approx(3)
    ablation = table_of(dict(enumerate(low)), "agg").assign(task="G+S+I+M->C", backbone="thin-fpn")
    assert verdict_of(11, pd.concat([ablation, good[1]])).outcome == "holds, as far as tested"
    assert verdict_of(11, pd.concat([ablation, good[0]])).outcome == "not run"
    error = np.sqrt(2 * np.var(low, ddof=1) / 3)
    assert found.parts[0].difference.high - 3 == pytest.approx(stats.t.ppf(1 - 0.05 / 6, 4) * error)  # Bonferroni
    assert str(verdict_of(11, pd.DataFrame(columns=list(COLUMNS))).parts[0]).endswith("not run")


def of_settings(study, column, values, metric="miou"):
    """Rows of MLDG with SIB: {setting: {train_seed: value}}."""
    parts = [
        table_of(by_seed, "mldg").assign(study=study, task="G+S+I->C+M", test_method="sib", metric=metric,
                                         **{column: setting})
        for setting, by_seed in values.items()
    ]  # fmt: skip
    return pd.concat(parts)


def test_the_best_other_setting_is_found_on_the_seeds_that_all_have():
    """Layer 1's second seed is far above: it does not count, because layers 2 and 3 do not have it."""
    layers = {"1": {10: 30.0, 11: 50.0}, "2": {10: 31.0}, "3": {10: 29.0}}
    [accuracy, miou] = verdict_of(7, of_settings("style_layer", "style_layer", layers)).parts
    assert accuracy.difference is None
    assert (miou.difference.mean, miou.difference.trainings) == (-1.0, 1)


def test_a_queue_is_best_only_among_all_that_the_paper_tries():
    sizes = {q: {10: 30.0, 11: 31.0, 12: 32.0} for q in (4, 8, 16, 32, 64, 128, 256, 512)}
    assert verdict_of(8, of_settings("queue_size", "capacity", sizes)).outcome == "no difference"
    few = {q: sizes[q] for q in (4, 16, 64, 128)}
    assert verdict_of(8, of_settings("queue_size", "capacity", few)).outcome == "no difference, as far as tested"
    assert verdict_of(8, of_settings("queue_size", "capacity", {4: sizes[4], 64: sizes[64]})).outcome == "not run"


def test_the_papers_own_differences_stand_beside_ours():
    """Worked by hand from the printed tables."""
    published = {(v.claim.number, p.name): p.published for v in judge(pd.DataFrame(columns=list(COLUMNS)))
                 for p in v.parts}  # fmt: skip
    assert published[1, "MLDG - AGG"] == "+2.24 (G+S+I->M: -0.26, G+S+I+C->M: +0.96)"
    assert published[1, "that with four sources - that with three"] == "+1.91 (G+S+I->C: +0.33)"
    assert published[2, "AGG - AGG+TN (M = 4)"] == (
        "+1.81 (G+S+I->M: +8.02, G+S+I->C: +2.10, G+S+I+C->M: +11.14; M not stated)"
    )
    assert published[3, "MLDG+SIB - MLDG+TN (M = 5)"].endswith("G+S+I+C->M: +1.81; M not stated)")
    by_hand = {
        (2, "AGG - AGG+TN (M = 4)"): 53.71 - 51.90, (2, "MLDG+TN - MLDG (M = 4)"): 57.19 - 55.95,
        (3, "MLDG+SIB - MLDG+TN (M = 5)"): 57.66 - 57.19, (4, "2:2 - 3:1"): 55.95 - 54.38,
        (4, "2:2 - 1:3"): 55.95 - 55.41, (6, "TN (M = 5) - QIB"): 52.04 - 51.87, (6, "SIB - TN (M = 5)"): 52.80 - 52.04,
        (7, "selection accuracy of layer 1 - the best other layer's, percentage points"): 96.78 - 93.52,
        (7, "mIoU of layer 1 - the best other layer's"): 52.78 - 52.44,
        (8, "Q = 128 - the best other Q"): 52.78 - 52.70,
        (9, "the same, images grow"): 57.66 - 29.33,
        (10, "MLDG+SIB - MLDG on the sources"): (63.29 + 63.81 + 63.99 + 55.52 - 59.98 - 60.21 - 62.02 - 57.09) / 4,
        (10, "AGG - AGG+SIB on the sources"): (60.42 + 61.25 + 59.49 + 56.73 - 55.07 - 55.07 - 50.41 - 48.00) / 4,
        (12, "MLDG+SIB - MLDG+AdaBN"): 57.66 - 56.67,
    }  # fmt: skip
    assert {key: published[key].split()[0] for key in by_hand} == {k: f"{v:+.2f}" for k, v in by_hand.items()}
    unnamed = {name for n in range(1, 13) for name in published_differences(n)} - {name for _, name in published}
    assert unnamed == {""}  # each other one belongs to a part
    [networks] = published_differences(11).values()
    assert networks == "MLDG+SIB - MLDG: +2.06 (DeepLabV3), +2.35 (HRNet), +1.71 (ResNet-50 (dilated FCN))"


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
