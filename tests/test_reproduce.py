"""The README's first command on tiny, end to end: lessons, table, record, figures, page; and a second call."""

import json
import os
import signal
import subprocess
import sys
import time

import nbformat
import pandas as pd
import pytest
from PIL import Image

from dglab import reproduce
from dglab.experiments import runner
from dglab.experiments.table import COLUMNS, read_table
from dglab.experiments.trials import STUDIES
from dglab.presets import PRESETS
from dglab.teaching import execution
from dglab.utils.errors import InputError
from tools.store_lessons import refusals, store_outputs

LESSONS = execution.find_lessons()
PARAMETERS = 'preset, data, seed, device, results = "tiny", "streets", 0, "auto", None'
CELL = """\
from dglab.experiments.runner import open_lab, run
from dglab.experiments.trials import batch_size
from dglab.report import figures

lab = open_lab(preset, data, seed, device, results, use_shipped=False)
figures.batch_size(run(lab, batch_size(lab)))"""


@pytest.fixture
def own_lesson(tmp_path, monkeypatch):
    """One lesson of two cells in place of the project's."""
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(PARAMETERS), nbformat.v4.new_code_cell(CELL)],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    )
    notebook.cells[0].metadata["tags"] = ["parameters"]
    path = tmp_path / "notebooks" / "00_own.ipynb"
    path.parent.mkdir()
    nbformat.write(notebook, path)
    monkeypatch.setattr(reproduce, "find_lessons", lambda: [path])
    return path


def check_results(out, report, names):
    """All that a run is to leave behind."""
    assert report == out / "report.html" and report.stat().st_size > 100_000
    frame = read_table(out / "tables.csv")
    assert tuple(pd.read_csv(out / "tables.csv", nrows=0).columns) == COLUMNS
    assert set(frame["study"]) == set(STUDIES) and set(frame["preset"]) == {"tiny"} and frame["value"].notna().all()
    record = json.loads((out / "run.json").read_text())
    assert set(record) == {"machine", "versions", "reused", "made_on", "impossible", "minutes", "preset", "data",
                           "domains", "train_seeds", "test_seeds"}  # fmt: skip
    assert len(record["made_on"]) == 1 and list(record["impossible"]) == ["photometric"]
    assert set(record["versions"]) == {"dglab", "python", "torch"} and record["minutes"] >= 0
    assert record["preset"]["name"] == "tiny" and record["data"]["identity"]["height"] == 32
    assert (record["train_seeds"], record["test_seeds"], list(record["domains"])) == ([0], [0], list("GSIMC"))
    assert sorted(path.stem for path in (out / "notebooks").glob("*.ipynb")) == names
    pictures = {path.stem for path in (out / "figures").glob("*.png")}
    assert pictures > {"figure4_predictions", "figure5_batch_size", "table03_controls", "table05_selection_policy",
                       "table06_style_layer", "table07_queue_size", "table09_source_and_target", "prior"}  # fmt: skip
    for path in (out / "figures").iterdir():
        with Image.open(path) as picture:
            picture.load()
            assert min(picture.size) > 100


def nothing_is_done_again(monkeypatch):
    for module, name in ((runner, "train"), (runner, "run_test"), (execution, "execute")):
        monkeypatch.setattr(module, name, lambda *_, name=name, **__: pytest.fail(f"{name} once more"))


@pytest.mark.long
def test_reproduce_from_end_to_end_and_once_more(tmp_path, monkeypatch):
    out = tmp_path / "results"
    some = [path for path in LESSONS if path.stem[:2] in ("04", "05", "09")]  # all of them: below, on other data
    monkeypatch.setattr(reproduce, "find_lessons", lambda: some)
    report = reproduce.reproduce("tiny", out=out, device="cpu")
    check_results(out, report, [path.stem for path in some])
    for path in some:
        lesson, executed = nbformat.read(path, 4), nbformat.read(out / "notebooks" / path.name, 4)
        stored = store_outputs(lesson, executed)
        assert [cell.source for cell in stored.cells] == [cell.source for cell in lesson.cells]
        code = [cell for cell in stored.cells if cell.cell_type == "code"]
        assert all(stored.cells[cell.execution_count - 1] is cell for cell in code)
        assert any("image/png" in output.get("data", {}) for cell in code for output in cell.outputs)
        assert (out / "figures" / f"{path.stem}_1.png").exists()

    table, page = (out / "tables.csv").read_bytes(), report.stat().st_mtime_ns
    nothing_is_done_again(monkeypatch)
    assert reproduce.reproduce("tiny", out=out, device="cpu") == report
    assert (out / "tables.csv").read_bytes() == table and report.stat().st_mtime_ns > page


@pytest.mark.long
def test_all_lessons_on_data_of_other_letters_and_sizes(prepared, tmp_path):
    """As a reader's own data are: four domains, none of the paper's, whose images differ in size."""
    root = prepared(tmp_path / "mine", "GSIC")
    for folder, letter in zip(sorted(root.iterdir()), "ABDE", strict=True):
        folder.rename(root / letter)
    for kind in ("images", "labels"):
        for path in sorted(root.glob(f"*/val/{kind}/1.png")):
            with Image.open(path) as picture:
                larger = picture.resize((80, 40), Image.Resampling.NEAREST)
            larger.save(path)
    out = tmp_path / "results"
    report = reproduce.reproduce("tiny", str(root), out, device="cpu")
    frame = read_table(out / "tables.csv")
    assert report.stat().st_size > 100_000 and {"ablation", "batch_size", "selection_policy"} <= set(frame["study"])
    assert set(frame["target"].dropna()) == {"A", "B", "D", "E", "A+E"}
    assert sorted(path.stem for path in (out / "notebooks").glob("*.ipynb")) == [path.stem for path in LESSONS]


def test_no_lesson_is_stored_with_a_solution_refused():
    assert len(LESSONS) == 10 and not [text for path in LESSONS for text in refusals(nbformat.read(path, 4))]
    output = nbformat.v4.new_output("execute_result", {"text/plain": "✗ 02.4: not yet."})
    cell = nbformat.v4.new_code_cell("check(...)", outputs=[output])
    assert refusals(nbformat.v4.new_notebook(cells=[cell])) == ["✗ 02.4: not yet."]


def test_one_study_alone(own_lesson, tmp_path, monkeypatch):
    out = tmp_path / "results"
    path = reproduce.reproduce("tiny", out=out, only="queue_size", device="cpu")
    assert path == out / "queue_size.csv"
    frame = read_table(path)
    assert set(frame["study"]) == {"queue_size"} and set(frame["capacity"]) == set(PRESETS["tiny"].queue_sizes)
    assert len(list((out / "runs").iterdir())) == 1  # MLDG on the mixed task, and nothing else
    assert sorted(path.name for path in out.iterdir()) == ["queue_size.csv", "runs", "scores"]


def test_a_killed_study_loses_at_most_the_runs_in_flight(frames, tmp_path, monkeypatch):
    """SIGKILL as soon as a network is tested: the next call goes on with the others, and ends with the same table."""
    out = tmp_path / "results"
    arguments = ("reproduce", "--preset", "tiny", "--only", "batch_size", "--device", "cpu", "--out", str(out))
    process = subprocess.Popen([sys.executable, "-m", "dglab", *arguments], start_new_session=True)
    while not (scores := list(out.glob("scores/*/*_*.json"))) and process.poll() is None:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and not (out / "batch_size.csv").exists()
    known = {path: path.read_bytes() for path in scores}
    again = []
    train = runner.train
    monkeypatch.setattr(runner, "train", lambda *args, **more: again.append(args[0].address) or train(*args, **more))
    frame = read_table(reproduce.reproduce("tiny", out=out, only="batch_size", device="cpu"))
    assert {path: path.read_bytes() for path in known} == known
    assert again and not {path.parent.name for path in known} & set(again)
    pd.testing.assert_frame_equal(frame, frames["batch_size"], check_dtype=False, rtol=0, atol=1e-3)  # 4 decimals


def test_one_lesson_alone(own_lesson, tmp_path):
    notebook = nbformat.read(own_lesson, 4)
    notebook.cells[1].source = "print(preset, results)"
    nbformat.write(notebook, own_lesson)
    path = reproduce.reproduce("tiny", out=tmp_path / "results", only="00_own", device="cpu")
    assert path == tmp_path / "results" / "notebooks" / "00_own.ipynb"
    assert nbformat.read(path, 4).cells[-1].outputs[0].text == f"tiny {tmp_path / 'results'}\n"
    assert not (tmp_path / "results" / "tables.csv").exists()


def test_a_lesson_that_fails_is_named_with_its_error(own_lesson, tmp_path):
    notebook = nbformat.read(own_lesson, 4)
    notebook.cells[1].source = "1 / 0"
    nbformat.write(notebook, own_lesson)
    with pytest.raises(InputError, match="lesson 00_own failed in cell .*ZeroDivisionError"):
        reproduce.reproduce("tiny", out=tmp_path / "results", only="00_own", device="cpu")


def test_an_unknown_name_lists_lessons_and_studies(own_lesson, tmp_path):
    with pytest.raises(
        InputError, match="no lesson 'x' and no study; the lessons are 00_own, the studies ablation, .*order"
    ):
        reproduce.reproduce("tiny", out=tmp_path / "results", only="x", device="cpu")
    assert not (tmp_path / "results").exists()


def test_three_domains_leave_nothing_to_mix(own_lesson, prepared, tmp_path, monkeypatch):
    root = prepared(tmp_path / "mine", "GSI")
    monkeypatch.setattr(reproduce, "find_lessons", lambda: [own_lesson.with_name("05_sib.ipynb")])
    with pytest.raises(InputError, match="lesson 05_sib mixes two target domains; .*mine has too few"):
        reproduce.reproduce("tiny", str(root), tmp_path / "results", only="05_sib", device="cpu")


@pytest.mark.parametrize("study", ["queue_size", "style_dose"])
def test_a_study_that_needs_what_the_data_lack_says_so(own_lesson, prepared, tmp_path, study):
    root = prepared(tmp_path / "mine", "GSI")
    with pytest.raises(InputError, match=f"{study}: not run on mine \\(.*\\); it needs (four domains|the embedded)"):
        reproduce.reproduce("tiny", str(root), tmp_path / "results", only=study, device="cpu")
    assert not (tmp_path / "results" / f"{study}.csv").exists()
