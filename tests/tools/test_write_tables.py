"""What README and docs print is what is recorded."""

import re
from collections import Counter

import pytest

from dglab.analysis.claims import judge
from dglab.analysis.predictions import train_as_you_test
from dglab.analysis.stability import verdicts
from dglab.experiments.methods import SOURCE_BN, TN_4, select
from dglab.experiments.recorded import AGAIN, read_recorded, recorded_table
from dglab.report.overview import networks
from tools import guard_tables, write_tables


@pytest.mark.parametrize("name", write_tables.FILES)
def test_the_pages_print_what_is_recorded(name):
    text = (write_tables.ROOT / name).read_text(encoding="utf-8")
    assert "<!-- table " in text
    assert write_tables.renewed(text) == text, "run python -m tools.write_tables"


def test_a_number_of_the_readme_by_hand():
    """AGG under source BN: the mean over trainings, straight from the record."""
    rows = recorded_table("quick").query("study == 'ablation' and metric == 'miou' and train_method == 'agg'")
    values = rows[rows["test_method"] == "bn"]["value"]
    text = (write_tables.ROOT / "README.md").read_text(encoding="utf-8")
    [line] = re.findall(r"^\| AGG \|.*$", text, re.MULTILINE)
    assert f"| {values.mean():.1f} ± {values.std():.1f} |" in line


def test_what_the_readme_says_of_the_guard():
    text = " ".join((write_tables.ROOT / "README.md").read_text(encoding="utf-8").split())
    table = guard_tables.read("guard.csv").query("data == 'camvid_kitti' and shift == ''")
    points = guard_tables.gains(table).groupby(guard_tables.SETTING).mean().reset_index()
    unseen = points["tested"] == points["left_out"]
    worst = -points.loc[~unseen, ["guarded", "TN"]].min()
    assert f"it lost {worst['guarded']:.1f} points at most, where TN lost up to {worst['TN']:.1f};" in text
    dusk, kitti = (points[unseen & (points["tested"] == letter)] for letter in "TK")
    assert f"at dusk, unseen, it gained {_range(dusk['guarded'])};" in text
    assert f"on KITTI, unseen, it *lost* {_range(-kitti['guarded'])}, and TN {_range(-kitti['TN'])}:" in text


def test_what_the_readme_says_of_quick():
    text = " ".join((write_tables.ROOT / "README.md").read_text(encoding="utf-8").split())
    quick = recorded_table("quick").query("study == 'ablation' and metric == 'miou'")
    gain = _gain(quick, TN_4).round()
    assert "TN (M = 4) is about one point above source BN for AGG and MLDG, and three points above it for" in text
    assert gain.xs("by_domain").item() == 3 and set(gain.drop("by_domain")) == {1}


def test_what_the_readme_says_of_tn_on_the_sources():
    text = " ".join((write_tables.ROOT / "README.md").read_text(encoding="utf-8").split())
    every = [one for one in train_as_you_test(recorded_table("full")) if one.number == 1]
    first, four = ([one for one in every if (", from" in one.domain) is more] for more in (False, True))
    assert {one.outcome for one in first} == {"as predicted"} and {one.domain for one in first} == {"G", "S"}
    of_mldg = sorted(one.difference.mean for one in four if one.what.startswith("MLDG:"))
    taken = f"TN takes {-of_mldg[2]:.1f} to {-of_mldg[0]:.1f} points from it on three of them"
    assert taken in text and of_mldg[2] < 0 < of_mldg[3]
    assert all(one.difference.low > 0 for one in four if one.what.startswith("by domain")) and len(four) == 16
    costs = sorted(-one.difference.mean for one in first if one.expected == "negative")
    adds = sorted(one.difference.mean for one in first if one.expected == "positive")
    assert f"TN costs AGG {costs[0]:.1f} and {costs[1]:.1f} points on the domains that it was trained on" in text
    assert f"adds {adds[0]:.1f} to {adds[-1]:.1f} points there" in text and len(adds) == 6


def test_what_the_readme_says_of_the_claims():
    text = " ".join((write_tables.ROOT / "README.md").read_text(encoding="utf-8").split())
    outcomes = Counter(verdict.tested for verdict in judge(recorded_table("full")))
    shown = ("holds", "contradicted", "no difference", "open")
    assert f"({', '.join(f'{outcomes[name]} {name}' for name in shown)}; by networks trained with AVX2" in text
    assert outcomes.total() == 12
    again = read_recorded(AGAIN)
    assert (
        f"by networks trained with AVX2; {len(networks(again))} trained again with SSE4.1 in their place move none)"
        in text
    )
    assert all(moved.recorded == moved.again for moved in verdicts(recorded_table("full"), again))


def _range(values):
    """The smallest to the largest, in whole points."""
    return f"{values.min():.0f} to {values.max():.0f}"


def _gain(rows, test):
    """By training method: mIoU over source BN, means over trainings and orders."""
    by = ["train_method", "inner_lr"]
    own, source_bn = (select(rows, one).groupby(by, dropna=False)["value"].mean() for one in (test, SOURCE_BN))
    return own - source_bn


def test_no_row_is_a_table_that_says_so():
    assert write_tables.markdown([]) == "(not recorded yet)\n"
    assert write_tables.markdown([{"a": 1, "b": "x"}]) == "| a | b |\n| --- | --- |\n| 1 | x |\n"
