"""The prepared layout on disk: any folder with this layout is a domain, without code.

::

    <root>/<domain>/train/images/<stem>.jpg or .png      8-bit RGB (greyscale is repeated over the channels)
    <root>/<domain>/train/labels/<stem>.png              one channel of trainIds 0-18, 255 = ignored
    <root>/<domain>/val/...                              the same
    <root>/<domain>/domain.json                          name, letter, num_train, num_val; may be missing

Every folder in ``root`` is a domain. Without a ``domain.json``, or without the entry in it, the name is the
folder's name and the letter is its first ASCII letter, in upper case ("night" is N, "0001TP" is T). A letter
is never invented to avoid a clash, because the results of a task "N->C" must keep their meaning when a folder
is added. Two domains with one letter are an error; it asks for a ``domain.json`` with ``{"letter": "N2"}``.

Hidden files (``.DS_Store``, the converter's temporary files), ``Thumbs.db`` and files beside the domain
folders are ignored; anything else that does not belong is an error, for an image left out in silence is a
wrong result. ``data_prep`` writes this layout for the public data sets, and ``domain.json`` last: a folder
that has its ``conversion.json`` but no ``domain.json`` is unfinished and is refused. The converters also keep a
digest of every file there: damage that a JPEG's decoder does not see is found by :func:`check_root`.
"""

import os
import re
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from natsort import natsorted
from torch.utils.data import Dataset
from tqdm import tqdm

from dglab.tasks import first_letter
from dglab.utils.errors import InputError
from dglab.utils.files import digest, listed, read_bytes, read_json, shown, subfolders
from dglab.utils.images import brief, check_train_ids, image_header, label_header, read_image, read_label

SPLITS = ("train", "val")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")

_LETTER = re.compile(r"[A-Za-z][A-Za-z0-9]*")  # what a task can name, see dglab.tasks
_DIGESTS = re.compile("[0-9a-f]{16} [0-9a-f]{16}")  # of image and label
_AGAIN = "run the same python -m data_prep command again"
LITTER = ("thumbs.db", "desktop.ini")  # what Windows leaves in a folder; other systems' files are hidden
_BAR_FROM = 500  # pairs; fewer are checked too fast for a progress bar
_SHOWN = 5  # bad pairs in a message; dglab check names all
_LAYOUT = "<root>/<domain>/{train,val}/{images,labels}/<stem>.{jpg,png}"


class PreparedDataset(Dataset):
    """One split of one domain, in the natural order of its file names (frame2 before frame10).

    Item ``i`` is the image, uint8 3 x H x W in RGB, and its label, uint8 H x W with 0-18 and 255. Sizes may
    differ from item to item. The values of a label are checked at every reading, since files can change after
    opening. In memory a pixel's three values lie side by side, as the decoder leaves them and resizing likes them.

    Attributes:
        letter, name: of the domain.
        split: ``"train"`` or ``"val"``.
        stems: file names without suffix, tuple of N.
        images, labels: the paths, tuples of N in the order of ``stems``.
    """

    def __init__(self, letter: str, name: str, split: str, folder: Path):
        """Pair the images in ``folder/images`` with the labels in ``folder/labels`` by stem.

        Raises:
            InputError: for a missing or empty folder, an image or label without its partner, one stem twice,
                or a file that is neither.
        """
        self.letter, self.name, self.split = letter, name, split
        images = _by_stem(folder / "images", IMAGE_SUFFIXES)
        labels = _by_stem(folder / "labels", (".png",))
        _check_partners(folder, images, labels)
        self.stems = tuple(natsorted(images))
        self.images = tuple(images[stem] for stem in self.stems)
        self.labels = tuple(labels[stem] for stem in self.stems)

    def __len__(self) -> int:
        return len(self.stems)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image, label = read_image(self.images[index]), read_label(self.labels[index])
        check_train_ids(label, self.labels[index])
        if image.shape[:2] != label.shape:
            raise InputError(_size_mismatch(self.images[index], image.shape[1::-1], label.shape[::-1]))
        return torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(label)

    def __repr__(self) -> str:
        return f"PreparedDataset({self.name!r}, letter {self.letter}, {self.split}, {len(self)} images)"


@dataclass(frozen=True)
class PreparedDomain:
    """A domain on disk: its letter in tasks, its name in figures, its two splits, and its ``domain.json``."""

    letter: str
    name: str
    folder: Path
    train: PreparedDataset
    val: PreparedDataset
    info: dict

    def digests(self, split: str) -> dict[str, str]:
        """By stem the digests of image and label, as the converter wrote them; empty for a folder of another origin."""
        return self.info.get("digests", {}).get(split, {})


def open_root(root: Path | str, *, verify: bool = True) -> dict[str, PreparedDomain]:
    """Open every domain of a prepared folder, checked so that training does not stop hours later.

    Always checked: the layout, partners and stems of all files, formats and sizes from the file headers,
    counts against ``domain.json``, letters. All problems of one kind are reported together.

    Args:
        root: folder of domain folders (see the module's text).
        verify: also decode every image and label, and check every label's values. At 2048 x 1024 about 12 ms a
            pair and core with a JPEG, 75 ms with a PNG; with False, damaged files are found when they are read.

    Returns:
        The domains by letter, in natural order of their folders' names.

    Raises:
        InputError: naming the files, what was got, what was expected and what to do.
    """
    root = Path(root)
    domains = _open_domains(root)
    pairs = [pair for domain in domains for part in (domain.train, domain.val) for pair in _pairs(part)]
    _refuse_bad(root, pairs, _map_files(_decode_problem if verify else _header_problem, pairs), most=_SHOWN)
    return {domain.letter: domain for domain in domains}


@dataclass(frozen=True)
class Checked:
    """What :func:`check_root` found in order: a domain, how many pairs, and whether there were digests to compare."""

    domain: PreparedDomain
    pairs: int
    with_digests: bool


def check_root(root: Path | str) -> list[Checked]:
    """Check a prepared root as :func:`open_root` does, and every file against its digest in ``domain.json``.

    Returns:
        What was checked, one a domain; without digests (anybody's own folder has none) damage inside a JPEG may stay
        unseen.

    Raises:
        InputError: naming every pair that is damaged.
    """
    root = Path(root)
    domains = _open_domains(root)
    pairs = [
        (*pair, domain.digests(part.split).get(stem, "") if domain.info.get("digests") else None)
        for domain in domains
        for part in (domain.train, domain.val)
        for stem, pair in zip(part.stems, _pairs(part), strict=True)
    ]
    _refuse_bad(root, pairs, _map_files(_digest_problem, pairs), most=len(pairs))
    return [
        Checked(domain, len(domain.train) + len(domain.val), bool(domain.info.get("digests"))) for domain in domains
    ]


def _open_domains(root: Path) -> list[PreparedDomain]:
    domains = [_open_domain(folder) for folder in _domain_folders(root)]
    _check_letters(domains)
    return domains


def _refuse_bad(root: Path, pairs: list, found: list["Finding"], most: int) -> None:
    problems = [one.problem for one in found if one.problem]
    if problems:
        raise InputError(f"{root}: {len(problems)} of {len(pairs)} pairs are bad:" + _lines(problems, most))
    turned = [one.image for one in found if one.turned]
    if turned:
        warnings.warn(
            f"{brief(turned)}: {len(turned)} image(s) with an EXIF orientation, which is ignored: rows and columns are "
            "taken as they are stored, as the label's; rotate image and label if they do not match",
            stacklevel=3,
        )


def _domain_folders(root: Path) -> list[Path]:
    if not os.path.isdir(root):
        raise InputError(f"{shown(root)}: no such folder; expected {_LAYOUT} (see python -m data_prep)")
    folders = natsorted(subfolders(root), key=str)
    if not folders:
        raise InputError(f"{root}: has no domain folders; expected {_LAYOUT}")
    if any(folder.name in SPLITS for folder in folders):
        raise InputError(f"{root}: is itself a domain; give the folder that holds it")
    return folders


def _open_domain(folder: Path) -> PreparedDomain:
    info = _read_info(folder)
    name, letter = info.get("name", folder.name), info.get("letter", first_letter(folder.name))
    parts = {split: PreparedDataset(letter, name, split, folder / split) for split in SPLITS}
    for split, dataset in parts.items():
        expected = info.get(f"num_{split}", len(dataset))
        if len(dataset) != expected:
            raise InputError(
                f"{folder / split}: has {len(dataset)} images, but {folder / 'domain.json'} says num_{split} "
                f"= {expected}; convert or copy the domain again, or correct the number if you changed files"
            )
    return PreparedDomain(letter, name, folder, parts["train"], parts["val"], info)


def _read_info(folder: Path) -> dict:
    path = folder / "domain.json"
    if not os.path.lexists(path):
        if os.path.lexists(folder / "conversion.json"):
            raise InputError(
                f"{folder}: its conversion is unfinished (there is no domain.json); "
                "run the same python -m data_prep command again"
            )
        return {}
    info = read_json(path)
    if not isinstance(info, dict):
        raise InputError(f'{path}: holds no object; expected something like {{"letter": "N"}}')
    for key, kind in (("name", str), ("letter", str), ("num_train", int), ("num_val", int)):
        if key in info and (not isinstance(info[key], kind) or isinstance(info[key], bool)):
            expected = "text" if kind is str else "a whole number"
            raise InputError(f"{path}: {key} is {info[key]!r}; expected {expected}")
    if not _LETTER.fullmatch(info.get("letter", "A")):
        raise InputError(f"{path}: letter is {info['letter']!r}; expected a letter, then letters or digits, such as N2")
    _check_digests(info.get("digests", {}), path)
    return info


def _check_digests(digests: object, path: Path) -> None:
    """Those of image and label, by stem by split."""
    splits = list(digests.values()) if isinstance(digests, dict) else [None]
    if not all(isinstance(of_split, dict) and all(map(_are_digests, of_split.values())) for of_split in splits):
        raise InputError(f"{path}: its digests are none; convert the domain again, or remove the entry")


def _are_digests(text: object) -> bool:
    return isinstance(text, str) and _DIGESTS.fullmatch(text) is not None


def _check_letters(domains: list[PreparedDomain]) -> None:
    folders: dict[str, list[Path]] = {}
    for domain in domains:
        if not domain.letter:
            raise InputError(
                f"{domain.folder}: no letter can be taken from the folder's name; rename it, or write "
                f'{domain.folder / "domain.json"} with {{"letter": "N"}}'
            )
        folders.setdefault(domain.letter, []).append(domain.folder)
    for letter, same in folders.items():
        if len(same) > 1:
            raise InputError(
                f"the letter {letter} stands for {len(same)} domains: {brief(same)}; in all but one "
                f'of them write a domain.json with another letter, such as {{"letter": "{letter}2"}}'
            )


def _by_stem(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """The files of a folder by stem; nothing but files of these suffixes, each stem once, at least one."""
    if not os.path.isdir(folder):
        raise InputError(f"{folder}: no such folder; a domain is {_LAYOUT}, with both train and val")
    files = [path for path in natsorted(listed(folder), key=str) if path.name.lower() not in LITTER]
    foreign = [path for path in files if path.suffix.lower() not in suffixes or os.path.isdir(path)]
    if foreign:
        raise InputError(
            f"{brief(foreign)}: cannot be used; expected only {' or '.join(suffixes)} files in {folder}; "
            "convert or remove the others"
        )
    if not files:
        raise InputError(f"{folder}: is empty; expected {' or '.join(suffixes)} files")
    stems = {path.stem: path for path in files}
    if len(stems) < len(files):
        twice = [path.name for path in files if stems[path.stem] != path]
        raise InputError(f"{folder}: the stem of {brief(twice)} occurs twice; keep one file of each stem")
    return stems


def _check_partners(folder: Path, images: dict[str, Path], labels: dict[str, Path]) -> None:
    for here, there, kind, other in ((images, labels, "image", "label"), (labels, images, "label", "image")):
        alone = [path for stem, path in here.items() if stem not in there]
        if alone:
            raise InputError(
                f"{brief(alone)}: {len(alone)} {kind}(s) without {other}; expected one of the same stem in "
                f"{folder / (other + 's')}; add what is missing or remove the {kind}"
            )


def _pairs(dataset: PreparedDataset) -> Iterable[tuple[Path, Path]]:
    return zip(dataset.images, dataset.labels, strict=True)


@dataclass(frozen=True)
class Finding:
    """The result of checking a pair: a problem in words, or none; and whether its image has an EXIF orientation."""

    image: Path
    problem: str | None = None
    turned: bool = False


def _header_problem(pair: tuple[Path, Path]) -> Finding:
    return _look(pair, lambda: None)


def _decode_problem(pair: tuple[Path, Path]) -> Finding:
    def decode() -> None:
        read_image(pair[0], thorough=True)
        check_train_ids(read_label(pair[1]), pair[1])

    return _look(pair, decode)


def _digest_problem(pair: tuple[Path, Path, str | None]) -> Finding:
    """As :func:`_decode_problem`; then the digests, where the domain has some: "" is the one that it lacks."""
    *files, expected = pair
    finding = _decode_problem((files[0], files[1]))
    if finding.problem or expected is None:
        return finding
    if not expected:
        return Finding(files[0], f"{files[0]}: was not written with the others: there is no digest of it; {_AGAIN}")
    try:
        for path, there in zip(files, expected.split(), strict=True):
            here = digest(read_bytes(path))
            if here != there:
                problem = f"{path}: is not the file that was written (digest {here}, expected {there}); {_AGAIN}"
                return Finding(files[0], problem)
    except InputError as error:
        return Finding(files[0], str(error))
    return finding


def _look(pair: tuple[Path, Path], further: Callable[[], None]) -> Finding:
    """Check headers first, so that wrong sizes and formats need no decoding."""
    try:
        image, label = image_header(pair[0]), label_header(pair[1])
        if image.size != label.size:
            raise InputError(_size_mismatch(pair[0], image.size, label.size))
        further()
    except InputError as error:
        return Finding(pair[0], str(error))
    return Finding(pair[0], turned=image.orientation != 1)


def _size_mismatch(image: Path, image_size: tuple[int, ...], label_size: tuple[int, ...]) -> str:
    return (
        f"{image}: is {image_size[0]} x {image_size[1]}, but its label {label_size[0]} x {label_size[1]}; "
        "expected equal sizes; remove the pair or make the label again"
    )


def _map_files(look: Callable[[tuple], Finding], pairs: list[tuple]) -> list[Finding]:
    """The results of checking pairs, in order; in threads, because decoding releases the GIL."""
    quiet = len(pairs) <= _BAR_FROM or None  # None: quiet if stderr is no terminal, as in a notebook
    with ThreadPoolExecutor() as pool:
        return list(tqdm(pool.map(look, pairs), "checking", len(pairs), unit="pair", disable=quiet))


def _lines(problems: list[str], most: int) -> str:
    rest = len(problems) - most
    return "\n  ".join(["", *problems[:most]]) + (f"\n  and {rest} more" if rest > 0 else "")
