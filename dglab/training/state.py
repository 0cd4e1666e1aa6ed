"""The state of a run on its way: saved, so that a killed run goes on where it was, and taken up again."""

import io
import os
import pickle
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from dglab.training.config import TrainingConfig, differences
from dglab.training.distributed import is_writer
from dglab.training.log import LOG
from dglab.utils.errors import InputError
from dglab.utils.files import writing, written_whole

CHECKPOINT, STATE = "last.safetensors", "trainer_state.pt"


class Run(NamedTuple):
    """All of a training that moves from step to step, and with the step's number all that a resumption needs."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler


def save_state(folder: Path, config: TrainingConfig, run: Run, step: int) -> None:
    """Write all that the steps from ``step`` on depend on."""
    with writing(folder / LOG), open(folder / LOG, "rb+") as log:
        os.fsync(log.fileno())  # so that a state never is ahead of the log, whatever the power does
    parts = {name: part.state_dict() for name, part in run._asdict().items()}
    state = {"config": config.to_json(), "step": step, **parts}
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with written_whole(folder / STATE) as beside:  # as bytes, for torch has errors of its own for a full disk
        beside.write_bytes(buffer.getbuffer())


def resume(folder: Path, config: TrainingConfig, run: Run, device: torch.device) -> int:
    """Take up the last saved state, if there is one; the step to go on with."""
    path = folder / STATE
    start = 0
    if path.exists():
        with _resumable(path):
            state = torch.load(path, map_location=device, weights_only=True)  # refuses a pickle with code in it
            found = TrainingConfig.from_json(state["config"])
        refuse_other(path, found, config)
        with _resumable(path):
            for name, part in run._asdict().items():
                part.load_state_dict(state[name])
            start = int(state["step"])
    if is_writer():
        _tidy(folder, start)
    return start


def refuse_other(path: Path, found: TrainingConfig, wanted: TrainingConfig) -> None:
    """Refuse a file of a run with other settings, naming those that differ."""
    if found != wanted:
        raise InputError(
            f"{path} belongs to a run with other settings: {differences(found, wanted)} (there and here); "
            "choose another folder, or the same settings"
        )


def _tidy(folder: Path, start: int) -> None:
    """Remove what a kill may have left: lines of steps that are trained again, and files half written."""
    log = folder / LOG
    kept = log.read_text().splitlines(keepends=True)[:start] if log.exists() else []
    if len(kept) < start:  # not a kill's doing, for the log is on the disk before the state is
        warnings.warn(
            f"{log} has {len(kept)} lines of the {start} steps until {folder / STATE}; the training goes on, and the "
            "log stays without the others",
            stacklevel=2,
        )
    with written_whole(log) as beside:
        beside.write_text("".join(kept))
    for name in (CHECKPOINT, STATE, LOG):
        for half in folder.glob(f".{name}.*.part"):
            half.unlink()


@contextmanager
def _resumable(path: Path) -> Iterator[None]:
    """Inside, whatever a damaged or foreign state does becomes one message."""
    try:
        yield
    except (
        pickle.UnpicklingError, RuntimeError, OSError, EOFError, LookupError, ValueError, TypeError, AttributeError
    ) as error:  # fmt: skip
        unpickling = isinstance(error, pickle.UnpicklingError)  # torch's words advise to run the code in the file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if unpickling:
            reason = "it is no file of tensors and numbers alone, and no other is read"
        raise InputError(f"cannot resume from {path} ({reason}); remove it to start this run anew") from error
