"""The 19 evaluation classes of Cityscapes: trainIds, names, categories, colours.

Source: cityscapesScripts, ``cityscapesscripts/helpers/labels.py`` (the rows whose trainId is 0-18).
"""

import numpy as np

NUM_CLASSES = 19
IGNORED = 255  # the label of pixels that are ignored in training and scoring

CLASS_NAMES: tuple[str, ...] = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation",
    "terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
)  # fmt: skip

CATEGORY_NAMES: tuple[str, ...] = ("flat", "construction", "object", "nature", "sky", "human", "vehicle")
CATEGORIES: tuple[int, ...] = (0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 4, 5, 5, 6, 6, 6, 6, 6, 6)  # of each class

PALETTE: tuple[tuple[int, int, int], ...] = (
    (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153),
    (250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60),
    (255, 0, 0), (0, 0, 142), (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32),
)  # fmt: skip


def colorize(label: np.ndarray) -> np.ndarray:
    """Paint a label map in the Cityscapes colours; ignored pixels become black.

    Args:
        label: H x W integers, 0-18 and 255.

    Returns:
        H x W x 3 uint8, RGB.
    """
    table = np.zeros((256, 3), np.uint8)
    table[:NUM_CLASSES] = PALETTE
    return table[np.asarray(label, np.uint8)]
