"""The table of domains left out in turn, beside numbers worked by hand."""

import pandas as pd
import pytest

from dglab.data.shifts import SEVERITIES
from dglab.experiments.table import COLUMNS, TYPES
from dglab.report import page
from dglab.report.real_tables import each_left_out, left_out_table

MIOU = {"X": (10.0, 12.0, 99.0), "Y": (20.0, 24.0)}  # by target: a third training of X alone


@pytest.fixture
def frame():
    rows = [
        {"study": "ablation", "task": f"others->{target}", "target": target, "domain_evaluated": target,
         "train_method": "agg", "test_method": "bn", "train_seed": seed, "metric": "miou", "value": value}
        for target, values in MIOU.items()
        for seed, value in enumerate(values)
    ]  # fmt: skip
    tn = [{**row, "test_method": "tn", "batch_size": 4, "prior": 0.0, "test_seed": order, "value": row["value"] + order}
          for row in rows if row["target"] == "X" for order in (0, 1)]  # fmt: skip
    return pd.DataFrame(rows + tn).reindex(columns=list(COLUMNS)).astype(TYPES)


def test_cells_rest_on_the_trainings_that_every_target_has(frame):
    table = {row["normalized by"]: row for row in left_out_table(frame)}
    assert table["source BN"] == {"trained with": "AGG", "normalized by": "source BN", "X": "11.0 ± 1.4",
                                  "Y": "22.0 ± 2.8", "mean": "16.5", "n": "2"}  # fmt: skip
    assert (table["TN, M = 4"]["Y"], table["TN, M = 4"]["mean"], table["TN, M = 4"]["n"]) == ("not run", "", "3")
    assert table["TN, M = 4"]["X"] == "40.8 ± 50.8"  # 10.5, 12.5 and 99.5: means over orders first
    assert list(table) == ["source BN", "TN, M = 4"]


def test_targets_without_a_training_in_common_have_no_cells(frame):
    apart = frame[(frame["test_method"] == "bn") & ((frame["target"] == "X") == (frame["train_seed"] == 1))]
    [row, *_] = left_out_table(apart)
    assert (row["X"], row["Y"], row["mean"], row["n"]) == ("not run", "not run", "", "")


def test_tests_on_sources_are_no_target(frame):
    source = frame.assign(domain_evaluated="S", value=0.0)
    assert left_out_table(pd.concat([frame, source])) == left_out_table(frame)
    assert left_out_table(frame[frame["domain_evaluated"] == "nowhere"]) == []


def test_the_page_has_the_recorded_study_if_there_is_one(frame, monkeypatch, tmp_path):
    monkeypatch.setattr(page.overview, "recorded_on", lambda preset: f"on the machine of {preset}")
    part = page._real(frame, tmp_path)
    assert part["machines"] == "on the machine of real" and part["networks"] == 3
    assert list(part["tables"]) == ["Each left out in turn", "What was expected, and what came out"]  # no mixed stream
    assert page._real(None, tmp_path) == {} and part["shifts"] == {}


def test_a_part_about_photometric_shifts(frame, tmp_path):
    shifted = [
        frame[(frame["target"] == "X") & (frame["train_seed"] == 0)].assign(study="photometric", shift=shift, dose=dose)
        for shift, dose in [(None, None), *((shift, dose) for shift in ("dark", "blur") for dose in SEVERITIES)]
    ]
    part = page._photometric(pd.concat(shifted).astype(TYPES), tmp_path, "recorded_")
    [picture] = part["pictures"]
    assert picture["title"] == "TN (M = 4) against source BN on X, unseen; one training each"
    assert (tmp_path / "recorded_photometric_tn_X.png").exists()
    assert [row["shift"] for row in part["tables"]["Gains by dose"]] == ["dark", "blur"]
    assert page._photometric(frame, tmp_path) == {}


def test_the_papers_five_each_left_out_once_two_are_recorded(frame):
    tasks = {"others->X": "G+S+I+M->C", "others->Y": "S+I+M+C->G"}
    streets = frame.assign(task=frame["task"].map(tasks), target=frame["target"].map({"X": "C", "Y": "G"}))
    streets = streets.assign(domain_evaluated=streets["target"])
    found = each_left_out(streets)
    assert [row["C"] for row in left_out_table(found)] == ["11.0 ± 1.4", "40.8 ± 50.8"]
    assert each_left_out(streets[streets["target"] == "C"]).empty
    fewer = streets.assign(task=streets["task"].replace("S+I+M+C->G", "S+I->G"))
    assert each_left_out(fewer).empty
    on_sources = streets[streets["target"] == "C"].assign(study="source_and_target")  # one target of two has it
    assert set(each_left_out(pd.concat([streets, on_sources]))["study"]) == {"ablation"}
    control = streets[streets["target"] == "C"].assign(train_method="agg2")  # which no other target has
    assert set(each_left_out(pd.concat([streets, control]))["train_method"]) == set(found["train_method"])
