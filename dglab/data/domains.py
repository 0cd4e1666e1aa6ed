"""Domains: the embedded streets, or prepared folders."""

import functools
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from dglab.data.multimodal import MultimodalStreets
from dglab.data.prepared import LITTER, open_root
from dglab.data.streets import STREETS, StreetsDataset
from dglab.data.streets.kept import load
from dglab.data.streets.size import StreetsSize
from dglab.utils.errors import InputError
from dglab.utils.files import read_json


class InMemory(Dataset):
    """A data set whose items are cached in memory; for data sets that fit, like streets and CamVid.

    Args:
        dataset: what to read from.
        read_all: gives all items that lie somewhere, by number, see :func:`dglab.data.streets.kept.load`; called when
            the first one is asked for.
    """

    def __init__(self, dataset: Dataset, read_all: Callable[[], dict[int, Any]] = dict) -> None:
        self.dataset, self.letter, self.stems = dataset, dataset.letter, dataset.stems
        self.modalities = getattr(dataset, "modalities", ())
        self._read_all = read_all
        self._items: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        if not self._items:
            self._items = self._read_all()
        if index not in self._items:
            self._items[index] = self.dataset[index]
        return self._items[index]


@dataclass(frozen=True)
class Domain:
    """One domain: its letter, its name, its training and validation images."""

    letter: str
    name: str
    train: Dataset
    val: Dataset


def streets_domains(
    height: int,
    width: int,
    train_images: int,
    val_images: int,
    modalities: tuple[str, ...] = (),
    drawn: Path | None = None,
) -> dict[str, Domain]:
    """The five embedded domains G, S, I, M, C, drawn on demand.

    Args:
        height, width: of the images, pixels.
        train_images, val_images: how many in each domain.
        modalities: of :class:`dglab.data.multimodal.MultimodalStreets`; none gives plain images.
        drawn: a folder that :func:`dglab.data.streets.kept.draw` has filled; what is not there is drawn.
    """
    size = StreetsSize(height, width, train_images, val_images)

    def part(letter: str, split: str, length: int) -> Dataset:
        kept = functools.partial(load, drawn, size, letter, split, modalities) if drawn else dict
        if not modalities:
            return InMemory(StreetsDataset(letter, split, length, height=height, width=width), kept)
        street = MultimodalStreets(letter, split, length, modalities=modalities, height=height, width=width)
        return InMemory(street, kept)

    return {
        letter: Domain(letter, street.name, part(letter, "train", train_images), part(letter, "val", val_images))
        for letter, street in STREETS.items()
    }


def prepared_domains(root: Path | str, *, in_memory: bool) -> dict[str, Domain]:
    """The domains of a prepared root, by letter; see :mod:`dglab.data.prepared`."""
    keep = InMemory if in_memory else lambda dataset: dataset
    return {
        letter: Domain(letter, domain.name, keep(domain.train), keep(domain.val))
        for letter, domain in open_root(root).items()
    }


@functools.lru_cache(maxsize=8)
def open_domains(
    data: str | StreetsSize, in_memory: bool = False, modalities: tuple[str, ...] = (), drawn: Path | None = None
) -> dict[str, Domain]:
    """The available domains, by letter.

    Args:
        data: how large the embedded streets are drawn, or the path of a prepared root.
        in_memory: keep what is read of a prepared root; the embedded streets are always kept once drawn.
        modalities: of the embedded streets, see there; none gives plain images.
        drawn: of the embedded streets, see there.

    Raises:
        InputError: for a root that cannot be read, or modalities of one.
    """
    if isinstance(data, StreetsSize):
        return streets_domains(data.height, data.width, data.train_images, data.val_images, modalities, drawn)
    if modalities:
        raise InputError(
            f"{data} is a prepared root, which holds images and labels alone; {' and '.join(modalities)} come with the "
            "embedded streets: leave --data out"
        )
    return prepared_domains(data, in_memory=in_memory)


def identity(data: str | StreetsSize) -> str | StreetsSize:
    """The identity of data in the settings of a run: the size of the streets, or a prepared root's fingerprint."""
    return data if isinstance(data, StreetsSize) else fingerprint(data)


@functools.lru_cache(maxsize=4)
def fingerprint(root: str) -> str:
    """What identifies prepared data: every file's path and size, the label mappings, the converter's version.

    Data that were converted otherwise, at another size say, are other data, and their runs other runs. Hidden
    files, and others that a file manager leaves behind, are no data.
    """

    def found(pattern: str) -> list[Path]:
        paths = sorted(Path(root).glob(pattern))
        hidden = (any(part.startswith(".") for part in path.relative_to(root).parts) for path in paths)
        return [path for path, no in zip(paths, hidden, strict=True) if not no and path.name.lower() not in LITTER]

    parts = [(str(path.relative_to(root)), path.stat().st_size) for path in found("*/*/*/*") if path.is_file()]
    for path in found("*/domain.json"):
        info = read_json(path)
        parts.append((path.parent.name, info.get("letter"), info.get("mapping"), info.get("converter_version")))
    return f"prepared {hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]}"
