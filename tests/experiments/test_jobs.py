"""Jobs in processes of their own: one thread, the instructions that every x86-64 has, and the caller's choice."""

import os

import pytest
import torch

from dglab.experiments.jobs import INSTRUCTIONS, in_parallel, instructions, on_common_instructions

HAS_AVX2 = instructions() in ("AVX2", "AVX512") and not any(name in os.environ for name in INSTRUCTIONS)


def note(path):
    """A job: leaves behind what it ran with."""
    path.write_text(f"{os.getpid()} {torch.get_num_threads()} {instructions()}")


def test_without_workers_jobs_run_here(tmp_path):
    paths = [tmp_path / str(number) for number in range(3)]
    for count, _ in enumerate(in_parallel(note, paths, 0), 1):
        assert sum(path.exists() for path in paths) == count
    assert {int(path.read_text().split()[0]) for path in paths} == {os.getpid()}


@pytest.mark.skipif(not HAS_AVX2, reason="this processor, or whoever runs the tests, chose other instructions")
def test_workers_compute_with_common_instructions(tmp_path):
    before = dict(os.environ)
    list(in_parallel(note, [tmp_path / "0"], 1))
    pid, threads, used = (tmp_path / "0").read_text().split()
    assert int(pid) != os.getpid() and threads == "1" and used == "AVX2"
    assert dict(os.environ) == before and on_common_instructions()


def test_the_users_own_instructions_stay(tmp_path, monkeypatch):
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    assert not on_common_instructions()
    list(in_parallel(note, [tmp_path / "0"], 1))
    assert (tmp_path / "0").read_text().split()[2] in ("DEFAULT", "default")


def test_a_failure_ends_the_others(tmp_path):
    with pytest.raises(FileNotFoundError):
        list(in_parallel(note, [tmp_path / "none" / "0", tmp_path / "1"], 1))
