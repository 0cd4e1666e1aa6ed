"""What twice the steps change, beside a hand-made table; and what was expected, as docs/predictions.md has it."""

import re
from pathlib import Path

import pandas as pd
import pytest

from dglab.analysis.twice_the_steps import EXPECTED, twice_the_steps
from dglab.experiments.table import COLUMNS, TYPES

PREDICTIONS = Path(__file__).parents[2] / "docs" / "predictions.md"


def rows(study, method, test, values, task="G+S+I+M->C", **more):
    return [
        {"study": study, "task": task, "target": "C", "domain_evaluated": "C", "train_method": method,
         "test_method": test, "train_seed": seed, "metric": "miou", "value": value,
         "steps": 3000 if study == "twice_the_steps" else 1500, "prior": 0.0 if test == "tn" else None,
         "batch_size": 4 if test == "tn" else None, "inner_lr": 0.1 if method == "mldg" else None, **more}
        for seed, value in enumerate(values)
    ]  # fmt: skip


def table(*parts):
    return pd.DataFrame(sum(parts, [])).reindex(columns=list(COLUMNS)).astype(TYPES)


def test_the_same_differences_at_both_lengths():
    bound = {"task": "C->C", "batch_per_domain": 8}
    frame = table(
        rows("ablation", "agg", "bn", (30, 31, 32)), rows("twice_the_steps", "agg", "bn", (40, 41, 42)),
        rows("ablation", "agg", "tn", (31, 32, 33)), rows("twice_the_steps", "agg", "tn", (39, 40, 41)),
        rows("bound", "agg", "bn", (50, 50.1), **bound), rows("twice_the_steps", "agg", "bn", (60, 60.2), **bound),
        rows("ablation", "mldg", "bn", (31, 32, 33)),  # not run with twice the steps
        rows("ablation", "agg", "bn", (0, 0), task="G+S+I->C"),  # another task
    )  # fmt: skip
    found = {row["difference"]: row for row in twice_the_steps(frame)}
    assert list(found) == ["AGG+TN, M = 4 - AGG+source BN", "the bound - AGG+source BN"]
    of_tn, of_bound = found.values()
    assert of_tn["1,500 steps [95 %]"] == "+1.00 [+1.00, +1.00]" and of_tn["outcome"] == "against it"
    assert of_tn["3,000 steps [95 %]"] == "-1.00 [-1.00, -1.00]" and of_tn["prediction"] == "15"
    assert of_bound["1,500 steps [95 %]"].startswith("+19.05 [") and of_bound["outcome"] == "as predicted"
    assert of_bound["3,000 steps [95 %]"].startswith("+19.10 [")


def test_without_the_study_there_is_nothing_to_say():
    assert twice_the_steps(table(rows("ablation", "agg", "bn", (30, 31)))) == []


@pytest.mark.parametrize("number", range(14, 14 + len(EXPECTED)))
def test_what_was_expected_is_what_was_written_down(number):
    expected = EXPECTED[number - 14]
    line = re.search(rf"^\| {number}\. (.*) \| (.*) \|$", PREDICTIONS.read_text(encoding="utf-8"), re.M)
    assert line[2] == expected.expected
    better, worse = line[1].split(",")[0].replace(" (M = 5)", "").split(" - ")
    assert worse in expected.name.replace("+source BN", "").replace(", M = 4", "").split(" - ")[1]
    assert better in expected.name.replace(", M = 4", "").split(" - ")[0]
