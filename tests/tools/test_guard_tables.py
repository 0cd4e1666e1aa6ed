"""The guard's tables: gains, worst cases and shares by hand, and advice with another threshold."""

import csv
import statistics
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dglab.report.moving import SHIFTS
from tools import advice_tables, guard_study, guard_tables
from tools.guard_tables import DOCS, SETTING


def rows(tested, scores, seed=201, m=1, left_out="K", shift="", dose=""):
    setting = {"data": "camvid_kitti", "train_method": "agg", "left_out": left_out, "tested": tested}
    setting |= {"shift": shift, "dose": dose, "batch_size": m, "train_seed": seed}
    return [{**setting, "test": test, "miou": miou} for test, miou in scores.items()]


@pytest.fixture()
def recorded():
    """Two networks, one unseen domain and two sources."""
    return pd.DataFrame([
        *rows("K", {"source BN": 20.0, "TN": 24.0, "guarded": 23.0}, 201),
        *rows("K", {"source BN": 20.0, "TN": 18.0, "guarded": 19.0}, 202),
        *rows("V", {"source BN": 30.0, "TN": 25.0, "guarded": 29.5}, 201),
        *rows("V", {"source BN": 30.0, "TN": 29.0, "guarded": 30.5}, 202),
        *rows("T", {"source BN": 10.0, "TN": 12.0, "guarded": 9.5}, 201),
        *rows("T", {"source BN": 10.0, "TN": 12.0, "guarded": 9.5}, 202),
    ])  # fmt: skip


def test_worst_cases_by_hand(recorded):
    columns = {
        "unseen": (lambda index: index["tested"] == "K", False),
        "sources": (lambda index: index["tested"] != "K", True),
        "nothing": (lambda index: index["tested"] == "X", False),
    }
    titles = {"TN": "TN", "guarded": "guarded", "SIB": "SIB", guard_tables.BEST: "best"}
    tn, guarded, best = guard_tables.worst_cases(recorded, columns, titles)
    assert tn == {"": "M = 1: TN", "unseen, 1": "+1.00, 100 %, +1.00 (-2.00)", "sources, 2": "-3.00 (-5.00)"}
    assert guarded["unseen, 1"] == "+1.00, 100 %, +1.00 (-1.00)" and guarded["sources, 2"] == "-0.50 (-0.50)"
    assert best == {"": "M = 1: best", "unseen, 1": "+1.00", "sources, 2": ""}


def test_no_share_is_told_where_there_is_nothing_to_gain(recorded):
    recorded.loc[recorded["test"] == "TN", "miou"] -= 1
    [line, *_] = guard_tables.worst_cases(
        recorded, {"K": (lambda i: i["tested"] == "K", False)}, {"guarded": "guarded"}
    )
    assert line["K, 1"] == "+1.00, +1.00 (-1.00)"


def test_the_design_table_by_hand_from_its_file():
    gains = {}
    with open(DOCS / "guard_design.csv", newline="") as file:
        for row in csv.DictReader(file):
            if row["data"] == "camvid" and row["batch_size"] == "4" and row["tested"] == row["left_out"]:
                gains.setdefault(tuple(row[name] for name in SETTING), {})[row["test"]] = float(row["miou"])
    guarded = [scores["guarded"] - scores["source BN"] for scores in gains.values()]
    best = [max(scores[c] for c in guard_tables.DESIGN_CHOICES) - scores["source BN"] for scores in gains.values()]
    mean, share = statistics.mean(guarded), statistics.mean(guarded) / statistics.mean(best)
    [line] = [line for line in guard_tables.design_table() if line[""] == "M = 4: **guarded**"]
    assert line[f"CamVid unseen, {len(gains)}"] == f"{mean:+.2f}, {100 * share:.0f} %, {min(guarded):+.2f}"


def case(distance, home=0.0, **scores):
    gains = {"source BN": 0.0, "prior 0.9": 1.0, "prior 0.8": 2.0, "prior 0.5": 3.0, "TN": 5.0} | scores
    return pd.Series({"home": home, "distance": distance, "even": distance, "odd": distance, **gains})


@pytest.mark.parametrize(
    ("distance", "threshold", "share"), [(1.5, 2.0, 0), (4.0, 2.0, 0.75), (4.0, 3.0, 1 - 9 / 16), (2.05, 2.0, 0)]
)  # a share up to 0.05 is source BN
def test_advice_with_another_threshold_is_the_guards_weight(distance, threshold, share):
    assert advice_tables.advised_share(case(distance), threshold) == pytest.approx(share)


def test_halves_that_disagree_are_followed_by_source_bn():
    torn = case(4.0)
    torn["even"] = 1.0
    assert advice_tables.advised_share(torn, 2.0) == 0


def test_following_interpolates_between_the_shares_tested():
    found = pd.DataFrame([case(4.0), case(1.0)])
    np.testing.assert_allclose(advice_tables.followed(found, 2.0), [4.0, 0.0])  # w = 0.75, half way from 3 to 5


def test_right_is_safe_and_near_the_best():
    verdicts = advice_tables.judged(pd.Series([-0.4, -0.2, 2.0, 0.0]), pd.Series([0.0, 0.5, 3.5, 0.9]))
    assert verdicts["safe"].tolist() == [False, True, True, True]
    assert verdicts["right"].tolist() == [False, True, False, True]


def test_the_sliders_of_real_streets_are_what_is_recorded():
    """The file is what would be written, and its gains are those of the networks that KITTI was left out of."""
    shipped, found = pd.read_csv(SHIFTS), guard_tables.shift_means()
    pd.testing.assert_frame_equal(shipped, found, check_dtype=False)
    means = shipped.pivot(index=["images", "shift", "dose"], columns="test", values="miou")
    table = guard_tables.read("guard.csv").query("left_out == 'K' and batch_size == 4")
    gains = guard_tables.gains(table).reset_index()
    gains = gains[gains["shift"] != ""].astype({"dose": float}).groupby(["tested", "shift", "dose"])["TN"].mean()
    for tested, images in (("K", "KITTI, unseen"), ("V", "CamVid's V, a source")):
        difference = (means.loc[images, "TN"] - means.loc[images, "source BN"]).rename("TN")
        shifted = difference[difference.index.get_level_values("dose") > 0]
        pd.testing.assert_series_equal(gains[tested], shifted, atol=0.011, rtol=0)


def test_the_figure_of_doses(tmp_path, monkeypatch):
    monkeypatch.setattr(guard_study, "DOCS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["guard_study", "--figure"])
    guard_study.main()
    with Image.open(tmp_path / "guard_doses.png") as picture:
        assert picture.size[0] > 1000
