"""How often advice is right: ``python -m tools.advice_study RUNS [RUNS ...] [--data ROOT]``.

Every finished run in these folders is asked for advice on 32 validation images of every domain, and a row goes to
``docs/advice.csv``: what was advised, from which distances, and the mIoU of following it, M = 4, on the images that
``tools.guard_study`` tests on. Runs that have rows are left out. ``--summary`` prints the tables.
"""

import argparse
import csv
from pathlib import Path

import torch
from torch.utils.data import Subset

from dglab.data.streams import arrival_order, image_batches
from dglab.data.streets.size import StreetsSize
from dglab.evaluation import evaluate
from dglab.testtime import TargetNormalization
from dglab.testtime.advice import advise
from dglab.training.checkpoints import load_checkpoint
from dglab.utils.machine import keep_freed_memory
from tools.advice_tables import tables
from tools.guard_study import finished_runs, opened, reference_of
from tools.write_tables import markdown

TABLE = Path(__file__).parents[1] / "docs" / "advice.csv"
KEY = ("data", "train_method", "left_out", "tested", "train_seed")
COLUMNS = (*KEY, "home", "distance", "even", "odd", "recommendation", "prior", "followed")
ASKED, SCORED, M = 32, 16, 4  # images that advice sees, those of tools.guard_study, and how many go together


def study(run: Path, root: str, done: set[tuple[str, ...]]) -> None:
    """Ask for advice on every domain that has no row yet, and follow it."""
    model, config = load_checkpoint(run / "last.safetensors")
    if isinstance(config.data, StreetsSize) == bool(root):
        return
    name, domains, left = opened(config, root)
    reference = reference_of(run, model, domains, config.sources)
    for letter, domain in domains.items():
        key = (name, config.method, left, letter, str(config.seed))
        if key in done:
            continue
        order = arrival_order(len(domain.val), 0)
        advice = advise(model, image_batches(domain.val, 1, "cpu", order[:ASKED]), reference)
        prior = 1.0 if advice.recommendation in ("source", "undecided") else advice.prior
        follow = TargetNormalization(model, prior=prior)
        miou = evaluate(follow, Subset(domain.val, order[:SCORED]), batch_size=M, resize=True).miou()
        halves = (sum(advice.drift[start::2]) / len(advice.drift[start::2]) for start in (0, 1))
        numbers = (f"{x:.4f}" for x in (reference.home, advice.distance, *halves))
        with open(TABLE, "a", newline="") as file:
            row = [*key, *numbers, advice.recommendation, f"{advice.prior:.4f}", f"{100 * miou:.3f}"]
            csv.writer(file).writerow(row)


def main() -> None:
    """Read the arguments, ask where there is no row yet, and print the tables if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="*")
    parser.add_argument("--data", type=str, default="")
    parser.add_argument("--summary", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    if not TABLE.exists():
        TABLE.write_text(",".join(COLUMNS) + "\n")
    with open(TABLE, newline="") as file:
        done = {tuple(row[name] for name in KEY) for row in csv.DictReader(file)}
    for run in finished_runs(options.runs):
        study(run, options.data, done)
    if options.summary:
        for name, table in tables().items():
            print(f"{name}\n\n{markdown(table())}")


if __name__ == "__main__":
    main()
