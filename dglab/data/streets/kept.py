"""Scenes drawn once for all processes and runs: a file for each domain and split."""

import functools
import hashlib
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import PIL
import torch
from torch import Tensor

from dglab.data.streets import StreetsDataset
from dglab.data.streets.size import StreetsSize
from dglab.utils.errors import InputError
from dglab.utils.files import written_whole

Scenes = dict[int, tuple[Tensor, Tensor]]  # by number: image uint8 3 x H x W, label uint8 H x W


def draw(size: StreetsSize, letter: str, split: str, folder: Path) -> None:
    """Draw all scenes of a domain's split into a file of the folder; nothing if it is there.

    Args:
        size: of the scenes, and how many.
        letter: of the domain.
        split: "train" or "val".
        folder: of the kept scenes.
    """
    path = kept_path(folder, size, letter, split)
    if path.exists():
        return
    dataset = StreetsDataset(letter, split, _length(size, split), height=size.height, width=size.width)
    images, labels = (
        torch.stack(part).numpy() for part in zip(*(dataset[i] for i in range(len(dataset))), strict=True)
    )
    with written_whole(path) as beside, open(beside, "wb") as file:
        np.savez(file, images=images, labels=labels)


def load(path: Path) -> Scenes:
    """The scenes of a file that :func:`draw` has written.

    Raises:
        InputError: for a damaged file.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:  # a zip, whose checksums are looked at in reading
            images, labels = torch.from_numpy(arrays["images"]), torch.from_numpy(arrays["labels"])
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise InputError(f"{path}: drawn scenes that cannot be read ({error}); remove the file") from error
    return dict(enumerate(zip(images, labels, strict=True)))


def kept_path(folder: Path, size: StreetsSize, letter: str, split: str) -> Path:
    """Where the scenes lie; the name changes with the renderer, its packages, the size and the number of scenes."""
    drawn = f"{_renderer()} {size.height}x{size.width} {_length(size, split)}"
    return folder / f"{letter}_{split}_{hashlib.sha256(drawn.encode()).hexdigest()[:10]}.npz"


def _length(size: StreetsSize, split: str) -> int:
    return size.train_images if split == "train" else size.val_images


@functools.cache
def _renderer() -> str:
    digest = hashlib.sha256(f"numpy {np.__version__}, Pillow {PIL.__version__}".encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
