"""Torch's random state on a device: that of the CPU, and of the GPU in use."""

from collections.abc import Iterator

import torch

from dglab.utils.interrupts import interrupt_safe_contextmanager


@interrupt_safe_contextmanager
def own_randomness(device: torch.device) -> Iterator[None]:
    """Within the block, numbers may be drawn and seeds set; afterwards the random state of CPU and device is restored.

    Args:
        device: where the computation runs.
    """
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield


def set_seed(seed: int, device: torch.device) -> None:
    """Seed the CPU and this device. ``torch.manual_seed`` would reseed every other GPU, too.

    Args:
        seed: of both.
        device: where the computation runs.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)
