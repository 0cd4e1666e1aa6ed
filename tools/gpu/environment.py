"""Before every step: what is there; what is missing comes from a folder of wheels. Needs Python alone to begin."""

import importlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dglab.utils.errors import InputError
from dglab.utils.files import written_whole

# module -> distribution: what the book imports; torch and torchvision belong together and to the driver, and so are
# the machine's own
PACKAGES = {
    "torch": "torch", "torchvision": "torchvision", "numpy": "numpy", "PIL": "pillow", "simplejpeg": "simplejpeg",
    "safetensors": "safetensors", "tqdm": "tqdm", "typer": "typer", "natsort": "natsort", "pandas": "pandas",
}  # fmt: skip
OWN = ("torch", "torchvision")


def use_site(site: Path) -> None:
    """Let this process, and those that it starts, import what was installed into a folder."""
    if str(site) not in sys.path:
        sys.path.append(str(site))
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(site))))
        importlib.invalidate_caches()


def install_missing(site: Path, wheels: Path | None, packages: Sequence[str] = tuple(PACKAGES)) -> list[str]:
    """Install what cannot be imported, without an index and without what it depends on.

    Args:
        site: the folder that it goes to; the machine's own packages stay as they are.
        wheels: the folder of wheels; None if there is none.
        packages: modules that are needed.

    Returns:
        The distributions that were installed.

    Raises:
        InputError: for what is missing and not among the wheels.
    """
    missing = [PACKAGES.get(name, name) for name in packages if find_spec(name) is None]
    own = [name for name in missing if name in OWN]
    if own:
        raise InputError(f"{' and '.join(own)} cannot be imported by {sys.executable}; call the Python that has torch")
    if not missing:
        return []
    if wheels is None or not wheels.is_dir():
        raise InputError(
            f"{', '.join(missing)} cannot be imported and --wheels is {wheels}; give a folder that holds their wheels "
            "for this Python and processor: tools/gpu/README.md has the command"
        )
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps",
           "--find-links", str(wheels), "--target", str(site), *missing]  # fmt: skip
    done = subprocess.run(pip, capture_output=True, text=True)
    if done.returncode:
        raise InputError(f"pip could not install {', '.join(missing)} from {wheels}: {done.stderr.strip()}")
    importlib.invalidate_caches()
    return missing


def describe(installed: Sequence[str]) -> dict[str, Any]:
    """What the results are made on."""
    import torch

    from dglab.experiments.record import describe_machine, versions
    from dglab.utils.machine import memory_bytes, usable_cpus

    cuda = torch.cuda.is_available()
    about = {
        "machine": describe_machine("cuda" if cuda else "cpu"), "versions": versions(),
        "packages": {name: _version(name) for name in PACKAGES.values()}, "installed": list(installed),
        "platform": platform.platform(), "cores": usable_cpus(), "memory_gib": round((memory_bytes() or 0) / 2**30, 1),
    }  # fmt: skip
    if cuda:
        about["cuda"] = {
            "runtime": torch.version.cuda, "cudnn": torch.backends.cudnn.version(),
            "nccl": ".".join(map(str, torch.cuda.nccl.version())), "gpus": torch.cuda.device_count(),
            "capability": ".".join(map(str, torch.cuda.get_device_capability())),
            "memory_gib": round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1),
            "bf16": torch.cuda.is_bf16_supported(),
        }  # fmt: skip
    return about


def write_environment(out: Path, about: dict[str, Any]) -> None:
    """Write ``environment.json``: a list, because a later call may run on another machine."""
    path = out / "environment.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    if about not in known:
        with written_whole(path) as beside:
            beside.write_text(json.dumps([*known, about], indent=1), encoding="utf-8")


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""
