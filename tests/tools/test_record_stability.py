"""Networks that are run again are recorded seed by seed, on whatever machine the next one is run."""

import dataclasses

from dglab.experiments.methods import AGG, BY_DOMAIN, MLDG, MLDG_INNER_0
from dglab.experiments.recorded import read_recorded
from dglab.experiments.runner import open_lab
from dglab.experiments.trial import combined, main_tasks
from dglab.testtime.methods import TestConfig
from tools.record_stability import SEEDS, add, chosen


def test_what_is_run_again():
    """Four methods, five seeds, and for each network of a method the same tests."""
    trials = chosen(open_lab("full"))
    networks = {trial.training for trial in trials}
    assert len(networks) == 20 and {one.seed for one in networks} == set(SEEDS)
    for method in (AGG, BY_DOMAIN, MLDG_INNER_0, MLDG):
        own = [t for t in trials if t.training.method == method.settings["method"]]
        assert len({tuple(t.test for t in own if t.training.seed == seed) for seed in SEEDS}) == 1


def test_a_seed_is_written_whole_and_never_run_twice(tmp_path):
    lab = dataclasses.replace(open_lab("tiny", results=tmp_path / "one", use_shipped=False), jobs=1)
    [task] = main_tasks(lab)
    tests = [TestConfig("bn", task.targets), TestConfig("adabn", task.targets)]
    first, second = (
        combined("ablation", task, [lab.training(task.sources, seed, method="agg")], tests) for seed in (3, 4)
    )
    path = tmp_path / "again.csv"
    add(lab, first, path)
    written = path.read_text()
    elsewhere = dataclasses.replace(lab, out=tmp_path / "two")  # another machine: nothing but the record is there
    add(elsewhere, first, path)
    assert path.read_text() == written and not (elsewhere.out / "scores").exists()
    add(elsewhere, second, path)
    assert path.read_text().startswith(written)
    frame = read_recorded(path)
    assert frame.loc[frame["metric"] == "miou", "train_seed"].tolist() == [3, 3, 4, 4]


def test_a_seed_with_other_tests_is_run_again(tmp_path):
    lab = dataclasses.replace(open_lab("tiny", results=tmp_path / "one", use_shipped=False), jobs=1)
    [task] = main_tasks(lab)
    training = lab.training(task.sources, 3, method="agg")
    path = tmp_path / "again.csv"
    for names in (["bn"], ["bn", "adabn"]):
        add(lab, combined("ablation", task, [training], [TestConfig(name, task.targets) for name in names]), path)
        frame = read_recorded(path)
        assert frame.loc[frame["metric"] == "miou", "test_method"].tolist() == names
