"""What all commands have in common."""

import subprocess
import sys

import pytest

from dglab import cli, doctor
from dglab.training.methods import METHODS

TRAIN = ("train", "--preset", "tiny", "--device", "cpu")


def test_as_a_process(tmp_path):
    """``python -m dglab``: the only test that pays for a fresh interpreter."""
    arguments = ["train", "--method", "mldg", "--task", "G+C->C", "--out", "new"]
    done = subprocess.run([sys.executable, "-m", "dglab", *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: task G+C->C: C is both source and target")
    assert len(done.stderr.splitlines()) == 1 and list(tmp_path.iterdir()) == []


def test_an_output_that_cannot_be_written_is_refused_before_work_starts(checkpoint, images, tmp_path, refused):
    (tmp_path / "file").write_text("")
    evaluate = ["evaluate", "--checkpoint", checkpoint, "--task", "G+S->C", "--method", "bn", "--json"]
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        refused([*TRAIN, "--method", "agg", "--task", "G->C", "--out", out], f"cannot write {out}: ")
        refused(["predict", "--checkpoint", checkpoint, "--images", images, "--method", "bn", "--out", out], out)
        refused(["reproduce", "--preset", "tiny", "--out", out], out)
    refused([*evaluate, tmp_path / "file" / "scores.json"], tmp_path / "file", "choose another place")
    refused([*evaluate, tmp_path], f"cannot write {tmp_path}: it is a folder; name a file")
    refused(["bench", "testtime", "--size", "32x32", "--json", tmp_path], "it is a folder")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "images"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("fly",),
        ("train", "--method", "agg", "--task", "G->C"),  # no --out
        ("train", "--method", "agg", "--task", "G->C", "--out", "new", "--speed", "9"),
        ("train", "--method", "agg", "--task", "G->C", "--out", "new", "--steps", "many"),
        ("evaluate", "--method", "bn"),
        ("bench", "speed"),
        ("presets", "tiny"),
    ],
)
def test_usage_errors_exit_with_two(tmp_path, monkeypatch, capsys, arguments, call):
    monkeypatch.chdir(tmp_path)
    assert call(*arguments) == 2
    output = capsys.readouterr()
    assert "Usage: " in output.err and "Traceback" not in output.err and output.out == ""
    assert list(tmp_path.iterdir()) == []


def test_our_own_faults_are_not_hidden(monkeypatch):
    """What is no InputError keeps its traceback (exit code 1): it is a bug, and to be reported."""
    monkeypatch.setattr(doctor, "examine", lambda: 1 / 0)
    monkeypatch.setattr(sys, "argv", ["dglab", "doctor"])
    with pytest.raises(ZeroDivisionError):
        cli.main()


def test_the_help_of_train_names_every_method(call, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert call("train", "--help") == 0
    assert ", ".join(METHODS) in " ".join(capsys.readouterr().out.split())


def test_training_and_testing_need_no_experiments(tmp_path):
    """In a process of its own, for this one has loaded everything: nor what only lessons and reports need."""
    script = """
import sys
from dglab.cli import main

def run(*arguments):
    sys.argv = ["dglab", *arguments]
    try:
        main()
    except SystemExit as end:
        assert not end.code

run("train", "--preset", "tiny", "--device", "cpu", "--method", "mldg", "--task", "G+S->C", "--out", "run")
run("evaluate", "--checkpoint", "run/last.safetensors", "--task", "G+S->C", "--method", "sib", "--device", "cpu")
rooms = ("dglab.experiments", "dglab.analysis", "dglab.report", "dglab.teaching", "matplotlib", "papermill", "nbformat")
print([name for name in sys.modules if name.startswith(rooms)])
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
