"""Jobs in processes of their own: one thread, the instructions that every x86-64 has, and the caller's choice."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

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


def beat(path):
    """A job without end, whose file grows as long as it runs."""
    while True:
        with path.open("a") as file:
            file.write(".")
        time.sleep(0.02)


def test_jobs_end_with_a_process_that_is_killed(tmp_path):
    """SIGKILL, of the one process alone: nothing of it goes on, and locks the folder for whoever resumes."""
    paths = [tmp_path / str(number) for number in range(2)]
    script = (
        "import pathlib, sys; from dglab.experiments.jobs import in_parallel; from test_jobs import beat\n"
        "if __name__ == '__main__': list(in_parallel(beat, [pathlib.Path(name) for name in sys.argv[1:]], 2))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    process = subprocess.Popen([sys.executable, "-c", script, *map(str, paths)], env=environment)
    while not all(path.exists() for path in paths) and process.poll() is None:
        time.sleep(0.02)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    sizes = []
    while len(sizes) < 3 or len(set(sizes[-3:])) > 1:  # one that goes on grows for ever
        sizes.append(sum(path.stat().st_size for path in paths))
        time.sleep(1)


def test_a_failure_ends_the_others(tmp_path):
    with pytest.raises(FileNotFoundError):
        list(in_parallel(note, [tmp_path / "none" / "0", tmp_path / "1"], 1))
