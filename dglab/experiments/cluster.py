"""Independent jobs on a Slurm cluster, by submitit: each one a job, with what Slurm asks of the user in its variables.

Partition, account, time limit and the like are sbatch's own to say: ``SBATCH_PARTITION``, ``SBATCH_ACCOUNT``,
``SBATCH_TIMELIMIT``, ... in the environment count more than what is set here.
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
    """Refuse, before work begins, to submit what cannot be submitted.

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
    """Submit the jobs; yields as each is done. Those that are not are cancelled if one fails, or at Ctrl-C.

    A job whose node Slurm takes away is submitted once more, and its training goes on from the last saved state.

    Args:
        function: of one job; it and the jobs go to the nodes by pickle, so all see one file system.
        jobs: in the order in which they are begun.
        folder: for submitit's files: what each job was, and what it printed.
        device: ``"cuda"`` asks for one GPU a job, anything else for one core.
        most: jobs at a time; None leaves it to Slurm.

    Raises:
        InputError: naming the job that failed, its error and where all it printed lies.
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
    """A job as it runs on a node. Slurm's warning that the node is needed makes submitit ask for its ``checkpoint``."""

    def __call__(self, function: Callable[[Job], None], job: Job, *, one_thread: bool) -> None:
        if one_thread:
            begin_worker()
        function(job)

    def checkpoint(self, *args: Any, **options: Any) -> "submitit.helpers.DelayedSubmission":
        """The same once more; what has been trained lies in the results folder."""
        import submitit

        return submitit.helpers.DelayedSubmission(self, *args, **options)


def _result(job: "submitit.Job") -> None:
    error = job.exception()
    if error is not None:
        raise InputError(
            f"the job {job.job_id} failed: {_reason(error)}; what it printed lies in {job.paths.stderr}"
        ) from error


def _reason(error: Exception) -> str:
    """The last line of the trace, which submitit sets between dashes."""
    parts = str(error).split("-" * 22)
    return parts[len(parts) // 2].strip().splitlines()[-1]
