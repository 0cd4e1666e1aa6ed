"""What lessons show of the library and of the table."""

from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

from dglab.analysis.intervals import paired_difference
from dglab.experiments.recorded import recorded_table
from dglab.teaching.lesson import claims, claims_at, pivot, source


def test_source_shows_the_lines_and_their_file():
    shown = source(paired_difference).data
    assert shown.startswith("`dglab/analysis/intervals.py`\n```python\ndef paired_difference(") and shown.endswith(
        "```"
    )


def test_pivot_by_fields(frames):
    """One row a combination, numbers as in the table; empty where a setting does not apply."""
    frame = frames["batch_size"]
    found = pivot(frame[frame["train_method"] == "agg"], ["train_method", "test_method", "batch_size"])
    assert found.index.names == ["train_method", "test_method", "batch_size"]
    assert list(found.index) == [("agg", "bn", ""), ("agg", "tn", 1), ("agg", "tn", 2)]
    rows = frame[(frame["metric"] == "miou") & (frame["train_method"] == "agg") & (frame["test_method"] == "bn")]
    assert found.loc[("agg", "bn", ""), "miou (%)"] == pytest.approx(rows["value"].item(), abs=0.051)
    by_name = pivot(frame, ["method", "batch_size"])
    assert ("MLDG inner 0+TN", 2) in by_name.index and len(by_name) == 4 * 3


def test_claims_of_these_numbers(frames):
    found = claims(pd.concat(frames.values()), [1, 9])
    assert {text.split(".")[0] for text in found.index.get_level_values("claim")} == {"1", "9"}
    assert found.index.get_level_values(1).tolist() == ["verdict", "MLDG - AGG", "verdict"]
    assert found.columns.tolist() == ["the paper", "tiny", "n (tiny)"]
    assert found["tiny"].tolist()[0] == "open, as far as tested" and found["tiny"].tolist()[2] == "not run"
    other = claims_at({"tiny": pd.concat(frames.values()), "full": frames["ablation"][:0]}, [1])
    assert other.columns.tolist() == ["the paper", "tiny", "n (tiny)", "full", "n (full)"]
    assert other["full"].tolist() == ["not run", "not run"]


def test_the_teachers_note_to_09_3_has_the_record_s_deviation():
    """The chance of the paper's gain of 2.24 under the deviation over trainings that is recorded."""
    rows = recorded_table("full").query("study == 'ablation' and task == 'G+S+I+M->C' and metric == 'miou'")
    rows = rows[(rows["test_method"] == "bn") & ((rows["inner_lr"] != 0) | rows["inner_lr"].isna())]
    text = (Path(__file__).parents[2] / "notebooks" / "09_the_paper.ipynb").read_text(encoding="utf-8")
    for method in ("agg", "mldg"):
        deviation = rows[rows["train_method"] == method].groupby("train_seed")["value"].mean().std()
        chance = 100 * stats.norm.sf((55.95 - 53.71) / (deviation * 2**0.5))
        assert f"{deviation:.3f}" in text and f"{chance:.1f} %" in text, "write the note to 09.3 anew"
