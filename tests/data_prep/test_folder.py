"""Anybody's own folder: its name and letter, its split, three encodings of labels, and what such folders get wrong."""

import csv
import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep.__main__ import main
from data_prep.folder import read_colours, split_of
from dglab.classes import PALETTE, colorize
from dglab.data.prepared import open_root
from dglab.utils.errors import InputError

H, W = 5, 8
TRAIN_IDS = np.r_[0:19, 255, 0:19, 255].astype(np.uint8).reshape(H, W)
# labelId of trainId 0-18, by hand from the published table; 4 ("static") is one of those that are ignored.
LABEL_IDS = np.array([7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33, 4] * 2).reshape(H, W)
ENCODED = {
    "trainids": TRAIN_IDS,
    "cityscapes_ids": LABEL_IDS.astype(np.uint8),
    "cityscapes_colors": colorize(TRAIN_IDS),
}

STEMS = [f"frame{i}" for i in range(20)]
PINNED = [1, 3, 9, 16]  # the frames in val


def write_pair(folder: Path, stem: str, suffix: str = ".png", label: np.ndarray = TRAIN_IDS) -> None:
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (W, H), (90, len(stem), 30)).save(folder / "images" / f"{stem}{suffix}")
    Image.fromarray(label).save(folder / "labels" / f"{stem}.png")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for stem in STEMS:
        write_pair(tmp_path / "2nd night", stem)
    return tmp_path / "2nd night"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def run(source: Path, out: Path, *options: str) -> int:
    return main(["folder", "--source", str(source), "--out", str(out), *options])


def labels_of(source: Path) -> list[Path]:
    return sorted(source.glob("**/labels/*.png"))


# --------------------------------------------------------------------------------------------- name, letter, split


def test_name_letter_and_split_by_name(source: Path, out: Path) -> None:
    assert run(source, out) == 0
    domain = open_root(out)["N"]  # the letter that the reader would give the folder by itself
    assert (domain.name, domain.folder.name) == ("2nd night", "2nd night")
    assert set(domain.train.stems) | set(domain.val.stems) == set(STEMS)
    assert all(split_of(stem) == part.split for part in (domain.train, domain.val) for stem in part.stems)
    assert "1 image in 5 is val" in domain.info["source"]  # recorded with the data

    (out / "2nd night/domain.json").unlink()
    (out / "2nd night/conversion.json").unlink()
    assert list(open_root(out)) == ["N"]


def test_what_windows_leaves_in_a_folder_is_no_image(source: Path, out: Path) -> None:
    for kind, name in (("images", "Thumbs.db"), ("labels", "desktop.ini")):
        (source / kind / name).write_bytes(b"x")
    assert run(source, out) == 0
    [domain] = open_root(out).values()
    assert len(domain.train) + len(domain.val) == len(STEMS)


def test_the_split_is_pinned_and_a_fifth() -> None:
    """A hash of the stem alone: whoever changes it moves images between train and val of data sets in use."""
    assert [i for i in range(20) if split_of(f"frame{i}") == "val"] == PINNED
    share = sum(split_of(f"frame{i}") == "val" for i in range(10000)) / 10000
    assert abs(share - 0.2) < 0.02  # five deviations


def test_more_images_move_none(source: Path, out: Path, tmp_path: Path) -> None:
    run(source, out)
    before = open_root(out)["N"]
    more = source.rename(tmp_path / "night with more")
    for stem in ("a", "b", "frame20"):
        write_pair(more, stem)
    run(more, tmp_path / "again")
    after = open_root(tmp_path / "again")["N"]
    assert set(before.train.stems) < set(after.train.stems)
    assert set(before.val.stems) <= set(after.val.stems)


def test_folders_train_and_val_decide_where_they_are(tmp_path: Path, out: Path) -> None:
    for split in ("train", "val"):
        write_pair(tmp_path / "Rain" / split, "one", ".jpg")
        write_pair(tmp_path / "Rain" / split, "two")
    assert run(tmp_path / "Rain", out) == 0
    domain = open_root(out)["R"]
    assert domain.train.stems == domain.val.stems == ("one", "two")
    assert domain.val.images[0].suffix == ".jpg"


# ------------------------------------------------------------------------------------------------------- encodings


@pytest.mark.parametrize("mapping", list(ENCODED))
def test_every_pixel_of_every_encoding(source: Path, out: Path, mapping: str) -> None:
    for path in labels_of(source):
        Image.fromarray(ENCODED[mapping]).save(path)
    assert run(source, out, "--mapping", mapping) == 0
    domain = open_root(out)["N"]
    for part in (domain.train, domain.val):
        for _, label in part:
            np.testing.assert_array_equal(label, TRAIN_IDS)
    assert domain.info["mapping"] == f"folder:{mapping}"


@pytest.mark.parametrize(
    ("mapping", "encoding", "words"),
    [
        ("trainids", "cityscapes_ids", ["id(s) 19, 20"]),
        ("trainids", "cityscapes_colors", ["mode RGB", "not colours"]),
        ("cityscapes_ids", "trainids", ["id(s) 255"]),
        ("cityscapes_ids", "cityscapes_colors", ["mode RGB", "not colours"]),
        ("cityscapes_colors", "trainids", ["mode L", "8-bit RGB", "--mapping trainids"]),
    ],
)
def test_labels_of_another_encoding(source: Path, out: Path, capsys, mapping: str, encoding: str, words: list) -> None:
    for path in labels_of(source):
        Image.fromarray(ENCODED[encoding]).save(path)
    assert run(source, out, "--mapping", mapping, "--check") == 2
    stderr = capsys.readouterr().err
    assert all(word in stderr for word in [*words, "20 pair(s) refused"]), stderr
    assert not out.exists()


def smooth(path: Path) -> None:
    Image.open(path).resize((2 * W, 2 * H), Image.Resampling.BILINEAR).save(path)
    image = path.parents[1] / "images" / path.name
    Image.open(image).resize((2 * W, 2 * H)).save(image)


def one_colour_off(path: Path) -> None:
    rgb = ENCODED["cityscapes_colors"].copy()
    rgb[2, 3] = (128, 64, 129)
    Image.fromarray(rgb).save(path)


def transparent(path: Path) -> None:
    Image.open(path).convert("RGBA").save(path)


def as_jpeg(path: Path) -> None:
    Image.open(path).save(path, "JPEG")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (one_colour_off, ["(128, 64, 129)", "19 colours"]),
        (smooth, ["colour(s)", "smoothing"]),
        (transparent, ["mode RGBA"]),
        (as_jpeg, ["JPEG"]),
        (lambda path: path.write_bytes(path.read_bytes()[:-25]), ["damaged or truncated"]),
        (lambda path: path.write_bytes(b""), ["cannot be read"]),
        (lambda path: Image.new("RGB", (W, H + 1)).save(path), ["8 x 5", "8 x 6", "equal sizes"]),
    ],
)
def test_a_bad_colour_label_is_refused_and_the_rest_goes_on(source: Path, out: Path, capsys, spoil, words) -> None:
    for path in labels_of(source):
        Image.fromarray(ENCODED["cityscapes_colors"]).save(path)
    bad = source / "labels/frame3.png"
    spoil(bad)
    assert run(source, out, "--mapping", "cityscapes_colors") == 2
    stderr = capsys.readouterr().err
    assert all(word in stderr for word in [str(bad), *words]), stderr
    with open(out / "2nd night/refused.csv", newline="") as file:
        assert [row["stem"] for row in csv.DictReader(file)] == ["frame3"]
    domain = open_root(out)["N"]
    assert len(domain.train) + len(domain.val) == len(STEMS) - 1


def test_no_colour_is_taken_for_its_neighbour(tmp_path: Path) -> None:
    path, known = tmp_path / "one.png", {*PALETTE, (0, 0, 0)}
    for colour in known:
        for channel, bit in itertools.product(range(3), (1, 16, 128)):
            other = tuple(value ^ bit if i == channel else value for i, value in enumerate(colour))
            Image.new("RGB", (1, 1), other).save(path)
            if other not in known:
                with pytest.raises(InputError, match=re.escape(str(other))):
                    read_colours(path)


# ---------------------------------------------------------------------------------------------- the folder as a whole


def duplicate(source: Path) -> None:
    Image.new("RGB", (W, H)).save(source / "images/frame1.jpg")


def foreign(source: Path) -> None:
    Image.new("RGB", (W, H)).save(source / "images/frame1.webp")
    (source / "images/frame1.png").unlink()


def few(source: Path) -> None:
    for path in source.glob("*/*"):
        if split_of(path.stem) == "val":
            path.unlink()


def half_split(source: Path) -> None:
    (source / "train").mkdir()
    for kind in ("images", "labels"):
        (source / kind).rename(source / "train" / kind)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda s: (s / "labels").rename(s / "masks"), ["labels", "no such folder"]),
        (lambda s: [p.unlink() for p in (s / "images").iterdir()], ["images", "holds no"]),
        (lambda s: (s / "labels/frame7.png").unlink(), ["1 image(s) without label", "frame7"]),
        (lambda s: (s / "images/frame7.png").unlink(), ["1 label(s) without image", "frame7"]),
        (lambda s: (s / "images/notes.txt").write_bytes(b"x"), ["notes.txt", "cannot be used"]),
        (lambda s: (s / "images/more").mkdir(), ["more", "cannot be used"]),
        (foreign, ["frame1.webp", ".jpg or .jpeg or .png"]),
        (duplicate, ["frame1", "same name"]),
        (few, ["train and 0 into val", "split them yourself"]),
        (half_split, ["val/images", "no such folder"]),
        (lambda s: (s / "val").mkdir(), ["images as well as val", "move one of them away"]),
    ],
)
def test_a_folder_of_another_shape(source: Path, out: Path, capsys, spoil, words) -> None:
    spoil(source)
    assert run(source, out) == 2
    stderr = capsys.readouterr().err
    assert all(word in stderr for word in words), stderr
    assert not out.exists()


@pytest.mark.parametrize("name", ["2024", "train", ".night"])
def test_a_name_that_cannot_be_a_domain(source: Path, out: Path, capsys, name: str) -> None:
    assert run(source.rename(source.with_name(name)), out) == 2
    assert f"{name!r}; expected a name with a letter" in capsys.readouterr().err


def test_a_prepared_root_beside_the_source_is_not_overwritten(source: Path, capsys) -> None:
    assert run(source, source.parent) == 2
    assert "was not written by data_prep" in capsys.readouterr().err
    assert len(labels_of(source)) == len(STEMS)


def test_check_writes_nothing_and_two_mappings_do_not_mix(source: Path, out: Path, capsys) -> None:
    assert run(source, out, "--check") == 0
    assert not out.exists()
    assert run(source, out) == 0
    assert run(source, out, "--mapping", "cityscapes_ids") == 2
    assert "mapping was 'trainids' and is now 'cityscapes_ids'" in capsys.readouterr().err
    assert json.loads((out / "2nd night/domain.json").read_text())["num_val"] == len(PINNED)
