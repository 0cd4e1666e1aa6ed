"""GMP's claims beside hand-made tables."""

import pandas as pd
import pytest

from dglab.analysis.gmp_claims import GMP_CLAIMS, judge_gmp, of_task
from dglab.experiments.table import COLUMNS, TYPES


def table(rows):
    return pd.DataFrame(rows).reindex(columns=list(COLUMNS)).astype(TYPES)


def outcomes(frame):
    return [verdict.outcome for verdict in judge_gmp(frame)]


def test_all_four_hold_in_a_table_made_for_them(gmp_table):
    verdicts = judge_gmp(gmp_table())
    assert [verdict.outcome for verdict in verdicts] == ["holds"] * 4
    means = [[round(part.difference.mean, 6) for part in verdict.parts] for verdict in verdicts]
    assert means == [[4.0, 1.5, 3.0, 1.5], [1.0, 1.0, 1.0, 1.0], [1.5], [1.5]]
    assert [verdict.claim for verdict in verdicts] == list(GMP_CLAIMS)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"igdm": -1.0}, ["holds", "contradicted", "holds", "holds"]),
        ({"igdm": 2.0}, ["holds", "no difference", "holds", "holds"]),  # each helps, but they do not add up
        ({"unified": 3.0}, ["holds", "holds", "contradicted", "holds"]),
        ({"ogm_ge": 5.0}, ["holds", "holds", "holds", "contradicted"]),  # more on the target than on the sources
    ],
)
def test_a_claim_fails_by_its_own_figures_alone(gmp_table, change, expected):
    assert outcomes(gmp_table(change)) == expected


def test_one_training_decides_nothing_and_no_training_is_not_run(gmp_table):
    assert outcomes(gmp_table(seeds=1)) == ["open"] * 4
    assert outcomes(table([])) == ["not run"] * 4
    ablation = gmp_table()
    assert outcomes(ablation[ablation["study"] == "gmp_ablation"]) == ["not run", "holds", "holds", "not run"]


def test_other_tests_and_other_targets_do_not_count(gmp_table):
    frame = gmp_table()
    second, other = (
        frame.assign(task=f"S+C->{letter}", target=letter, domain_evaluated=letter, value=0.0) for letter in "MG"
    )
    without = frame.assign(without="rgb", value=0.0).astype({"without": "string"})
    under_tn = frame.assign(test_method="tn", value=0.0)
    together = pd.concat([other, second, frame, without, under_tn], ignore_index=True)
    assert [v.parts for v in judge_gmp(together)] == [v.parts for v in judge_gmp(frame)]


def test_the_task_of_a_study_is_chosen_by_name(gmp_table):
    frame = gmp_table()
    first, second, third = (
        frame.assign(task=f"I->{letter}", target=letter, domain_evaluated=letter).astype(frame.dtypes)
        for letter in "CMG"
    )
    for rows in ([first, second, third], [third, second, first]):
        tasks = [of_task(pd.concat(rows), "gmp_branches", number) for number in range(4)]
        assert [set(one["target"]) for one in tasks] == [{"C"}, {"M"}, {"G"}, set()]
        assert {study for one in tasks for study in one["study"]} == {"gmp_branches"}
    assert of_task(second, "gmp_branches").empty and len(of_task(second, "gmp_branches", 1))  # M is not the main task
    assert len(of_task(third, "gmp_branches"))


def test_a_study_that_has_only_begun_is_judged_as_far_as_it_goes(gmp_table):
    """OGM-GE's networks have been tested on the target, and not yet on the sources."""
    frame = gmp_table()
    begun = frame[(frame["variant"] != "ogm_ge") | (frame["domain_evaluated"] == frame["target"])]
    assert outcomes(begun)[3] == "not run"
    source = frame.loc[frame["domain_evaluated"] != frame["target"], "domain_evaluated"].iloc[0]
    but_one = frame[(frame["variant"] != "ogm_ge") | (frame["domain_evaluated"] != source)]
    assert outcomes(but_one)[3] == "not run"  # a mean over other sources is another mean
