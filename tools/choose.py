"""Choose network, steps and rates on the validation images of the sources: one row a try in ``docs/tries.csv``.

``python -m tools.choose [--seeds 100 101] [--jobs 2]`` runs the tries below that have no row yet; a killed run resumes.
Seeds are 100 and up, which no study uses. AGG and MLDG get the same tries; the controls take the rates of theirs.
"""

import argparse
import csv
import dataclasses
import itertools
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np
import torch

from dglab.data import open_domains
from dglab.data.streets.size import StreetsSize
from dglab.evaluation import evaluate
from dglab.presets import QUICK
from dglab.testtime import SourceNormalization
from dglab.training import TrainingConfig, train
from dglab.training.checkpoints import load_checkpoint
from dglab.utils.machine import keep_freed_memory

SOURCES = ("G", "S", "I", "M")
TRIES = Path(__file__).parents[1] / "docs" / "tries.csv"
SETTINGS = ("method", "backbone", "steps", "batch_per_domain", "lr", "inner_lr", "seed")
COLUMNS = (*SETTINGS, *SOURCES, "mean", "classes_below_1", "seconds")


def tries(seeds: list[int]) -> list[TrainingConfig]:
    """For AGG and MLDG alike: three networks, the rate at two lengths, a learning curve at one rate.

    The last two, a rate beyond the largest and a decoder up to a half of the image, were tried after the studies: they
    say what the choice was worth, and change nothing.
    """
    found = []
    for seed, method in itertools.product(seeds, ("agg", "mldg")):
        for backbone, steps, lr in (
            ("thin", 450, 0.1),
            *(("thin-fpn", 900, lr) for lr in (0.1, 0.2, 0.4)),
            *(("thin-fpn", 1500, lr) for lr in (0.1, 0.2, 0.4)),
            *(("thin-fpn", steps, 0.2) for steps in (450, 3000)),
            ("thin-fpn", 1500, 0.8),
            ("thin-fpn-half", 1500, 0.2),
        ):
            found.append(
                dataclasses.replace(
                    QUICK.training, method=method, seed=seed, backbone=backbone, steps=steps, lr=lr,
                    inner_lr=0.2 * lr if method == "mldg" else 0.02, sources=SOURCES,
                    data=QUICK.streets, checkpoint_every=steps,
                )
            )  # fmt: skip
    return found


def score(config: TrainingConfig, data: str | StreetsSize = QUICK.streets) -> dict[str, str]:
    """Train, and score under source BN on the validation images of each source: a row."""
    torch.set_num_threads(1)
    keep_freed_memory()
    domains = open_domains(data, in_memory=True)
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        model, _ = load_checkpoint(train(config, domains, Path(folder), progress=False))
        seconds = time.process_time() - start
    matrices = {letter: evaluate(SourceNormalization(model), domains[letter].val) for letter in config.sources}
    by_domain = {letter: f"{100 * matrix.miou():.2f}" for letter, matrix in matrices.items()}
    by_class = np.nanmean([matrix.iou() for matrix in matrices.values()], axis=0)
    return {
        **{name: str(getattr(config, name)) for name in SETTINGS}, **by_domain,
        "mean": f"{100 * np.mean([matrix.miou() for matrix in matrices.values()]):.2f}",
        "classes_below_1": str(int((by_class < 0.01).sum())), "seconds": f"{seconds:.0f}",
    }  # fmt: skip


def run_missing(
    tried: Sequence[TrainingConfig],
    run: Callable[[TrainingConfig], dict[str, str]],
    path: Path,
    columns: Sequence[str],
    settings: Sequence[str] = SETTINGS,
    jobs: int = 1,
) -> None:
    """Score the tries that have no row in a file yet, and append theirs, each as it is done; a killed run resumes.

    Args:
        tried: the tries, in the order in which they begin.
        run: gives a try's row; it and the tries are pickled for other processes.
        path: of the file; begun if it is missing.
        columns: of the file.
        settings: those of them by which a try is known.
        jobs: how many at a time.
    """
    if not path.exists():
        path.write_text(",".join(columns) + "\n", encoding="utf-8")
    with open(path, newline="", encoding="utf-8") as file:
        done = {tuple(row[name] for name in settings) for row in csv.DictReader(file)}
    missing = [config for config in tried if tuple(str(getattr(config, name)) for name in settings) not in done]
    with ProcessPoolExecutor(jobs) as pool:
        for future in as_completed([pool.submit(run, config) for config in missing]):
            with open(path, "a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, columns, lineterminator="\n").writerow(future.result())


def main() -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 101])
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    run_missing(tries(options.seeds), score, TRIES, COLUMNS, jobs=options.jobs)


if __name__ == "__main__":
    main()
