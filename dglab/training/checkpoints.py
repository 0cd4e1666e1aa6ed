"""Files that a run leaves: weights as safetensors, never code; written beside, then renamed."""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from dglab.models import SegmentationModel, build_model
from dglab.models.multimodal import MultimodalNetwork, build_multimodal
from dglab.models.weights import StateDict
from dglab.training.config import TrainingConfig
from dglab.training.methods import modalities_of
from dglab.utils.errors import InputError
from dglab.utils.files import written_whole


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
    """Weights and buffers, with the configuration in the metadata."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with written_whole(path) as beside:  # as bytes, for save_file has an error of its own for a full disk
        beside.write_bytes(save(tensors, metadata={"config": config.to_json()}))


def read_config(path: Path) -> TrainingConfig:
    """The configuration of the run that made a checkpoint.

    Raises:
        InputError: if the file is missing, no safetensors file, or not one of ours.
    """
    if not path.is_file():
        raise InputError(f"no checkpoint at {path}; expected a .safetensors file that dglab train has made")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(
            f"{path} is no readable safetensors file ({error}); pass the last.safetensors of a finished run"
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
        InputError: as :func:`read_config`, and if the weights are those of another model.
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
    model.load_state_dict(tensors)
    return model.to(device).eval(), config
