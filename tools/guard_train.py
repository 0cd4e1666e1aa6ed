"""Train the networks of the guard's test: ``python -m tools.guard_train FOLDER --left-out K [...] [--data ROOT]``.

Each letter is left out in turn, and three networks are trained on the others by AGG, by domain and by MLDG: nine
folders in FOLDER/LETTER, which ``tools.guard_study`` and ``tools.advice_study`` test. Without a root the data are the
embedded streets. Runs that are finished stay as they are.
"""

import argparse
import dataclasses
from pathlib import Path

import torch

from dglab.data import open_domains
from dglab.data.domains import identity
from dglab.presets import QUICK
from dglab.training import TrainingConfig, train
from dglab.utils.machine import keep_freed_memory

METHODS, SEEDS = ("agg", "by_domain", "mldg"), (201, 202, 203)
STEPS, RATE, INNER_RATE = 900, 0.2, 0.04


def runs(root: str, letters: list[str], left_out: str) -> list[TrainingConfig]:
    """The nine trainings that leave a letter out."""
    common = dataclasses.replace(
        QUICK.training, backbone="thin-fpn", steps=STEPS, lr=RATE, checkpoint_every=STEPS,
        data=identity(root) if root else QUICK.streets, sources=tuple(x for x in letters if x != left_out),
    )  # fmt: skip
    inner = {"mldg": INNER_RATE}
    return [
        dataclasses.replace(common, method=method, seed=seed, inner_lr=inner.get(method, common.inner_lr))
        for method in METHODS
        for seed in SEEDS
    ]


def main() -> None:
    """Read the arguments, and train what is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--left-out", nargs="+", required=True, metavar="LETTER")
    parser.add_argument("--data", type=str, default="")
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    domains = open_domains(options.data or QUICK.streets, in_memory=True)
    if unknown := [letter for letter in options.left_out if letter not in domains]:
        raise SystemExit(f"--left-out got {' '.join(unknown)}; the data have {' '.join(domains)}.")
    for letter in options.left_out:
        for config in runs(options.data, list(domains), letter):
            run = options.folder / letter / config.address
            if not (run / "last.safetensors").exists():
                train(config, domains, run)


if __name__ == "__main__":
    main()
