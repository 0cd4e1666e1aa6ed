"""The record of a run and of each network: machine, versions, instructions, and the time it took."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from dglab.experiments.jobs import instructions
from dglab.experiments.recorded import SHIPPED
from dglab.training.config import TrainingConfig
from dglab.utils.errors import InputError
from dglab.utils.files import read_json, written_whole
from dglab.utils.machine import describe_machine, versions

if TYPE_CHECKING:
    from dglab.experiments.runner import Lab

NETWORK = "network.json"


def describe_run(
    lab: Lab,
    minutes: float,
    reused: int = 0,
    places: Mapping[str, int] | None = None,
    impossible: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The content of ``run.json``: the machine, versions, preset and data behind the table beside it.

    Args:
        lab: where the table was made.
        minutes: how long this call took, whether training was reused or not.
        reused: how many of its results were made elsewhere and ship with the package, see
            :attr:`dglab.experiments.runner.Lab.reuse_recorded`.
        places: where how many of its networks were trained or tested, see :func:`made_on`.
        impossible: the studies that these data do not allow, and what they need.
    """
    identity = lab.identity
    return {
        "machine": describe_machine(lab.device),
        "versions": versions(),
        "reused": reused,
        "made_on": dict(places or {}),
        "impossible": dict(impossible or {}),
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
    """Record where a network was trained and tested, and how long that took.

    The machine that is named is the one that has trained, or else the first; tests elsewhere are noted beside it.

    Args:
        folder: of its scores.
        device: where it was made.
        seconds: by activity (training, testing): CPU time, or wall-clock time on a GPU; added up over calls.
    """
    path = folder / NETWORK
    known = _read_note(path) if path.exists() else {}
    spent = known.get("seconds", {})
    here = {"machine": describe_machine(device), "instructions": instructions(), "versions": versions()}
    first = here if "training" in seconds else {name: known.get(name, here[name]) for name in here}
    places = known.get("places", [first])
    known = {
        **first,
        "seconds": spent | {what: round(spent.get(what, 0.0) + one, 1) for what, one in seconds.items()},
        "places": places if here in places else [*places, here],
    }
    with written_whole(path) as beside:
        beside.write_text(json.dumps(known), encoding="utf-8")


def _read_note(path: Path) -> dict[str, Any]:
    note = read_json(path)
    if not isinstance(note, dict) or not note.keys() >= {"machine", "instructions", "versions", "seconds"}:
        raise InputError(
            f"{path} does not say where its network was made; remove it, and the machine of the next test is named"
        )
    return note


def made_on(scores: Path, names: Collection[str]) -> dict[str, int]:
    """How many networks were trained or tested on which machine, with which instructions and versions.

    Args:
        scores: the folder of a lab that has a folder of scores for each network.
        names: of the networks that are meant.
    """
    notes = [_read_note(path) for name in sorted(names) if (path := scores / name / NETWORK).exists()]
    places = [place for note in notes for place in note.get("places", [note])]
    return dict(
        Counter(
            f"{place['machine']} with {place['instructions']}, torch {place['versions']['torch']}, "
            f"dglab {place['versions']['dglab']}"
            for place in places
        ).most_common()
    )


def write_networks(scores: Path, path: Path, names: Collection[str] | None = None) -> None:
    """Write where each network was made and how long it took as a table; what it holds of other networks stays.

    Args:
        scores: the folder of a lab that has a folder of scores for each network.
        path: of the table.
        names: of the networks that the table may hold; None takes all.
    """
    rows = {row["network"]: row for row in pd.read_csv(path).to_dict("records")} if path.exists() else {}
    for note in scores.glob(f"*/{NETWORK}"):
        if names is not None and note.parent.name not in names:
            continue  # perhaps one that is trained and not tested yet
        known = _read_note(note)
        rows[note.parent.name] = {
            "network": note.parent.name, "train_method": _method(note.parent),
            "machine": known["machine"], "instructions": known["instructions"],
            **{name: known["versions"][name] for name in ("python", "torch", "dglab")},
            **{f"seconds_{what}": known["seconds"].get(what) for what in ("training", "testing")},
        }  # fmt: skip
    held = [rows[name] for name in sorted(rows) if names is None or name in names]  # none of settings that are no more
    with written_whole(path) as beside:
        pd.DataFrame(held).to_csv(beside, index=False)


def _method(scores: Path) -> str:
    """The training method of a network, from one of its scores."""
    return read_json(next(path for path in scores.glob("*.json") if path.name != NETWORK))["training"]["method"]


def expected_hours(networks: pd.DataFrame | None, missing: Collection[TrainingConfig], jobs: int) -> float | None:
    """How long networks will take to train and to test, estimated from recorded networks of the same method.

    Args:
        networks: the record of networks, see :func:`recorded_networks`; None if there is none.
        missing: the trainings of these networks.
        jobs: how many run at a time.

    Returns:
        Hours; None without recorded networks.
    """
    if networks is None or not len(networks):
        return None
    seconds = networks[["seconds_training", "seconds_testing"]].sum(axis=1)
    by_method = seconds.groupby(networks["train_method"]).mean()
    return sum(by_method.get(training.method, seconds.mean()) for training in missing) / jobs / 3600


def recorded_networks(preset: str) -> pd.DataFrame | None:
    """The recorded networks of a preset, one row each, see :func:`write_networks`; None if there is no record."""
    path = SHIPPED / preset / "networks.csv"
    return pd.read_csv(path) if path.exists() else None
