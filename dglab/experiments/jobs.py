"""Independent jobs in parallel: each in a process with one thread, on common x86-64 instructions."""

import multiprocessing
import os
import platform
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from typing import TypeVar

import torch

from dglab.utils.machine import keep_freed_memory, usable_cpus

Job = TypeVar("Job")
# With these, sums are taken in the same order on any x86-64 processor of the last ten years, so that another machine
# reproduces a study's numbers. Values that the user has set are kept.
INSTRUCTIONS = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "COMPATIBLE"}


def in_parallel(function: Callable[[Job], None], jobs: Sequence[Job], workers: int | None) -> Iterator[None]:
    """Run jobs in parallel; yields each time that one is done.

    Args:
        function: runs one job; it and the jobs are pickled for other processes.
        jobs: in the order in which they start.
        workers: number of processes; None takes one per core, 0 runs the jobs in this process.
    """
    workers = min(len(jobs), usable_cpus() if workers is None else workers)
    if workers == 0:  # not the same as one worker, which has a single thread
        for job in jobs:
            yield function(job)
        return
    context = multiprocessing.get_context("spawn")  # fork is not safe with torch's threads
    with common_instructions(), ProcessPoolExecutor(workers, mp_context=context, initializer=_begin_in_pool) as pool:
        futures = [pool.submit(function, job) for job in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def instructions() -> str:
    """The CPU instructions that torch uses in this process: ``AVX2``, ``AVX512``, ``DEFAULT``, ..."""
    return torch.backends.cpu.get_cpu_capability()


def on_common_instructions() -> bool:
    """Whether jobs run on :data:`INSTRUCTIONS`: this processor supports them, and the user has asked for no others."""
    return _at_hand() and all(os.environ.get(name, value) == value for name, value in INSTRUCTIONS.items())


@contextmanager
def common_instructions() -> Iterator[None]:
    """Within the block, new processes start with :data:`INSTRUCTIONS`, if this processor supports them."""
    added = {name: value for name, value in INSTRUCTIONS.items() if _at_hand() and name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _at_hand() -> bool:
    return platform.machine().lower() in ("x86_64", "amd64") and instructions() in ("AVX2", "AVX512")


def _begin_in_pool() -> None:
    """Prepare a process of the pool, which ends when its parent does: else, were the parent killed, it would finish its
    job, wait for another for ever, and meanwhile hold the folder that the next call wants to go on in."""
    begin_worker()
    threading.Thread(target=_end_with, args=(multiprocessing.parent_process(),), daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)  # whatever the main thread is doing; files are written whole or not at all


def begin_worker() -> None:
    """Prepare this process as a worker: one thread, and freed memory is kept."""
    torch.set_num_threads(1)
    keep_freed_memory()
