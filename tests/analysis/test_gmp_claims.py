"""GMP's claims beside hand-made tables."""

import pandas as pd
import pytest

from dglab.analysis.gmp_claims import GMP_CLAIMS, judge_gmp
from dglab.experiments.table import COLUMNS, TYPES

OWN = {"igdm": 1.0, "cagp": 1.0, "gmp": 2.0, "unified": 0.5, "ogm_ge": 0.5}  # beside the joint training


def rows_of(study, variant, gain, *, branch=None, modalities="rgb+depth", domain="C", seeds=3):
    noise = (0.0, 0.1, -0.1)
    return [
        {"study": study, "task": "G+S->C", "target": "C", "domain_evaluated": domain, "train_method": "gmp",
         "test_method": "bn", "variant": variant, "modalities": modalities, "branch": branch, "train_seed": seed,
         "metric": "miou", "value": 20 + 5 * seed + gain + noise[seed] * (variant != "joint")}
        for seed in range(seeds)
    ]  # fmt: skip


def table(rows):
    return pd.DataFrame(rows).reindex(columns=list(COLUMNS)).astype(TYPES)


def everything(change=(), seeds=3):
    gains = {"joint": 0.0, **OWN, **dict(change)}
    rows = [r for v, g in gains.items() for r in rows_of("gmp_ablation", v, g, seeds=seeds)]
    for domain, gain in (("G", 3.0), ("S", 1.0), ("C", gains["ogm_ge"])):  # on the sources 2 on average
        rows += rows_of("gmp_strategies", "joint", 0.0, domain=domain, seeds=seeds)
        rows += rows_of("gmp_strategies", "ogm_ge", gain, domain=domain, seeds=seeds)
    for name, alone in (("rgb", 4.0), ("depth", 3.0)):
        rows += rows_of("gmp_branches", "joint", alone, branch=name, modalities=name, seeds=seeds)
        rows += rows_of("gmp_branches", "joint", 0.0, branch=name, seeds=seeds)
        rows += rows_of("gmp_branches", "gmp", 1.5, branch=name, seeds=seeds)
    return table(rows)


def outcomes(frame):
    return [verdict.outcome for verdict in judge_gmp(frame)]


def test_all_four_hold_in_a_table_made_for_them():
    verdicts = judge_gmp(everything())
    assert [verdict.outcome for verdict in verdicts] == ["holds"] * 4
    means = [[round(d.mean, 6) for _, d in verdict.parts] for verdict in verdicts]
    assert means == [[4.0, 1.5, 3.0, 1.5], [1.0, 1.0, 1.0, 1.0], [1.5], [1.5]]
    assert [verdict.claim for verdict in verdicts] == list(GMP_CLAIMS)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"igdm": -1.0}, ["holds", "does not hold", "holds", "holds"]),
        ({"igdm": 2.0}, ["holds", "open", "holds", "holds"]),  # each helps, but they do not add up
        ({"unified": 3.0}, ["holds", "holds", "does not hold", "holds"]),
        ({"ogm_ge": 5.0}, ["holds", "holds", "holds", "does not hold"]),  # more on the target than on the sources
    ],
)
def test_a_claim_fails_by_its_own_figures_alone(change, expected):
    assert outcomes(everything(change)) == expected


def test_one_training_decides_nothing_and_no_training_is_not_run():
    assert outcomes(everything(seeds=1)) == ["open"] * 4
    assert outcomes(table([])) == ["not run"] * 4
    ablation = everything()
    assert outcomes(ablation[ablation["study"] == "gmp_ablation"]) == ["not run", "holds", "holds", "not run"]


def test_other_tests_and_other_targets_do_not_count():
    frame = everything()
    other = frame.assign(task="S+C->G", target="G", domain_evaluated="G", value=frame["value"] * 0)
    without = frame.assign(without="rgb", value=0.0).astype({"without": "string"})
    under_tn = frame.assign(test_method="tn", value=0.0)
    together = pd.concat([frame, other, without, under_tn], ignore_index=True)
    assert [v.parts for v in judge_gmp(together)] == [v.parts for v in judge_gmp(frame)]
