"""What the guarded default gains over source BN, setting by setting, beside TN, fixed priors and comparators.

``python -m tools.guard_study RUNS [RUNS ...] [--data ROOT] [--images 16] [--tests NAME ...] [--photometric]`` tests
every finished run in these folders, on the images of all domains at hand, and appends a row a test to
``docs/guard.csv``; a killed study goes on. ``--summary`` prints the table of worst cases. A setting is (data, training
method, left out, tested, shift, dose, M), the mean over trainings; no method sees a label of what is tested.
"""

import argparse
import csv
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset, Subset

from dglab.data import open_domains
from dglab.data.shifts import SHIFTS, Shifted
from dglab.data.streams import arrival_order
from dglab.data.streets.size import StreetsSize
from dglab.evaluation import evaluate
from dglab.testtime import GuardedNormalization, SourceNormalization, SourceReference, TargetNormalization
from dglab.testtime.comparators import AdaptiveMix, FixedPrior, InstanceAware, MovingStatistics
from dglab.testtime.of_sources import source_reference
from dglab.training.checkpoints import load_checkpoint
from dglab.utils.machine import keep_freed_memory

TABLE = Path(__file__).parents[1] / "docs" / "guard.csv"
SETTING = ("data", "train_method", "left_out", "tested", "shift", "dose", "batch_size")
COLUMNS = (*SETTING, "train_seed", "test", "miou")
CHOICES = ("source BN", "TN", "prior 0.5", "prior 0.8", "prior 0.9")  # the best of which labels could choose
DOSES = (0.25, 0.5, 0.75)


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
    }


def tests(domains: dict[str, Any], images: int, photometric: bool) -> Iterator[tuple[str, str, str, Dataset]]:
    """Letter, shift, dose and the images of every stream."""
    for letter, domain in domains.items():
        few = Subset(domain.val, arrival_order(len(domain.val), 0)[:images])
        yield letter, "", "", few
        if photometric:
            yield from ((letter, shift, str(dose), Shifted(few, shift, dose)) for shift in SHIFTS for dose in DOSES)


def study(run: Path, options: argparse.Namespace, done: set[tuple[str, ...]]) -> None:
    """Test one run in every way that has no row yet."""
    model, config = load_checkpoint(run / "last.safetensors")
    streets = isinstance(config.data, StreetsSize)
    if streets == bool(options.data):
        return
    domains = open_domains(config.data if streets else options.data, True)
    name = "streets" if streets else Path(options.data).name
    left = "+".join(letter for letter in domains if letter not in config.sources)
    reference = functools.cache(lambda: source_reference(model, domains, config.sources))
    methods = predictors(model, reference)
    for letter, shift, dose, dataset in tests(domains, options.images, options.photometric):
        for m in (1, 4):
            setting = (name, config.method, left, letter, shift, dose, str(m), str(config.seed))
            for test in options.tests:
                if (*setting, test) not in done:
                    miou = 100 * evaluate(methods[test](), dataset, batch_size=m).miou()
                    with open(TABLE, "a", newline="") as file:
                        csv.writer(file).writerow([*setting, test, f"{miou:.3f}"])


def summary() -> None:
    """Print the table of worst cases, in points of mIoU over source BN."""
    import pandas as pd

    frame = pd.read_csv(TABLE, keep_default_na=False)
    whole = frame.pivot_table(index=[*SETTING, "train_seed"], columns="test", values="miou")
    for what, by in (("mean of the trainings", list(SETTING)), ("single networks", [*SETTING, "train_seed"])):
        gain = whole.groupby(by).mean()
        gain = gain.sub(gain["source BN"], axis=0)
        best = gain[[choice for choice in CHOICES if choice in gain]].max(axis=1)
        index = gain.index.to_frame()
        kind = index["shift"].where(
            index["shift"] != "", (index["left_out"] == index["tested"]).map({True: "unseen", False: "source"})
        )
        print(what)
        for (data, m, of), part in gain.groupby([index["data"], index["batch_size"], kind]):
            share = (
                100 * part.mean() / best[part.index].mean()
                if best[part.index].mean() > 0
                else part.mean() * float("nan")
            )
            for test in part.columns:
                if part[test].notna().any():
                    print(
                        f"  {data:8} M={m} {of:7} n={len(part):3} {test:24} mean {part[test].mean():+5.2f} "
                        f"({share[test]:4.0f} % of the best) worst {part[test].min():+5.2f}"
                    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="*")
    parser.add_argument("--data", type=str, default="")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--tests", nargs="+", default=[*CHOICES, "guarded"])
    parser.add_argument("--photometric", action="store_true")
    parser.add_argument("--summary", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    if not TABLE.exists():
        TABLE.write_text(",".join(COLUMNS) + "\n")
    with open(TABLE, newline="") as file:
        done = {tuple(row[name] for name in COLUMNS[:-1]) for row in csv.DictReader(file)}
    for folder in options.runs:
        for run in sorted(path.parent for path in folder.glob("*/last.safetensors")):
            study(run, options, done)
    if options.summary:
        summary()


if __name__ == "__main__":
    main()
