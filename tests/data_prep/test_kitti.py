"""KITTI semantics from miniatures of the archive's layout and a copy's, through the command line."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep.__main__ import main
from data_prep.kitti import COUNT, NUM_VAL, VAL
from dglab.data.prepared import open_root

IDS = np.array([[7, 8, 11, 12, 13, 14, 17, 18], [19, 20, 21, 22, 23, 24, 25, 26], [27, 28, 29, 30, 31, 32, 33, 9]])
# by hand, from the classes' names; 9 is parking
TRAIN_IDS = np.array([[0, 1, 2, 3, 4, 255, 5, 255], [6, 7, 8, 9, 10, 11, 12, 13], [14, 15, 255, 255, 16, 17, 18, 255]])
CAMVID11 = np.array([[0, 1, 2, 2, 4, 4, 5, 5], [7, 7, 8, 8, 10, 11, 12, 13], [13, 13, 13, 13, 13, 12, 12, 255]])
LAYOUTS = {"archive": ("training/image_2", "training/semantic", ".png"), "copy": ("images", "labels", ".jpg")}


def make(root: Path, layout: str) -> Path:
    images, labels, ending = LAYOUTS[layout]
    for folder in (images, labels):
        (root / folder).mkdir(parents=True)
    for number in range(COUNT):
        image = np.full((*IDS.shape, 3), number, np.uint8)
        Image.fromarray(image).save(root / images / f"{number:06}_10{ending}")
        Image.fromarray(np.roll(IDS, number, axis=1).astype(np.uint8)).save(root / labels / f"{number:06}_10.png")
    return root


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("mapping", "expected"), [("labelids", TRAIN_IDS), ("camvid11", CAMVID11)])
def test_two_layouts_two_mappings(tmp_path, layout, mapping, expected):
    source = make(tmp_path / "source", layout)
    assert main(["kitti", "--source", str(source), "--out", str(tmp_path / "out"), "--mapping", mapping]) == 0
    domain = open_root(tmp_path / "out")["K"]
    assert (len(domain.train), len(domain.val)) == (COUNT - NUM_VAL, NUM_VAL) == (140, 60)
    numbers = {split: [int(stem[:6]) for stem in getattr(domain, split).stems] for split in ("train", "val")}
    assert set(numbers["val"]) == VAL and sorted(numbers["train"] + numbers["val"]) == list(range(COUNT))
    for split, of_split in numbers.items():
        for index in (0, len(of_split) - 1):
            image, label = getattr(domain, split)[index]
            assert (image == of_split[index]).float().mean() > 0.9
            assert np.array_equal(label, np.roll(expected, of_split[index], axis=1))


def test_the_draw_of_val_is_spread_and_fixed():
    assert (
        len(VAL) == NUM_VAL and sorted(VAL)[:3] == [12, 13, 19] and 20 < sum(number < COUNT // 2 for number in VAL) < 40
    )


@pytest.mark.parametrize("name", ["000200_10", "000000_11", "a"])
def test_a_foreign_name_is_refused(tmp_path, capsys, name):
    source = make(tmp_path / "source", "archive")
    for folder in ("image_2", "semantic"):
        Image.new("L" if folder == "semantic" else "RGB", (8, 3)).save(source / "training" / folder / f"{name}.png")
    assert main(["kitti", "--source", str(source), "--out", str(tmp_path / "out")]) == 2
    assert "none of KITTI semantics'" in capsys.readouterr().err
