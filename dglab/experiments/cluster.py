"""Independent jobs on a Slurm cluster, by submitit.

Partition, account, time limit and the like are set by sbatch's environment variables: ``SBATCH_PARTITION``,
``SBATCH_ACCOUNT``, ``SBATCH_TIMELIMIT``, ... They override what is set here.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from dglab.experiments.jobs import begin_worker, common_instructions
from dglab.utils.errors import InputError
from dglab.utils.extras import extras_named

if TYPE_CHECKING:
    import submitit

Job = TypeVar("Job")
CLUSTER = "slurm"  # of submitit; "local" runs each job as a process of this machine
MINUTES = 24 * 60  # that a job may take


def check_cluster() -> None:
    """Check, before work begins, that jobs can be submitted.

    Raises:
        InputError: without submitit, or where there is no Slurm.
    """
    with extras_named("--executor slurm"):
        import submitit  # noqa: F401
    if CLUSTER == "slurm" and shutil.which("sbatch") is None:
        raise InputError("there is no Slurm here (no command sbatch): run this where jobs are submitted, or locally")


def on_cluster(
    function: Callable[[Job], None], jobs: Sequence[Job], folder: Path, device: str, most: int | None
) -> Iterator[None]:
    """Submit jobs; yields each time that one is done. If one fails, or at Ctrl-C, the unfinished ones are cancelled.

    A preempted job is submitted again, and its training resumes from the last saved state.

    Args:
        function: runs one job; it and the jobs are pickled to files, so that all nodes must share a file system.
        jobs: in the order in which they start.
        folder: for submitit's files: the pickled jobs and their outputs.
        device: ``"cuda"`` requests one GPU per job, anything else one core.
        most: jobs at a time; None leaves it to Slurm.

    Raises:
        InputError: naming the job that failed, its error and the file with its output.
    """
    import submitit

    executor = submitit.AutoExecutor(folder, cluster=CLUSTER)
    gpus = int(torch.device(device).type == "cuda")
    executor.update_parameters(name="dglab", nodes=1, tasks_per_node=1, gpus_per_node=gpus, cpus_per_task=1 + 4 * gpus,
                               timeout_min=MINUTES, slurm_array_parallelism=most or len(jobs))  # fmt: skip
    try:
        with common_instructions(), executor.batch():
            submitted = [executor.submit(Resumable(), function, job, one_thread=not gpus) for job in jobs]
    except submitit.core.utils.FailedJobError as error:
        raise InputError(f"Slurm takes no job: {_reason(error)}; is SBATCH_PARTITION or the like to be set?") from error
    try:
        for job in submitit.helpers.as_completed(submitted, poll_frequency=1):
            yield _result(job)
    except BaseException:
        for job in submitted:
            job.cancel(check=False)
        raise


class Resumable:
    """A job as it runs on a node. When Slurm announces preemption, submitit calls its ``checkpoint``."""

    def __call__(self, function: Callable[[Job], None], job: Job, *, one_thread: bool) -> None:
        if one_thread:
            begin_worker()
        function(job)

    def checkpoint(self, *args: Any, **options: Any) -> "submitit.helpers.DelayedSubmission":
        """Submit the same job again: it resumes from what is saved in the results folder."""
        import submitit

        return submitit.helpers.DelayedSubmission(self, *args, **options)


def _result(job: "submitit.Job") -> None:
    error = job.exception()
    if error is not None:
        raise InputError(
            f"the job {job.job_id} failed: {_reason(error)}; its output is in {job.paths.stderr}"
        ) from error


def _reason(error: Exception) -> str:
    """The last line of the traceback, which submitit prints between dashes."""
    parts = str(error).split("-" * 22)
    return parts[len(parts) // 2].strip().splitlines()[-1]
