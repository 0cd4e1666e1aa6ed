"""Networks as jobs of a cluster: here submitit's local executor, which runs each as a process of this machine."""

import os
import sys

import cloudpickle
import pandas as pd
import pytest
import submitit
import torch

from dglab import reproduce
from dglab.experiments import cluster, runner
from dglab.experiments.table import read_table


@pytest.fixture(autouse=True)
def of_this_machine(monkeypatch):
    monkeypatch.setattr(cluster, "CLUSTER", "local")


def note_and_fail(path):
    """A job: leaves behind where it ran, and comes to nothing."""
    path.write_text(f"{os.getpid()} {torch.get_num_threads()} {submitit.JobEnvironment().job_id}")
    raise ValueError(f"cannot do {path.name}")


def test_each_network_is_a_job_and_the_results_are_the_same(lab, frames, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "train", lambda *_, **__: pytest.fail("trained in this process"))
    out = tmp_path / "results"
    path = reproduce.reproduce("tiny", out=out, only="adabn", device="cpu", executor="slurm")
    pd.testing.assert_frame_equal(
        read_table(path).drop(columns="value"), frames["adabn"].drop(columns="value").reset_index(drop=True)
    )
    there = read_table(path)["value"] - frames["adabn"]["value"].to_numpy()
    assert there.abs().max() < 0.5  # jobs take the instructions that all nodes have, this process its own
    assert len(list((out / "jobs").glob("*_result.pkl"))) == 2  # AGG and MLDG
    assert len(list((out / "streets").iterdir())) == 10  # drawn before
    before = sorted((out / "jobs").iterdir())
    reproduce.reproduce("tiny", out=out, only="adabn", device="cpu", executor="slurm")
    assert sorted((out / "jobs").iterdir()) == before  # nothing is submitted twice


def test_a_job_runs_in_a_process_of_one_thread_and_is_named_where_it_fails(tmp_path):
    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # a node cannot import this file
    try:
        with pytest.raises(cluster.InputError, match=r"the job \d+ failed: ValueError: cannot do 3; .*is in .*err"):
            list(cluster.on_cluster(note_and_fail, [tmp_path / "3"], tmp_path / "jobs", "cpu", None))
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    pid, threads, number = (tmp_path / "3").read_text().split()
    assert int(pid) != os.getpid() and threads == "1" and number in {p.name.split("_")[0] for p in
                                                                     (tmp_path / "jobs").iterdir()}  # fmt: skip


def test_a_job_that_loses_its_node_is_submitted_once_more():
    again = cluster.Resumable().checkpoint(note_and_fail, "x", one_thread=True)
    assert isinstance(again, submitit.helpers.DelayedSubmission)
    assert again.args == (note_and_fail, "x") and again.kwargs == {"one_thread": True}
    assert isinstance(again.function, cluster.Resumable)


@pytest.mark.parametrize(("device", "gpus"), [("cpu", 0), ("cuda", 1)])
def test_what_a_job_asks_slurm_for(tmp_path, monkeypatch, device, gpus):
    """The script that would be handed to sbatch."""
    monkeypatch.setattr(cluster, "CLUSTER", "slurm")
    for command in ("sbatch", "srun"):
        (tmp_path / command).write_text(f"#!/bin/sh\ncp $1 {tmp_path}/script\necho no such partition >&2\nexit 1\n")
        (tmp_path / command).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    cluster.check_cluster()
    jobs = [tmp_path / str(number) for number in range(4)]
    with pytest.raises(cluster.InputError, match="Slurm takes no job: no such partition"):
        list(cluster.on_cluster(note_and_fail, jobs, tmp_path / "jobs", device, 3))
    script = (tmp_path / "script").read_text()
    for line in ("--array=0-3%3", f"--gpus-per-node={gpus}", f"--cpus-per-task={1 + 4 * gpus}", "--time=1440",
                 "--job-name=dglab", "--nodes=1"):  # fmt: skip
        assert f"#SBATCH {line}\n" in script


def test_what_cannot_be_submitted_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "CLUSTER", "slurm")
    monkeypatch.setenv("PATH", str(tmp_path))
    for options, words in (
        ({"executor": "slurm"}, "no Slurm here"),
        ({"executor": "pbs"}, "unknown executor 'pbs'; expected local or slurm"),
        ({"executor": "slurm", "device": "tpu"}, "nodes is 'tpu'; expected cpu"),
    ):
        with pytest.raises(cluster.InputError, match=words):
            reproduce.reproduce("tiny", out=tmp_path / "results", **options)
    assert not (tmp_path / "results").exists()
