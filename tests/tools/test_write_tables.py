"""What README and docs print is what is recorded."""

import re

import pytest

from dglab.experiments.recorded import recorded_table
from tools import write_tables


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


def test_no_row_is_a_table_that_says_so():
    assert write_tables.markdown([]) == "(not recorded yet)\n"
    assert write_tables.markdown([{"a": 1, "b": "x"}]) == "| a | b |\n| --- | --- |\n| 1 | x |\n"
