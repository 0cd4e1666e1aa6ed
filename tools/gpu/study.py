"""Steps draw, choose, study: the preset at the size that time allows, its rates chosen on the sources' validation."""

import functools
import math
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from dglab.data import open_domains
from dglab.data.streets import SPLITS
from dglab.data.streets.kept import draw, kept_path
from dglab.evaluation import evaluate
from dglab.experiments.jobs import in_parallel
from dglab.experiments.record import describe_machine, write_networks
from dglab.experiments.recorded import WHOLE_METRICS, read_recorded, write_recorded
from dglab.experiments.runner import Lab
from dglab.experiments.table import LABELS, labels_of, tidy
from dglab.experiments.trials import Trial, ablation, adabn, main_tasks, source_and_target
from dglab.testtime import SourceNormalization
from dglab.training import TrainingConfig, train
from dglab.training.checkpoints import load_checkpoint
from dglab.utils.errors import InputError
from tools.gpu.plan import Book
from tools.gpu.tables import add_rows, read_rows

SOURCES = ("G", "S", "I", "M")
TRIED = ("agg", "mldg")  # the controls take the rates of theirs
RATIO = 5  # of the outer learning rate to the inner one, the paper's
OF_TRY = ("method", "backbone", "precision", "steps", "batch_per_domain", "lr", "inner_lr", "seed")
TRY = "network"  # its address, which changes with every setting: what a try is known by
TRY_COLUMNS = ("machine", *OF_TRY, TRY, *SOURCES, "mean", "seconds", "note")
STUDIES = (ablation, source_and_target, adabn)  # those whose networks the main task has trained anyway
TABLE, NETWORKS = "study.csv", "networks.csv"


def draw_scenes(book: Book) -> bool:
    """Draw all scenes once, on all cores, for the processes that load them.

    Returns:
        Whether all are drawn: True, for a kill costs no more than the parts in flight.
    """
    size = book.lab().preset.streets
    parts = [(letter, split) for split in SPLITS for letter in open_domains(size)]
    missing = [part for part in parts if not kept_path(book.drawn, size, *part).exists()]
    workers = 0 if torch.device(book.device).type == "cpu" else None  # a few scenes, or one part a core
    for _ in in_parallel(functools.partial(_draw, book), missing, workers):
        pass
    return True


def _draw(book: Book, part: tuple[str, str]) -> None:
    draw(book.lab().preset.streets, *part, book.drawn)


# ------------------------------------------------------------------------------------------------------ tries


def tries(book: Book) -> list[TrainingConfig]:
    """Each rate, for AGG and for MLDG alike."""
    lab = book.lab()
    return [
        lab.training(SOURCES, book.plan.try_seed, method=method, lr=lr, inner_lr=lr / RATIO)
        for lr in book.plan.rates
        for method in TRIED
    ]


def choose_rates(book: Book) -> bool:
    """Run the tries that have no row in ``tries.csv`` yet.

    Returns:
        Whether all are there: False where time ran out before.
    """
    path = book.out / "tries.csv"
    done = {row[TRY] for row in read_rows(path)}
    missing = [config for config in tries(book) if config.address not in done]
    made = 0
    for row in in_parallel(functools.partial(_try, book), missing, book.plan.at_once):
        if row is not None:
            print(f"{row['method']}, lr {row['lr']}: {row['mean']} {row['note']}, {row['seconds']} s", flush=True)
            add_rows(path, TRY_COLUMNS, [row], [TRY])
            made += 1
    return made == len(missing)


def _try(book: Book, config: TrainingConfig) -> dict[str, str] | None:
    """The row of one try; None where it would not end in time."""
    if book.seconds_left < max(30, 1.2 * longest_try(book)):
        return None
    start = time.monotonic()
    scores = score(book, config)
    settings = {name: str(getattr(config, name)) for name in OF_TRY}
    seconds = f"{time.monotonic() - start:.0f}"
    return {"machine": describe_machine(book.device), **settings, TRY: config.address, **scores, "seconds": seconds}


def longest_try(book: Book) -> float:
    """Seconds that the slowest try so far has taken."""
    return max((float(row["seconds"]) for row in read_rows(book.out / "tries.csv")), default=0.0)


def score(book: Book, config: TrainingConfig) -> dict[str, str]:
    """Train, and score under source BN on the validation images of each source; one that diverges has no score."""
    domains = open_domains(config.data, drawn=book.drawn)
    try:
        checkpoint = train(config, domains, book.work / "tries" / config.address, device=book.device, progress=False)
    except InputError as error:
        if "diverged" not in str(error):
            raise
        return {**dict.fromkeys((*SOURCES, "mean"), "nan"), "note": "diverged"}
    predictor = SourceNormalization(load_checkpoint(checkpoint, book.device)[0])
    found = [evaluate(predictor, domains[letter].val, device=book.device).miou() for letter in SOURCES]
    by_source = {letter: f"{100 * miou:.2f}" for letter, miou in zip(SOURCES, found, strict=True)}
    return {**by_source, "mean": f"{100 * np.mean(found):.2f}", "note": ""}


def chosen_rates(book: Book) -> dict[str, dict[str, float]]:
    """The best of the tries: AGG's rate for all but MLDG and its like, which take MLDG's.

    Raises:
        InputError: while tries are missing, or if all of a method have diverged.
    """
    rows = {row[TRY]: float(row["mean"]) for row in read_rows(book.out / "tries.csv")}
    best: dict[str, dict[str, float]] = {}
    for method in TRIED:
        found = {}
        for config in tries(book):
            if config.method == method:
                if config.address not in rows:
                    raise InputError(f"{book.out}/tries.csv lacks {method} at lr {config.lr}; run the step choose")
                found[config.lr, config.inner_lr] = rows[config.address]
        finite = {rates: mean for rates, mean in found.items() if math.isfinite(mean)}
        if not finite:
            raise InputError(f"every try of {method} has diverged; put smaller rates into tools/gpu/plan.py")
        best[method] = dict(zip(("lr", "inner_lr"), max(finite, key=finite.__getitem__), strict=True))
    own = {"mldg": best["mldg"], "mldg_mean": best["mldg"], "projected": {"lr": best["mldg"]["lr"]}}
    return {"agg": best["agg"], **own}


# ------------------------------------------------------------------------------------------------------ study


def networks_of(lab: Lab) -> list[list[Trial]]:
    """The trials of the study by network, first seeds first."""
    groups: dict[TrainingConfig, list[Trial]] = {}
    for trial in dict.fromkeys(trial for study in STUDIES for trial in study(lab)):
        if trial.task in main_tasks(lab):
            groups.setdefault(trial.training, []).append(trial)
    return sorted(groups.values(), key=lambda group: group[0].training.seed)


def run_study(book: Book) -> bool:
    """Train and test the networks that ``study.csv`` does not hold with all their tests yet.

    Returns:
        Whether all are there: False where time ran out before.

    Raises:
        ExceptionGroup: of what went wrong with single networks; those that were made beside them are kept.
    """
    lab = book.lab(chosen_rates(book))
    table, networks = book.out / TABLE, book.out / NETWORKS
    known = read_recorded(table) if table.exists() else None
    missing = [group for group in networks_of(lab) if not _is_known(lab, group, known)]
    done = {row["network"] for row in read_rows(networks)}
    made, failed = 0, []
    for address, found in in_parallel(functools.partial(_network, book, lab), missing, book.plan.at_once):
        if isinstance(found, Exception):
            found.add_note(f"in the network {address}")
            failed.append(found)
        elif found is not None:
            add_to_record(found, table)
            done.add(address)
            write_networks(lab.out / "scores", networks, done)  # last: what stands here is in the table
            print(f"{address} is trained and tested", flush=True)
            made += 1
    if failed:
        raise ExceptionGroup(f"{len(failed)} of {len(missing)} networks failed", failed)
    return made == len(missing)


def _is_known(lab: Lab, group: list[Trial], known: pd.DataFrame | None) -> bool:
    """Whether a table holds all tests of a network."""
    if known is None:
        return False
    wanted = labels_of(lab, group)[LABELS]
    return len(known[known["metric"] == "miou"].merge(wanted, on=LABELS)) == len(wanted)


def _network(book: Book, lab: Lab, group: list[Trial]) -> tuple[str, pd.DataFrame | Exception | None]:
    """The address of a network, and its rows, what went wrong, or None where it would not end in time."""
    address = group[0].training.address
    if book.seconds_left < max(30, 1.1 * longest_network(book)):
        return address, None
    try:
        frame = tidy(lab, lab.results(group))
    except Exception as error:  # raised by the caller, once the networks beside it have ended
        return address, error
    return address, frame[frame["metric"].isin(WHOLE_METRICS)]


def longest_network(book: Book) -> float:
    """Seconds that the slowest network so far has taken, or one and a half times the slowest try if that is more.

    A network is tested in more ways than a try; and one that had the device for itself says little of four at once.
    """
    rows = read_rows(book.out / NETWORKS)
    spent = (sum(float(row[f"seconds_{what}"] or 0) for what in ("training", "testing")) for row in rows)
    return max([1.5 * longest_try(book), *spent])


def add_to_record(frame: pd.DataFrame, table: Path) -> None:
    """Write the rows of a network beside those that are recorded already."""
    known = [read_recorded(table)] if table.exists() else []
    both = pd.concat([*known, frame], ignore_index=True).drop_duplicates(
        [column for column in frame.columns if column != "value"], keep="last"
    )
    write_recorded(both, table)


def summary(book: Book) -> str:
    """Mean mIoU by training and test method and domain, as a table for the eye."""
    frame = read_recorded(book.out / TABLE)
    by = frame[frame["metric"] == "miou"].groupby(["domain_evaluated", "method", "batch_size"], dropna=False)
    return by.agg(miou=("value", "mean"), trainings=("train_seed", "nunique")).round(1).to_string()
