"""Gains against the dose, from a table made by hand."""

import pandas as pd
import pytest

from dglab.analysis.doses import dose_predictions, dose_response, dose_table
from dglab.experiments.table import COLUMNS, TYPES


def rows(method, test, means):
    """Three trainings around a mean, 0.1 apart, by dose."""
    return [
        {"study": "style_dose", "task": "G+S+I+M->C", "target": "C", "domain_evaluated": "C", "train_method": method,
         "test_method": test, "inner_lr": 0.04 if method == "mldg" else None, "shift": "style", "dose": dose,
         "batch_size": 4 if test == "tn" else None, "prior": 0.0 if test in ("tn", "sib") else None,
         "statistics": "joint" if test == "sib" else None, "train_seed": seed, "metric": "miou",
         "value": mean + 0.1 * seed}
        for dose, mean in means.items() for seed in range(3)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def table():
    found = []
    for method, at_zero in (("agg", -2.0), ("by_domain", 1.0), ("mldg", 1.0)):
        found += rows(method, "bn", {0.0: 30, 1.0: 25, 1.5: 20})
        found += rows(method, "tn", {0.0: 30 + at_zero, 1.0: 27, 1.5: 26})
        found += rows(method, "adabn", {0.0: 30 + at_zero, 1.0: 28, 1.5: 27})
    found += rows("mldg", "sib", {0.0: 30.5, 1.0: 27})
    return pd.DataFrame(found).reindex(columns=list(COLUMNS)).astype(TYPES)


def test_gains_are_those_of_the_same_networks(table):
    response = dose_response(table)
    one = response[(response["trained with"] == "AGG") & (response["test"] == "TN, M = 4")]
    assert one["dose"].tolist() == [0, 1, 1.5] and one["gain"].tolist() == pytest.approx([-2, 2, 6])
    assert one["low"].tolist() == pytest.approx([-2, 2, 6]) and set(one["trainings"]) == {
        3
    }  # no deviation is made here
    assert len(response) == 3 * 2 * 3 + 2
    shown = {(row["trained with"], row["gain of"]): row for row in dose_table(table)}
    assert shown["MLDG", "AdaBN"] == {"trained with": "MLDG", "gain of": "AdaBN", "0": "+1.00", "1": "+3.00",
                                      "1.5": "+7.00"}  # fmt: skip


def test_what_was_predicted(table):
    found = {(one.number, one.what, one.domain): one.outcome for one in dose_predictions(table)}
    assert found[6, "AGG: TN - source BN, that at 1.5 minus that at 0", "dose 1.5, 0"] == "as predicted"
    assert found[7, "AGG: TN - source BN", "dose 0"] == found[7, "MLDG: TN - source BN", "dose 0"] == "as predicted"
    assert found[8, "by domain: AdaBN - TN", "dose 0"] == "as predicted"
    assert (
        found[9, "MLDG: SIB - TN", "dose 0"] == "against it" and found[9, "MLDG: SIB - TN", "dose 1"] == "as predicted"
    )
    assert len(found) == 3 + 3 + 3 + 2


def test_without_the_study_there_is_nothing(table):
    other = table.assign(study="ablation")
    assert dose_response(other).empty and dose_predictions(other) == [] and dose_table(other) == []
