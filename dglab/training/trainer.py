"""The training loop: data, gradient, step; and around it checkpoints, log and progress."""

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from dglab.data import Domain
from dglab.data.augmentation import augmentations
from dglab.data.batches import MultiDomainBatches
from dglab.data.multimodal import MultimodalBatches
from dglab.models.multimodal import set_progress
from dglab.models.weights import StateDict, starting_weights
from dglab.training.checkpoints import network_of, read_config, save_checkpoint
from dglab.training.config import TrainingConfig
from dglab.training.distributed import is_writer, rank, wait_for_all, world_size
from dglab.training.execution import check_execution, prepare
from dglab.training.guards import check_fits, naming_loader_failures, refuse_divergence, refuse_insane
from dglab.training.log import Line, log_line, recording, show
from dglab.training.losses import Losses, MultiDomainBatch, cross_entropy
from dglab.training.methods import METHODS, modalities_of, to_device
from dglab.training.state import CHECKPOINT, STATE, Run, own_folder, refuse_other, resume, save_state
from dglab.training.two_tasks import MultimodalBatch
from dglab.utils.machine import usable_cpus
from dglab.utils.randomness import own_randomness, set_seed
from dglab.utils.seeds import derive_seed


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
        workers: processes that load data; 0 loads in this one, None takes a few beside a GPU, otherwise 0. The
            result does not depend on it.
        progress: show a bar with losses, learning rate and speed.
        weights_file: where the weights lie that ``config.weights`` names by their digest.
        tensorboard: write TensorBoard's curves, too, into ``tensorboard`` in the folder; needs the package.
        on_log: called after each step with its line of the log: step, lr, ds, dg, total (None where there is none).

    Raises:
        InputError: for settings that do not fit, a folder with another run, that another process trains in or that
            cannot be written to, a loss, a gradient or weights that leave all bounds, or a process that loads data and
            dies.
    """
    check_fits(config, domains)
    folder, device = Path(folder), torch.device(device)
    check_execution(config, device)
    checkpoint = folder / CHECKPOINT
    if checkpoint.exists():
        refuse_other(checkpoint, read_config(checkpoint), config)
        return checkpoint
    weights = starting_weights(config.backbone, config.weights, weights_file)

    with own_randomness(device), ExitStack() as until_saved:  # the caller's state stays
        run = begin(config, weights, device)
        until_saved.enter_context(own_folder(folder))  # now: a run whose weights do not fit leaves nothing behind
        start = resume(folder, config, run, device)
        batches = training_batches(config, domains, seed=config.seed, steps=config.steps, part=(rank(), world_size()))
        bar = tqdm(loader(batches, start, device, workers), initial=start, total=config.steps, desc=config.address,
                   leave=False, mininterval=0.5, disable=not (progress and is_writer()))  # fmt: skip
        with naming_loader_failures(), recording(folder, start, tensorboard=tensorboard) as record:
            for step, batch in enumerate(bar, start):
                losses = training_step(run.model, to_device(batch, device), config, step)  # replaces .grad
                refuse_divergence(run.model, losses, config, folder, step, batches)
                line = log_line(step, run.schedule.get_last_lr()[0], losses)
                run.optimizer.step()
                run.schedule.step()

                record(line)
                show(bar, line, config.batch_per_domain * len(config.sources))
                if on_log is not None:
                    on_log(line)
                if (step + 1) % config.checkpoint_every == 0 or step + 1 == config.steps:
                    refuse_insane(run.model, config, folder, step)
                    if step + 1 < config.steps and is_writer():
                        save_state(folder, config, run, step + 1)
        if is_writer():
            save_checkpoint(checkpoint, run.model, config)
            (folder / STATE).unlink(missing_ok=True)
    wait_for_all()
    return checkpoint


def training_batches(
    config: TrainingConfig, domains: Mapping[str, Domain], *, seed: int, steps: int, part: tuple[int, int] = (0, 1)
) -> MultiDomainBatches:
    """The batches of a run: augmented crops of all its source domains; see there for ``part``."""
    real = str(config.data).startswith("prepared")  # a root's fingerprint
    transform = augmentations(
        config.augmentation, config.sources, config.crop, config.scale, config.blur, real=real
    )  # fmt: skip
    sources = [domains[letter].train for letter in config.sources]
    batches = MultimodalBatches if modalities_of(config) else MultiDomainBatches
    return batches(sources, config.batch_per_domain, steps, transform, seed, part)


def training_step(
    model: nn.Module, batch: MultiDomainBatch | MultimodalBatch, config: TrainingConfig, step: int
) -> Losses:
    """One gradient by the run's method, its randomness (split, dropout) a function of seed and step.

    All processes draw the same split; each has its own dropout.
    """
    device = batch[1].device
    set_seed(derive_seed("dropout", config.seed, step, *([rank()] if rank() else [])), device)
    generator = torch.Generator().manual_seed(derive_seed("split", config.seed, step))
    set_progress(model, step / config.steps)  # of what grows over training: gradient reversal
    bf16 = config.precision == "bf16"
    with torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext():
        return METHODS[config.method](model, cross_entropy, batch, config, generator)


def begin(config: TrainingConfig, weights: StateDict | None, device: torch.device) -> Run:
    """A run before its first step: the network, SGD, and the paper's poly schedule."""
    model = network_of(config, derive_seed("weights", config.seed), weights).to(device).train()
    optimizer = torch.optim.SGD(
        model.parameters(), config.lr, momentum=config.momentum, weight_decay=config.weight_decay
    )
    schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer, config.steps, config.power)
    return Run(prepare(model, config), optimizer, schedule)


def loader(batches: MultiDomainBatches, start: int, device: torch.device, workers: int | None) -> DataLoader:
    """The batches from step ``start`` on, made in as many processes as asked for.

    By default in this process alone; to keep a GPU fed, in four or in this process's share of the cores, if that is
    less.
    """
    on_gpu = device.type == "cuda"
    if workers is None:
        workers = min(4, usable_cpus() // int(os.environ.get("LOCAL_WORLD_SIZE", 1))) if on_gpu else 0
    steps = range(start, len(batches))
    return DataLoader(batches, batch_size=None, sampler=steps, num_workers=workers, pin_memory=on_gpu)
