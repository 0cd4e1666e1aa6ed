"""Independent jobs, several at a time: each in a process of one thread, on instructions that every x86-64 has."""

import multiprocessing
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from typing import TypeVar

import torch

from dglab.utils.machine import keep_freed_memory, usable_cpus

Job = TypeVar("Job")
# Sums are then taken in the same order on any x86-64 processor of the last ten years, so that another one repeats a
# study's figures. Whoever sets these variables otherwise gets what they say.
INSTRUCTIONS = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "COMPATIBLE"}


def in_parallel(function: Callable[[Job], None], jobs: Sequence[Job], workers: int | None) -> Iterator[None]:
    """Run the jobs, in this process if ``workers`` is 0; yields as each is done.

    Args:
        function: of one job; it and the jobs go to other processes by pickle.
        jobs: in the order in which they are begun.
        workers: processes; None takes one a core.
    """
    workers = min(len(jobs), usable_cpus() if workers is None else workers)
    if workers == 0:  # here; one worker is another matter, for it has one thread, as each of several has
        for job in jobs:
            yield function(job)
        return
    context = multiprocessing.get_context("spawn")  # a fork would inherit torch's threads half alive
    with common_instructions(), ProcessPoolExecutor(workers, mp_context=context, initializer=begin_worker) as pool:
        futures = [pool.submit(function, job) for job in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def instructions() -> str:
    """Which instructions this process computes with, for a record: ``AVX2``, ``AVX512``, ``DEFAULT``, ..."""
    return torch.backends.cpu.get_cpu_capability()


@contextmanager
def common_instructions() -> Iterator[None]:
    """Within the block, processes begin with :data:`INSTRUCTIONS`, where this processor has them."""
    at_hand = platform.machine().lower() in ("x86_64", "amd64") and instructions() in ("AVX2", "AVX512")
    added = {name: value for name, value in INSTRUCTIONS.items() if at_hand and name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def begin_worker() -> None:
    """Make this process one of several: one thread, and freed memory kept."""
    torch.set_num_threads(1)
    keep_freed_memory()
