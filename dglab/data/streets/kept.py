"""Scenes drawn once for all processes and runs: a file for each domain, split and modality."""

import functools
import hashlib
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import PIL
import torch
from torch import Tensor

from dglab.data import multimodal
from dglab.data.multimodal import MultimodalStreets
from dglab.data.streets import StreetsDataset
from dglab.data.streets.size import StreetsSize
from dglab.utils.errors import InputError
from dglab.utils.files import written_whole

Scene = tuple[Tensor, Tensor] | tuple[dict[str, Tensor], Tensor, str]  # as the data set of plain or multimodal scenes
RGB = "rgb"  # the modality that plain scenes are


def draw(size: StreetsSize, letter: str, split: str, folder: Path, modality: str = RGB) -> None:
    """Draw all scenes of a domain's split into a file of the folder; nothing if it is there.

    Args:
        size: of the scenes, and how many.
        letter: of the domain.
        split: "train" or "val".
        folder: of the kept scenes.
        modality: what to draw; the labels are kept beside the colours.
    """
    path = kept_path(folder, size, letter, split, modality)
    if path.exists():
        return
    size_of_set = {"length": _length(size, split), "height": size.height, "width": size.width}
    if modality == RGB:
        dataset = StreetsDataset(letter, split, **size_of_set)
        images, labels = zip(*(dataset[i] for i in range(len(dataset))), strict=True)
        arrays = {"images": images, "labels": labels}
    else:
        dataset = MultimodalStreets(letter, split, **size_of_set, modalities=[modality])
        arrays = {"images": [dataset[i][0][modality] for i in range(len(dataset))]}
    with written_whole(path) as beside, open(beside, "wb") as file:
        np.savez(file, **{name: torch.stack(list(part)).numpy() for name, part in arrays.items()})


def load(
    folder: Path, size: StreetsSize, letter: str, split: str, modalities: tuple[str, ...] = ()
) -> dict[int, Scene]:
    """The scenes of a domain's split, by number, from the files that :func:`draw` has written.

    Args:
        folder, size, letter, split: as there.
        modalities: of the scenes; none gives plain ones.

    Returns:
        What the data set of such scenes would give; nothing where not all that it takes has been drawn.

    Raises:
        InputError: for a damaged file.
    """
    paths = {name: kept_path(folder, size, letter, split, name) for name in (RGB, *modalities)}
    if not all(path.exists() for path in paths.values()):
        return {}
    labels = _read(paths[RGB], "labels")
    images = {name: _read(paths[name], "images") for name in modalities or (RGB,)}
    if not modalities:
        return dict(enumerate(zip(images[RGB], labels, strict=True)))
    return {i: ({name: x[i] for name, x in images.items()}, label, letter) for i, label in enumerate(labels)}


def _read(path: Path, name: str) -> Tensor:
    try:
        with np.load(path, allow_pickle=False) as arrays:  # a zip, whose checksums are looked at in reading
            return torch.from_numpy(arrays[name])
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise InputError(f"{path}: drawn scenes that cannot be read ({error}); remove the file") from error


def kept_path(folder: Path, size: StreetsSize, letter: str, split: str, modality: str = RGB) -> Path:
    """Where the scenes lie; the name changes with the renderer, its packages, the size and the number of scenes."""
    drawn = f"{_renderer(modality)} {size.height}x{size.width} {_length(size, split)}"
    what = "" if modality == RGB else f"_{modality}"
    return folder / f"{letter}_{split}{what}_{hashlib.sha256(drawn.encode()).hexdigest()[:10]}.npz"


def _length(size: StreetsSize, split: str) -> int:
    return size.train_images if split == "train" else size.val_images


@functools.cache
def _renderer(modality: str) -> str:
    digest = hashlib.sha256(f"numpy {np.__version__}, Pillow {PIL.__version__}".encode())
    files = sorted(Path(__file__).parent.glob("*.py"))
    for path in files if modality == RGB else [*files, Path(multimodal.__file__)]:
        digest.update(path.read_bytes())
    return digest.hexdigest()
