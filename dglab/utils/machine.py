"""The cores, memory and devices that this process may use."""

import ctypes
import functools
import os
import platform
from pathlib import Path

from dglab import __version__
from dglab.utils.errors import InputError

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of mallopt, from glibc's malloc.h


def usable_cpus() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def memory_bytes() -> int | None:
    """The memory of this machine, or of the container of this process, in bytes; None if it is unknown."""
    known = []
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        known.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            known.append(int(Path(limit).read_text()))
        except (OSError, ValueError):  # not there, or "max"
            pass
    return min(known, default=None)


def refuse_what_cannot_fit(needed: int, what: str, remedy: str) -> None:
    """Refuse, before work begins, what needs more memory than there is, if that is known.

    Raises:
        InputError: naming both numbers.
    """
    most = memory_bytes()
    if most is not None and needed > most:
        raise InputError(
            f"{what}, takes {needed / 2**30:,.0f} GiB at the least, and this machine has {most / 2**30:.0f}; {remedy}"
        )


def keep_freed_memory() -> None:
    """Make the C library keep freed memory for reuse, for the rest of this process.

    glibc hands blocks of 32 MiB and more back to the system at once and asks for them anew. Each page then costs a
    fault when it is first touched, which for large feature maps takes as long as the computation: five images in a
    pass cost 5.6 times one, and 5.1 times with this setting (ResNet-50, 256 x 512, one core). Where the C library is
    another one nothing happens.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt  # glibc goes by this name
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def choose_device(name: str) -> str:
    """``auto`` -> the best available device; a device by name if it is available.

    Raises:
        InputError: for an unknown device or one that this machine lacks.
    """
    import torch  # imported here because the command line imports this module and often does not need torch

    at_hand = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available()), "cpu": 1}
    if name == "auto":
        return next(kind for kind, count in at_hand.items() if count)
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in at_hand:
        raise InputError(f"unknown device {name!r}; expected auto, cpu, cuda or mps")
    if (device.index or 0) >= at_hand[device.type]:
        raise InputError(f"the device {name!r} is not available here; use --device cpu, or run dglab doctor to see why")
    return name


def versions() -> dict[str, str]:
    """The versions of dglab, Python and torch."""
    import torch  # as above

    return {"dglab": __version__, "python": platform.python_version(), "torch": torch.__version__}


def describe_machine(device: str) -> str:
    """The GPU, or the number and model of the CPU cores."""
    import torch  # as above

    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{usable_cpus()} CPU cores ({_processor()})"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        return models[0] if models else platform.machine()
    return platform.processor() or platform.machine()
