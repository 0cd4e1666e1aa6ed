"""Cityscapes from a miniature in its public layout, through the command line, pixel by pixel."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep import MODULES
from data_prep.__main__ import main
from dglab.classes import CLASS_NAMES
from dglab.data.prepared import open_root

H, W = 8, 12
FRAMES = {
    "train": ["aachen_000000_000019", "aachen_000001_000019", "zurich_000000_000019"],
    "val": ["frankfurt_000000_000294"],
}
# The rows of cityscapesScripts' labels.py by id, 0 to 33; those that are evaluated have names of ours.
NAMES = """unlabeled ego-vehicle rectification-border out-of-roi static dynamic ground road sidewalk parking rail-track
    building wall fence guard-rail bridge tunnel pole polegroup traffic-light traffic-sign vegetation terrain sky
    person rider car truck bus caravan trailer train motorcycle bicycle""".split()


def expected_train_ids(label: np.ndarray) -> np.ndarray:
    def one(old: int) -> int:
        name = NAMES[old].replace("-", " ")
        return CLASS_NAMES.index(name) if name in CLASS_NAMES else 255

    return np.array([[one(old) for old in row] for row in label])


def place(source: Path, split: str, stem: str) -> tuple[Path, Path]:
    city = stem.split("_")[0]
    return (
        source / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png",
        source / "gtFine" / split / city / f"{stem}_gtFine_labelIds.png",
    )


@pytest.fixture
def source(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    root = tmp_path / "cityscapes"
    for split, stems in {**FRAMES, "test": ["berlin_000000_000019"]}.items():
        for stem in stems:
            image, label = place(root, split, stem)
            image.parent.mkdir(parents=True, exist_ok=True)
            label.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (H, W, 3), np.uint8)).save(image)
            ids = rng.permutation(np.arange(H * W) % 34).reshape(H, W).astype(np.uint8)  # every id in each label
            Image.fromarray(ids).save(label)
            for other in ("color", "instanceIds"):  # the archive holds these, too
                Image.new("RGB", (W, H)).save(str(label).replace("labelIds", other))
    return root


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def run(source: Path, out: Path, *options: str) -> int:
    return main(["cityscapes", "--source", str(source), "--out", str(out), *options])


def test_every_pixel(source: Path, out: Path) -> None:
    assert run(source, out) == 0
    domain = open_root(out)["C"]
    assert (domain.name, domain.folder.name) == ("Cityscapes", "cityscapes")
    assert {p.name for p in domain.folder.iterdir() if p.is_dir()} == {"train", "val"}  # test has no labels
    for part in (domain.train, domain.val):
        assert list(part.stems) == FRAMES[part.split]
        for stem, image, label in zip(part.stems, part.images, part.labels, strict=True):
            source_image, source_label = place(source, part.split, stem)
            assert image.read_bytes() == source_image.read_bytes()
            with Image.open(label) as written:
                assert np.array_equal(written, expected_train_ids(np.asarray(Image.open(source_label))))
    assert domain.info["classes_present"] == list(range(19))


def test_check_writes_nothing_and_counts_are_compared(source: Path, out: Path, capsys) -> None:
    assert run(source, out, "--check") == 0
    assert not out.exists()
    assert "Cityscapes train: found 3 pairs, published are 2975" in capsys.readouterr().err
    (domain,) = MODULES["cityscapes"].DATASET.domains
    assert (domain.num_train, domain.num_val) == (2975, 500)


def test_labels_that_are_train_ids_already_are_refused(source: Path, out: Path, capsys) -> None:
    """0-18 are label ids, too; what gives such files away is 255."""
    _, label = place(source, "val", FRAMES["val"][0])
    ids = expected_train_ids(np.asarray(Image.open(label)))
    Image.fromarray(ids.astype(np.uint8)).save(label)
    assert run(source, out, "--check") == 2
    stderr = capsys.readouterr().err
    assert f"{label}: has the id(s) 255" in stderr


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda s: (s / "gtFine").rename(s / "gtCoarse"), ["gtFine/train", "no such folder"]),
        (lambda s: (s / "leftImg8bit" / "val").rename(s / "val"), ["leftImg8bit/val", "no such folder"]),
        (lambda s: [p.unlink() for p in s.rglob("*_labelIds.png")], ["gtFine/train", "holds no */*_gtFine_labelIds"]),
        (lambda s: place(s, "train", FRAMES["train"][0])[1].unlink(), ["without label: aachen_000000_000019"]),
        (lambda s: place(s, "val", FRAMES["val"][0])[0].rename(s / "leftImg8bit/val/frankfurt/a_leftImg8bit.png"),
         ["1 image(s) without label: a;"]),
        (lambda s: place(s, "train", FRAMES["train"][0])[0].rename(
            s / "leftImg8bit/train/zurich" / "zurich_000000_000019_leftImg8bit.png"),
         ["without image: aachen_000000_000019"]),
        (lambda s: [(s / "leftImg8bit/train/copy").mkdir(), (s / "leftImg8bit/train/copy" / place(
            s, "train", FRAMES["train"][0])[0].name).write_bytes(b"")],
         ["another file there has the same name"]),
    ],
)  # fmt: skip
def test_a_source_that_is_not_cityscapes(source: Path, out: Path, capsys, spoil, words) -> None:
    spoil(source)
    assert run(source, out) == 2
    stderr = capsys.readouterr().err
    assert all(word in stderr for word in words), stderr
    assert not out.exists()


def test_an_empty_label_file(source: Path, out: Path, capsys) -> None:
    _, label = place(source, "train", FRAMES["train"][1])
    label.write_bytes(b"")
    assert run(source, out) == 2
    assert f"refused: {label}" in capsys.readouterr().err
    assert open_root(out)["C"].train.stems == ("aachen_000000_000019", "zurich_000000_000019")
