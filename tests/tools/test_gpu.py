"""The run book for a GPU: each step on the CPU, in the small; what it would run on a GPU; that it goes on."""

import csv
import dataclasses
import json
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from dglab.bench import testtime
from dglab.experiments.recorded import read_recorded
from dglab.utils.errors import InputError
from dglab.utils.extras import EXTRAS
from tools.gpu import checks, environment, inference, study
from tools.gpu.__main__ import main
from tools.gpu.plan import ON_GPU, TRY_OUT, Book

ROOT = Path(__file__).parents[2]


@pytest.fixture
def book(tmp_path):
    (tmp_path / "out").mkdir()
    return Book(TRY_OUT, "cpu", tmp_path / "out", tmp_path / "work", time.monotonic() + 600)


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


CHEAP = (
    "moments, every layout",
    "float64 gradient: agg",
    "bf16 gradient: mldg order 2",
    "dropout of order 2 in parts, drawn again",
    "float64 predictions",
    "random state after a training",
    "float16 network: predictions",
)


def test_checks_pass_on_the_cpu_and_are_not_done_twice(book, monkeypatch):
    some = [check for check in checks.CHECKS if check.name in CHEAP]
    assert checks.run_checks(book, some)
    rows = rows_of(book.out / "checks.csv")
    assert [row["check"] for row in rows] == [check.name for check in some] and len(some) == len(CHEAP)
    assert {row["verdict"] for row in rows if row["note"] != "needs CUDA"} == {"passed"}
    monkeypatch.setattr(checks, "outcome", lambda *_: pytest.fail("a check that has passed ran again"))
    assert checks.run_checks(book, some)


def test_a_check_that_fails_or_raises_is_told_and_the_others_run(book):
    def breaks(device):
        raise RuntimeError("no such kernel")

    some = [
        checks.Check("raises", 1.0, breaks),
        checks.Check("differs", 0.1, lambda device: 0.2),
        checks.Check("no number", 0.1, lambda device: float("nan")),
        checks.Check("agrees", 0.1, lambda device: 0.1),
    ]
    assert checks.run_checks(book, some)
    rows = rows_of(book.out / "checks.csv")
    assert [row["verdict"] for row in rows] == ["failed", "failed", "failed", "passed"]
    assert rows[0]["note"] == "RuntimeError: no such kernel"
    again = checks.Check("raises", 1.0, lambda device: 0.0)  # mended: what has failed is tried again
    assert checks.run_checks(book, [again])
    assert [row["verdict"] for row in rows_of(book.out / "checks.csv")] == ["passed", "failed", "failed", "passed"]


def test_inference_is_timed_in_both_precisions(book, monkeypatch):
    monkeypatch.setattr(testtime, "STYLES", 1_000)
    assert inference.time_inference(book)
    rows = rows_of(book.out / "inference.csv")
    cases = ["plain", "source BN", "TN, M = 1", "SIB, M = 4, joint", "SIB, M = 4, cached", "search 1,000 styles"]
    assert [(row["precision"], row["case"]) for row in rows] == [(p, case) for p in ("32", "bf16") for case in cases]
    assert all(float(row["seconds"]) > 0 and float(row["peak_mib"]) > 0 for row in rows)
    assert all(float(row["ratio"]) == 1 for row in rows if row["case"] == "plain")
    monkeypatch.setattr(inference, "bench_testtime", lambda *_, **__: pytest.fail("timed again"))
    assert inference.time_inference(book)


def test_rates_are_chosen_on_the_sources_and_the_study_takes_them(book, monkeypatch):
    assert study.draw_scenes(book) and len(list(book.drawn.iterdir())) == 10  # five domains, two splits

    def scored(_, config):
        best = {"agg": 0.05, "mldg": 0.1}[config.method]
        return {**dict.fromkeys(("G", "S", "I", "M"), "1"), "mean": "2" if config.lr == best else "nan", "note": ""}

    with pytest.raises(InputError, match="lacks agg at lr 0.05; run the step choose"):
        study.run_study(book)
    with monkeypatch.context() as patch:
        patch.setattr(study, "score", scored)
        assert study.choose_rates(book)
    rates = study.chosen_rates(book)
    assert (rates["agg"]["lr"], rates["mldg"]["lr"], rates["mldg"]["inner_lr"]) == (0.05, 0.1, 0.02)
    of_methods = {(g[0].training.method, g[0].training.inner_lr == 0): g[0].training.lr
                  for g in study.networks_of(book.lab(rates))}  # fmt: skip
    assert of_methods == {("agg", False): 0.05, ("by_domain", False): 0.05, ("mldg", True): 0.1, ("mldg", False): 0.1}


def test_the_study_goes_on_without_its_networks_and_its_table_reads_as_a_record(book, monkeypatch):
    def only_agg_and_mldg(lab):
        groups = networks(lab)
        return [groups[0], groups[-1]]

    networks = study.networks_of
    monkeypatch.setattr(study, "networks_of", only_agg_and_mldg)
    monkeypatch.setattr(study, "chosen_rates", lambda book: {"agg": {"lr": 0.05}, "mldg": {"lr": 0.1}})
    late = Book(TRY_OUT, "cpu", book.out, book.work, time.monotonic())
    assert not study.run_study(late) and not (book.out / "study.csv").exists()  # no time: nothing is begun
    lab = book.lab(study.chosen_rates(book))
    first, second = only_agg_and_mldg(lab)
    monkeypatch.setattr(study, "networks_of", lambda lab: [first])
    assert study.run_study(book)
    elsewhere = Book(TRY_OUT, "cpu", book.out, book.work.with_name("another machine's"), book.until)
    monkeypatch.setattr(study, "networks_of", lambda lab: [first, second])
    assert study.run_study(elsewhere)
    assert {path.name for path in (elsewhere.work / "results" / "runs").iterdir()} == {second[0].training.address}
    table = read_recorded(book.out / "study.csv")
    assert set(table["train_method"]) == {first[0].training.method, second[0].training.method}
    assert len(table[table["metric"] == "miou"]) == len(first) + len(second)
    assert len(pd.read_csv(book.out / "networks.csv")) == 2
    assert "AGG+TN" in study.summary(book)


def test_trainings_that_share_the_device_give_what_one_after_another_gives(book, tmp_path, monkeypatch):
    """In processes, where the parent writes the tables; what has no time left is left for the next call."""
    networks = study.networks_of
    monkeypatch.setattr(study, "networks_of", lambda lab: networks(lab)[::3])  # AGG and MLDG, of four
    apart = dataclasses.replace(book, plan=dataclasses.replace(TRY_OUT, at_once=2), out=tmp_path, work=tmp_path / "w")
    for each in (book, apart):
        study.draw_scenes(each)
        assert study.choose_rates(each) and study.run_study(each)
    mean = lambda each: {(row["method"], row["lr"]): row["mean"] for row in rows_of(each.out / "tries.csv")}  # noqa: E731
    assert mean(apart) == mean(book) and len(mean(book)) == 4
    one, two = (read_recorded(each.out / "study.csv") for each in (book, apart))
    one, two = (x.sort_values([name for name in x if name != "value"], ignore_index=True) for x in (one, two))
    pd.testing.assert_frame_equal(one, two, rtol=0, atol=0.5)  # a process of its own takes other instructions
    late = dataclasses.replace(apart, out=tmp_path / "late", until=time.monotonic())
    late.out.mkdir()
    assert not study.choose_rates(late) and not (late.out / "tries.csv").exists()


def test_a_network_that_fails_takes_none_with_it(book, monkeypatch):
    results = study.Lab.results

    def fails(lab, group):
        if group[0].training.method == "by_domain":
            raise RuntimeError("out of memory")
        return results(lab, group)

    monkeypatch.setattr(study.Lab, "results", fails)
    monkeypatch.setattr(study, "chosen_rates", lambda book: {"agg": {"lr": 0.05}, "mldg": {"lr": 0.1}})
    with pytest.raises(ExceptionGroup, match="1 of 4 networks failed") as caught:
        study.run_study(book)
    [error] = caught.value.exceptions
    assert str(error) == "out of memory" and error.__notes__[0].startswith("in the network by_domain_")
    assert {row["train_method"] for row in rows_of(book.out / "networks.csv")} == {"agg", "mldg"}
    monkeypatch.setattr(study.Lab, "results", results)
    assert study.run_study(book) and len(rows_of(book.out / "networks.csv")) == 4


def test_what_would_run_on_a_gpu(tmp_path):
    """Twelve networks, first seeds first, tested on the target and the sources; and none but ResNet-50."""
    book = Book(ON_GPU, "cuda", tmp_path, tmp_path, time.monotonic())
    groups = study.networks_of(book.lab({"agg": {"lr": 0.06, "inner_lr": 0.012}, "mldg": {"lr": 0.02}}))
    trainings = [group[0].training for group in groups]
    assert [training.seed for training in trainings] == [10] * 4 + [11] * 4 + [12] * 4
    assert {(t.backbone, t.precision, t.steps, t.crop) for t in trainings} == {("resnet50", "bf16", 800, (256, 384))}
    assert {t.lr for t in trainings if t.method == "mldg"} == {0.02}
    assert {t.lr for t in trainings if t.method != "mldg"} == {0.06}
    assert {test.test.domains for group in groups for test in group} == {("C",), ("G",), ("S",), ("I",), ("M",)}
    assert len({config.seed for config in study.tries(book)} & {t.seed for t in trainings}) == 0


def test_what_is_missing_is_installed_from_wheels_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", "")
    site, wheels = tmp_path / "site", tmp_path / "wheels"
    environment.use_site(site)
    with pytest.raises(InputError, match="dglab_wheel cannot be imported and --wheels is None"):
        environment.install_missing(site, None, ["dglab_wheel"])
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "dglab_wheel-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("dglab_wheel.py", "VALUE = 1\n")
        about = "dglab_wheel-1.dist-info/"
        wheel.writestr(about + "METADATA", "Metadata-Version: 2.1\nName: dglab_wheel\nVersion: 1\n")
        wheel.writestr(about + "WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(about + "RECORD", "")
    assert environment.install_missing(site, wheels, ["dglab_wheel"]) == ["dglab_wheel"]
    import dglab_wheel

    assert dglab_wheel.VALUE == 1 and environment.install_missing(site, wheels, ["dglab_wheel"]) == []
    with pytest.raises(InputError, match="pip could not install dglab_other"):
        environment.install_missing(site, wheels, ["dglab_other"])


def test_it_needs_no_package_beyond_those_it_looks_for():
    """What draws, executes lessons or tests statistically is not at hand on a machine that was made for PyTorch."""
    lacking = {name for names in EXTRAS.values() for name in names} - environment.PACKAGES.keys()
    code = "import sys, dglab.cli, dglab.cli.training; from tools.gpu import checks, inference, plan, study; "
    code += "import dglab.training.trainer; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not lacking & set(done.stdout.split())


def test_the_command_tells_what_is_left(tmp_path, monkeypatch, capsys):
    options = ["--out", str(tmp_path / "out"), "--work", str(tmp_path / "work"), "--device", "cpu"]
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("PYTHONPATH", "CUBLAS_WORKSPACE_CONFIG"):  # set for the rest of the process
        monkeypatch.setenv(name, "")
    assert main(["draw", *options]) == 0
    about = json.loads((tmp_path / "out" / "environment.json").read_text())
    assert len(about) == 1 and about[0]["packages"]["torch"] and about[0]["installed"] == []
    assert main(["choose", "--minutes", "0", *options]) == 3
    assert "choose: 0 s, unfinished" in capsys.readouterr().out
    assert main(["study", *options]) == 2 and "run the step choose" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["chose", *options])
    assert "there is no step 'chose'" in capsys.readouterr().err
