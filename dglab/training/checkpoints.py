"""Checkpoints: weights as safetensors, which hold no code, written to a temporary file and then renamed."""

import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from dglab.models import SegmentationModel, build_model
from dglab.models.multimodal import MultimodalNetwork, build_multimodal
from dglab.models.weights import StateDict
from dglab.training.config import TrainingConfig
from dglab.training.methods import modalities_of
from dglab.utils.errors import InputError
from dglab.utils.files import check_file, shown, written_whole

SANE = 1e10  # far above any weight or running statistic of a network that has learned


def network_of(
    config: TrainingConfig, seed: int, weights: StateDict | None = None
) -> SegmentationModel | MultimodalNetwork:
    """The network that a run trains, before its first step.

    Args:
        config: the run; its method decides whether the network takes images or several modalities.
        seed: of the initial weights.
        weights: of the backbone, from ImageNet.
    """
    modalities = modalities_of(config)
    if modalities:
        return build_multimodal(modalities, len(config.sources), seed)
    return build_model(config.backbone, seed, weights)


def save_checkpoint(path: Path, model: SegmentationModel | MultimodalNetwork, config: TrainingConfig) -> None:
    """Write weights and buffers, with the configuration in the file's metadata."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with written_whole(path) as beside:  # as bytes: save_file raises an error of its own for a full disk
        beside.write_bytes(save(tensors, metadata={"config": config.to_json()}))


def read_config(path: Path) -> TrainingConfig:
    """The configuration of the run that made a checkpoint.

    Raises:
        InputError: if the file is missing, no safetensors file, or not one of ours.
    """
    if not os.path.isfile(path):
        raise InputError(f"no checkpoint at {shown(path)}; expected a .safetensors file that dglab train has made")
    try:
        check_file(path)
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(
            f"{path} is not a readable safetensors file ({error}); pass the last.safetensors of a finished run"
        ) from error
    try:
        return TrainingConfig.from_json(metadata["config"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} does not carry the configuration of a dglab run; pass a last.safetensors that dglab train has made"
        ) from error


def load_checkpoint(
    path: Path | str, device: torch.device | str = "cpu"
) -> tuple[SegmentationModel | MultimodalNetwork, TrainingConfig]:
    """A trained network in evaluation mode, and the configuration it was trained with.

    Raises:
        InputError: as :func:`read_config`, and if the weights are those of another model, or no weights of a network.
    """
    path = Path(path)
    config = read_config(path)
    model = network_of(config, seed=0)
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no iteration over the file)
    expected = model.state_dict()
    wrong = sorted(expected.keys() ^ tensors.keys()) or [
        name for name, tensor in tensors.items() if tensor.shape != expected[name].shape
    ]
    if wrong:
        raise InputError(
            f"{path} holds the weights of another model than {config.backbone!r}: {wrong[0]} and "
            f"{len(wrong) - 1} more do not fit; pass a checkpoint of this version"
        )
    senseless = [name for name, tensor in tensors.items() if not _are_weights(name, tensor, expected[name])]
    if senseless:
        raise InputError(
            f"{path} holds no weights of a network that has learned: {senseless[0]} and {len(senseless) - 1} more are "
            f"not finite, beyond {SANE:.0e}, negative variances, or of another type; pass a checkpoint that dglab "
            "train has made"
        )
    model.load_state_dict(tensors)
    return model.to(device).eval(), config


def _are_weights(name: str, tensor: Tensor, expected: Tensor) -> bool:
    """Whether a parameter or buffer holds usable values, in any of torch's floating-point types."""
    if not expected.is_floating_point():
        return tensor.dtype == expected.dtype
    if not tensor.is_floating_point() or (name.endswith("running_var") and bool((tensor < 0).any())):
        return False
    return bool((tensor.abs() < SANE).all())
