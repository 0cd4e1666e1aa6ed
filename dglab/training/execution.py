"""How a step is executed: memory layout, activation checkpointing, compilation, and the images of a BatchNorm batch.

But for the last, none of it changes what a step computes, up to rounding. (Compiled code draws its dropout otherwise.)
"""

import itertools
import warnings
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from dglab.models.batchnorm import batchnorm_layers, update_running_stats
from dglab.training.config import TrainingConfig
from dglab.training.distributed import grouped, world_size
from dglab.training.methods import second_order
from dglab.utils.errors import InputError


def check_execution(config: TrainingConfig, device: torch.device) -> None:
    """Refuse settings that this device or this group of processes cannot follow.

    Raises:
        InputError: naming what is in the way.
    """
    if config.processes != world_size():
        raise InputError(
            f"the settings are for {config.processes} process(es), and {world_size()} train here; start torchrun with "
            f"--nproc-per-node={config.processes}, or set processes to {world_size()}"
        )
    if config.batchnorm == "synchronized":
        reasons = {
            "torch's SyncBatchNorm cannot be differentiated twice, which order 2 does": second_order(config),
            f"torch's SyncBatchNorm needs CUDA, the device is {device.type}": device.type != "cuda",
            "there is one process alone (torchrun starts several)": not grouped(),
        }
        for reason in (reason for reason, holds in reasons.items() if holds):
            raise InputError(f"batchnorm is 'synchronized', but {reason}; use 'process'")


def prepare(model: nn.Module, config: TrainingConfig) -> nn.Module:
    """The network as the settings want it executed. Names and values of its tensors stay as they are."""
    if config.channels_last:
        # convolutions follow the layout of their weights, whatever that of the images is
        model = model.to(memory_format=torch.channels_last)
    if config.batchnorm == "synchronized":
        model = synchronized(model)
    if config.activation_checkpointing:
        checkpoint_activations(model)
    if config.compile and second_order(config):
        warnings.warn("a compiled network cannot be differentiated twice; order 2 trains it uncompiled", stacklevel=3)
    elif config.compile:
        model.compile()
    return model


def synchronized(model: nn.Module) -> nn.Module:
    """A network whose BatchNorm layers average over all processes; parameters and buffers are the same objects.

    Torch's own conversion makes plain layers of all: of timm's, which hold the activation, too, and so would lose it.
    """
    if any(type(layer).__module__.startswith("timm.") for layer in batchnorm_layers(model).values()):
        from timm.layers import convert_sync_batchnorm  # there, for the layers are
    else:
        convert_sync_batchnorm = nn.SyncBatchNorm.convert_sync_batchnorm
    return convert_sync_batchnorm(model)


def checkpoint_activations(model: nn.Module) -> None:
    """Let each stage of a network forget its activations, and compute them again when the gradient needs them.

    Only the stages' inputs are kept. A stage runs forward twice then (three times for second order), so BatchNorm's
    running statistics are updated in the first run alone; dropout draws the same numbers in each.

    Args:
        model: names its stages in ``stages``, as :class:`dglab.models.SegmentationModel` does.
    """
    for name in model.stages:
        stage = name.split(".")[0]  # HRNet names the one of a stage's outputs that has style
        _checkpointed(model.get_submodule(stage))


def _checkpointed(stage: nn.Module) -> None:
    plain = stage.forward

    def forward(*args: Any) -> Any:
        runs = itertools.count()

        def run(*args: Any) -> Any:
            with update_running_stats(stage, enabled=next(runs) == 0):
                return plain(*args)

        return checkpoint(run, *args, use_reentrant=False)

    stage.forward = forward
