"""Training on several processes: which one this is, and sums over all of them.

Torch's ``DistributedDataParallel`` averages gradients during ``loss.backward()`` and has nothing for
``torch.autograd.grad``, which MLDG's inner step needs. So gradients are summed in plain sight, by
:func:`sum_over_processes`. Outside of a process group every function here is that of a group of one.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor

from dglab.errors import InputError

BACKENDS = {"cpu": "gloo", "cuda": "nccl"}


@contextmanager
def processes(device: str) -> Iterator[str]:
    """Inside, this process is one of those that ``torchrun`` has started; without torchrun it stays alone.

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

    Every process gets the same bits. All tensors of one type travel as one message, for many small ones are slow.

    Args:
        tensors: of the same shapes and types, in the same order, in every process.
    """
    summed = list(tensors)
    if not grouped():
        return summed
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
        places = [i for i, tensor in enumerate(tensors) if tensor.dtype == dtype]
        message = torch.cat([tensors[i].detach().reshape(-1) for i in places])
        dist.all_reduce(message)
        for i, part in zip(places, message.split([tensors[i].numel() for i in places]), strict=True):
            summed[i] = part.view_as(tensors[i])
    return summed
