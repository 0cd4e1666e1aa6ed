"""The tables under the sliders hold the tidy table's means."""

import re

import numpy as np
import pandas as pd
import pytest

from dglab.experiments.recorded import recorded_table
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


def test_a_table_without_these_studies_has_no_such_part(frame):
    assert moving.moving_part(frame[frame["study"] == "ablation"]) == ""
    assert moving.moving_part(pd.DataFrame(columns=frame.columns)) == ""
