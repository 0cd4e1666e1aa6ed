"""The state of an unfinished run: saved now and then, and loaded to resume the run."""

import io
import os
import pickle
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from dglab.training.config import TrainingConfig, differences
from dglab.training.distributed import is_writer
from dglab.training.log import LOG
from dglab.utils.errors import InputError
from dglab.utils.files import check_file, locked, read_text, writing, written_whole

CHECKPOINT, STATE = "last.safetensors", "trainer_state.pt"


class Run(NamedTuple):
    """All that changes from step to step; together with the step's number, all that is needed to resume."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler


@contextmanager
def own_folder(folder: Path) -> Iterator[None]:
    """Within the block, the folder of a run exists and is locked: no other run can train in it.

    Raises:
        InputError: if another run trains in it, or it cannot be written to.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(folder) if is_writer() else nullcontext():
        yield


def save_state(folder: Path, config: TrainingConfig, run: Run, step: int) -> None:
    """Save all that the steps from ``step`` on depend on."""
    with writing(folder / LOG), open(folder / LOG, "rb+") as log:
        os.fsync(log.fileno())  # so that the state is never ahead of the log, even after a power failure
    parts = {name: part.state_dict() for name, part in run._asdict().items()}
    state = {"config": config.to_json(), "step": step, **parts}
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with written_whole(folder / STATE) as beside:  # as bytes: torch.save raises errors of its own for a full disk
        beside.write_bytes(buffer.getbuffer())


def resume(folder: Path, config: TrainingConfig, run: Run, device: torch.device) -> int:
    """Load the last saved state into ``run``, if there is one.

    Returns:
        The step to continue with; 0 without a saved state.

    Raises:
        InputError: for a state of other settings, or one that is damaged.
    """
    path = folder / STATE
    start = 0
    if os.path.lexists(path):
        with _resumable(path):
            check_file(path)
            state = torch.load(path, map_location=device, weights_only=True)  # refuses a pickle with code in it
            found = TrainingConfig.from_json(state["config"])
        refuse_other(path, found, config)
        with _resumable(path):
            start = _take_up(state, config, run)
    if is_writer():
        _tidy(folder, start)
    return start


def _take_up(state: dict[str, Any], config: TrainingConfig, run: Run) -> int:
    """Load an untrusted state into a run: what can be derived from the settings is not read, the rest is checked.

    Raises:
        ValueError: or another error, for a state that no training has written; ``run`` must not be used then.
    """
    step = state["step"]
    if type(step) is not int or not 0 < step < config.steps:
        raise ValueError(f"its step is {step!r}, expected a whole number from 1 to {config.steps - 1}")
    _check_tensors(state["model"])
    run.model.load_state_dict(state["model"])
    given, fresh = state["optimizer"], run.optimizer.state_dict()
    [rate] = {group["lr"] for group in given["param_groups"]}
    if not (isinstance(rate, float) and 0 <= rate <= config.lr):
        raise ValueError(f"its learning rate is {rate!r}, expected a number from 0 to {config.lr}")
    parameters = [parameter for group in run.optimizer.param_groups for parameter in group["params"]]
    for number, kept in given["state"].items():
        if kept.keys() != {"momentum_buffer"}:
            raise ValueError(f"its optimizer keeps {', '.join(kept)}, expected momentum_buffer")
        if number not in range(len(parameters)):
            raise ValueError(f"its optimizer has momentum for parameter {number!r}, which the network does not have")
        momentum = kept["momentum_buffer"]
        if momentum is not None and momentum.shape != parameters[number].shape:
            raise ValueError(f"a momentum is {tuple(momentum.shape)}, expected {tuple(parameters[number].shape)}")
        _check_tensors({f"momentum {number}": momentum} if momentum is not None else {})
    groups = [{**group, "lr": rate} for group in fresh["param_groups"]]
    run.optimizer.load_state_dict({"state": given["state"], "param_groups": groups})
    counts = {"last_epoch": step, "_step_count": step + 1, "_last_lr": [rate] * len(groups)}
    run.schedule.load_state_dict({**run.schedule.state_dict(), **counts})
    return step


def _check_tensors(tensors: dict[str, torch.Tensor]) -> None:
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ValueError(f"{name} holds numbers that are not finite")


def refuse_other(path: Path, found: TrainingConfig, wanted: TrainingConfig) -> None:
    """Refuse a file of a run with other settings, naming those that differ."""
    if found != wanted:
        raise InputError(
            f"{path} belongs to a run with other settings: {differences(found, wanted)} (there and here); "
            "choose another folder, or the same settings"
        )


def _tidy(folder: Path, start: int) -> None:
    """Remove what a killed run may have left: log lines of steps that will be repeated, and partly written files."""
    log = folder / LOG
    kept = read_text(log, empty=True).splitlines(keepends=True)[:start] if os.path.lexists(log) else []
    if len(kept) < start:  # not because of a kill: the log is on disk before the state is
        warnings.warn(
            f"{log} has {len(kept)} lines of the {start} steps until {folder / STATE}; the training continues, and "
            "the others stay missing",
            stacklevel=2,
        )
    with written_whole(log) as beside:
        beside.write_text("".join(kept))
    for name in (CHECKPOINT, STATE, LOG):
        for half in folder.glob(f".{name}.*.part"):
            half.unlink()


@contextmanager
def _resumable(path: Path) -> Iterator[None]:
    """Within the block, any error that a damaged or foreign state causes becomes an InputError that names it."""
    try:
        yield
    except Exception as error:  # torch raises nearly anything on damaged files
        unpickling = isinstance(error, pickle.UnpicklingError)  # torch's message advises to run the file's code
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        if unpickling:
            reason = "it contains Python objects other than tensors and numbers, which are not loaded"
        raise InputError(f"cannot resume from {path} ({reason}); remove it to start this run again") from error
