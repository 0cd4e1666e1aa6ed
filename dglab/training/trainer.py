"""The training loop: data, gradient, step; and what surrounds it: resuming, log and checkpoints."""

import os
from collections.abc import Callable, Iterable, Mapping
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
from dglab.training.log import Line, log_line, reporting
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
    """Train one network and return its last checkpoint, which is the result: there is no model selection.

    A finished run is not repeated; an interrupted one resumes from its last saved state and ends with the same bits as
    if it had not been interrupted (on the same CPU, with the same number of threads).

    In a process group (``torchrun``) every process calls this and trains on its part of every batch. Losses and
    gradients are those of the global batch; process 0 writes the files, with its own running statistics, as torch's
    DistributedDataParallel does.

    Args:
        config: what to train.
        domains: by letter; all of ``config.sources`` among them.
        folder: gets ``log.jsonl``, ``trainer_state.pt`` while the run is unfinished, and then ``last.safetensors``.
        device: where to train.
        workers: data-loading processes; 0 loads in this one, None takes a few for a GPU, otherwise 0. The result does
            not depend on it.
        progress: show a bar with losses, learning rate and speed.
        weights_file: the file of the weights whose digest ``config.weights`` has.
        tensorboard: also write TensorBoard's curves, into ``tensorboard`` in the folder; needs the package.
        on_log: called after each step with its log line: step, lr, ds, dg, total (None where there is no value).

    Returns:
        The path of the checkpoint.

    Raises:
        InputError: for settings that do not fit; for a folder that has another run in it, is in use by another process
            or cannot be written to; for a loss, a gradient or weights that diverge; if a data-loading process dies.
    """
    check_fits(config, domains)
    folder, device = Path(folder), torch.device(device)
    check_execution(config, device)
    checkpoint = folder / CHECKPOINT
    if checkpoint.exists():
        refuse_other(checkpoint, read_config(checkpoint), config)
        return checkpoint
    weights = starting_weights(config.backbone, config.weights, weights_file)

    with own_randomness(device), ExitStack() as until_saved:  # the caller's random state stays as it is
        run = begin(config, weights, device)
        until_saved.enter_context(own_folder(folder))  # only now: weights that do not fit leave no folder behind
        start = resume(folder, config, run, device)
        batches = training_batches(config, domains, seed=config.seed, steps=config.steps, part=(rank(), world_size()))
        made = iter(loader(batches, start, device, workers))  # of a loader itself tqdm would start the processes twice
        bar = tqdm(made, initial=start, total=config.steps, desc=config.address, leave=False, mininterval=0.5,
                   disable=not (progress and is_writer()))  # fmt: skip
        images = config.batch_per_domain * len(config.sources)  # of a step
        with naming_loader_failures(), reporting(folder, start, bar, images, tensorboard, on_log) as report:
            training_loop(run, bar, config, start, folder, batches, report)
        if is_writer():
            save_checkpoint(checkpoint, run.model, config)
            (folder / STATE).unlink(missing_ok=True)
    wait_for_all()
    return checkpoint


def training_loop(
    run: Run,
    loaded: Iterable[MultiDomainBatch | MultimodalBatch],
    config: TrainingConfig,
    start: int,
    folder: Path,
    batches: MultiDomainBatches,
    report: Callable[[Line], None],
) -> None:
    """Every step of a run from ``start`` on: the gradient of a batch, an SGD step, and every so often a saved state.

    Args:
        run: the network, its optimizer and its schedule.
        loaded: the batches of these steps, uint8 as they are loaded.
        config: the settings of the run.
        start: the number of the first step.
        folder: gets the saved states.
        batches: the data set that ``loaded`` comes from; it names the images of a step that diverges.
        report: called with the log line of each step, before a state of it is saved.

    Raises:
        InputError: where a loss, a gradient or a weight is no longer finite.
    """
    device = next(run.model.parameters()).device
    for step, batch in enumerate(loaded, start):
        losses = training_step(run.model, to_device(batch, device), config, step)  # replaces .grad
        refuse_divergence(run.model, losses, config, folder, step, batches)
        line = log_line(step, run.schedule.get_last_lr()[0], losses)
        run.optimizer.step()
        run.schedule.step()

        report(line)
        if (step + 1) % config.checkpoint_every == 0 or step + 1 == config.steps:
            refuse_insane(run.model, config, folder, step)
            if step + 1 < config.steps and is_writer():
                save_state(folder, config, run, step + 1)


def training_batches(
    config: TrainingConfig, domains: Mapping[str, Domain], *, seed: int, steps: int, part: tuple[int, int] = (0, 1)
) -> MultiDomainBatches:
    """The batches of a run: augmented crops of all its source domains.

    Args:
        config: the settings of the run.
        domains: by letter; all of ``config.sources`` among them.
        seed: of the draws and the augmentation.
        steps: how many batches.
        part: (rank, number of processes), see :class:`~dglab.data.batches.MultiDomainBatches`.
    """
    real = str(config.data).startswith("prepared")  # a root's fingerprint
    transform = augmentations(config.augmentation, config.sources, config.crop, config.scale, config.blur, real=real)
    sources = [domains[letter].train for letter in config.sources]
    batches = MultimodalBatches if modalities_of(config) else MultiDomainBatches
    return batches(sources, config.batch_per_domain, steps, transform, seed, part)


def training_step(
    model: nn.Module, batch: MultiDomainBatch | MultimodalBatch, config: TrainingConfig, step: int
) -> Losses:
    """The gradient of one batch by the run's method, into ``.grad``.

    Its randomness (split, dropout) depends on seed and step alone, so that a resumed run repeats it. All processes draw
    the same split; each draws its own dropout.

    Args:
        model: the network, in training mode.
        batch: images in [0, 1] and labels, see :func:`~dglab.training.methods.to_device`.
        config: the settings of the run.
        step: its number, from 0.
    """
    device = batch[1].device
    set_seed(derive_seed("dropout", config.seed, step, *([rank()] if rank() else [])), device)
    generator = torch.Generator().manual_seed(derive_seed("split", config.seed, step))
    set_progress(model, step / config.steps)  # the strength of gradient reversal (GMP) grows over training
    bf16 = config.precision == "bf16"
    with torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext():
        return METHODS[config.method](model, cross_entropy, batch, config, generator)


def begin(config: TrainingConfig, weights: StateDict | None, device: torch.device) -> Run:
    """A run before its first step: the network in training mode, SGD, and the paper's poly schedule.

    Args:
        config: the settings of the run.
        weights: of the backbone, to start from; None for random ones.
        device: where to train.
    """
    model = network_of(config, derive_seed("weights", config.seed), weights).to(device).train()
    optimizer = torch.optim.SGD(
        model.parameters(), config.lr, momentum=config.momentum, weight_decay=config.weight_decay
    )
    schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer, config.steps, config.power)
    return Run(prepare(model, config), optimizer, schedule)


def loader(batches: MultiDomainBatches, start: int, device: torch.device, workers: int | None) -> DataLoader:
    """The batches from step ``start`` on, made by ``workers`` processes; 0 makes them in this one.

    None is 0 on a CPU. On a GPU it is four, or this process's share of the cores where that is less.
    """
    on_gpu = device.type == "cuda"
    if workers is None:
        workers = min(4, usable_cpus() // int(os.environ.get("LOCAL_WORLD_SIZE", 1))) if on_gpu else 0
    steps = range(start, len(batches))
    return DataLoader(batches, batch_size=None, sampler=steps, num_workers=workers, pin_memory=on_gpu)
