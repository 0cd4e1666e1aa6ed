"""Mapillary Vistas v1.2 (and v1.1, whose 66 ids are the same): streets of six continents, from all sorts of cameras.

**v2.0 is refused.** The site serves both versions in one archive, and their ids 0-65 name different classes: read as
v1.2, a v2.0 label is nonsense that raises no error. Labels are taken from ``v1.2/labels``, or from ``labels`` where an
older archive has no such folder; a source with ``v2.0`` alone is refused by name. The files are checked one by one: the
palette in each v1.2 PNG paints the 19 Cityscapes classes in exactly the Cityscapes colours (the paper's code recognizes
them by that), so any other palette is another version, or ids that some program reordered. **A greyscale PNG has no
palette**, and where all its ids lie below 66, nothing in it tells one version from the other: in ``v1.2/labels`` the
folder's name is believed; in ``labels`` a ``config.json`` in ``--source`` with v1.2's 66 names is asked for, and
believed. A v2.0 label without a palette that somebody has put beside a v1.2 ``config.json``, or into ``v1.2/labels``,
cannot be told apart.

**Which Vistas class is which Cityscapes class is a choice**, and published numbers differ by it:

* ``base``: the 19 classes that are the same. This is the paper's code, and the default.
* ``robustnet``: also general lane markings and manholes as road, curbs as sidewalk, utility poles as pole,
  motorcyclists and other riders as rider. From ``datasets/mapillary.py`` of github.com/shachoi/RobustNet.
* ``openseg``: by parts of the class names, so also all that is driven and walked on, and the backs and frames of
  traffic signs; without manholes. From ``mapillary_generator.py`` of github.com/openseg-group/openseg.pytorch; Rein
  and others took it over.

**Sizes vary** widely, up to more than twenty megapixels. Training crops to one size and copes with it; test-time
methods that normalize several images together need images of one size. ``--max-side 2048`` shrinks the data set several
times over, at the price of the finest details; scores are then those of the reduced labels, to be named with them.

Source: Neuhold et al., "The Mapillary Vistas dataset for semantic understanding of street scenes", ICCV 2017; the
names and ids are those of its ``config.json``.
"""

import functools
import os
from pathlib import Path

import numpy as np
from PIL import Image

from data_prep.dataset import Dataset, Domain, LabelMapping, Pair, files_by_key, matched
from dglab.classes import CLASS_NAMES, IGNORED, PALETTE
from dglab.utils import images as files
from dglab.utils.errors import InputError
from dglab.utils.files import read_json

DOMAIN = Domain("mapillary", "Mapillary", "M", num_train=18000, num_val=2000)
_PARTS = {"train": "training", "val": "validation"}

NAMES = (  # by id
    "Bird", "Ground Animal", "Curb", "Fence", "Guard Rail", "Barrier", "Wall", "Bike Lane", "Crosswalk - Plain",
    "Curb Cut", "Parking", "Pedestrian Area", "Rail Track", "Road", "Service Lane", "Sidewalk", "Bridge", "Building",
    "Tunnel", "Person", "Bicyclist", "Motorcyclist", "Other Rider", "Lane Marking - Crosswalk",
    "Lane Marking - General", "Mountain", "Sand", "Sky", "Snow", "Terrain", "Vegetation", "Water", "Banner", "Bench",
    "Bike Rack", "Billboard", "Catch Basin", "CCTV Camera", "Fire Hydrant", "Junction Box", "Mailbox", "Manhole",
    "Phone Booth", "Pothole", "Street Light", "Pole", "Traffic Sign Frame", "Utility Pole", "Traffic Light",
    "Traffic Sign (Back)", "Traffic Sign (Front)", "Trash Can", "Bicycle", "Boat", "Bus", "Car", "Caravan",
    "Motorcycle", "On Rails", "Other Vehicle", "Trailer", "Truck", "Wheeled Slow", "Car Mount", "Ego Vehicle",
    "Unlabeled",
)  # fmt: skip

_BASE = {
    "Road": "road", "Sidewalk": "sidewalk", "Building": "building", "Wall": "wall", "Fence": "fence", "Pole": "pole",
    "Traffic Light": "traffic light", "Traffic Sign (Front)": "traffic sign", "Vegetation": "vegetation",
    "Terrain": "terrain", "Sky": "sky", "Person": "person", "Bicyclist": "rider", "Car": "car", "Truck": "truck",
    "Bus": "bus", "On Rails": "train", "Motorcycle": "motorcycle", "Bicycle": "bicycle",
}  # fmt: skip
_SHARED = _BASE | {
    "Lane Marking - General": "road", "Curb": "sidewalk", "Utility Pole": "pole", "Motorcyclist": "rider",
    "Other Rider": "rider",
}  # fmt: skip
_ROBUSTNET = _SHARED | {"Manhole": "road"}
_OPENSEG = _SHARED | {
    "Bike Lane": "road", "Crosswalk - Plain": "road", "Parking": "road", "Service Lane": "road",
    "Lane Marking - Crosswalk": "road", "Curb Cut": "sidewalk", "Pedestrian Area": "sidewalk", "Street Light": "pole",
    "Traffic Sign Frame": "traffic sign", "Traffic Sign (Back)": "traffic sign",
}  # fmt: skip


def _table(classes: dict[str, str]) -> dict[int, int]:
    """All 66 ids to trainIds; what ``classes`` does not name is ignored."""
    return {i: CLASS_NAMES.index(classes[name]) if name in classes else IGNORED for i, name in enumerate(NAMES)}


_COLOURS = {i: PALETTE[new] for i, new in _table(_BASE).items() if new != IGNORED}  # in the PNGs' own palette


def find_pairs(source: Path, mapping: str) -> list[Pair]:
    """The pairs of training and validation, which become train and val; the labels of testing are not public.

    Args:
        source: the folder that holds ``training`` and ``validation``.
        mapping: not needed here.

    Raises:
        InputError: for a missing folder, labels of v2.0 alone, or a file without its partner.
    """
    pairs = []
    for split, part in _PARTS.items():
        images = files_by_key(source / part / "images", "*.jpg")
        labels = files_by_key(_label_folder(source / part), "*.png")
        pairs += [Pair(DOMAIN, split, *files) for files in matched(images, labels, source / part)]
    return pairs


def _label_folder(part: Path) -> Path:
    if (part / "v1.2" / "labels").is_dir():
        return part / "v1.2" / "labels"
    if (part / "v2.0").is_dir() and not (part / "labels").is_dir():
        raise InputError(
            f"{part}: has labels of Mapillary Vistas v2.0 only, whose ids name other classes; expected those of v1.2 "
            "in v1.2/labels; unpack that folder from the archive, too"
        )
    return part / "labels"


def read_label(path: Path) -> np.ndarray:
    """The ids of a label, H x W uint8, after a look at its palette, or, where it has none, at the ``config.json``.

    Raises:
        InputError: for a file that is no label, a palette that is not v1.2's, or nothing that tells the version.
    """
    ids = files.read_label(path)
    with Image.open(path) as image:
        palette = np.reshape(image.getpalette() or [], (-1, 3)).tolist()
    if len(palette) <= min(_COLOURS) and (path.parent.parent.name, path.parent.name) != ("v1.2", "labels"):
        config = path.parents[2] / "config.json"  # of --source
        if not os.path.lexists(config):
            raise InputError(
                f"{path}: has no palette, and its ids may be those of Mapillary Vistas v1.2 or v2.0; expected {config} "
                "of the v1.2 archive beside it; or use the palette files in v1.2/labels"
            )
        _check_config(str(config))
    for i, colour in _COLOURS.items():
        if i < len(palette) and tuple(palette[i]) != colour:
            raise InputError(
                f"{path}: its palette paints id {i} in {tuple(palette[i])}; expected {NAMES[i]} of Mapillary Vistas "
                f"v1.2, {colour}; is it a label of v2.0, or was the palette changed? use the files in v1.2/labels"
            )
    return ids


@functools.lru_cache(maxsize=2)  # thousands of labels ask
def _check_config(path: str) -> None:
    """Refuse a ``config.json`` that does not name v1.2's classes."""
    content = read_json(path)
    try:
        names = tuple(label["readable"] for label in content["labels"])
    except (TypeError, KeyError) as error:
        raise InputError(
            f"{path}: is not a config.json of Mapillary Vistas ({error!r}); take it from the archive"
        ) from error
    if names != NAMES:
        raise InputError(
            f"{path}: names {len(names)} classes, not the {len(NAMES)} of Mapillary Vistas v1.2; is it of v2.0? "
            "use the labels of v1.2, and its config.json"
        )


DATASET = Dataset(
    name="mapillary",
    title="Mapillary Vistas v1.2, street scenes from all over the world, 66 classes",
    download="https://www.mapillary.com/dataset/vistas (registration); --source holds training and validation",
    licence="Mapillary Vistas, Research Edition: the licence is in the archive; cite Neuhold et al. (2017)",
    size="20,000 labelled images, sizes vary, up to more than 20 megapixels; consider --max-side 2048",
    layout="{training,validation}/images/*.jpg with {training,validation}/v1.2/labels/*.png (or .../labels/*.png, and "
    "for labels without a palette config.json)",
    domains=(DOMAIN,),
    mappings={
        "base": LabelMapping(_table(_BASE), "the 19 classes that are the same, as in the paper's code"),
        "robustnet": LabelMapping(_table(_ROBUSTNET), "datasets/mapillary.py of github.com/shachoi/RobustNet"),
        "openseg": LabelMapping(
            _table(_OPENSEG), "mapillary_generator.py of github.com/openseg-group/openseg.pytorch; Rein has the same"
        ),
    },
    find_pairs=find_pairs,
    read_label=read_label,
)
