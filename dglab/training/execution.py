"""How a step is executed: memory layout, activation checkpointing, compilation, synchronized BatchNorm.

Except for the last, none of these changes what a step computes, up to rounding. (Compiled code draws other dropout
masks.)
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
    """Refuse settings that this device or process group does not support.

    Raises:
        InputError: with the reason.
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
            "there is only one process (torchrun starts several)": not grouped(),
        }
        for reason in (reason for reason, holds in reasons.items() if holds):
            raise InputError(f"batchnorm is 'synchronized', but {reason}; use 'process'")


def prepare(model: nn.Module, config: TrainingConfig) -> nn.Module:
    """Prepare a network for the execution settings. Names and values of its tensors do not change."""
    if config.channels_last:
        # a convolution takes the memory format of its weights, whatever that of the images is
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

    Torch's own conversion would replace timm's layers, which include the activation, by layers without one.
    """
    if any(type(layer).__module__.startswith("timm.") for layer in batchnorm_layers(model).values()):
        from timm.layers import convert_sync_batchnorm  # installed: some layers come from it
    else:
        convert_sync_batchnorm = nn.SyncBatchNorm.convert_sync_batchnorm
    return convert_sync_batchnorm(model)


def checkpoint_activations(model: nn.Module) -> None:
    """Activation checkpointing stage by stage: activations are recomputed in the backward pass.

    Only the stages' inputs are kept. A stage then runs forward twice (three times for second order); BatchNorm's
    running statistics are updated in the first run only, and dropout draws the same numbers in each.

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
