"""What this process may use of the machine, and how."""

import ctypes
import os

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of mallopt, from glibc's malloc.h


def usable_cpus() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def keep_freed_memory() -> None:
    """Let the C library keep the memory that tensors give back, for the rest of this process.

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
