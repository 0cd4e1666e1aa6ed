"""What the guarded default gains over source BN, setting by setting, beside TN, fixed priors and comparators.

``python -m tools.guard_study RUNS [RUNS ...] [--data ROOT] [--images 16] [--tests NAME ...] [--tested LETTER ...]
[--unseen] [--photometric]`` tests every finished run in these folders, on the images of all domains at hand, those
named, or those left out, and appends a row a test to ``docs/guard.csv``; a killed study goes on. ``--summary`` prints
the tables of worst cases (:mod:`tools.guard_tables`), ``--figure`` draws the doses. No method sees a label of what is
tested.
"""

import argparse
import csv
import functools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset, Subset

from dglab.data import open_domains
from dglab.data.domains import Domain
from dglab.data.shifts import Shifted
from dglab.data.streams import arrival_order
from dglab.data.streets.size import StreetsSize
from dglab.evaluation import evaluate
from dglab.report.figures import gain_over_dose
from dglab.testtime import (
    GuardedNormalization,
    ImageBank,
    SourceNormalization,
    SourceReference,
    TargetNormalization,
)
from dglab.testtime.comparators import AdaptiveMix, EntropyWeighted, FixedPrior, InstanceAware, MovingStatistics
from dglab.testtime.of_sources import REFERENCE, source_reference
from dglab.training import TrainingConfig
from dglab.training.checkpoints import load_checkpoint
from dglab.training.state import CHECKPOINT
from dglab.utils.machine import keep_freed_memory
from tools.guard_tables import CHOICES, DOCS, SETTING, doses, tables
from tools.write_tables import markdown

TABLE = DOCS / "guard.csv"
COLUMNS = (*SETTING, "train_seed", "test", "miou")
ONE_BY_ONE = ("SIB",)  # takes images as they come: M = 1 alone
SHIFTS, DOSES = ("dark", "haze", "flat"), (0.25, 0.5, 0.75)


def predictors(model: nn.Module, reference: Callable[[], SourceReference]) -> dict[str, Callable[[], Any]]:
    """Every method of the table, made afresh for each stream."""
    return {
        "source BN": lambda: SourceNormalization(model),
        "TN": lambda: TargetNormalization(model),
        **{f"prior {p}": lambda p=p: TargetNormalization(model, prior=p) for p in (0.5, 0.8, 0.9)},
        "guarded": lambda: GuardedNormalization(model, reference()),
        "prior 0.8, cross term": lambda: FixedPrior(model, 0.8, cross_term=True),
        "moving (DUA)": lambda: MovingStatistics(model),
        "instance-aware (IABN)": lambda: InstanceAware(model),
        "adaptive mix (AdaMixBN)": lambda: AdaptiveMix(model),
        "entropy-weighted (InTEnt)": lambda: EntropyWeighted(model),
        "SIB": lambda: ImageBank(model, statistics="cached"),
    }


def reference_of(run: Path, model: nn.Module, domains: dict[str, Domain], sources: tuple[str, ...]) -> SourceReference:
    """What lies beside the run's checkpoint, measured and put there if nothing does."""
    path = run / REFERENCE
    if not path.exists():
        source_reference(model, domains, sources).save(path)
    return SourceReference.load(path)


def finished_runs(folders: Iterable[Path]) -> list[Path]:
    """The folders of all finished runs anywhere below these, as ``tools.guard_train`` leaves them.

    Raises:
        SystemExit: for a folder without any.
    """
    found = []
    for folder in folders:
        below = sorted(path.parent for path in folder.rglob(CHECKPOINT))
        if not below:
            raise SystemExit(f"there is no finished run ({CHECKPOINT}) in {folder} or below it")
        found += below
    return found


def opened(config: TrainingConfig, root: str) -> tuple[str, dict[str, Domain], str]:
    """The name of a run's data, its domains, and the letters that it did not train on."""
    domains = open_domains(root or config.data, in_memory=True)
    left = "+".join(letter for letter in domains if letter not in config.sources)
    return Path(root).name if root else "streets", domains, left


def tests(domains: dict[str, Domain], images: int, photometric: bool) -> Iterator[tuple[str, str, str, Dataset]]:
    """Letter, shift, dose and the images of every stream."""
    for letter, domain in domains.items():
        few = Subset(domain.val, arrival_order(len(domain.val), 0)[:images])
        yield letter, "", "", few
        if photometric:
            yield from ((letter, shift, str(dose), Shifted(few, shift, dose)) for shift in SHIFTS for dose in DOSES)


def study(run: Path, options: argparse.Namespace, done: set[tuple[str, ...]]) -> None:
    """Test one run in every way that has no row yet."""
    model, config = load_checkpoint(run / CHECKPOINT)
    if isinstance(config.data, StreetsSize) == bool(options.data):
        return
    name, domains, left = opened(config, options.data)
    methods = predictors(model, functools.cache(lambda: reference_of(run, model, domains, config.sources)))
    wanted = {
        letter: domain
        for letter, domain in domains.items()
        if (not options.tested or letter in options.tested) and not (options.unseen and letter in config.sources)
    }
    for letter, shift, dose, dataset in tests(wanted, options.images, options.photometric):
        for m in options.batch_sizes:
            setting = (name, config.method, left, letter, shift, dose, str(m), str(config.seed))
            for test in options.tests:
                if (*setting, test) not in done and not (m > 1 and test in ONE_BY_ONE):
                    miou = 100 * evaluate(methods[test](), dataset, batch_size=m, resize=True).miou()
                    with open(TABLE, "a", newline="") as file:
                        csv.writer(file).writerow([*setting, test, f"{miou:.3f}"])


def summary() -> None:
    """Print the tables of worst cases as the documents have them."""
    for name, table in tables().items():
        print(f"{name}\n\n{markdown(table())}")


def main() -> None:
    """Read the arguments, test what has no row yet, and print or draw what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="*")
    parser.add_argument("--data", type=str, default="")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--tests", nargs="+", default=[*CHOICES, "guarded"])
    parser.add_argument("--tested", nargs="+", default=[], help="letters; default all")
    parser.add_argument("--unseen", action="store_true", help="the domains left out alone")
    parser.add_argument("--photometric", action="store_true")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--summary", action="store_true")
    parser.add_argument("--figure", action="store_true", help="draw docs/guard_doses.png")
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    if not TABLE.exists():
        TABLE.write_text(",".join(COLUMNS) + "\n")
    with open(TABLE, newline="") as file:
        done = {tuple(row[name] for name in COLUMNS[:-1]) for row in csv.DictReader(file)}
    for run in finished_runs(options.runs):
        study(run, options, done)
    if options.summary:
        summary()
    if options.figure:
        gain_over_dose(doses()).savefig(DOCS / "guard_doses.png")


if __name__ == "__main__":
    main()
