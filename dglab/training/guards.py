"""Checks before and during training: settings that cannot be trained, and runs that diverge, are refused."""

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils import get_total_norm

from dglab.data import Domain
from dglab.data.batches import MultiDomainBatches
from dglab.data.multimodal import check_modalities
from dglab.models import BACKBONES
from dglab.models.weights import check_weights
from dglab.training.checkpoints import SANE
from dglab.training.checks import check_variant
from dglab.training.config import TrainingConfig
from dglab.training.distributed import sum_over_processes
from dglab.training.gmp import find_variant
from dglab.training.gmp_checks import check_several
from dglab.training.losses import Losses
from dglab.training.mean_loss import trainable
from dglab.training.methods import METHODS, OPTIONS, check_passes, modalities_of, split_sizes
from dglab.training.state import STATE
from dglab.utils.errors import InputError
from dglab.utils.machine import refuse_what_cannot_fit


def check_fits(config: TrainingConfig, domains: Mapping[str, Domain]) -> None:
    """Refuse, before anything is written, a method, a network, sources or a split that cannot be trained.

    Raises:
        InputError: with the setting, its value and what is expected.
    """
    if config.method not in METHODS:
        raise InputError(f"unknown training method {config.method!r}; the methods are {', '.join(METHODS)}")
    if config.backbone not in BACKBONES:
        raise InputError(f"unknown backbone {config.backbone!r}; the backbones are {', '.join(BACKBONES)}")
    check_weights(config.backbone, config.weights)
    check_variant(config.order, config.running_stats)
    for letter in config.sources:
        if letter not in domains:
            raise InputError(f"unknown source domain {letter!r}; the available domains are {', '.join(domains)}")
    if not config.sources:
        raise InputError("no source domain is given; name at least one")
    if "split" in OPTIONS[config.method]:
        split_sizes(config.split, len(config.sources), torch.Generator())
    if config.domains_per_pass and "domains_per_pass" in OPTIONS[config.method]:
        check_passes(config.domains_per_pass, len(config.sources), config.batch_per_domain // config.processes)
        if config.micro_batches > 1:
            raise InputError(
                f"micro_batches is {config.micro_batches} with domains_per_pass; expected 1: a pass is a part already"
            )
    if modalities_of(config):
        check_multimodal(config, domains)
    _check_memory(config)


def check_multimodal(config: TrainingConfig, domains: Mapping[str, Domain]) -> None:
    """Refuse modalities, a variant or a way to run that GMP cannot train with."""
    find_variant(config.variant)
    modalities = check_modalities(config.modalities)
    check_several(modalities, alone=config.variant == "joint")
    if len(config.sources) < 2:
        raise InputError(
            f"the discriminators of GMP tell source domains apart and need two or more, got {config.sources}"
        )
    for letter in config.sources:
        found = getattr(domains[letter].train, "modalities", ())
        if tuple(found) != modalities:
            raise InputError(
                f"the domain {letter} has {', '.join(found) or 'plain images'}, the run trains on "
                f"{', '.join(modalities)}; open the embedded streets with these modalities"
            )
    unsupported = {"backbone": "thin", "weights": "", "batchnorm": "process", "activation_checkpointing": False,
                   "compile": False, "augmentation": "paper"}  # fmt: skip
    for name, value in unsupported.items():
        if getattr(config, name) != value:
            raise InputError(f"{name} is {getattr(config, name)!r}; expected {value!r} for the method {config.method}")


def _check_memory(config: TrainingConfig) -> None:
    """Refuse a batch that cannot fit into memory, before any of it is drawn."""
    height, width = config.crop
    drawn = config.batch_per_domain // config.processes * len(config.sources)  # images per process and step
    # a lower bound: images and labels of the step as bytes, those of one pass as floats; activations not counted
    needed = height * width * (4 * drawn + 12 * (drawn // config.micro_batches))
    refuse_what_cannot_fit(
        needed,
        f"a batch of {config.batch_per_domain} images of {len(config.sources)} domain(s), {height} x {width} each",
        "choose a smaller crop or fewer images",
    )


def refuse_divergence(
    model: nn.Module, losses: Losses, config: TrainingConfig, folder: Path, step: int, batches: MultiDomainBatches
) -> None:
    """Stop before a non-finite loss or gradient reaches the log or the weights; warn of a batch without labels."""
    if 0 in (losses.ds, losses.dg, losses.total):  # a mean cross-entropy is 0 only if no pixel was labelled
        warnings.warn(
            f"there are batches without a labelled pixel, from which nothing is learned: look at the labels of "
            f"{', '.join(config.sources)} (trainIds 0-18; 255 is unlabelled)",
            stacklevel=2,
        )
    norm = get_total_norm([parameter.grad for parameter in trainable(model)])
    if not math.isfinite(losses.total):
        what = f"the loss is {losses.total}"
    elif not math.isfinite(norm):
        what = f"the gradient is {norm.item()}"
    else:
        return
    drawn = "".join(f"\n  {name}" for name in batches.images_of(step))
    raise InputError(f"{_diverged(f'{what} at step {step}', config, folder)} The batch of this step:{drawn}")


def refuse_insane(model: nn.Module, config: TrainingConfig, folder: Path, step: int) -> None:
    """Stop before weights that are not finite, or huge, are saved. All processes stop together."""
    [insane] = sum_over_processes([torch.tensor(float(not _sane(model)), device=next(model.parameters()).device)])
    if insane:
        raise InputError(_diverged(f"the weights are not finite or far too large after step {step}", config, folder))


def _sane(model: nn.Module) -> bool:
    """Whether all weights and running statistics are finite and smaller than :data:`SANE`."""
    tensors = (tensor for tensor in model.state_dict().values() if tensor.is_floating_point())
    return all(bool((tensor.abs() < SANE).all()) for tensor in tensors)


def _diverged(what: str, config: TrainingConfig, folder: Path) -> str:
    rates = f"lr = {config.lr}" + (f" or inner_lr = {config.inner_lr}" if "inner_lr" in OPTIONS[config.method] else "")
    state = folder / STATE
    return (
        f"{config.address} diverged: {what}; a learning rate is likely too high: train with less than {rates}, in "
        f"another folder. {f'The last saved state is {state}' if state.exists() else 'No state was saved'}."
    )


@contextmanager
def naming_loader_failures() -> Iterator[None]:
    """Within the block, a failure in a data-loading worker is raised as an InputError of this process."""
    try:
        yield
    except InputError as error:  # torch puts the traceback of that process into the message
        raise InputError(str(error).rsplit(f"{InputError.__name__}: ", 1)[-1].rstrip()) from error
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise InputError(
            f"a data-loading process has died ({str(error).splitlines()[0].rstrip(' .')}), probably for lack "
            "of memory; resume from the last saved state with fewer such processes: 0 loads in the training process"
        ) from error
