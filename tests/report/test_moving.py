"""The tables under the sliders hold the tidy table's means."""

import re

import numpy as np
import pandas as pd
import pytest

from dglab.experiments.recorded import recorded_table
from dglab.experiments.table import COLUMNS, TYPES
from dglab.report import moving


@pytest.fixture(scope="module")
def frame():
    return recorded_table("quick")


def by_training(rows):
    """Mean and deviation over trainings by hand: first over orders of arrival."""
    means = [part["value"].mean() for _, part in rows.groupby("train_seed")]
    return np.mean(means), np.std(means, ddof=1)


def test_each_cell_is_a_mean_over_trainings(frame):
    scores = frame[frame["metric"] == "miou"]
    [m] = moving.batch_size(frame)
    rows = scores[(scores["study"] == "batch_size") & (scores["train_method"] == "agg") & (scores["batch_size"] == 4)]
    cells = dict(m.rows)["AGG, TN"]
    assert m.values == ["1", "2", "4", "8", "16"] and cells[2] == pytest.approx(by_training(rows))
    [q] = moving.queue_size(frame)
    rows = frame[
        (frame["study"] == "queue_size") & (frame["metric"] == "selection_accuracy") & (frame["capacity"] == 16)
    ]
    assert q.values == ["4", "16", "64", "128"]
    assert dict(q.rows)["MLDG, right domain"][1] == pytest.approx(by_training(rows))
    [layer] = moving.style_layer(frame)
    rows = scores[(scores["study"] == "style_layer") & (scores["style_layer"] == "3")]
    assert dict(layer.rows)["MLDG, mIoU"][2] == pytest.approx(by_training(rows))
    shares = {slider.title.split()[2].rstrip(":"): slider for slider in moving.prior(frame)}
    rows = scores[
        (scores["study"] == "prior") & (scores["domain_evaluated"] == "M") & (scores["train_method"] == "mldg")
    ]
    assert set(shares) == {"C", "M"} and shares["M"].values == ["0", "0.25", "0.5", "0.75", "1"]
    cells = dict(shares["M"].rows)["MLDG, TN, M = 4"]
    assert cells[1] == pytest.approx(by_training(rows[(rows["prior"] == 0.25) & (rows["batch_size"] == 4)]))
    assert cells[4] == pytest.approx(by_training(rows[rows["test_method"] == "bn"]))


def test_the_part_says_all_without_a_script(frame):
    page = moving.moving_part(frame)
    without = re.sub(r"<script>.*?</script>", "", page, flags=re.S)
    assert without.count("<table>") == 5 and 'class="move" hidden' in without
    assert "http" not in page and "src=" not in page


def dosed(doses=(0.0, 1.0), methods=("agg", "mldg")):
    """Rows of style_dose: source BN and TN with two trainings each, TN better by the dose."""
    rows = [
        {"study": "style_dose", "task": "G+S+I+M->C", "train_method": method, "test_method": test, "shift": "style",
         "dose": dose, "batch_size": 4 if test == "tn" else None, "prior": 0.0 if test == "tn" else None,
         "inner_lr": 0.04 if method == "mldg" else None,
         "train_seed": seed, "metric": "miou", "value": 30 + 2 * seed + (dose if test == "tn" else 0)}
        for method in methods for test in ("bn", "tn") for dose in doses for seed in (0, 1)
    ]  # fmt: skip
    return pd.DataFrame(rows).reindex(columns=list(COLUMNS)).astype(TYPES)


def test_doses_of_style_are_the_runs_own_or_the_records(frame):
    [slider] = moving.style_dose(dosed())
    assert slider.values == ["0", "1"] and slider.note == ""
    assert [row.name for row in slider.rows] == [
        "AGG, source BN", "AGG, TN, M = 4", "MLDG, source BN", "MLDG, TN, M = 4"
    ]  # fmt: skip
    assert slider.rows[1].cells == [pytest.approx((31, 2**0.5)), pytest.approx((32, 2**0.5))]
    assert moving.style_dose(frame) == []
    own = moving.moving_part(pd.concat([frame, dosed((0.0, 0.5, 1.5))]), dosed())
    assert "dose of style" in own and '<th scope="col">1.5</th>' in own and "with the preset full" not in own
    assert "Recorded with the preset full." in moving.moving_part(frame, dosed())


def test_nothing_recorded_stands_beside_a_run_on_other_data(frame):
    page = moving.moving_part(frame, dosed())
    assert page.count("dose of dark") == 3  # heading, and labels of the section and table
    elsewhere = moving.moving_part(frame)
    assert "dose of" not in elsewhere and "real streets" not in elsewhere


def test_a_table_without_these_studies_has_no_such_part(frame):
    assert moving.moving_part(frame[frame["study"] == "ablation"]) == ""
    assert moving.moving_part(pd.DataFrame(columns=frame.columns)) == ""
