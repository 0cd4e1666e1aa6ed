"""BDD100K from miniatures in both public layouts, through the command line."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep import MODULES
from data_prep.__main__ import main
from dglab.data.prepared import open_root

H, W = 6, 8
FRAMES = {"train": ["0004a4c0-d4dff0ad", "00054602-3bf57337"], "val": ["7d128593-0ccfea4c"]}
LAYOUTS = {
    "present": ("images/10k", "labels/sem_seg/masks", ""),
    "older": ("seg/images", "seg/labels", "_train_id"),
}


def label_of(layout: str, root: Path, split: str, stem: str) -> Path:
    _, labels, ending = LAYOUTS[layout]
    return root / labels / split / f"{stem}{ending}.png"


def image_of(layout: str, root: Path, split: str, stem: str) -> Path:
    return root / LAYOUTS[layout][0] / split / f"{stem}.jpg"


def make(layout: str, root: Path) -> Path:
    rng = np.random.default_rng(1)
    for split, stems in FRAMES.items():
        for stem in stems:
            image, label = image_of(layout, root, split, stem), label_of(layout, root, split, stem)
            image.parent.mkdir(parents=True, exist_ok=True)
            label.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (H, W, 3), np.uint8)).save(image)
            ids = rng.permutation(np.arange(H * W) % 20).reshape(H, W)
            Image.fromarray(np.where(ids == 19, 255, ids).astype(np.uint8)).save(label)
    test = root / LAYOUTS[layout][0] / "test"  # images without labels, in both layouts
    test.mkdir()
    Image.new("RGB", (W, H)).save(test / "ac6d4f42-00000000.jpg")
    return root


@pytest.fixture(params=LAYOUTS)
def layout(request) -> str:
    return request.param


@pytest.fixture
def source(tmp_path: Path, layout: str) -> Path:
    return make(layout, tmp_path / "unpacked" / "bdd100k")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def run(source: Path, out: Path, *options: str) -> int:
    return main(["bdd100k", "--source", str(source), "--out", str(out), *options])


def test_every_pixel(source: Path, out: Path, layout: str) -> None:
    assert run(source, out) == 0
    domain = open_root(out)["B"]
    assert (domain.name, domain.folder.name) == ("BDD100K", "bdd100k")
    for part in (domain.train, domain.val):
        assert list(part.stems) == FRAMES[part.split]
        for stem, image, label in zip(part.stems, part.images, part.labels, strict=True):
            assert image.read_bytes() == image_of(layout, source, part.split, stem).read_bytes()
            with Image.open(label) as written, Image.open(label_of(layout, source, part.split, stem)) as given:
                assert np.array_equal(written, given)  # trainIds from the start
                assert sorted(set(np.ravel(written).tolist())) == [*range(19), 255]


def test_the_folder_above_and_the_folder_seg_do_as_well(source: Path, out: Path, layout: str) -> None:
    assert run(source.parent, out, "--check") == 0
    if layout == "older":
        assert run(source / "seg", out, "--check") == 0


def test_the_present_layout_comes_first(source: Path, out: Path, layout: str) -> None:
    other = next(name for name in LAYOUTS if name != layout)
    make(other, source)
    label_of("older", source, "val", FRAMES["val"][0]).write_bytes(b"")  # never looked at
    assert run(source, out) == 0


def test_check_writes_nothing_and_counts_are_compared(source: Path, out: Path, capsys) -> None:
    assert run(source, out, "--check") == 0
    assert not out.exists()
    assert "BDD100K train: found 2 pairs, published are 7000" in capsys.readouterr().err
    (domain,) = MODULES["bdd100k"].DATASET.domains
    assert (domain.num_train, domain.num_val) == (7000, 1000)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (Image.new("RGBA", (W, H), (3, 0, 0, 1)), "is a 8-bit PNG of mode RGBA"),  # a bitmask of instances
        (Image.new("L", (W, H), 40), "has the id(s) 40"),  # the truck of the panoptic ids
    ],
)
def test_labels_of_another_kind_are_refused(source: Path, out: Path, capsys, layout: str, image, reason: str) -> None:
    label = label_of(layout, source, "train", FRAMES["train"][0])
    image.save(label)
    assert run(source, out) == 2
    assert f"refused: {label}: {reason}" in capsys.readouterr().err
    assert open_root(out)["B"].train.stems == (FRAMES["train"][1],)


def test_a_source_in_neither_layout(source: Path, out: Path, capsys, layout: str) -> None:
    label_of(layout, source, "train", "any").parent.rename(source / "labels_gone")
    assert run(source, out) == 2
    stderr = capsys.readouterr().err
    assert "holds neither images/10k/train with labels/sem_seg/masks/train nor images/train with labels/train" in stderr
    assert not out.exists()


def test_a_frame_without_its_label(source: Path, out: Path, capsys, layout: str) -> None:
    label_of(layout, source, "val", FRAMES["val"][0]).rename(source / "away.png")
    Image.new("L", (W, H)).save(label_of(layout, source, "val", "other"))
    assert run(source, out) == 2
    assert "val: 1 image(s) without label: 7d128593-0ccfea4c" in capsys.readouterr().err
