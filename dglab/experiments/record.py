"""What results were made on: of a run as a whole, and of each network."""

from __future__ import annotations

import dataclasses
import json
import platform
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from dglab import __version__
from dglab.experiments.jobs import instructions
from dglab.experiments.recorded import SHIPPED
from dglab.training.config import TrainingConfig
from dglab.utils.files import read_json, written_whole
from dglab.utils.machine import usable_cpus

if TYPE_CHECKING:
    from dglab.experiments.runner import Lab

NETWORK = "network.json"


def versions() -> dict[str, str]:
    """Of what computes."""
    return {"dglab": __version__, "python": platform.python_version(), "torch": torch.__version__}


def describe_machine(device: str) -> str:
    """What the numbers were made on."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{usable_cpus()} CPU cores ({_processor()})"


def describe_run(lab: Lab, minutes: float) -> dict[str, Any]:
    """The content of ``run.json``: the machine, versions, preset and data behind the table beside it.

    Args:
        lab: where the table was made.
        minutes: how long this call took, whether training was reused or not.
    """
    identity = lab.identity
    return {
        "machine": describe_machine(lab.device),
        "versions": versions(),
        "minutes": round(minutes, 2),
        "preset": {"name": lab.preset.name, "about": lab.preset.about},
        "data": {
            "name": lab.data_name,
            "identity": identity if isinstance(identity, str) else dataclasses.asdict(identity),
        },
        "domains": lab.names,
        "train_seeds": lab.preset.train_seeds,
        "test_seeds": lab.preset.test_seeds,
    }


def note_network(folder: Path, device: str, **seconds: float) -> None:
    """Add to what is known of a network: where it was made, and how long each part of the work took.

    Args:
        folder: of its scores.
        device: where it was made.
        seconds: of processor time, beside a GPU of the clock, by what took them (training, testing); added up over
            calls.
    """
    path = folder / NETWORK
    known: dict[str, Any] = read_json(path) if path.exists() else {}
    spent = known.get("seconds", {})
    known = {
        "machine": describe_machine(device), "instructions": instructions(), "versions": versions(),
        "seconds": spent | {what: round(spent.get(what, 0.0) + one, 1) for what, one in seconds.items()},
    }  # fmt: skip
    with written_whole(path) as beside:
        beside.write_text(json.dumps(known), encoding="utf-8")


def write_networks(scores: Path, path: Path, names: Collection[str] | None = None) -> None:
    """Where each network was made and how long it took, as a table; rows that it has already of others stay.

    Args:
        scores: the folder with a folder of scores for each network, as a lab leaves them.
        path: of the table.
        names: of the networks that it is about; None takes all.
    """
    rows = {row["network"]: row for row in pd.read_csv(path).to_dict("records")} if path.exists() else {}
    for note in sorted(scores.glob(f"*/{NETWORK}")):
        if names is not None and note.parent.name not in names:
            continue
        known = read_json(note)
        rows[note.parent.name] = {
            "network": note.parent.name, "train_method": _method(note.parent),
            "machine": known["machine"], "instructions": known["instructions"],
            "torch": known["versions"]["torch"], "dglab": known["versions"]["dglab"],
            **{f"seconds_{what}": known["seconds"].get(what) for what in ("training", "testing")},
        }  # fmt: skip
    with written_whole(path) as beside:
        pd.DataFrame(sorted(rows.values(), key=lambda row: row["network"])).to_csv(beside, index=False)


def _method(scores: Path) -> str:
    """The training method of a network, from one of its scores."""
    return read_json(next(path for path in scores.glob("*.json") if path.name != NETWORK))["training"]["method"]


def expected_hours(networks: pd.DataFrame | None, missing: Collection[TrainingConfig], jobs: int) -> float | None:
    """How long networks will take to train and to test, by those of the same method that are recorded.

    Args:
        networks: the record of networks, see :func:`recorded_networks`; None if there is none.
        missing: what is to be trained and tested.
        jobs: at a time.

    Returns:
        Hours; None where nothing is recorded to go by.
    """
    if networks is None or not len(networks):
        return None
    seconds = networks[["seconds_training", "seconds_testing"]].sum(axis=1)
    by_method = seconds.groupby(networks["train_method"]).mean()
    return sum(by_method.get(training.method, seconds.mean()) for training in missing) / jobs / 3600


def recorded_networks(preset: str) -> pd.DataFrame | None:
    """Where and how long each network of a recorded study was made: a row each; None if there is no record."""
    path = SHIPPED / preset / "networks.csv"
    return pd.read_csv(path) if path.exists() else None


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        return models[0] if models else platform.machine()
    return platform.processor() or platform.machine()
