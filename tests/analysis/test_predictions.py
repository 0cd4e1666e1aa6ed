"""The predictions beside hand-made tables: what counts as predicted, what against it, what stays open."""

import re
from pathlib import Path

import pandas as pd
import pytest

from dglab.analysis.intervals import Difference
from dglab.analysis.predictions import (
    EXPECTED,
    EXPECTED_MIXED,
    EXPECTED_OVER_TARGETS,
    Prediction,
    as_rows,
    expected_of_claims,
    five_real_domains,
    train_as_you_test,
)
from dglab.analysis.targets import COMPARED
from dglab.experiments.table import COLUMNS, TYPES

SEEDS = range(4)


def rows(method, test, domain, mean, **more):
    """Four trainings around a mean, 0.1 apart."""
    return [
        {"study": "train_as_you_test", "task": "G+S->C", "train_method": method, "test_method": test,
         "train_seed": seed, "metric": "miou", "value": mean + 0.1 * (seed - 1.5), "target": "C",
         "domain_evaluated": domain,
         "prior": 0.0 if test == "tn" else None, "batch_size": 4 if test == "tn" else None,
         "inner_lr": 0.1 if method == "mldg" else None, **more}
        for seed in SEEDS
    ]  # fmt: skip


def table(*parts):
    return pd.DataFrame(sum(parts, [])).reindex(columns=list(COLUMNS)).astype(TYPES)


def test_on_a_source_tn_lowers_agg_and_raises_the_others():
    frame = table(
        rows("agg", "bn", "G", 30), rows("agg", "tn", "G", 28),  # as predicted
        rows("by_domain", "bn", "G", 30), rows("by_domain", "tn", "G", 29),  # against it
        rows("mldg", "bn", "G", 25), rows("mldg", "tn", "G", 30),  # as predicted
    )  # fmt: skip
    found = {one.what: one for one in train_as_you_test(frame)}
    assert {what: one.outcome for what, one in found.items()} == {
        "AGG: TN - source BN": "as predicted", "by domain: TN - source BN": "against it",
        "MLDG: TN - source BN": "as predicted",
    }  # fmt: skip
    assert (
        found["AGG: TN - source BN"].difference.mean == pytest.approx(-2) and found["MLDG: TN - source BN"].number == 1
    )


def test_on_the_sources_of_the_task_with_four():
    of = {"study": "tn_on_sources", "task": "G+S+I+M->C"}
    frame = table(
        rows("mldg", "bn", "M", 30, **of), rows("mldg", "tn", "M", 31, **of),
        rows("mldg", "bn", "G", 30, **of), rows("mldg", "tn", "G", 29, **of),
        rows("mldg", "bn", "C", 30, study="ablation", task="G+S+I+M->C"),
    )  # fmt: skip
    found = {one.domain: (one.number, one.outcome) for one in train_as_you_test(frame)}
    assert found == {"M, from G+S+I+M": (1, "as predicted"), "G, from G+S+I+M": (1, "against it")}


def test_on_an_unseen_domain():
    frame = table(
        rows("agg", "bn", "C", 20), rows("by_domain", "bn", "C", 15), rows("by_domain", "bn-reestimated", "C", 17),
        rows("agg2", "tn", "C", 22), rows("by_domain2", "tn", "C", 23), rows("mldg", "tn", "C", 23.05),
        rows("mldg", "tn", "C", 25, inner_lr=0.0),
    )  # fmt: skip
    found = {(one.number, one.what): one for one in train_as_you_test(frame)}
    assert {key: one.outcome for key, one in found.items()} == {
        (2, "source BN: by domain - AGG"): "as predicted",
        (2, "by domain: re-estimated - source BN"): "as predicted",
        (3, "TN: by domain, 2x - AGG2"): "as predicted",
        (4, "TN: MLDG - MLDG inner 0"): "against it",  # two points below
        (4, "TN: MLDG - by domain, 2x"): "as predicted",  # a twentieth of a point
    }
    assert as_rows(found.values())[0]["tested on"] == "C"


def test_three_and_four_sources_are_tasks_of_their_own():
    four, three = {"study": "ablation", "task": "G+S+I+M->C"}, {"study": "ablation", "task": "G+S+I->M", "target": "M"}
    left_out = {"study": "ablation", "task": "G+S+I+C->M", "target": "M"}
    frame = table(
        rows("agg", "bn", "C", 20, **four), rows("by_domain", "bn", "C", 15, **four),
        rows("agg", "bn", "M", 30, **three), rows("by_domain", "bn", "M", 40, **three),
        rows("agg", "bn", "M", 50, **left_out), rows("by_domain", "bn", "M", 60, **left_out),
        rows("by_domain", "tn", "C", 23, **four), rows("mldg", "tn", "C", 23.05, **four),
    )  # fmt: skip
    found = {(one.number, one.what, one.domain): one for one in train_as_you_test(frame)}
    at, of_three = "C, from G+S+I+M", "M, from G+S+I"
    assert found[2, "source BN: by domain - AGG", at].difference.mean == pytest.approx(-5)
    assert found[2, "source BN: by domain - AGG", of_three].difference.mean == pytest.approx(10)
    assert found[4, "TN: MLDG - by domain (added later)", at].outcome == "as predicted"
    assert [domain for *_, domain in found] == [of_three, at, at]


def test_the_gain_of_tn_falls_with_the_domains_in_a_batch():
    def study(count, gain, task="G+S+I+M->C"):
        more = {"study": "domains_per_pass", "task": task, "domains_per_pass": count}
        return rows("agg", "bn", "C", 20, **more) + rows("agg", "tn", "C", 20 + gain, **more)

    frame = table(study(1, 6), study(2, 3), study(4, 4), study(1, 5, "G+S->C"))  # the last one has no second
    found = train_as_you_test(frame)
    assert [(one.number, one.what, one.outcome) for one in found] == [
        (5, "G+S+I+M: TN - source BN, 1 minus 2 domains a pass", "as predicted"),
        (5, "G+S+I+M: TN - source BN, 2 minus 4 domains a pass", "against it"),
    ]
    assert found[0].difference.mean == pytest.approx(3)


@pytest.mark.parametrize(
    ("expected", "low", "high", "outcome"),
    [("positive", 0.1, 2, "as predicted"), ("positive", -2, -0.1, "against it"), ("positive", -0.3, 0.3, "against it"),
     ("positive", -1, 1, "open"), ("no difference", -0.3, 0.3, "as predicted"),
     ("no difference", 0.1, 0.3, "as predicted"), ("no difference", 0.1, 2, "against it"),
     ("negative", -2, -0.1, "as predicted")],
)  # fmt: skip
def test_an_outcome_by_the_interval(expected, low, high, outcome):
    difference = Difference((low + high) / 2, low, high, 5)
    assert Prediction(1, "x", "C", expected, difference).outcome == outcome


def test_a_table_without_the_study_predicts_nothing():
    assert train_as_you_test(table(rows("agg", "bn", "C", 20)).assign(study="ablation")) == []


def test_what_was_expected_of_the_claims_is_what_the_page_says():
    page = (Path(__file__).parents[2] / "docs" / "predictions.md").read_text(encoding="utf-8")
    part = page.split("## Primary tests")[1].split("\n## ")[0]
    lines = [line.strip("|").split("|") for line in part.splitlines() if re.match(r"\| \d+\. ", line)]
    written = {int(claim.split(".")[0]): tuple(expected.strip().split("; ")) for claim, _, expected in lines}
    assert written == EXPECTED


def test_what_came_out_stands_beside_what_was_expected():
    claim = {"study": "adabn", "task": "G+S+I+M->C"}
    sib, adabn = (rows("mldg", test, "C", mean, **claim) for test, mean in (("sib", 31.0), ("adabn", 30.0)))
    [row] = expected_of_claims(table(sib, adabn).assign(statistics="joint"))
    assert row == {"claim": "12", "difference": "MLDG+SIB - MLDG+AdaBN", "expected": "no difference",
                   "came out": "holds", "as expected": "no"}  # fmt: skip
    split = {"study": "meta_split", "task": "G+S+I+M->C"}
    frame = table(*(rows("mldg", "bn", "C", 30.0, **split, split=name) for name in ("half", "3:1")))
    [row] = expected_of_claims(frame)
    assert (row["claim"], row["came out"], row["as expected"]) == ("4", "no difference", "yes")
    frame = table(*(rows("mldg", "sib", "C", 30.0 + 3 * (name == "thin-fpn"), study="backbones", task="G+S+I+M->C",
                         backbone=name) for name in ("thin-fpn", "other")),
                  *(rows("agg", "bn", "C", 30.0, study="backbones", task="G+S+I+M->C", backbone=name)
                    for name in ("thin-fpn", "other"))).assign(statistics="joint")  # fmt: skip
    first, second = expected_of_claims(frame)  # where no decision was expected there is nothing to score
    assert (first["came out"], second["came out"]) == ("holds", "no difference")
    assert {first["expected"], second["expected"]} == {"open"} and {first["as expected"], second["as expected"]} == {""}
    assert expected_of_claims(table(rows("agg", "bn", "C", 30.0))) == []


def test_what_was_expected_of_five_real_domains_is_what_the_page_says():
    page = (Path(__file__).parents[2] / "docs" / "predictions.md").read_text(encoding="utf-8")
    part = page.split("## Five real domains")[1].split("\n## ")[0].split("|---|---|\n")[1]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in part.strip().splitlines()]
    *over_targets, mixed = lines
    written = []
    for difference, expected in over_targets:
        both = " and " in difference  # claim 10: two differences in a line
        written += expected.split("; ") if both else [expected]
    assert tuple(written) == EXPECTED_OVER_TARGETS
    plain = [re.sub(r"\W+", " ", name) for line in over_targets for name in line[0].split(" and ")]
    for line, compared in zip(plain, COMPARED, strict=True):  # in the order of the page: each method's name, at least
        for method, test in (compared.better, compared.worse):
            assert re.sub(r"\W+", " ", method.label) in line
            assert test.method == "bn" or test.method[:3].upper() in line.upper()
    assert mixed == ["SIB - TN (M = 5), MLDG, mixed stream of T and K", EXPECTED_MIXED]


def real(target, method, test, values, **more):
    """One training of each target, or several of one stream."""
    return [
        {"study": "ablation", "task": f"others->{target}", "target": target, "domain_evaluated": target,
         "train_method": method, "test_method": test, "train_seed": seed, "metric": "miou", "value": value,
         "inner_lr": 0.1 if method == "mldg" else None, "prior": 0.0 if test == "tn" else None,
         "statistics": "joint" if test == "sib" else None, **more}
        for seed, value in enumerate(values)
    ]  # fmt: skip


def test_what_came_out_on_real_domains_stands_beside_what_was_expected():
    frame = table(
        *(real(target, "agg", "bn", [20.0 + number]) for number, target in enumerate("TREVK")),
        *(real(target, "by_domain", "bn", [18.0 + 1.1 * number]) for number, target in enumerate("TREVK")),
        real("T+K", "mldg", "sib", [25.0, 25.2, 25.1], study="selection_policy", task="R+E+V->T+K"),
        real("T+K", "mldg", "tn", [24.0, 24.1, 24.2], study="selection_policy", task="R+E+V->T+K", batch_size=5),
    )
    *over_targets, mixed = five_real_domains(frame)
    assert [row["difference"] for row in over_targets] == [compared.name for compared in COMPARED]
    [apart] = [row for row in over_targets if row["over the targets"] != "not run"]
    assert all(row["expected"] and list(row) == list(apart) for row in over_targets)
    assert apart["difference"] == "AGG+source BN - by domain+source BN" and apart["unseen: T"] == "+2.00"
    assert (apart["expected"], apart["it is"], apart["targets"]) == ("positive", "positive", "5")
    assert mixed["about"] == "one stream of T+K" and mixed["over the targets"].startswith("+1.00 [+0.")
    assert (mixed["expected"], mixed["it is"]) == ("positive", "positive") and list(mixed) == list(apart)
    assert five_real_domains(frame[frame["study"] == "selection_policy"]) == []
