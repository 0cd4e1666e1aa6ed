"""Training on several processes: the rank of this one, and sums over all of them (all-reduce).

Torch's ``DistributedDataParallel`` averages gradients during ``loss.backward()``, which does not serve a gradient that
is needed in the middle of a step, as MLDG's inner step needs one. So gradients are summed explicitly, by
:func:`sum_over_processes` and :func:`sum_in_place`. Without a process group, every function here behaves as in a group
of one.
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
    """Within the block, this process belongs to the process group that ``torchrun`` has started, if it has.

    Args:
        device: ``"cpu"`` or ``"cuda"``; with several GPUs each process uses the one of its ``LOCAL_RANK``.

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
    dist.destroy_process_group()  # not after an error: it could wait for the others forever; torchrun ends them


def grouped() -> bool:
    """Whether this process belongs to a group."""
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """The rank of this process, from 0."""
    return dist.get_rank() if grouped() else 0


def world_size() -> int:
    """The number of processes that train together."""
    return dist.get_world_size() if grouped() else 1


def is_writer() -> bool:
    """Whether this process is the one that writes the files and shows the progress."""
    return rank() == 0


def wait_for_all() -> None:
    """Wait until every process has arrived here (barrier), for example until the writer has written its files."""
    if grouped():
        dist.barrier()


def sum_over_processes(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Each tensor summed over all processes; in a group of one, the tensors themselves.

    Args:
        tensors: of the same shapes, types and order in every process.
    """
    if not grouped():
        return list(tensors)
    summed = [tensor.detach().clone() for tensor in tensors]
    sum_in_place(summed)
    return summed


def sum_in_place(tensors: Sequence[Tensor]) -> None:
    """As :func:`sum_over_processes`, in place; the tensors must not share memory.

    Every process gets the same bits. Tensors are sent in buckets: many small messages would be slow, and a single one
    would be a copy of all tensors.
    """
    if grouped():
        for message in messages(tensors):
            _send(message)


def _send(message: Sequence[Tensor]) -> None:
    flat = torch.cat([tensor.reshape(-1) for tensor in message])
    dist.all_reduce(flat)
    for tensor, part in zip(message, flat.split([tensor.numel() for tensor in message]), strict=True):
        tensor.copy_(part.view_as(tensor))


def messages(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Buckets of successive tensors of one type: at most 25 MiB, as in DistributedDataParallel, or a single tensor."""
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
