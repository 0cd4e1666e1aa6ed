"""What ships along is what was recorded: the networks score as the table says, and lessons open without training."""

import pytest

from dglab.experiments import lab as lab_module
from dglab.experiments.lab import Job, open_lab, run_test
from dglab.experiments.studies import STUDIES, run_study, shipped_table, variant_name
from dglab.testtime.methods import bn
from dglab.training.checkpoints import load_checkpoint
from tools.ship_results import shipped_trainings


@pytest.fixture
def lab(tmp_path):
    return open_lab("quick", device="cpu", results=tmp_path)


def test_networks_score_what_was_recorded(lab):
    table = shipped_table(lab)
    table = table[(table["metric"] == "miou") & (table["train_seed"] == 0)]
    for training in shipped_trainings(lab):
        path = lab.checkpoint(training)
        assert path.stat().st_size < 2 * 2**20
        model, config = load_checkpoint(path)
        assert config == training
        target = "C" if len(training.sources) == 4 else "C+M"
        recorded = table[(table["method"] == variant_name(training)) & (table["domain_evaluated"] == target)]["value"]
        scored = 100 * run_test(lab, model, Job(training, bn(tuple(target.split("+"))))).matrix.miou()
        assert scored == pytest.approx(recorded.iloc[0], abs=0.1)  # another processor rounds otherwise


def test_lessons_open_without_training_or_testing(lab, monkeypatch):
    monkeypatch.setattr(lab_module, "train", lambda *args, **options: pytest.fail("trained"))
    monkeypatch.setattr(lab_module, "run_test", lambda *args, **options: pytest.fail("tested"))
    for study in STUDIES:
        assert len(run_study(lab, study))
