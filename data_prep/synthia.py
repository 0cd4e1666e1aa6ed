"""SYNTHIA-RAND-CITYSCAPES: 9,400 rendered images of 1280 x 760 from random places of a virtual city.

**Labels are 16-bit PNGs of several channels**: the class in the first, the instance in the second. Most readers
keep the high byte of each sample, in which the classes are all 0 and what remains is 3 at most. Here both bytes
are read, and a label of 8 bits is refused, since nothing tells what its numbers were.

**There is no official split, and this one is ours**: 500 images are val, as many as Cityscapes has, and 8,900 are
train. Sorted by a hash of their number (:func:`dglab.utils.seeds.derive_seed`), the first 500 of the numbers 0 to 9,399
are val; so an image is on the same side in every copy, also in an incomplete one. The images are random views and
not frames of a video, so that no neighbour in time is on the other side.

**16 classes**: terrain, truck and train have ids, but do not occur in this part of SYNTHIA; a mean over all 19
must leave them out, or say so. Lane markings (22) are ignored, as in the papers, although they lie on the road.

Sources: Ros et al., "The SYNTHIA dataset", CVPR 2016; layout, size and ids: the README.txt of the archive.
"""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from data_prep.dataset import Dataset, Domain, LabelMapping, Pair, files_by_key, matched
from dglab.classes import IGNORED
from dglab.utils.errors import InputError
from dglab.utils.files import read_bytes
from dglab.utils.images import brief, check_png, damaged, read_header
from dglab.utils.seeds import derive_seed

NUM_IMAGES, NUM_VAL = 9400, 500
DOMAIN = Domain("synthia", "SYNTHIA", "S", num_train=NUM_IMAGES - NUM_VAL, num_val=NUM_VAL)

_FRAMES = "[0-9]" * 7 + ".png"  # 0000000.png; what other tools write beside them is no source

# The ids are those of README.txt; to trainIds by name. The same table: lhoyer/DAFormer,
# tools/convert_datasets/synthia.py.
_TO_TRAIN_IDS = {
    0: IGNORED,  # void
    1: 10,  # sky
    2: 2,  # building
    3: 0,  # road
    4: 1,  # sidewalk
    5: 4,  # fence
    6: 8,  # vegetation
    7: 5,  # pole
    8: 13,  # car
    9: 7,  # traffic sign
    10: 11,  # pedestrian: person
    11: 18,  # bicycle
    12: 17,  # motorcycle
    13: IGNORED,  # parking slot
    14: IGNORED,  # road work
    15: 6,  # traffic light
    16: 9,  # terrain
    17: 12,  # rider
    18: 14,  # truck
    19: 15,  # bus
    20: 16,  # train
    21: 3,  # wall
    22: IGNORED,  # lane marking
}


def find_pairs(source: Path, mapping: str) -> list[Pair]:
    """The pairs, with stems ``0000000`` to ``0009399``, in our split.

    Args:
        source: the folder ``RAND_CITYSCAPES`` of the archive, or the one that holds it.
        mapping: not needed here.

    Raises:
        InputError: for a missing folder, a file without its partner, or a number that the data set does not have.
    """
    root = source / "RAND_CITYSCAPES" if (source / "RAND_CITYSCAPES").is_dir() else source
    images = files_by_key(root / "RGB", _FRAMES)
    labels = files_by_key(root / "GT" / "LABELS", _FRAMES)
    found = matched(images, labels, root)
    strangers = [stem for stem in images if int(stem) >= NUM_IMAGES]
    if strangers:
        raise InputError(
            f"{root / 'RGB'}: {brief(strangers)} are not of this data set, which ends with {NUM_IMAGES - 1:07d}; is it "
            "another part of SYNTHIA?"
        )
    val = val_numbers()
    return [Pair(DOMAIN, "val" if int(stem) in val else "train", stem, image, label) for stem, image, label in found]


def val_numbers() -> frozenset[int]:
    """The numbers of the images in val, whichever files are there."""
    return frozenset(sorted(range(NUM_IMAGES), key=lambda number: derive_seed("synthia", "val", number))[:NUM_VAL])


def read_classes(path: Path) -> np.ndarray:
    """The class ids of a label: its first channel, H x W uint16.

    Raises:
        InputError: if the file is not a 16-bit colour PNG, or is damaged.
    """
    content = read_bytes(path)
    header = read_header(path, content)
    if header.format != "PNG" or header.mode not in ("RGB", "RGBA") or header.bits != 16:
        raise InputError(
            f"{path}: is a {header}; expected a 16-bit PNG of several channels with the class in the first: a tool "
            "that knows 8 bits alone has lost it, and GT/COLOR never had it; unpack GT/LABELS from the archive again"
        )
    try:
        check_png(content, rows=True)
        # Of every sample Pillow keeps one byte, the high one. Told that the low byte comes first, it keeps the low one.
        high, low = _first_channel(content, "16B"), _first_channel(content, "16L")
    except Exception as error:  # Pillow raises nearly anything on damaged files
        raise damaged(path, error) from error
    return high.astype(np.uint16) << 8 | low


def _first_channel(content: bytes, byte_order: str) -> np.ndarray:
    """One byte of each sample of the first channel, H x W uint8: the high byte for "16B", the low one for "16L"."""
    with Image.open(io.BytesIO(content)) as image:
        (codec, extents, offset, raw_mode), *_ = image.tile  # how Pillow will decode: "RGB;16B" or "RGBA;16B"
        image.tile = [(codec, extents, offset, raw_mode.replace("16B", byte_order))]
        return np.array(image.getchannel(0))


DATASET = Dataset(
    name="synthia",
    title="SYNTHIA-RAND-CITYSCAPES, 9,400 rendered images of a virtual city, 16 of the 19 classes",
    download="SYNTHIA-RAND-CITYSCAPES (CVPR16) from synthia-dataset.net, a RAR archive; where unpacking gives files "
    "named like 'RGB\\0000000.png', rename them into folders",
    licence="non-commercial, see the terms on synthia-dataset.net; cite Ros et al. (CVPR 2016)",
    size="9,400 images of 1280 x 760; the archive also holds depth, which is not needed",
    layout="RAND_CITYSCAPES/RGB/*.png and RAND_CITYSCAPES/GT/LABELS/*.png, 0000000 to 0009399",
    domains=(DOMAIN,),
    mappings={"readme": LabelMapping(_TO_TRAIN_IDS, "ids of the archive's README.txt, to trainIds by name")},
    find_pairs=find_pairs,
    read_label=read_classes,
)
