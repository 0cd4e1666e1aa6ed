"""The loop around one training step: data, schedule, checkpoints, log, progress."""

import io
import math
import os
import pickle
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.utils import get_total_norm
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from dglab.data import Domain
from dglab.data.augmentation import training_augmentation
from dglab.data.batches import MultiDomainBatches
from dglab.models import BACKBONES, build_model
from dglab.models.weights import check_weights, starting_weights
from dglab.training.checkpoints import read_config, save_checkpoint
from dglab.training.config import TrainingConfig, differences
from dglab.training.distributed import is_writer, rank, sum_over_processes, wait_for_all, world_size
from dglab.training.execution import check_execution, prepare
from dglab.training.losses import Losses, cross_entropy, trainable
from dglab.training.methods import METHODS, OPTIONS, split_sizes, to_device
from dglab.training.mldg import check_variant
from dglab.training.watching import LOG, Line, log_line, recording, show
from dglab.utils.errors import InputError
from dglab.utils.files import writing, written_whole
from dglab.utils.machine import usable_cpus
from dglab.utils.seeds import derive_seed

CHECKPOINT, STATE = "last.safetensors", "trainer_state.pt"
SANE = 1e10  # no weight or running statistic of a network that learns comes near


class Run(NamedTuple):
    """All of a training that moves from step to step, and with the step's number all that a resumption needs."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler

    @classmethod
    def of(cls, model: nn.Module, config: TrainingConfig) -> "Run":
        """A run at its beginning: SGD and the paper's poly schedule."""
        optimizer = torch.optim.SGD(
            model.parameters(), config.lr, momentum=config.momentum, weight_decay=config.weight_decay
        )
        return cls(model, optimizer, torch.optim.lr_scheduler.PolynomialLR(optimizer, config.steps, config.power))


def training_batches(
    config: TrainingConfig, domains: Mapping[str, Domain], *, seed: int, steps: int, part: tuple[int, int] = (0, 1)
) -> MultiDomainBatches:
    """The batches of a run: augmented crops of all its source domains; see there for ``part``."""
    transform = training_augmentation(config.crop, config.scale, config.blur)
    sources = [domains[letter].train for letter in config.sources]
    return MultiDomainBatches(sources, config.batch_per_domain, steps, transform, seed, part)


def train(
    config: TrainingConfig,
    domains: Mapping[str, Domain],
    folder: Path,
    *,
    device: torch.device | str = "cpu",
    workers: int | None = None,
    progress: bool = True,
    weights_file: Path | None = None,
    tensorboard: bool = False,
    on_log: Callable[[Line], None] | None = None,
) -> Path:
    """Train one network and return its last checkpoint, which is the result: nothing is selected.

    A finished run is returned as it is; an interrupted one goes on from its last state and ends with the same bits
    as if it had never stopped (on the same CPU and number of threads).

    In a process group (``torchrun``) every process calls this, and each trains on its part of every batch. Losses and
    gradients are those of the whole batch; process 0 writes the files, with its own running statistics, as torch's
    DistributedDataParallel does.

    Args:
        config: what to train.
        domains: by letter; all of ``config.sources`` among them.
        folder: gets ``last.safetensors`` when finished, ``trainer_state.pt`` on the way, and ``log.jsonl``.
        device: where to train.
        workers: processes that load data; 0 loads in this one, None takes a few beside a GPU and 0 else. The result
            does not depend on it.
        progress: show a bar with losses, learning rate and speed.
        weights_file: where the weights lie that ``config.weights`` names by their digest.
        tensorboard: write TensorBoard's curves, too, into ``tensorboard`` in the folder; needs the package.
        on_log: called after each step with its line of the log: step, lr, ds, dg, total (None where there is none).

    Raises:
        InputError: for settings that do not fit, a folder with another run or that cannot be written to, a loss, a
            gradient or weights that leave all bounds, or a process that loads data and dies.
    """
    check_fits(config, domains)
    folder, device = Path(folder), torch.device(device)
    check_execution(config, device)
    if (folder / CHECKPOINT).exists():
        _refuse_other(folder / CHECKPOINT, read_config(folder / CHECKPOINT), config)
        return folder / CHECKPOINT
    weights = starting_weights(config.backbone, config.weights, weights_file)
    forked = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=forked):  # each step seeds its own dropout; the caller's state stays
        model = build_model(config.backbone, derive_seed("weights", config.seed), weights).to(device).train()
        with writing(folder):  # now that the weights fit, too, for a run that is refused leaves nothing behind
            folder.mkdir(parents=True, exist_ok=True)
        run = Run.of(prepare(model, config), config)
        start = _resume(folder, config, run, device)
        batches = training_batches(config, domains, seed=config.seed, steps=config.steps, part=(rank(), world_size()))
        workers = _loading_processes(device) if workers is None else workers
        loader = DataLoader(batches, batch_size=None, sampler=range(start, config.steps), num_workers=workers,
                            pin_memory=device.type == "cuda")  # fmt: skip
        bar = tqdm(loader, initial=start, total=config.steps, desc=config.address, leave=False,
                   mininterval=0.5, disable=not (progress and is_writer()))  # fmt: skip
        with _telling_of_loaders(), recording(folder, start, tensorboard=tensorboard) as record:
            for step, batch in enumerate(bar, start):
                line = _take_step(run, to_device(batch, device), config, folder, step, batches)
                record(line)
                show(bar, line, config.batch_per_domain * len(config.sources))
                if on_log is not None:
                    on_log(line)
                if step + 1 == config.steps or (step + 1) % config.checkpoint_every == 0:
                    _refuse_insane(run.model, config, folder, step)
                    if step + 1 < config.steps and is_writer():
                        _save_state(folder, config, run, step + 1)
    if is_writer():
        save_checkpoint(folder / CHECKPOINT, run.model, config)
        (folder / STATE).unlink(missing_ok=True)
    wait_for_all()
    return folder / CHECKPOINT


def _take_step(
    run: Run, batch: Any, config: TrainingConfig, folder: Path, step: int, batches: MultiDomainBatches
) -> Line:
    """Move the weights by one step; its line of the log."""
    losses = training_step(run.model, batch, config, step)
    if losses.total == 0:  # which no logits give
        warnings.warn(
            f"there are batches without a labelled pixel, from which nothing is learned: look at the labels of "
            f"{', '.join(config.sources)} (trainIds 0-18; 255 is unlabelled)",
            stacklevel=2,
        )
    _refuse_divergence(run.model, losses, config, folder, step, batches)
    line = log_line(step, run.schedule.get_last_lr()[0], losses)
    run.optimizer.step()
    run.schedule.step()
    return line


def training_step(model: nn.Module, batch: Any, config: TrainingConfig, step: int) -> Losses:
    """One gradient by the run's method, its randomness (split, dropout) a function of seed and step.

    Of several processes, all split alike, and each has a dropout of its own.
    """
    torch.manual_seed(derive_seed("dropout", config.seed, step, *([rank()] if rank() else [])))
    generator = torch.Generator().manual_seed(derive_seed("split", config.seed, step))
    bf16 = config.precision == "bf16"
    with torch.autocast(batch[0].device.type, torch.bfloat16) if bf16 else nullcontext():
        return METHODS[config.method](model, cross_entropy, batch, config, generator)


def _loading_processes(device: torch.device) -> int:
    """How many processes keep a GPU fed: four, or this process's share of the cores if that is less."""
    if device.type != "cuda":
        return 0
    return min(4, usable_cpus() // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


@contextmanager
def _telling_of_loaders() -> Iterator[None]:
    """Inside, what happens to a process that loads data is told as if it had happened in this one."""
    try:
        yield
    except InputError as error:  # torch puts the traceback of that process into the message
        raise InputError(str(error).rsplit(f"{InputError.__name__}: ", 1)[-1].rstrip()) from error
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise InputError(
            f"a process that loads data has died ({str(error).splitlines()[0].rstrip(' .')}), likely for want of "
            "memory; go on from the last saved state with fewer such processes: 0 loads in the training process itself"
        ) from error


def check_fits(config: TrainingConfig, domains: Mapping[str, Domain]) -> None:
    """Refuse, before anything is written, a method, a network, sources or a split that cannot be trained."""
    if config.method not in METHODS:
        raise InputError(f"unknown training method {config.method!r}; the methods are {', '.join(METHODS)}")
    if config.backbone not in BACKBONES:
        raise InputError(f"unknown backbone {config.backbone!r}; the backbones are {', '.join(BACKBONES)}")
    check_weights(config.backbone, config.weights)
    check_variant(config.order, config.running_stats)
    for letter in config.sources:
        if letter not in domains:
            raise InputError(f"unknown source domain {letter!r}; the domains at hand are {', '.join(domains)}")
    if not config.sources:
        raise InputError("no source domain is given; name at least one")
    if "split" in OPTIONS[config.method]:
        split_sizes(config.split, len(config.sources), torch.Generator())


def _refuse_other(path: Path, found: TrainingConfig, wanted: TrainingConfig) -> None:
    if found != wanted:
        raise InputError(
            f"{path} belongs to a run with other settings: {differences(found, wanted)} (there and here); "
            "choose another folder, or the same settings"
        )


def _resume(folder: Path, config: TrainingConfig, run: Run, device: torch.device) -> int:
    """Take up the last saved state, if there is one; the step to go on with."""
    path = folder / STATE
    start = 0
    if path.exists():
        with _resumable(path):
            state = torch.load(path, map_location=device, weights_only=True)  # refuses a pickle with code in it
            found = TrainingConfig.from_json(state["config"])
        _refuse_other(path, found, config)
        with _resumable(path):
            for name, part in run._asdict().items():
                part.load_state_dict(state[name])
            start = int(state["step"])
    if is_writer():
        _tidy(folder, start)
    return start


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


def _save_state(folder: Path, config: TrainingConfig, run: Run, step: int) -> None:
    with writing(folder / LOG), open(folder / LOG, "rb+") as log:
        os.fsync(log.fileno())  # so that a state never is ahead of the log, whatever the power does
    parts = {name: part.state_dict() for name, part in run._asdict().items()}
    state = {"config": config.to_json(), "step": step, **parts}
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with written_whole(folder / STATE) as beside:  # as bytes, for torch has errors of its own for a full disk
        beside.write_bytes(buffer.getbuffer())


def _refuse_divergence(
    model: nn.Module, losses: Losses, config: TrainingConfig, folder: Path, step: int, batches: MultiDomainBatches
) -> None:
    """Stop before a loss or gradient that is no number gets into the log or the weights."""
    norm = get_total_norm([parameter.grad for parameter in trainable(model)])
    if not math.isfinite(losses.total):
        what = f"the loss is {losses.total}"
    elif not math.isfinite(norm):
        what = f"the gradient is {norm.item()}"
    else:
        return
    drawn = "".join(f"\n  {name}" for name in batches.images_of(step))
    raise InputError(f"{_diverged(f'{what} at step {step}', config, folder)} The batch of this step:{drawn}")


def _refuse_insane(model: nn.Module, config: TrainingConfig, folder: Path, step: int) -> None:
    """Stop before weights that have left all bounds become a state or a result. All processes stop together."""
    [insane] = sum_over_processes([torch.tensor(float(not _sane(model)), device=next(model.parameters()).device)])
    if insane:
        raise InputError(_diverged(f"the weights are beyond all bounds after step {step}", config, folder))


def _sane(model: nn.Module) -> bool:
    """Whether all weights and running statistics are finite and of a size that a network can compute with."""
    tensors = (tensor for tensor in model.state_dict().values() if tensor.is_floating_point())
    return all(bool((tensor.abs() < SANE).all()) for tensor in tensors)


def _diverged(what: str, config: TrainingConfig, folder: Path) -> str:
    rates = f"lr = {config.lr}" + (f" or inner_lr = {config.inner_lr}" if "inner_lr" in OPTIONS[config.method] else "")
    state = folder / STATE
    return (
        f"{config.address} diverged: {what}; a learning rate is likely too high: train with less than {rates}, in "
        f"another folder. {f'The last saved state is {state}' if state.exists() else 'No state was saved'}."
    )
