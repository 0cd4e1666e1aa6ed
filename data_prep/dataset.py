"""The declaration of a data set: description, domains, label mappings, and how its files are found."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from itertools import groupby
from pathlib import Path

import numpy as np
from natsort import natsorted
from PIL import Image

from dglab.utils.errors import InputError
from dglab.utils.files import listed, reading, shown, subfolders
from dglab.utils.images import VALID_TRAIN_IDS, brief, read_label

SPLITS = ("train", "val")


@dataclass(frozen=True)
class Domain:
    """One domain that a data set gives: its folder, its name in figures, its letter in tasks.

    ``num_train`` and ``num_val`` are the published numbers of pairs, None where nothing is published.
    """

    folder: str
    name: str
    letter: str
    num_train: int | None = None
    num_val: int | None = None

    def published(self, split: str) -> int | None:
        """The published number of pairs of ``"train"`` or ``"val"``."""
        return self.num_train if split == "train" else self.num_val


@dataclass(frozen=True)
class Pair:
    """One image and its label in the source, and where they go: domain, ``"train"`` or ``"val"``, stem."""

    domain: Domain
    split: str
    stem: str
    image: Path
    label: Path


@dataclass(frozen=True)
class LabelMapping:
    """A table from a data set's ids (0-255) to trainIds (0-18, or 255 for ignored), and its source.

    An id without an entry is refused, so a complete table names the ids to be ignored, too. ``read_label`` reads
    labels of another encoding than the data set's other mappings are for; None: the data set's own reader.
    """

    table: Mapping[int, int]
    source: str
    read_label: Callable[[Path], np.ndarray] | None = None

    def __post_init__(self) -> None:
        for old, new in self.table.items():
            if not (0 <= old <= 255 and 0 <= new <= 255 and VALID_TRAIN_IDS[new]):
                raise ValueError(f"mapping entry {old}: {new}; expected an id 0-255 and a trainId 0-18 or 255")

    @cached_property
    def _lut(self) -> np.ndarray:
        lut = np.zeros(256, np.uint8)  # the entries left at 0 are never used: apply() refuses their ids
        lut[list(self.table)] = list(self.table.values())
        return lut

    def apply(self, ids: np.ndarray, path: Path) -> np.ndarray:
        """Map a label's ids to trainIds.

        Args:
            ids: H x W, any integer type.
            path: the label's file, for the message.

        Returns:
            H x W uint8.

        Raises:
            InputError: for ids without an entry, naming them.
        """
        unknown = [i for i in _present(ids) if i not in self.table]
        if unknown:
            raise InputError(
                f"{shown(path)}: has the id(s) {brief(unknown)}; expected ids that the mapping knows, "
                f"{_ranges(self.table)}; is it another version of the data set, or another kind of its labels?"
            )
        return self._lut.take(ids)


def _ranges(numbers: Collection[int]) -> str:
    """``0-18, 255``."""
    runs = groupby(enumerate(sorted(numbers)), key=lambda pair: pair[1] - pair[0])  # constant along a run
    ends = [[number for _, number in run] for _, run in runs]
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in ends)


def _present(ids: np.ndarray) -> list[int]:
    """The values that occur, ascending; bytes are counted, which takes a seventh of the time of np.unique."""
    if ids.dtype != np.uint8:
        return np.unique(ids).tolist()
    return [value for value, count in enumerate(Image.fromarray(ids).histogram()) if count]


@dataclass(frozen=True)
class Dataset:
    """What the converter and ``python -m data_prep list`` need to know of a public data set.

    Attributes:
        name: as on the command line.
        title, download, licence, size, layout: for the reader: what it is, where it comes from and how, on
            which terms, how large it is on disk, which folders ``--source`` must hold.
        domains: the domains it gives, with published counts; empty if they depend on the source.
        mappings: label mappings by name; the first is the default.
        find_pairs: ``(source, mapping name) -> pairs``. Raises :class:`InputError` if the source is not this
            data set, if an image has no label, or a label no image. Gets the mapping's name because some data
            sets hold several encodings of their labels; most ignore it.
        read_label: ``path -> H x W integer ids``, for labels that are not single-channel 8-bit PNGs. Raises
            :class:`InputError` for a file it cannot read.
        skipped: ``path -> how often by name``: what ``read_label`` leaves out of a label without refusing it, to be
            told of at the end; None where it leaves out nothing.
        version: of the conversion; raise it when a source and settings would give other files, or a mapping changes.
    """

    name: str
    title: str
    download: str
    licence: str
    size: str
    layout: str
    domains: tuple[Domain, ...]
    mappings: Mapping[str, LabelMapping]
    find_pairs: Callable[[Path, str], list[Pair]]
    read_label: Callable[[Path], np.ndarray] = read_label
    skipped: Callable[[Path], Counter[str]] | None = None
    version: int = 2


def files_by_key(folder: Path, pattern: str, key: Callable[[Path], str] = lambda path: path.stem) -> dict[str, Path]:
    """The files of a source folder, in natural order, by the part of the name that image and label share.

    Args:
        folder: must exist and hold at least one match.
        pattern: of names, ``*.png``, or of names in any subfolder, ``*/*_leftImg8bit.png``.
        key: from the path to the common part; two files of one key are an error.

    Raises:
        InputError: for a missing folder, one that cannot be read, a name that is not UTF-8, no match, or one key twice.
    """
    with reading(folder):
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; is --source the right folder, unpacked completely?")
    *inside, names = pattern.split("/")
    folders = subfolders(folder) if inside else [folder]  # Path.glob would silently skip unreadable ones
    paths = natsorted((path for each in folders for path in listed(each) if fnmatchcase(path.name, names)), key=str)
    if not paths:
        raise InputError(f"{folder}: holds no {pattern}; is --source the right folder, unpacked completely?")
    by_key = {key(path): path for path in paths}
    twice = [path for path in paths if by_key[key(path)] != path]
    if twice:
        raise InputError(f"{brief(twice)}: another file there has the same name; remove one of each")
    return by_key


def matched(images: Mapping[str, Path], labels: Mapping[str, Path], folder: Path) -> list[tuple[str, Path, Path]]:
    """Images and labels by their keys: (key, image, label), in the order of the images.

    Args:
        images, labels: by key, see :func:`files_by_key`.
        folder: for the message.

    Raises:
        InputError: naming the keys without a partner.
    """
    for here, there, kind, other in ((images, labels, "image", "label"), (labels, images, "label", "image")):
        alone = [key for key in here if key not in there]
        if alone:
            raise InputError(
                f"{folder}: {len(alone)} {kind}(s) without {other}: {brief(alone)}; add what is "
                "missing: is the data set unpacked completely?"
            )
    return [(key, image, labels[key]) for key, image in images.items()]
