"""KITTI semantics: 200 street images of Karlsruhe with labels, a second small real data set.

The images come from as many short scenes of the stereo benchmark of 2015, one each. There is no official validation
split: **60 of them are val by a seeded draw, which is ours**, the same in every copy of the data.

Labels are Cityscapes' label ids. The mapping ``camvid11`` brings them to the eleven classes of the SegNet copy of
CamVid, so that both make one study of real domains: it is ours, too. Pedestrians and bicyclists are 0.09 % of the
pixels each, and their IoU is noisy.

Sources: Alhaija et al., "Augmented reality meets computer vision", IJCV 2018; Geiger et al., IJRR 2013; ids from
cityscapesScripts, ``helpers/labels.py``.
"""

import re
from pathlib import Path

from data_prep.cityscapes import LABEL_ID_TO_TRAIN_ID
from data_prep.dataset import Dataset, Domain, LabelMapping, Pair, files_by_key, matched
from dglab.classes import IGNORED
from dglab.utils.errors import InputError
from dglab.utils.seeds import derive_seed

COUNT, NUM_VAL = 200, 60
DOMAIN = Domain("kitti", "KITTI", "K", num_train=COUNT - NUM_VAL, num_val=NUM_VAL)
VAL = frozenset(
    sorted(range(COUNT), key=lambda number: derive_seed("kitti val", number))[:NUM_VAL]
)  # numbers of images

_NAME = re.compile(r"(\d{6})_10")
_FOLDERS = (("image_2", "semantic"), ("images", "labels"))  # of the archive, and of copies

_CAMVID11 = dict.fromkeys(range(34), IGNORED) | {
    7: 0,  # road
    8: 1,  # sidewalk
    **dict.fromkeys((11, 12), 2),  # building, wall: building
    **dict.fromkeys((13, 14), 4),  # fence, guard rail: fence
    **dict.fromkeys((17, 18), 5),  # pole, pole group: pole
    **dict.fromkeys((19, 20), 7),  # traffic light, traffic sign: sign
    **dict.fromkeys((21, 22), 8),  # vegetation, terrain: vegetation
    23: 10,  # sky
    24: 11,  # person
    **dict.fromkeys((25, 32, 33), 12),  # rider, motorcycle, bicycle: rider, as CamVid's bicyclist
    **dict.fromkeys((26, 27, 28, 29, 30, 31), 13),  # car, truck, bus, caravan, trailer, train: car
}


def find_pairs(source: Path, mapping: str) -> list[Pair]:
    """The 200 pairs, with stems such as ``000000_10``.

    Args:
        source: ``data_semantics``, its folder ``training``, or a copy with ``images`` and ``labels``.
        mapping: not needed here.

    Raises:
        InputError: for a missing folder, a name that is none of KITTI's, or a file without its partner.
    """
    root = source / "training" if (source / "training").is_dir() else source
    of_images, of_labels = next((pair for pair in _FOLDERS if (root / pair[0]).is_dir()), _FOLDERS[0])
    images = files_by_key(root / of_images, "*.[jp][pn]g")
    labels = files_by_key(root / of_labels, "*.png")
    return [
        Pair(DOMAIN, "val" if _number(image) in VAL else "train", stem, image, label)
        for stem, image, label in matched(images, labels, root)
    ]


def _number(image: Path) -> int:
    match = _NAME.fullmatch(image.stem)
    if not match or int(match.group(1)) >= COUNT:
        raise InputError(
            f"{image}: the name is none of KITTI semantics'; expected 000000_10 to {COUNT - 1:06}_10; use its files "
            "without renaming them"
        )
    return int(match.group(1))


DATASET = Dataset(
    name="kitti",
    title="KITTI semantics, 200 street images of Karlsruhe, 19 classes, or CamVid's 11",
    download="register at www.cvlibs.net/datasets/kitti, semantic segmentation benchmark; data_semantics.zip",
    licence="CC BY-NC-SA 3.0; cite Alhaija et al. (2018) and Geiger et al. (2013)",
    size="archive of 314 MB; images of about 1242 x 375",
    layout="training/{image_2,semantic}/*_10.png with 200 pairs",
    domains=(DOMAIN,),
    mappings={
        "labelids": LabelMapping(LABEL_ID_TO_TRAIN_ID, "cityscapesScripts, helpers/labels.py"),
        "camvid11": LabelMapping(_CAMVID11, "CamVid's 11 classes in SegNet's copy, see data_prep/kitti.py"),
    },
    find_pairs=find_pairs,
)
