"""A miniature of the paper's five real data sets: its tasks, tables and verdicts, from the command line."""

import json

import pytest

from dglab import reproduce
from dglab.experiments.table import read_table
from dglab.experiments.trials import STUDIES

NAMES = {"C": "cityscapes", "G": "gta5", "I": "idd", "M": "mapillary", "S": "synthia"}  # as their folders lie


@pytest.fixture
def root(prepared, tmp_path):
    """Folders as the converters write them, in the order of their names; the letters stand in ``domain.json``."""
    root = prepared(tmp_path / "five", "".join(NAMES), images=2)
    for number, (letter, name) in enumerate(NAMES.items()):
        folder = (root / f"{number}{letter}").rename(root / name)
        (folder / "domain.json").write_text(json.dumps({"letter": letter}))
    return root


def test_the_papers_studies_run_on_the_papers_letters(root, tmp_path, monkeypatch, call, capsys):
    monkeypatch.setattr(reproduce, "execute_all", lambda lessons, lab: None)
    out = tmp_path / "results"
    assert call("reproduce", "--preset", "tiny", "--data", root, "--out", out, "--device", "cpu") == 0
    frame = read_table(out / "tables.csv")
    assert set(frame["study"]) == set(STUDIES) and set(frame["data"]) == {"five"}
    assert set(frame["task"]) == {"G+S+I+M->C", "G+S+I->C+M"}
    page = (out / "report.html").read_text(encoding="utf-8")
    for words in ("The paper's claims", "Ablation (Table 3)", "G+S+I+M → C", "A mixed stream (Table 5): G+S+I → C+M",
                  "<th>the paper</th>", "53.71", "(M not stated)"):  # fmt: skip
        assert words in page
    assert "embedded domains" not in page and "recorded study" not in page
    assert "Of the studies: source_domains_fixed, style_dose, gmp_ablation" in page  # and what these need
    assert "<code>dglab reproduce --only backbones --preset tiny --data ROOT</code>" in page
    capsys.readouterr()
    for study, tasks in (("meta_split", {"G+S+I+M->C"}), ("ibn_net", {"G->C", "G+S+I+M->C"}),
                         ("backbones", {"G+S+I+M->C"}),
                         ("source_domains", {"G->C", "G+S->C", "G+S+I->C", "G+S+I+M->C"})):  # fmt: skip
        arguments = ("--preset", "tiny", "--data", root, "--out", out, "--device", "cpu", "--only", study)
        assert call("reproduce", *arguments) == 0
        assert set(read_table(out / f"{study}.csv")["task"]) == tasks
    assert call("reproduce", *arguments[:-1], "source_domains_fixed") == 2
    assert "it needs the embedded streets" in capsys.readouterr().err
    assert (out / "figures" / "figure4_predictions.png").exists()


def test_letters_that_stand_twice_are_refused(root, tmp_path, call, capsys):
    (root / "synthia" / "domain.json").write_text(json.dumps({"letter": "G"}))
    assert call("reproduce", "--preset", "tiny", "--data", root, "--out", tmp_path / "results") == 2
    assert "the letter G stands for 2 domains" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()
