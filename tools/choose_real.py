"""Choose the rates of the preset real on the sources' validation images: one row a try in ``docs/tries_real.csv``.

``python -m tools.choose_real ROOT [--jobs 2]`` runs the tries below that have no row yet; a killed run resumes. ROOT
holds CamVid's four recordings and KITTI, see docs/data.md. T, at dusk, is left out of every try. The others are
trained on and validated on: each of them is a target of the study as well, so the one rate for all five tasks has seen
every target but T, as a source. Seeds are 100 and up, which no study uses. AGG and MLDG get the same tries.
"""

import argparse
import dataclasses
import functools
import itertools
from pathlib import Path

from dglab.data.domains import identity
from dglab.presets import REAL
from dglab.training import TrainingConfig
from tools.choose import SETTINGS, run_missing, score

SOURCES = ("R", "E", "V", "K")
RATES, LENGTHS, SEEDS = (0.02, 0.05, 0.1), (250, 500), (100, 101)
TRIES = Path(__file__).parents[1] / "docs" / "tries_real.csv"
COLUMNS = (*SETTINGS, *SOURCES, "mean", "classes_below_1", "seconds")


def tries(root: str) -> list[TrainingConfig]:
    """For AGG and MLDG alike: each rate at two lengths."""
    return [
        dataclasses.replace(
            REAL.training, method=method, lr=rate, inner_lr=0.2 * rate if method == "mldg" else 0.02, steps=steps,
            seed=seed, sources=SOURCES, data=identity(root), checkpoint_every=steps,
        )
        for seed, steps, rate, method in itertools.product(SEEDS, LENGTHS, RATES, ("agg", "mldg"))
    ]  # fmt: skip


def main() -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root")
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    run_missing(tries(options.root), functools.partial(score, data=options.root), TRIES, COLUMNS, jobs=options.jobs)


if __name__ == "__main__":
    main()
