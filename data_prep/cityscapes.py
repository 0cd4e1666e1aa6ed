"""Cityscapes: streets of 50 cities, most of them German, by day; the target domain of the paper's main tables.

The 2,975 finely annotated frames of train and the 500 of val, 2048 x 1024. The 1,525 of test are not converted:
their labels are not public, and the files in their place are dummies in which every pixel is unlabelled.

Labels are read from ``*_gtFine_labelIds.png``, which the archive holds, and not from ``*_labelTrainIds.png``,
which a user has to make: who changed a tool's table has other ones under the same name.

Sources: Cordts et al., "The Cityscapes dataset for semantic urban scene understanding", CVPR 2016; counts, layout
and ids from its tools, github.com/mcordts/cityscapesScripts (README.md, ``helpers/labels.py``).
"""

from pathlib import Path

from data_prep.dataset import SPLITS, Dataset, Domain, LabelMapping, Pair, files_by_key, matched
from dglab.classes import IGNORED

DOMAIN = Domain("cityscapes", "Cityscapes", "C", num_train=2975, num_val=500)

_IMAGE, _LABEL = "_leftImg8bit", "_gtFine_labelIds"

# The columns id and trainId of cityscapesScripts, cityscapesscripts/helpers/labels.py; any other id is void there.
# The license plate, id -1, is in no label file: preparation/json2labelImg.py leaves out polygons of negative id, so
# the pixels keep the car around it. 255 is therefore no id here, on purpose: it occurs in files of trainIds, which
# would otherwise be mapped a second time.
LABEL_ID_TO_TRAIN_ID = dict.fromkeys(range(34), IGNORED) | {
    7: 0,  # road
    8: 1,  # sidewalk
    11: 2,  # building
    12: 3,  # wall
    13: 4,  # fence
    17: 5,  # pole
    19: 6,  # traffic light
    20: 7,  # traffic sign
    21: 8,  # vegetation
    22: 9,  # terrain
    23: 10,  # sky
    24: 11,  # person
    25: 12,  # rider
    26: 13,  # car
    27: 14,  # truck
    28: 15,  # bus
    31: 16,  # train
    32: 17,  # motorcycle
    33: 18,  # bicycle
}


def find_pairs(source: Path, mapping: str) -> list[Pair]:
    """The pairs of train and val, with stems such as ``aachen_000000_000019``.

    Args:
        source: the folder that holds ``leftImg8bit`` and ``gtFine``.
        mapping: not needed here.

    Raises:
        InputError: for a missing folder, a file without its partner, or a frame that is there twice.
    """
    pairs = []
    for split in SPLITS:
        folder = source / "leftImg8bit" / split
        images = files_by_key(folder, f"*/*{_IMAGE}.png", lambda path: path.stem.removesuffix(_IMAGE))
        labels = files_by_key(
            source / "gtFine" / split, f"*/*{_LABEL}.png", lambda path: path.stem.removesuffix(_LABEL)
        )
        pairs += [Pair(DOMAIN, split, *files) for files in matched(images, labels, folder)]
    return pairs


DATASET = Dataset(
    name="cityscapes",
    title="Cityscapes, 3,475 finely annotated frames of European cities, 19 classes",
    download="register at www.cityscapes-dataset.com; leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip, "
    "unpacked into one folder",
    licence="its own terms: non-commercial use, no redistribution; cite Cordts et al. (CVPR 2016)",
    size="archives of 11 GB and 241 MB; frames of 2048 x 1024",
    layout="leftImg8bit/{train,val}/<city>/*_leftImg8bit.png and gtFine/{train,val}/<city>/*_gtFine_labelIds.png",
    domains=(DOMAIN,),
    mappings={"labelids": LabelMapping(LABEL_ID_TO_TRAIN_ID, "cityscapesScripts, helpers/labels.py")},
    find_pairs=find_pairs,
)
