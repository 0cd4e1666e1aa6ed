"""What is noted of each network, what a run is expected to take, and the compact record that a study goes on from."""

import dataclasses
import hashlib
import json

import pandas as pd
import pytest

from dglab.experiments import record, recorded, runner
from dglab.experiments.record import NETWORK, expected_hours, note_network, recorded_networks
from dglab.experiments.recorded import recorded_table, write_studies
from dglab.experiments.runner import Lab, reusable, run
from dglab.experiments.runner import recorded as recorded_rows
from dglab.experiments.trials import EXTRA_STUDIES, STUDIES
from dglab.presets import PRESETS
from dglab.reproduce import known_already, tell_expected
from dglab.training import TrainingConfig
from dglab.utils.errors import InputError

# studies that came after the first record
LATER = ("domains_per_pass", "backbones", "style_dose", "arrival_orders", "tn_on_sources", "twice_the_steps")


def test_a_network_says_where_and_how_long(tmp_path):
    note_network(tmp_path, "cpu", training=10.0)
    note_network(tmp_path, "cpu", testing=2.0)
    note_network(tmp_path, "cpu", testing=3.0)
    known = json.loads((tmp_path / NETWORK).read_text())
    assert known["seconds"] == {"training": 10.0, "testing": 5.0}
    assert "CPU cores" in known["machine"] and set(known["versions"]) == {"dglab", "python", "torch"}
    assert known["instructions"] in ("DEFAULT", "AVX2", "AVX512", "NO AVX") or known["instructions"]
    assert len(known["places"]) == 1


def test_a_network_tested_elsewhere_says_both_places(tmp_path, monkeypatch):
    note_network(tmp_path / "a", "cpu", training=10.0)
    note_network(tmp_path / "b", "cpu", training=10.0)
    monkeypatch.setattr(record, "describe_machine", lambda device: "another")
    note_network(tmp_path / "a", "cpu", testing=2.0)
    assert json.loads((tmp_path / "a" / NETWORK).read_text())["machine"] != "another"  # where it was trained
    found = record.made_on(tmp_path, ["a", "b", "not noted"])
    assert list(found.values()) == [2, 1] and list(found)[1].startswith("another with ")
    assert record.made_on(tmp_path, ["b"]) == {list(found)[0]: 1}
    (tmp_path / "c").mkdir()  # as an earlier version left it
    old = {
        name: value for name, value in json.loads((tmp_path / "b" / NETWORK).read_text()).items() if name != "places"
    }
    (tmp_path / "c" / NETWORK).write_text(json.dumps(old))
    assert record.made_on(tmp_path, ["c"]) == {list(found)[0]: 1}
    note_network(tmp_path / "c", "cpu", testing=2.0)
    assert len(record.made_on(tmp_path, ["c"])) == 2
    note_network(tmp_path / "b", "cpu", training=2.0)  # its checkpoint was deleted
    assert json.loads((tmp_path / "b" / NETWORK).read_text())["machine"] == "another"


@pytest.mark.parametrize("note", ["[1]", '"text"', '{"machine": "here"}'])
def test_a_note_that_says_nothing_is_refused_by_name(tmp_path, note):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / NETWORK).write_text(note)
    for use in (lambda: note_network(tmp_path / "a", "cpu", testing=1.0), lambda: record.made_on(tmp_path, ["a"])):
        with pytest.raises(InputError, match=rf"{NETWORK} does not say where its network was made; remove it"):
            use()


@pytest.mark.parametrize(
    ("preset", "scores", "digest"), [("full", 9521, "585a40f58acda086"), ("quick", 1408, "ff95a2684b949ba1")]
)
def test_what_was_recorded_is_found_again(tmp_path, preset, scores, digest):
    """Where networks and scores of the recorded studies lie, pinned; and a trial for every row of the record."""
    lab = Lab(PRESETS[preset], "streets", tmp_path)
    studies = [study for study in STUDIES | EXTRA_STUDIES if study not in ("order", "imagenet", *LATER)]
    trials = [trial for study in studies for trial in (STUDIES | EXTRA_STUDIES)[study](lab)]
    paths = sorted({lab.score_path(trial).relative_to(tmp_path).as_posix() for trial in trials})
    assert (len(paths), hashlib.sha256("\n".join(paths).encode()).hexdigest()[:16]) == (scores, digest)
    rows = recorded_table(preset)
    rows = rows[rows["study"].isin(studies)]
    assert sum(map(len, recorded_rows(lab, trials).values())) == len(rows) > 1000
    networks = recorded_networks(preset)
    if networks is not None:
        every = [trial for study in (STUDIES | EXTRA_STUDIES).values() for trial in study(lab)]
        assert set(networks["network"]) <= {trial.training.address for trial in every}


def test_the_hours_to_expect_by_hand():
    names = ["agg_G+S_seed0_a", "agg_G+S_seed1_b", "mldg_G+S_seed0_c"]
    training, testing = [3600, 7200, 1800], [1800, 1800, None]
    networks = pd.DataFrame({"network": names, "seconds_training": training, "seconds_testing": testing})
    networks["train_method"] = ["agg", "agg", "mldg"]
    missing = {TrainingConfig(method="agg"), TrainingConfig(method="mldg"), TrainingConfig(method="split")}
    # AGG (1.5 + 2.5) / 2, MLDG 0.5, and for what is not recorded the mean of all three
    assert expected_hours(networks, missing, 2) == pytest.approx((2 + 0.5 + 1.5) / 2)
    assert expected_hours(None, missing, 2) is None


def test_what_is_recorded_is_not_computed_again_and_the_rest_is(lab, frames, tmp_path, monkeypatch):
    """Half of a study is recorded, under another machine's numbers: those rows are taken, the others computed."""
    trials = STUDIES["batch_size"](lab)
    half = frames["batch_size"][frames["batch_size"]["train_method"] == "agg"]
    marked = half.assign(value=half["value"].where(half["metric"] != "miou", 12.3456))
    write_studies(marked, tmp_path / "shipped" / "tiny" / "streets")
    monkeypatch.setattr(recorded, "SHIPPED", tmp_path / "shipped")
    fresh = dataclasses.replace(lab, out=tmp_path / "out", reuse_recorded=True)
    assert {trial.training.method for trial in known_already(fresh, trials)} == {"agg"}
    assert known_already(dataclasses.replace(fresh, reuse_recorded=False), trials) == set()
    trained = []
    train = runner.train
    monkeypatch.setattr(runner, "train", lambda *args, **more: trained.append(args[0].method) or train(*args, **more))
    frame = run(fresh, trials)
    assert "agg" not in trained and set(trained) == {"by_domain", "mldg"}
    scores = frame[frame["metric"] == "miou"]
    assert set(scores[scores["train_method"] == "agg"]["value"]) == {12.3456}
    others = frame[frame["train_method"] != "agg"].reset_index(drop=True)
    expected = frames["batch_size"][frames["batch_size"]["train_method"] != "agg"].reset_index(drop=True)
    pd.testing.assert_frame_equal(others, expected)
    assert list(frame.columns) == list(frames["batch_size"].columns)
    assert record.recorded_networks("tiny") is None


def test_every_trial_has_its_rows_whether_it_was_computed_here_or_is_recorded(lab, frames, tmp_path, monkeypatch):
    """One trial lies here alone, the others in the record alone: a lesson's lab shows both, and computes none."""
    trials = STUDIES["style_layer"](lab)
    first = frames["style_layer"]["style_layer"] == str(trials[0].test.style_layer)
    write_studies(frames["style_layer"][~first], tmp_path / "shipped" / "tiny" / "streets")
    monkeypatch.setattr(recorded, "SHIPPED", tmp_path / "shipped")
    fresh = dataclasses.replace(lab, out=tmp_path / "out", use_shipped=True)
    [path] = {fresh.score_path(trial) for trial in trials if trial.test.style_layer == trials[0].test.style_layer}
    path.parent.mkdir(parents=True)
    path.write_bytes(lab.score_path(trials[0]).read_bytes())
    monkeypatch.setattr(runner, "on_common_instructions", lambda: True)
    for name in ("train", "run_test"):
        monkeypatch.setattr(runner, name, lambda *_, name=name, **__: pytest.fail(f"{name} was called"))
    frame = run(fresh, trials)
    pd.testing.assert_frame_equal(frame, frames["style_layer"], check_exact=False, atol=0.006)  # classes: 2 decimals


def test_on_a_gpu_a_network_is_taken_from_the_record_whole_or_not_at_all(tmp_path, monkeypatch):
    """There, and on a CPU with other instructions, a second training of the same seed is another network: its tests
    must not stand beside the first one's."""
    lab = Lab(PRESETS["standard"], "streets", tmp_path, device="cuda")
    known = recorded_rows(lab, STUDIES["ablation"](lab))
    networks = {trial.training for trial in known}
    first = STUDIES["ablation"](lab)[0].training
    assert first in networks and reusable(lab, list(known)).keys() == known.keys()
    new = next(trial for trial in STUDIES["batch_size"](lab) if trial.training == first and trial.test.batch_size == 32)
    assert {trial.training for trial in reusable(lab, [*known, new])} == networks - {first}
    path = lab.score_path(new)  # as if a run here had been stopped after one test
    path.parent.mkdir(parents=True)
    path.touch()
    assert {trial.training for trial in reusable(lab, [*known, new])} == networks - {first}
    on_cpu = dataclasses.replace(lab, device="cpu")
    for common, expected in ((True, networks), (False, networks - {first})):
        monkeypatch.setattr(runner, "on_common_instructions", lambda common=common: common)
        assert {trial.training for trial in reusable(on_cpu, [*known, new])} == expected


def test_the_hours_of_a_gpu_say_nothing_of_a_cpu(tmp_path, capsys):
    lab = Lab(PRESETS["standard"], "streets", tmp_path, device="cuda", jobs=4)
    tell_expected(lab, STUDIES["ablation"](lab), ())
    assert capsys.readouterr().out.strip().endswith("hours, 1 at a time")  # they share one device
    tell_expected(dataclasses.replace(lab, device="cpu"), STUDIES["ablation"](lab), ())
    assert capsys.readouterr().out == ""


def test_what_is_taken_from_the_record_is_said(tmp_path, capsys):
    lab = Lab(PRESETS["quick"], "streets", tmp_path, device="cpu", jobs=2, reuse_recorded=True)
    trials = STUDIES["batch_size"](lab)
    tell_expected(lab, trials, known := known_already(lab, trials))
    assert len(known) == len(set(trials))
    assert (
        capsys.readouterr().out == f"{len(known)} of {len(known)} results are taken from those that ship with dglab\n"
    )
