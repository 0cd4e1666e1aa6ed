"""Twenty networks of the preset full again, on other instructions: ``python -m tools.record_stability RESULTS``.

Trains and tests, in a results folder of its own, those of the main question on the main task, five seeds each, and
writes their rows beside the recorded ones, seed by seed. To be run with ``ATEN_CPU_CAPABILITY=default
ONEDNN_MAX_CPU_ISA=SSE41``, which every x86-64 processor has; resumes where it was stopped, on another machine after the
last seed that was written.
"""

import argparse
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from dglab.experiments.jobs import instructions
from dglab.experiments.methods import AGG, BY_DOMAIN, MLDG, MLDG_INNER_0
from dglab.experiments.recorded import AGAIN, WHOLE_METRICS, read_recorded, write_recorded
from dglab.experiments.runner import Lab, open_lab
from dglab.experiments.table import tidy
from dglab.experiments.trial import Trial, main_tasks
from dglab.experiments.trials import studies_of

SEEDS = (10, 11, 12, 13, 14)
METHODS = (MLDG, AGG, BY_DOMAIN, MLDG_INNER_0)  # that with the most tests first: two cores then end together
STUDIES = ("ablation", "arrival_orders", "batch_size", "source_and_target", "adabn", "meta_split")


def chosen(lab: Lab) -> list[Trial]:
    """The trials: the main methods' networks on the main task, each with the tests of the claims that rest on it."""
    [task] = main_tasks(lab)
    networks = [lab.training(task.sources, seed, **method.settings) for seed in SEEDS for method in METHODS]
    trials = [trial for name in STUDIES for trial in studies_of(lab)[name](lab) if trial.task == task]
    return [trial for network in networks for trial in trials if trial.training == network]


def add(lab: Lab, trials: Sequence[Trial], path: Path) -> None:
    """Run all trials of one seed and write their rows beside those of other seeds; nothing, if they are there.

    Args:
        lab: to run them in.
        trials: with the same seed of training.
        path: of the record, which may be missing.
    """
    [seed] = {trial.training.seed for trial in trials}
    frames = [read_recorded(path)] if path.exists() else []
    of_seed = [frame[frame["train_seed"] == seed] for frame in frames]
    if sum((rows["metric"] == "miou").sum() for rows in of_seed) == len(trials):
        return
    others = [frame[frame["train_seed"] != seed] for frame in frames]
    own = tidy(lab, lab.results(trials))
    write_recorded(pd.concat([*others, own[own["metric"].isin(WHOLE_METRICS)]], ignore_index=True), path)


def main() -> None:
    """Run them, and write their rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--jobs", type=int)
    options = parser.parse_args()
    if instructions() != "DEFAULT" or os.environ.get("ONEDNN_MAX_CPU_ISA") != "SSE41":
        raise SystemExit(
            f"torch uses {instructions()} here; set ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 to run the "
            "networks on other instructions than the recorded ones"
        )
    lab = open_lab("full", results=options.results, use_shipped=False, device="cpu")
    lab = dataclasses.replace(lab, jobs=options.jobs)
    trials = chosen(lab)
    for seed in SEEDS:
        add(lab, [trial for trial in trials if trial.training.seed == seed], AGAIN)


if __name__ == "__main__":
    main()
