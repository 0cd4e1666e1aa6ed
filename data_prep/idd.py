"""IDD, the India Driving Dataset: roads without lane discipline, and 40 classes, 18 of which Cityscapes has too.

**Labels are drawn from the polygons**, never read from PNGs. ``*_gtFine_polygons.json`` is what the release holds; a
``*_label...s.png`` beside it is what a user has made with AutoNUE's tool, in one of six encodings (id, csId, csTrainId,
level3Id, ...). Which of them exist depends on what was run, all are bytes that look like trainIds, and one holds a slip
of the tool's table: the csId of vehicle fallback is 355 there, which no byte can be. The polygons are one truth, so a
source without them is refused.

Drawing follows ``preperation/json2labelImg.py`` of github.com/AutoNUE/public-code: polygons in the order of the file,
later ones over earlier ones, filled with their outline, deleted ones left out, coordinates cut to whole pixels (as
Pillow does), "cargroup" drawn as car. A name that is in no table is refused; the tool does the same.

**Non-drivable fallback is a choice**, for AutoNUE's own table contradicts itself: 255 by csId, 9 (terrain) by
csTrainId. The first mapping, ``ignored``, is what the paper's code trains with (it reads csIds), and the class is more
than terrain: bare ground, rubble, water. With ``terrain``, IDD has 19 classes.

Part I is what the paper uses: 6,993 and 981 labelled pairs (the 2,029 of test have no public labels and are not read).
Part II has the same layout with JPEG images. It is converted as well, under the name "IDD part II", and compared with
no published number, because its release names none that we could check.

Sources: Varma et al., "IDD: a dataset for exploring problems of autonomous navigation in unconstrained environments",
WACV 2019; ids and names from ``helpers/anue_labels.py`` of AutoNUE/public-code.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from data_prep.dataset import SPLITS, Dataset, Domain, LabelMapping, Pair, check_partners, files_by_key
from dglab.classes import CLASS_NAMES, IGNORED
from dglab.utils.errors import InputError
from dglab.utils.images import brief

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
# Polygon files of the release name this label of Cityscapes, too. It has no AutoNUE id; Cityscapes ignores it.
_IDS["ground"] = _UNLABELED

# What is called as in Cityscapes is the same class there, by csId as by csTrainId.
_TO_TRAIN_IDS = {i: CLASS_NAMES.index(name) if name in CLASS_NAMES else IGNORED for i, name in enumerate(NAMES)}
_TERRAIN = {_IDS["non-drivable fallback"]: CLASS_NAMES.index("terrain")}


def find_pairs(source: Path, mapping: str) -> list[Pair]:
    """The labelled pairs; ``0/005506_leftImg8bit.png`` becomes ``0_005506``, for frames of two drives share names.

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
        check_partners(images, labels, source)
        found += [(split, frame, image, labels[frame]) for frame, image in images.items()]
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
        InputError: for a file that is no such JSON, an unknown label name, or a polygon that is none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        label = Image.new("L", (content["imgWidth"], content["imgHeight"]), _UNLABELED)
        shapes = [
            (shape["label"], [(int(x), int(y)) for x, y in shape["polygon"]])
            for shape in content["objects"]
            if not int(shape.get("deleted", 0))
        ]
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise InputError(
            f"{path}: is damaged, or no polygon file ({error!r}); expected JSON with imgWidth, imgHeight and objects, "
            "each with a label and a polygon of (x, y); unpack it again"
        ) from error
    unknown = sorted({str(name) for name, _ in shapes if _id(name) is None})
    if unknown:
        raise InputError(f"{path}: has the label(s) {brief(unknown)}; expected the names of AutoNUE's table")
    draw = ImageDraw.Draw(label)
    for name, points in shapes:
        if len(points) < 2:  # the tool and Pillow stop here, too
            raise InputError(f"{path}: a polygon of {name} has {len(points)} point(s); mark it as deleted")
        draw.polygon(points, fill=_id(name))
    return np.asarray(label)


def _id(name: str) -> int | None:
    # polegroup is a name of its own; cargroup, a crowd of cars that cannot be told apart, is car.
    return _IDS.get(name, _IDS.get(str(name).removesuffix("group")))


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
)
