"""The loop around one training step: data, schedule, checkpoints, log, progress."""

import io
import json
import math
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from dglab.data import Domain
from dglab.data.augmentation import training_augmentation
from dglab.data.batches import MultiDomainBatches
from dglab.errors import InputError
from dglab.models import BACKBONES, build_model
from dglab.seeds import derive_seed
from dglab.training.checkpoints import read_config, save_checkpoint, writing, written_whole
from dglab.training.config import TrainingConfig, differences
from dglab.training.losses import Losses, cross_entropy
from dglab.training.methods import METHODS, OPTIONS, split_sizes, to_device
from dglab.training.mldg import check_variant

CHECKPOINT, STATE, LOG = "last.safetensors", "trainer_state.pt", "log.jsonl"
SANE = 1e10  # no weight or running statistic of a network that learns comes near


def training_batches(
    config: TrainingConfig, domains: Mapping[str, Domain], *, seed: int, steps: int
) -> MultiDomainBatches:
    """The batches of a run: augmented crops of all its source domains."""
    transform = training_augmentation(config.crop, config.scale, config.blur)
    sources = [domains[letter].train for letter in config.sources]
    return MultiDomainBatches(sources, config.batch_per_domain, steps, transform, seed)


def train(
    config: TrainingConfig,
    domains: Mapping[str, Domain],
    folder: Path,
    *,
    device: torch.device | str = "cpu",
    workers: int = 0,
    progress: bool = True,
) -> Path:
    """Train one network and return its last checkpoint, which is the result: nothing is selected.

    A finished run is returned as it is; an interrupted one goes on from its last state and ends with the same bits
    as if it had never stopped (on the same CPU and number of threads).

    Args:
        config: what to train.
        domains: by letter; all of ``config.sources`` among them.
        folder: gets ``last.safetensors`` when finished, ``trainer_state.pt`` on the way, and ``log.jsonl``.
        device: where to train.
        workers: processes that load data; 0 loads in this one. The result does not depend on it.
        progress: show a bar with losses and learning rate.

    Raises:
        InputError: for settings that do not fit, a folder with another run or that cannot be written to, or a loss
            or weights that leave all bounds.
    """
    check_fits(config, domains)
    folder = Path(folder)
    if (folder / CHECKPOINT).exists():
        _refuse_other(folder / CHECKPOINT, read_config(folder / CHECKPOINT), config)
        return folder / CHECKPOINT
    device = torch.device(device)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    forked = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=forked):  # each step seeds its own dropout; the caller's state stays
        model = build_model(config.backbone, derive_seed("weights", config.seed)).to(device).train()
        optimizer = torch.optim.SGD(
            model.parameters(), config.lr, momentum=config.momentum, weight_decay=config.weight_decay
        )
        schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer, config.steps, config.power)
        start = _resume(folder, config, model, optimizer, schedule, device)
        batches = training_batches(config, domains, seed=config.seed, steps=config.steps)
        loader = DataLoader(batches, batch_size=None, sampler=range(start, config.steps), num_workers=workers,
                            pin_memory=device.type == "cuda")  # fmt: skip
        bar = tqdm(loader, initial=start, total=config.steps, desc=config.address, leave=False, disable=not progress)
        lines: list[str] = []
        for step, batch in enumerate(bar, start):
            losses = training_step(model, to_device(batch, device), config, step)
            if not math.isfinite(losses.total):
                raise _diverged(f"the loss is {losses.total} at step {step}", config, folder)
            lines.append(_log_line(step, schedule.get_last_lr()[0], losses))
            optimizer.step()
            schedule.step()
            bar.set_postfix(ds=f"{losses.ds:.3f}", dg=f"{losses.dg:.3f}", lr=f"{schedule.get_last_lr()[0]:.1e}")
            if step + 1 == config.steps or (step + 1) % config.checkpoint_every == 0:
                _append_log(folder, lines)
                if not _sane(model):
                    raise _diverged(f"the weights are beyond all bounds after step {step}", config, folder)
                if step + 1 < config.steps:
                    _save_state(folder, config, model, optimizer, schedule, step + 1)
    save_checkpoint(folder / CHECKPOINT, model, config)
    (folder / STATE).unlink(missing_ok=True)
    return folder / CHECKPOINT


def training_step(model: nn.Module, batch: Any, config: TrainingConfig, step: int) -> Losses:
    """One gradient by the run's method, its randomness (split, dropout) a function of seed and step."""
    torch.manual_seed(derive_seed("dropout", config.seed, step))
    generator = torch.Generator().manual_seed(derive_seed("split", config.seed, step))
    bf16 = config.precision == "bf16"
    with torch.autocast(batch[0].device.type, torch.bfloat16) if bf16 else nullcontext():
        return METHODS[config.method](model, cross_entropy, batch, config, generator)


def check_fits(config: TrainingConfig, domains: Mapping[str, Domain]) -> None:
    """Refuse, before anything is written, a method, a network, sources or a split that cannot be trained."""
    if config.method not in METHODS:
        raise InputError(f"unknown training method {config.method!r}; the methods are {', '.join(METHODS)}")
    if config.backbone not in BACKBONES:
        raise InputError(f"unknown backbone {config.backbone!r}; the backbones are {', '.join(BACKBONES)}")
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


def _resume(folder: Path, config: TrainingConfig, model, optimizer, schedule, device: torch.device) -> int:
    """Take up the last saved state, if there is one; the step to go on with."""
    path = folder / STATE
    start = 0
    if path.exists():
        with _resumable(path):
            state = torch.load(path, map_location=device, weights_only=True)  # refuses a pickle with code in it
            found = TrainingConfig.from_json(state["config"])
        _refuse_other(path, found, config)
        with _resumable(path):
            model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            schedule.load_state_dict(state["schedule"])
            start = int(state["step"])
    log = folder / LOG
    kept = log.read_text().splitlines(keepends=True)[:start] if log.exists() else []
    with written_whole(log) as beside:  # one line a step: those after the saved state are trained again
        beside.write_text("".join(kept))
    return start


@contextmanager
def _resumable(path: Path) -> Iterator[None]:
    """Inside, whatever a damaged or foreign state does becomes one message."""
    try:
        yield
    except (
        pickle.UnpicklingError, RuntimeError, OSError, EOFError, LookupError, ValueError, TypeError, AttributeError
    ) as error:  # fmt: skip
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"cannot resume from {path} ({reason}); remove it to start this run anew") from error


def _save_state(folder: Path, config: TrainingConfig, model, optimizer, schedule, step: int) -> None:
    state = {"config": config.to_json(), "step": step, "model": model.state_dict(),
             "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}  # fmt: skip
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with written_whole(folder / STATE) as beside:  # as bytes, for torch has errors of its own for a full disk
        beside.write_bytes(buffer.getbuffer())


def _log_line(step: int, lr: float, losses: Losses) -> str:
    values = {name: value if math.isfinite(value) else None for name, value in losses._asdict().items()}
    return json.dumps({"step": step, "lr": lr, **values})


def _append_log(folder: Path, lines: list[str]) -> None:
    with writing(folder / LOG), open(folder / LOG, "a") as file:
        file.writelines(line + "\n" for line in lines)
    lines.clear()


def _sane(model: nn.Module) -> bool:
    """Whether all weights and running statistics are finite and of a size that a network can compute with."""
    tensors = (tensor for tensor in model.state_dict().values() if tensor.is_floating_point())
    return all(bool((tensor.abs() < SANE).all()) for tensor in tensors)


def _diverged(what: str, config: TrainingConfig, folder: Path) -> InputError:
    rates = f"lr = {config.lr}" + (f" or inner_lr = {config.inner_lr}" if "inner_lr" in OPTIONS[config.method] else "")
    state = folder / STATE
    return InputError(
        f"{config.address} diverged: {what}; a learning rate is likely too high: train with less than {rates}, in "
        f"another folder. {f'The last saved state is {state}' if state.exists() else 'No state was saved'}."
    )
