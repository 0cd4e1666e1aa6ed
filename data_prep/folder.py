"""The user's own images and labels: a folder ``night`` of images and labels becomes a domain "night", letter N.

::

    night/images/a.jpg            night/train/images/a.jpg        images: .jpg, .jpeg or .png
    night/labels/a.png      or    night/train/labels/a.png        labels: .png, of the same stem
                                  night/val/...

The domain is called like the source folder, and its letter is the first one of that name, as everywhere in the
prepared layout (see :mod:`dglab.data.prepared`); rename the folder, and both change.

**Without train and val, the split is ours**: one image in five goes to val, by a hash of its stem. Nothing else
decides, so adding images moves none of the others, and an image is on the same side on every machine and in every
version of it: the same street with fog added, say. For frames of a video this is the wrong split, since a frame's
neighbours are near-copies of it: put them into train and val yourself, whole drives apart, as :mod:`data_prep.camvid`
does.

Three encodings of labels are read, each under its own mapping, and a file of another one is refused:

* ``trainids``: one channel of 0-18, and 255 for ignored.
* ``cityscapes_ids``: one channel of Cityscapes labelIds 0-33 (road is 7).
* ``cityscapes_colors``: RGB, in exactly the 19 colours of Cityscapes, and black for ignored. An edge that some program
  has smoothed holds colours of no class, or, by chance, of a wrong one; such a file is refused rather than rounded.
"""

from pathlib import Path

import numpy as np

from data_prep.cityscapes import LABEL_ID_TO_TRAIN_ID
from data_prep.dataset import SPLITS, Dataset, Domain, LabelMapping, Pair, files_by_key, matched
from dglab.classes import IGNORED, NUM_CLASSES, PALETTE
from dglab.data.prepared import LITTER
from dglab.tasks import first_letter
from dglab.utils.errors import InputError
from dglab.utils.images import brief, read_header, read_image
from dglab.utils.seeds import derive_seed

VAL_SHARE = 5  # one image in so many

_IMAGES, _LABELS = (".jpg", ".jpeg", ".png"), (".png",)
_TRAIN_IDS = {i: i for i in (*range(NUM_CLASSES), IGNORED)}
_COLOURS = {colour: i for i, colour in enumerate(PALETTE)} | {(0, 0, 0): IGNORED}


def find_pairs(source: Path, mapping: str) -> list[Pair]:
    """Pairs by stem, from ``images`` and ``labels``, or from those in ``train`` and ``val``.

    Args:
        source: the folder, called as the domain shall be.
        mapping: not needed here.

    Raises:
        InputError: for a name that gives no letter, both layouts at once, a missing folder, a file that is neither
            image nor label or has no partner, or a set so small that the split by name leaves train or val empty.
    """
    domain = _domain(source)
    split_already = [split for split in SPLITS if (source / split).is_dir()]
    if split_already and (source / "images").is_dir():
        raise InputError(
            f"{source}: holds images as well as {' and '.join(split_already)}; expected either images and labels, or "
            "train and val with images and labels in each; move one of them away"
        )
    if split_already:
        return [Pair(domain, split, *files) for split in SPLITS for files in _files(source / split)]
    pairs = [Pair(domain, split_of(stem), stem, image, label) for stem, image, label in _files(source)]
    counts = {split: sum(pair.split == split for pair in pairs) for split in SPLITS}
    if 0 in counts.values():
        raise InputError(
            f"{source}: the split by name puts {counts['train']} image(s) into train and {counts['val']} into val; "
            "expected some in each; add images, or split them yourself into the folders train and val"
        )
    return pairs


def split_of(stem: str) -> str:
    """``"val"`` for one stem in five, ``"train"`` for the others; a hash of the stem alone decides."""
    return "val" if derive_seed("folder", stem) % VAL_SHARE == 0 else "train"


def _domain(source: Path) -> Domain:
    letter = first_letter(source.name)
    if not letter or source.name.startswith(".") or source.name in SPLITS:
        raise InputError(
            f"{source}: the domain would be called {source.name!r}; expected a name with a letter from A to Z, without "
            "a dot at its beginning, and neither train nor val; rename the folder"
        )
    return Domain(source.name, source.name, letter)


def _files(folder: Path) -> list[tuple[str, Path, Path]]:
    """Stem, image and label."""
    images, labels = (
        _of_suffix(files_by_key(folder / kind, "*"), suffixes)
        for kind, suffixes in (("images", _IMAGES), ("labels", _LABELS))
    )
    return matched(images, labels, folder)


def _of_suffix(files: dict[str, Path], suffixes: tuple[str, ...]) -> dict[str, Path]:
    files = {key: path for key, path in files.items() if path.name.lower() not in LITTER}
    foreign = [path for path in files.values() if path.suffix.lower() not in suffixes or path.is_dir()]
    if foreign:
        raise InputError(
            f"{brief(foreign)}: cannot be used; expected only {' or '.join(suffixes)} files; convert or remove these"
        )
    return files


def read_colours(path: Path) -> np.ndarray:
    """The trainIds that a label's colours stand for.

    Returns:
        H x W uint8, 0-18 and 255.

    Raises:
        InputError: if the file is no 8-bit RGB PNG, or has a colour that is neither a class's nor black.
    """
    header = read_header(path)
    if (header.format, header.mode, header.bits) != ("PNG", "RGB", 8):
        raise InputError(
            f"{path}: is a {header}; with the mapping cityscapes_colors a label must be an 8-bit RGB PNG; for class "
            "ids give --mapping trainids or cityscapes_ids"
        )
    rgb = read_image(path, thorough=True)
    codes = _codes(rgb)  # compared as one number: ten times as fast as three bytes
    label, known = np.full(codes.shape, IGNORED, np.uint8), np.zeros(codes.shape, bool)
    for colour, train_id in _COLOURS.items():
        here = codes == _codes(np.uint8(colour))
        label[here] = train_id
        known |= here
    if not known.all():
        unknown = [tuple(colour) for colour in np.unique(rgb[~known], axis=0).tolist()]
        raise InputError(
            f"{path}: has the colour(s) {brief(unknown)} (R, G, B); expected the 19 colours of Cityscapes, and black "
            "for ignored pixels; write the ids themselves, or paint without smoothing"
        )
    return label


def _codes(rgb: np.ndarray) -> np.ndarray:
    """Colours, ... x 3 uint8, as the numbers 0xRRGGBB."""
    red, green, blue = np.moveaxis(rgb.astype(np.int32), -1, 0)
    return red << 16 | green << 8 | blue


DATASET = Dataset(
    name="folder",
    title=f"own images and labels; without folders train and val, 1 image in {VAL_SHARE} is val, by a hash of its stem",
    download="yours; --source is the folder, and its name becomes the domain's",
    licence="yours",
    size="any; sizes may vary",
    layout="{images,labels}/<stem>.{jpg,png}, or the same in train and in val",
    domains=(),
    mappings={
        "trainids": LabelMapping(_TRAIN_IDS, "0-18 and 255 as they are"),
        "cityscapes_ids": LabelMapping(LABEL_ID_TO_TRAIN_ID, "labelIds, see data_prep/cityscapes.py"),
        "cityscapes_colors": LabelMapping(_TRAIN_IDS, "RGB labels in the Cityscapes colours, exactly", read_colours),
    },
    find_pairs=find_pairs,
)
