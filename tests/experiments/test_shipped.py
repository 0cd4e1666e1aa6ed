"""What ships along is what was recorded: the networks score as the table says, and lessons open without training."""

import dataclasses

import pandas as pd
import pytest

from dglab.experiments import runner
from dglab.experiments.methods import SOURCE_BN, select
from dglab.experiments.recorded import recorded_table
from dglab.experiments.runner import open_lab, run
from dglab.experiments.trials import STUDIES, ablation, order
from dglab.testtime.methods import bn
from dglab.testtime.testing import run_test
from dglab.training.checkpoints import load_checkpoint
from tools.ship_results import shipped_trainings


@pytest.fixture
def lab(tmp_path):
    return open_lab("quick", device="cpu", results=tmp_path)


def test_networks_score_what_was_recorded(lab):
    table = recorded_table(lab.preset.name)
    table = table[(table["metric"] == "miou") & (table["train_seed"] == 0)]
    for training in shipped_trainings(lab):
        path = lab.checkpoint(training)
        assert path.stat().st_size < 2 * 2**20
        model, config = load_checkpoint(path)
        assert config == training
        target = "C" if len(training.sources) == 4 else "C+M"
        recorded = select(table, SOURCE_BN, train_method=training.method, domain_evaluated=target)
        recorded = recorded[recorded["inner_lr"] != 0]["value"]
        letters = tuple(target.split("+"))
        scored = 100 * run_test(model, lab.target_set(letters), bn(letters)).matrix.miou()
        assert scored == pytest.approx(recorded.iloc[0], abs=0.1)  # another processor rounds otherwise


def test_lessons_open_without_training_or_testing(lab, monkeypatch):
    monkeypatch.setattr(runner, "train", lambda *args, **options: pytest.fail("trained"))
    monkeypatch.setattr(runner, "run_test", lambda *args, **options: pytest.fail("tested"))
    table = recorded_table(lab.preset.name)
    for name, study in (STUDIES | {"order": order}).items():
        recorded = table[table["study"] == name].reset_index(drop=True)
        pd.testing.assert_frame_equal(run(lab, study(lab)), recorded)


def test_a_part_of_a_study_is_that_part_of_the_record(lab):
    trials = [trial for trial in ablation(lab) if trial.test.method == "tn" and trial.training.seed == 1]
    frame = run(lab, trials)
    assert set(frame["test_method"]) == {"tn"} and set(frame["train_seed"]) == {1}
    assert (frame["metric"] == "miou").sum() == len(trials)


def test_a_setting_of_ones_own_is_not_answered_from_the_record(lab, monkeypatch):
    """Nobody has recorded it; so the network would be trained."""
    trial = ablation(lab)[0]
    other = dataclasses.replace(trial, training=dataclasses.replace(trial.training, lr=0.123))
    monkeypatch.setattr(runner.Lab, "results", lambda self, trials: pytest.fail("computes"))
    with pytest.raises(pytest.fail.Exception, match="computes"):
        run(lab, [other])
