"""IDD, the India Driving Dataset: roads without lane discipline, and 40 classes, 18 of which Cityscapes has too.

**Labels are drawn from the polygons**, never read from PNGs. ``*_gtFine_polygons.json`` is what the release holds; a
``*_label...s.png`` beside it is what a user has made with AutoNUE's tool, in one of six encodings (id, csId, csTrainId,
level3Id, ...). Which of them exist depends on what was run, all are bytes that look like trainIds, and one holds a slip
of the tool's table: the csId of vehicle fallback is 355 there, which no byte can be. The polygons are one truth, so a
source without them is refused.

Drawing follows ``preperation/json2labelImg.py`` of github.com/AutoNUE/public-code as it is since August 2019 (commit
9b38d12): polygons in the order of the file, later ones over earlier ones, filled with their outline, coordinates cut to
whole pixels (as Pillow does), "cargroup" drawn as car. Passed over are deleted polygons, those of fewer than three
points, and names that are in no table, of which the release has one, Cityscapes' "ground": what lies below stays. How
many of these there are is said at the end. (Before, the tool stopped at them; and we drew "ground" as unlabeled.)

**Non-drivable fallback is a choice**, for AutoNUE's own table contradicts itself: 255 by csId, 9 (terrain) by
csTrainId. The first mapping, ``ignored``, is what the paper's code trains with (it reads csIds), and the class is more
than terrain: bare ground, rubble, water. With ``terrain``, IDD has 19 classes.

Part I is what the paper uses: 6,993 and 981 labelled pairs (the 2,029 of test have no public labels and are not read).
Part II has the same layout with JPEG images. It is converted as well, under the name "IDD part II", and compared with
no published number, because its release names none that we could check.

Sources: Varma et al., "IDD: a dataset for exploring problems of autonomous navigation in unconstrained environments",
WACV 2019; ids and names from ``helpers/anue_labels.py`` of AutoNUE/public-code.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from data_prep.dataset import SPLITS, Dataset, Domain, LabelMapping, Pair, files_by_key, matched
from dglab.classes import CLASS_NAMES, IGNORED
from dglab.utils.errors import InputError
from dglab.utils.files import parse_json, read_text, shown

PART_I = Domain("idd", "IDD", "I", num_train=6993, num_val=981)

NAMES = (  # by AutoNUE's id
    "road", "parking", "drivable fallback", "sidewalk", "rail track", "non-drivable fallback", "person", "animal",
    "rider", "motorcycle", "bicycle", "autorickshaw", "car", "truck", "bus", "caravan", "trailer", "train",
    "vehicle fallback", "curb", "wall", "fence", "guard rail", "billboard", "traffic sign", "traffic light", "pole",
    "polegroup", "obs-str-bar-fallback", "building", "bridge", "tunnel", "vegetation", "sky", "fallback background",
    "unlabeled", "ego vehicle", "rectification border", "out of roi", "license plate",
)  # fmt: skip
_IDS = {name: i for i, name in enumerate(NAMES)}
_UNLABELED = _IDS["unlabeled"]

_TOO_FEW = "polygons of fewer than 3 points"
_MOST_PIXELS, _FARTHEST = 1 << 28, 100_000  # of an image; a coordinate: beyond these a file is damaged, not large

# What is called as in Cityscapes is the same class there, by csId as by csTrainId.
_TO_TRAIN_IDS = {i: CLASS_NAMES.index(name) if name in CLASS_NAMES else IGNORED for i, name in enumerate(NAMES)}
_TERRAIN = {_IDS["non-drivable fallback"]: CLASS_NAMES.index("terrain")}


def find_pairs(source: Path, mapping: str) -> list[Pair]:
    """The labelled pairs; ``0/005506_leftImg8bit.png`` becomes ``0_005506``, because drives share frame names.

    Args:
        source: the folder that holds ``leftImg8bit`` and ``gtFine``.
        mapping: not needed here.

    Raises:
        InputError: for a missing folder, or an image or polygon file without its partner.
    """
    found = []
    for split in SPLITS:
        images = files_by_key(source / "leftImg8bit" / split, "*/*_leftImg8bit.*", _frame)
        labels = files_by_key(source / "gtFine" / split, "*/*_gtFine_polygons.json", _frame)
        found += [(split, *files) for files in matched(images, labels, source)]
    domain = _domain(image for _, _, image, _ in found)
    return [Pair(domain, *row) for row in found]


def _frame(path: Path) -> str:
    return f"{path.parent.name}_{path.stem.removesuffix('_leftImg8bit').removesuffix('_gtFine_polygons')}"


def _domain(images: Iterable[Path]) -> Domain:
    """Part I with its counts; with JPEG images in the source, another name, so that results are not mixed up."""
    parts = sorted({"I" if image.suffix.lower() == ".png" else "II" for image in images})
    return PART_I if parts == ["I"] else Domain(PART_I.folder, f"IDD part {' and '.join(parts)}", PART_I.letter)


def read_label(path: Path) -> np.ndarray:
    """Draw a polygon file.

    Returns:
        H x W uint8 of AutoNUE's ids 0-39.

    Raises:
        InputError: for a file that is no such JSON, or a polygon that is none.
    """
    size, shapes = _read(path)
    label = Image.new("L", size, _UNLABELED)
    draw = ImageDraw.Draw(label)
    for name, points in shapes:
        if len(points) >= 3 and _id(name) is not None:
            draw.polygon(points, fill=_id(name))
    return np.asarray(label)


def skipped(path: Path) -> Counter[str]:
    """What :func:`read_label` passes over: how many polygons by their name in no table, or of too few points."""
    _, shapes = _read(path)
    found = Counter(name for name, points in shapes if len(points) >= 3 and _id(name) is None)
    few = sum(len(points) < 3 for _, points in shapes)
    return found + Counter({_TOO_FEW: few})  # a sum leaves out what is 0


def _read(path: Path) -> tuple[tuple[int, int], list[tuple[str, list[tuple[int, int]]]]]:
    """The size, W and H, and name and points of each polygon that is not deleted."""
    try:
        content = parse_json(read_text(path))
        size = tuple(_whole(content[side], 1, _MOST_PIXELS) for side in ("imgWidth", "imgHeight"))
        if size[0] * size[1] > _MOST_PIXELS:
            raise ValueError(f"{size[0]} x {size[1]} pixels")
        shapes = [
            (
                _text(shape["label"]),
                [tuple(_whole(c, -_FARTHEST, _FARTHEST) for c in (x, y)) for x, y in shape["polygon"]],
            )
            for shape in content["objects"]
            if not int(shape.get("deleted", 0))
        ]
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        reason = str(error) if isinstance(error, InputError) else repr(error)[:200]
        raise InputError(
            f"{shown(path)}: is damaged, or no polygon file ({reason}); expected JSON with imgWidth, imgHeight and "
            "objects, each with a label and a polygon of (x, y); unpack it again"
        ) from error
    return size, shapes


def _whole(number: int | float, least: int, most: int) -> int:
    if isinstance(number, str) or not least <= int(number) <= most:
        raise ValueError(f"{str(number)[:40]}, expected a number from {least} to {most}")
    return int(number)


def _text(label: object) -> str:
    if not isinstance(label, str):
        raise TypeError(f"the label {label!r} is not text")
    return label


def _id(name: str) -> int | None:
    # polegroup is a name of its own; cargroup, a crowd of cars that cannot be told apart, is car.
    return _IDS.get(name, _IDS.get(name.removesuffix("group")))


DATASET = Dataset(
    name="idd",
    title="IDD, the India Driving Dataset, 18 of the 19 classes (19 with the mapping terrain)",
    download="https://idd.insaan.iiit.ac.in (registration), Segmentation part I, idd-segmentation.tar.gz; --source "
    "is its IDD_Segmentation",
    licence="the terms are shown at registration; cite Varma et al. (2019)",
    size="7,974 labelled images, mostly of 1920 x 1080; a download of 19 GB",
    layout="leftImg8bit/{train,val}/*/*_leftImg8bit.png and gtFine/{train,val}/*/*_gtFine_polygons.json",
    domains=(PART_I,),
    mappings={
        "ignored": LabelMapping(
            _TO_TRAIN_IDS, "by the names shared with Cityscapes; non-drivable fallback ignored, as in the paper's code"
        ),
        "terrain": LabelMapping(
            _TO_TRAIN_IDS | _TERRAIN, "the same, with non-drivable fallback as terrain, as by AutoNUE's csTrainId"
        ),
    },
    find_pairs=find_pairs,
    read_label=read_label,
    skipped=skipped,
    version=3,
)
