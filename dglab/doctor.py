"""What this machine has, what is missing, and the remedy."""

import importlib
import importlib.metadata
import os
import platform
import shutil
from pathlib import Path

from dglab import __version__
from dglab.utils.machine import usable_cpus

NEEDED = ("torch", "torchvision", "numpy", "pandas", "matplotlib", "seaborn", "scipy", "PIL", "safetensors",
          "jupyterlab", "ipywidgets", "papermill", "pytest", "nbval")  # fmt: skip
DISTRIBUTIONS = {"PIL": "pillow"}


def examine() -> tuple[list[str], list[str]]:
    """Look at versions, device and memory.

    Returns:
        Lines that describe the machine, and problems, each with its remedy.
    """
    lines = [f"dglab {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"]
    problems = []
    for name in NEEDED:
        distribution = DISTRIBUTIONS.get(name, name)
        try:
            importlib.import_module(name)
            lines.append(f"{distribution} {importlib.metadata.version(distribution)}")
        except Exception as error:  # a broken pair of torch and torchvision raises nearly anything
            problems.append(
                f"{distribution} cannot be imported ({error}): pip install --require-hashes -r requirements.lock"
            )
    if not problems:
        problems += _torch_problems()
        lines.append(_devices())
    lines.append(f"{usable_cpus()} CPU cores, {_memory()}")
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    lines.append(f"{free:.0f} GiB free on this disk")
    if free < 1:
        problems.append(f"only {free:.1f} GiB are free on this disk: results and checkpoints need 1 GiB or more")
    return lines, problems


def _torch_problems() -> list[str]:
    import torch

    if tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2]) < (2, 6):
        return [f"torch is {torch.__version__}; dglab needs 2.6 or newer: pip install 'torch>=2.6' torchvision"]
    try:  # a torchvision built for another torch may import, and fail at its first compiled operator
        from torchvision.ops import nms

        nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1), 0.5)
    except Exception as error:
        return [f"torch and torchvision do not match ({error}): install the pair of requirements.lock"]
    return []


def _devices() -> str:
    import torch

    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        return f"CUDA: {torch.cuda.get_device_name()}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
    if torch.backends.mps.is_available():
        return "MPS: Apple GPU"
    return "no GPU: presets tiny and quick run on the CPU"


def _memory() -> str:
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB of memory"
    return "memory unknown"
