"""Training on several processes: which one this is, and sums over all of them.

Torch's ``DistributedDataParallel`` averages gradients during ``loss.backward()`` and has nothing for
a gradient that is needed in the midst of a step, as MLDG's inner step needs its own. So gradients are summed in plain
sight, by :func:`sum_over_processes` and :func:`sum_in_place`. Outside of a process group every function here is that of
a group of one.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor

from dglab.utils.errors import InputError

BACKENDS = {"cpu": "gloo", "cuda": "nccl"}
MESSAGE_BYTES = 25 * 2**20


@contextmanager
def processes(device: str) -> Iterator[str]:
    """Within the block, this process is one of those that ``torchrun`` has started; without torchrun it stays alone.

    Args:
        device: ``"cpu"`` or ``"cuda"``; of several GPUs each process takes the one of its ``LOCAL_RANK``.

    Yields:
        The device of this process.

    Raises:
        InputError: for another device, or for more processes than GPUs.
    """
    if not (dist.is_available() and dist.is_torchelastic_launched()):
        yield device
        return
    kind, local = torch.device(device).type, int(os.environ["LOCAL_RANK"])
    if kind not in BACKENDS:
        raise InputError(f"several processes train on {' or '.join(BACKENDS)}, not on {kind}; leave torchrun out")
    if kind == "cuda":
        if local >= torch.cuda.device_count():
            raise InputError(
                f"there are {torch.cuda.device_count()} GPUs and more processes; start torchrun with "
                f"--nproc-per-node={torch.cuda.device_count()}"
            )
        device = f"cuda:{local}"
        torch.cuda.set_device(local)
    dist.init_process_group(BACKENDS[kind], device_id=torch.device(device) if kind == "cuda" else None)
    yield device
    dist.destroy_process_group()  # not after an error: the others may wait in a sum forever, and torchrun ends them


def grouped() -> bool:
    """Whether this process belongs to a group."""
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if grouped() else 0


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if grouped() else 1


def is_writer() -> bool:
    """Whether this process writes the files and shows the progress; one does."""
    return rank() == 0


def wait_for_all() -> None:
    """Go on when every process has come here: what the writer has written until then, all can read."""
    if grouped():
        dist.barrier()


def sum_over_processes(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Each tensor summed over all processes; in a group of one, the tensors themselves.

    Args:
        tensors: of the same shapes and types, in the same order, in every process.
    """
    if not grouped():
        return list(tensors)
    summed = [tensor.detach().clone() for tensor in tensors]
    sum_in_place(summed)
    return summed


def sum_in_place(tensors: Sequence[Tensor]) -> None:
    """As :func:`sum_over_processes`, into the tensors themselves, each of which has memory of its own.

    Every process gets the same bits. Tensors travel together, for many small messages are slow; but not all at once,
    for a message is a copy.
    """
    if grouped():
        for message in messages(tensors):
            _send(message)


def _send(message: Sequence[Tensor]) -> None:
    together = torch.cat([tensor.reshape(-1) for tensor in message])
    dist.all_reduce(together)
    for tensor, part in zip(message, together.split([tensor.numel() for tensor in message]), strict=True):
        tensor.copy_(part.view_as(tensor))


def messages(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Successive tensors of one type, as many as fit into 25 MiB (as in torch's DistributedDataParallel), or one."""
    message: list[Tensor] = []
    held = 0
    for tensor in tensors:
        if message and (held + tensor.nbytes > MESSAGE_BYTES or tensor.dtype != message[0].dtype):
            yield message
            message, held = [], 0
        message.append(tensor)
        held += tensor.nbytes
    if message:
        yield message
