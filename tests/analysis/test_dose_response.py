"""Gains against the dose, from a table made by hand."""

from pathlib import Path

import pandas as pd
import pytest

from dglab.analysis.doses import (
    dose_predictions,
    dose_response,
    dose_table,
    photometric_gains,
    photometric_means,
    photometric_predictions,
    photometric_table,
    selection_means,
)
from dglab.data.shifts import COLOUR, DETAIL, SEVERITIES
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
    assert found[6, "AGG: TN - source BN", "dose 1.5 minus dose 0"] == "as predicted"
    assert found[7, "AGG: TN - source BN", "dose 0"] == found[7, "MLDG: TN - source BN", "dose 0"] == "as predicted"
    assert found[8, "by domain: AdaBN - TN", "dose 0"] == "as predicted"
    assert (
        found[9, "MLDG: SIB - TN", "dose 0"] == "against it" and found[9, "MLDG: SIB - TN", "dose 1"] == "as predicted"
    )
    assert len(found) == 3 + 3 + 3 + 2


def test_without_the_study_there_is_nothing(table):
    other = table.assign(study="ablation")
    assert dose_response(other).empty and dose_predictions(other) == [] and dose_table(other) == []


# ------------------------------------------------------------------------------ photometric shifts of real images


def shifted_rows(test, value, shift=None, dose=None, *, domain="K", target="K", seed=10):
    """One AGG network's mIoU."""
    return {"study": "photometric", "task": f"others->{target}", "target": target, "domain_evaluated": domain,
            "train_method": "agg", "test_method": test, "shift": shift, "dose": dose, "train_seed": seed,
            "batch_size": 4 if test == "tn" else None, "prior": 0.0 if test in ("tn", "sib", "qib") else None,
            "statistics": "cached" if test in ("sib", "qib") else None, "metric": "miou", "value": value}  # fmt: skip


@pytest.fixture(scope="module")
def of_shifts():
    """TN gains 1 as it is, 1 + 10 dose under colour, 1 - dose under detail; SIB - QIB is 4 dose; on T a little more."""
    found = []
    for target, more in (("K", 0.0), ("T", 0.5)):
        found += [shifted_rows("bn", 20.0, target=target, domain=target),
                  shifted_rows("tn", 21.0 + more, target=target, domain=target)]  # fmt: skip
        for shift, slope in [*((name, 10.0) for name in COLOUR), *((name, -1.0) for name in DETAIL)]:
            for dose in SEVERITIES:
                at = {"shift": shift, "dose": dose, "target": target}
                found += [
                    shifted_rows("bn", 15.0, **at, domain=target),
                    shifted_rows("tn", 16.0 + more + slope * dose, **at, domain=target),
                    shifted_rows("qib", 10.0, **at, domain=f"{target}+{target}"),
                    shifted_rows("sib", 10.0 + 4 * dose + more * dose, **at, domain=f"{target}+{target}"),
                ]
    return pd.DataFrame(found).reindex(columns=list(COLUMNS)).astype(TYPES)


def curve(frame, target, shift, test):
    gains = photometric_gains(frame)
    chosen = (gains["target"] == target) & (gains["shift"] == shift) & (gains["test"] == test)
    return gains[chosen].set_index("dose")


def test_gains_under_each_shift(of_shifts):
    haze = curve(of_shifts, "K", "haze", "TN, M = 4")
    assert haze.index.tolist() == [0.0, *SEVERITIES] and set(haze["trainings"]) == {1}
    assert haze["gain"].tolist() == pytest.approx([1, 2.5, 4, 5.5, 7, 8.5])
    selection = curve(of_shifts, "K", "haze", "SIB - QIB")
    assert selection.index.tolist() == [*SEVERITIES]  # without a shift there are no two targets
    assert selection["gain"].tolist() == pytest.approx([0.6, 1.2, 1.8, 2.4, 3.0])
    assert curve(of_shifts, "T", "blur", "TN, M = 4").loc[0.6, "gain"] == pytest.approx(0.9)
    assert curve(of_shifts, "K", "haze", "AdaBN").empty
    table = photometric_table(photometric_gains(of_shifts))
    [row] = [row for row in table if list(row.values())[:4] == ["K", "AGG", "haze", "TN, M = 4"]]
    assert (row["0"], row["0.15"], row["0.75"]) == ("+1.00", "+2.50", "+8.50")


def test_a_curve_rests_on_networks_that_have_all_of_it(of_shifts):
    """A second network, six points better off, whose tests were stopped."""
    other = of_shifts.assign(train_seed=11, value=of_shifts["value"] + 6 * (of_shifts["test_method"] == "tn"))
    begun = other[other["shift"].isna() | ((other["shift"] == "dark") & (other["dose"] < 0.4))]
    both = pd.concat([of_shifts, begun]).astype(TYPES)
    dark = curve(both, "K", "dark", "TN, M = 4")
    assert dark["gain"].tolist() == pytest.approx([1, 2.5, 4, 5.5, 7, 8.5]) and set(dark["trainings"]) == {1}
    whole = pd.concat([of_shifts, other]).astype(TYPES)
    assert curve(whole, "K", "dark", "TN, M = 4")["gain"].tolist() == pytest.approx([4, 5.5, 7, 8.5, 10, 11.5])


def test_means_over_shifts_in_short(of_shifts):
    """AGG has no SIB nor AdaBN in the table: no row; with them, source BN and the three gains."""
    assert photometric_means(of_shifts) == []
    alone = of_shifts[(of_shifts["test_method"] == "tn") & (of_shifts["domain_evaluated"] == of_shifts["target"])]
    cached = alone.assign(
        test_method="sib", statistics="cached", batch_size=None, neighbors=4, value=alone["value"] + 1
    )
    adabn = alone.assign(test_method="adabn", batch_size=None, prior=None, value=alone["value"] - 1)
    found = photometric_means(pd.concat([of_shifts, cached, adabn]).astype(TYPES))
    rows = {(row["unseen"], row["shifts of"]): row for row in found}
    assert list(rows) == [("K", "colour"), ("K", "detail"), ("T", "colour"), ("T", "detail")]
    assert rows["K", "colour"]["0"] == "20.0: +1.0 / +2.0 / +0.0"
    assert rows["K", "colour"]["0.75"] == "15.0: +8.5 / +9.5 / +7.5"
    assert rows["T", "detail"]["0.6"] == "15.0: +0.9 / +1.9 / -0.1"


def test_selection_in_short(of_shifts):
    found = {row["stream of"]: row for row in selection_means(of_shifts)}
    assert found["K"]["0.15"] == "+0.60" and found["K"]["0.75"] == "+3.00" and found["T"]["0.75"] == "+3.38"
    assert selection_means(of_shifts[of_shifts["dose"] != 0.45]) == []


def test_what_was_predicted_of_shifts(of_shifts):
    found = {one.number: one for one in photometric_predictions(of_shifts)}
    assert list(found) == [10, 11, 12, 13]
    assert (found[10].difference.mean, found[10].difference.trainings) == (pytest.approx(7.5), 2)
    assert found[10].what == "AGG: TN, M = 4 - source BN, mean of dark, contrast, haze, cast"
    assert found[10].domain == "K, T: dose 0.75 minus that at 0" and found[10].outcome == "as predicted"
    assert found[11].difference.mean == pytest.approx(-0.75) and found[11].outcome == "against it"
    assert found[12].difference.mean == pytest.approx((3.0 - 0.6 + 3.375 - 0.675) / 2)
    assert (found[13].difference.mean, found[13].domain) == (pytest.approx((0.6 + 0.675) / 2), "K, T: dose 0.15")
    part = of_shifts[(of_shifts["shift"] != "cast").fillna(True)]
    assert [one.number for one in photometric_predictions(part)] == [11]  # a mean of three is another difference
    assert photometric_predictions(of_shifts.assign(study="ablation")) == []
    assert photometric_gains(of_shifts.assign(study="ablation")).empty
    [alone, *_] = photometric_predictions(of_shifts[of_shifts["target"] == "K"])
    assert alone.domain.startswith("K: ") and alone.outcome == "open"


def test_severities_and_shifts_are_those_of_the_page():
    page = (Path(__file__).parents[2] / "docs" / "predictions.md").read_text(encoding="utf-8")
    part = " ".join(page.split("## Photometric shifts of real images")[1].split("\n## ")[0].split())
    assert f"**Severities: {', '.join(f'{dose:g}' for dose in SEVERITIES)}.**" in part
    assert ", ".join(f"`{name}`" for name in COLOUR) + " (of colours)" in part
    assert ", ".join(f"`{name}`" for name in DETAIL).replace(", ", " and ") + " (of detail)" in part
