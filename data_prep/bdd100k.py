"""BDD100K, its 10K images: 8,000 labelled frames of 1280 x 720 from drives in the United States, by day and night.

A sixth domain, which the paper does not use; others test on its val. The labels hold the trainIds of Cityscapes
already, and 255, so they are only checked. Of the archives' kinds of labels these are the ones to take: those of
instances and panoptics are RGBA "bitmasks" with ids of their own and are refused.

The data set came in two layouts, the same frames in both. The present one is looked for first::

    images/10k/{train,val}/<name>.jpg    labels/sem_seg/masks/{train,val}/<name>.png
    images/{train,val}/<name>.jpg        labels/{train,val}/<name>_train_id.png        (2018, in a folder seg)

Sources: Yu et al., "BDD100K: a diverse driving dataset for heterogeneous multitask learning", CVPR 2020; archives,
ids and terms: doc.bdd100k.com (download, format, license).
"""

from pathlib import Path

from data_prep.dataset import SPLITS, Dataset, Domain, LabelMapping, Pair, files_by_key, matched
from dglab.classes import IGNORED, NUM_CLASSES
from dglab.utils.errors import InputError

DOMAIN = Domain("bdd100k", "BDD100K", "B", num_train=7000, num_val=1000)

# Images, labels, and how the name of a label ends beyond that of its image.
_LAYOUTS = (("images/10k", "labels/sem_seg/masks", ""), ("images", "labels", "_train_id"))
_INSIDE = (".", "bdd100k", "seg", "bdd100k/seg")  # where in --source they may begin

# doc.bdd100k.com/format.html, "Semantic Segmentation": 0-18 in the order of Cityscapes, 255 unknown.
_TO_TRAIN_IDS = {i: i for i in (*range(NUM_CLASSES), IGNORED)}


def find_pairs(source: Path, mapping: str) -> list[Pair]:
    """The pairs of train and val, from either layout.

    Args:
        source: the folder ``bdd100k`` or ``seg``, or the one that holds it.
        mapping: not needed here.

    Raises:
        InputError: if neither layout is there, or for a file without its partner.
    """
    image_folder, label_folder, ending = _find_layout(source)
    pairs = []
    for split in SPLITS:
        images = files_by_key(image_folder / split, "*.jpg")
        labels = files_by_key(label_folder / split, f"*{ending}.png", lambda path: path.stem.removesuffix(ending))
        pairs += [Pair(DOMAIN, split, *files) for files in matched(images, labels, image_folder / split)]
    return pairs


def _find_layout(source: Path) -> tuple[Path, Path, str]:
    for images, labels, ending in _LAYOUTS:
        for inside in _INSIDE:
            folders = source / inside / images, source / inside / labels
            if all((folder / "train").is_dir() for folder in folders):
                return *folders, ending
    expected = " nor ".join(f"{images}/train with {labels}/train" for images, labels, _ in _LAYOUTS)
    raise InputError(
        f"{source}: holds neither {expected}; unpack the archives '10K Images' and 'Semantic Segmentation' into one "
        "folder, and give that as --source"
    )


DATASET = Dataset(
    name="bdd100k",
    title="BDD100K, 8,000 labelled frames of drives in the United States, 19 classes",
    download="register at bdd-data.berkeley.edu; '10K Images' and 'Semantic Segmentation', unpacked into one folder",
    licence="educational, research and not-for-profit use (doc.bdd100k.com/license.html); cite Yu et al. (CVPR 2020)",
    size="archives of 1.1 GB and 331 MB; frames of 1280 x 720",
    layout="images/10k/{train,val}/*.jpg and labels/sem_seg/masks/{train,val}/*.png, or the older seg/{images,labels}/"
    "{train,val} with *_train_id.png",
    domains=(DOMAIN,),
    mappings={"trainids": LabelMapping(_TO_TRAIN_IDS, "trainIds already, doc.bdd100k.com/format.html")},
    find_pairs=find_pairs,
)
