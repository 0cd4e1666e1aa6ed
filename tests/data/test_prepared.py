"""The prepared layout: what is read, and that every kind of bad input is refused with its file's name."""

import json
import os
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from dglab.data import prepared
from dglab.data.prepared import open_root
from dglab.utils.errors import InputError
from dglab.utils.images import check_train_ids, read_image

RNG = np.random.default_rng(0)
H, W = 6, 8
PAINT = RNG.integers(0, 256, (H, W, 3), np.uint8)
LABEL = RNG.choice([*range(19), 255], (H, W)).astype(np.uint8)


def put_pair(folder: Path, stem: str, image=PAINT, label=LABEL, suffix: str = ".png") -> None:
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(folder / "images" / (stem + suffix))
    Image.fromarray(label).save(folder / "labels" / (stem + ".png"))


def put_domain(root: Path, name: str, stems=("a1", "a2"), info: dict | None = None) -> Path:
    for split in ("train", "val"):
        for stem in stems:
            put_pair(root / name / split, stem)
    if info is not None:
        (root / name / "domain.json").write_text(json.dumps(info))
    return root / name


@pytest.fixture
def domain(tmp_path: Path) -> Path:
    return put_domain(tmp_path, "night")


def refused(root: Path, *words: object, verify: bool = True) -> str:
    with pytest.raises(InputError) as caught:
        open_root(root, verify=verify)
    for word in words:
        assert str(word) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_is_for_many_pairs_and_terminals_alone(domain, monkeypatch, capsys, terminal) -> None:
    open_root(domain.parent)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(prepared, "_BAR_FROM", 3)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    open_root(domain.parent)
    assert ("checking" in capsys.readouterr().err) == terminal


# ----------------------------------------------------------------------------------------------- reading


def test_items_are_the_files_pixels(tmp_path: Path) -> None:
    put_domain(tmp_path, "night")
    image, label = open_root(tmp_path)["N"].val[-1]
    assert image.dtype == label.dtype == torch.uint8
    assert np.array_equal(image.permute(1, 2, 0), PAINT)
    assert np.array_equal(label, LABEL)


def test_name_letter_counts_and_extra_entries_come_from_domain_json(tmp_path: Path) -> None:
    put_domain(tmp_path, "x", info={"name": "City at night", "letter": "N2", "num_train": 2, "num_val": 2, "mine": 7})
    (opened,) = open_root(str(tmp_path)).values()
    assert (opened.letter, opened.name, opened.folder) == ("N2", "City at night", tmp_path / "x")
    assert opened.info["mine"] == 7
    assert (opened.train.letter, opened.train.name, opened.train.split) == ("N2", "City at night", "train")


def test_without_domain_json_the_folder_gives_name_and_letter(tmp_path: Path) -> None:
    put_domain(tmp_path, "0001TP")
    put_domain(tmp_path, "rain", info={"letter": "W"})
    assert {letter: d.name for letter, d in open_root(tmp_path).items()} == {"T": "0001TP", "W": "rain"}


def test_natural_order_of_files_and_folders(tmp_path: Path) -> None:
    put_domain(tmp_path, "seq10", stems=("f10", "f9", "f100"), info={"letter": "B"})
    put_domain(tmp_path, "seq9", info={"letter": "A"})
    opened = open_root(tmp_path)
    assert list(opened) == ["A", "B"]
    assert opened["B"].train.stems == ("f9", "f10", "f100")


def test_jpeg_greyscale_palette_labels_and_other_sizes(domain: Path) -> None:
    put_pair(domain / "train", "grey", image=PAINT[..., 0])
    put_pair(domain / "train", "photo", image=np.full((3, 5, 3), 90, np.uint8), label=LABEL[:3, :5], suffix=".jpg")
    palette = Image.fromarray(LABEL).convert("P")
    palette.putdata(LABEL.ravel().tolist())
    palette.putpalette(RNG.integers(0, 256, 768).tolist())  # colours are nobody's ids
    palette.save(domain / "train" / "labels" / "grey.png")
    items = dict(zip((train := open_root(domain.parent)["N"].train).stems, train, strict=True))
    assert np.array_equal(items["grey"][0], np.stack([PAINT[..., 0]] * 3))
    assert np.array_equal(items["grey"][1], LABEL)
    assert items["photo"][0].shape == (3, 3, 5)
    assert (items["photo"][0] == 90).all()


def test_a_jpeg_is_read_as_pillow_reads_it(domain: Path) -> None:
    for mode in ("RGB", "L"):
        path = domain / "train" / "images" / f"{mode}.jpg"
        Image.fromarray(np.tile(PAINT, (5, 5, 1))).convert(mode).save(path, quality=90, subsampling=0)
        with Image.open(path) as photograph:
            expected = np.asarray(photograph.convert("RGB"))
        assert np.abs(read_image(path).astype(int) - expected).max() <= 1  # versions of libjpeg may round otherwise
        assert read_image(path).flags.writeable


def test_trainids_are_0_to_18_and_255() -> None:
    for value in range(256):
        label = np.full((2, 3), 255, np.uint8)
        label[1, 1] = value
        if value <= 18 or value == 255:
            check_train_ids(label, Path("a.png"))
        else:
            with pytest.raises(InputError, match=rf"a\.png: has the value\(s\) {value};"):
                check_train_ids(label, Path("a.png"))


def test_litter_is_ignored(domain: Path) -> None:
    (domain / "train" / "images" / ".a3.png.partial").write_bytes(b"")
    (domain / "train" / "images" / "Thumbs.db").write_bytes(b"")
    (domain.parent / ".cache").mkdir()
    (domain.parent / "README.txt").write_text("mine")
    assert len(open_root(domain.parent)["N"].train) == 2


def test_worker_processes_read_the_same(domain: Path) -> None:
    train = open_root(domain.parent)["N"].train
    images, labels = next(iter(DataLoader(train, batch_size=2, num_workers=1)))
    assert np.array_equal(images[1].permute(1, 2, 0), PAINT)
    assert np.array_equal(labels[1], LABEL)


# ------------------------------------------------------------------------------------------------ layout


def test_root_missing_empty_or_one_too_deep(domain: Path, tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "nowhere", "no such folder")
    (tmp_path / "night" / "x").mkdir()
    refused(domain, "is itself a domain")
    (empty := tmp_path / "night" / "x" / "y").mkdir()
    refused(empty, empty, "no domain folders")


@pytest.mark.parametrize("missing", ["train", "val", "val/images", "train/labels"])
def test_missing_folder(domain: Path, missing: str) -> None:
    (domain / missing).rename(domain / ".away")
    refused(domain.parent, domain / missing, "no such folder")


def test_empty_folder(domain: Path) -> None:
    for path in (domain / "val" / "images").iterdir():
        path.unlink()
    refused(domain.parent, domain / "val" / "images", "is empty")


def test_images_and_labels_without_partner(domain: Path) -> None:
    (domain / "train" / "labels" / "a2.png").unlink()
    refused(domain.parent, domain / "train" / "images" / "a2.png", "1 image(s) without label")
    (domain / "train" / "images" / "a2.png").unlink()
    for number in range(8):
        Image.fromarray(LABEL).save(domain / "val" / "labels" / f"b{number}.png")
    message = refused(domain.parent, "b0.png", "and 3 more", "8 label(s) without image")
    assert "b6.png" not in message


def test_one_stem_twice(domain: Path) -> None:
    Image.fromarray(PAINT).save(domain / "train" / "images" / "a1.jpg")
    refused(domain.parent, domain / "train" / "images", "a1.jpg", "twice")


@pytest.mark.parametrize("name", ["images/a3.tif", "labels/a1.jpg", "images/notes.txt"])
def test_files_that_do_not_belong(domain: Path, name: str) -> None:
    (domain / "train" / name).write_bytes(b"?")
    refused(domain.parent, domain / "train" / name, "cannot be used")


# ------------------------------------------------------------------------------------------- domain.json


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("{", "not JSON"),
        ("[]", "no object"),
        ('{"letter": ""}', "letter is ''"),
        ('{"letter": "G+S"}', "letter is 'G+S'"),
        ('{"letter": 3}', "expected text"),
        ('{"num_train": "2"}', "whole number"),
        ('{"num_val": 3}', "num_val = 3"),
    ],
)
def test_bad_domain_json(domain: Path, text: str, word: str) -> None:
    (domain / "domain.json").write_text(text)
    refused(domain.parent, domain / "domain.json", word)


def test_letters_that_clash_or_cannot_be_had(domain: Path, tmp_path: Path) -> None:
    other = put_domain(tmp_path, "noon")
    refused(tmp_path, domain, other, '{"letter": "N2"}')
    (other / "domain.json").write_text('{"letter": "N2"}')
    assert list(open_root(tmp_path)) == ["N", "N2"]
    put_domain(tmp_path, "007")
    refused(tmp_path, tmp_path / "007", "no letter")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.mkdir(), ["it is a folder"]),
        (os.mkfifo, ["it is a named pipe"]),
        (lambda path: path.symlink_to("gone"), ["No such file"]),
        (lambda path: path.touch(), ["it is empty"]),
        (lambda path: path.write_bytes(b'{"name": "\xff"}'), ["not UTF-8 text"]),
        (lambda path: path.write_text("[" * 100_000), ["not JSON"]),
    ],
)
def test_a_domain_json_that_cannot_be_read(domain: Path, make, words) -> None:
    make(domain / "domain.json")
    refused(domain.parent, domain / "domain.json", *words)


def test_no_right_to_read(domain: Path, monkeypatch) -> None:
    """Root may read anything, so the system's answer is played."""
    (domain / "domain.json").write_text("{}")
    (domain / "domain.json").chmod(0)
    for name in ("domain.json", "train/images/a1.png", "val/labels/a2.png"):
        with monkeypatch.context() as patch:
            patch.setattr("builtins.open", denying(open, domain / name))
            refused(domain.parent, domain / name, "Permission denied")
    for name in ("", "train/images", "val/labels"):
        with monkeypatch.context() as patch:
            folder = domain / name if name else domain.parent
            patch.setattr(os, "listdir", denying(os.listdir, folder))
            refused(domain.parent, folder, "Permission denied")


def denying(function, path: Path):
    def called(given, *arguments, **options):
        if str(given) == str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return function(given, *arguments, **options)

    return called


@pytest.mark.parametrize("name", ["train/images/a1.png", "val/labels/a2.png"])
@pytest.mark.parametrize("verify", [True, False])
def test_a_pipe_where_a_file_belongs_is_not_waited_for(domain: Path, name: str, verify: bool) -> None:
    (domain / name).unlink()
    os.mkfifo(domain / name)
    refused(domain.parent, domain / name, "named pipe", verify=verify)


def test_a_name_that_is_not_utf_8(domain: Path) -> None:
    for kind in ("images", "labels"):
        (domain / "train" / kind / "a1.png").rename(domain / "train" / kind / os.fsdecode(b"caf\xe9.png"))
    refused(domain.parent, "not UTF-8", r"caf\xe9.png", "rename it")


def test_an_exif_orientation_is_ignored_and_told_of(domain: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PAINT).save(domain / "val" / "images" / "a2.png", exif=exif)
    with pytest.warns(UserWarning, match=r"a2.png: 1 image.s. with an EXIF orientation, which is ignored"):
        image, _ = open_root(domain.parent)["N"].val[1]
    assert np.array_equal(image.permute(1, 2, 0), PAINT)


def test_unfinished_conversion(domain: Path) -> None:
    (domain / "conversion.json").write_text("{}")
    refused(domain.parent, domain, "unfinished")


# ------------------------------------------------------------------------------------- single bad files


@pytest.mark.parametrize("verify", [True, False])
def test_sizes_differ(domain: Path, verify: bool) -> None:
    put_pair(domain / "val", "a1", label=LABEL[:, :5])
    refused(domain.parent, domain / "val" / "images" / "a1.png", "is 8 x 6, but its label 5 x 6", verify=verify)


def bad_label(kind: str) -> Image.Image:
    if kind == "colours":
        return Image.fromarray(PAINT)
    if kind == "16 bits":
        return Image.fromarray(LABEL.astype(np.uint16))
    return Image.fromarray(LABEL > 3)  # 1 bit


@pytest.mark.parametrize("kind", ["colours", "16 bits", "1 bit"])
def test_labels_that_are_no_8_bit_ids(domain: Path, kind: str) -> None:
    bad_label(kind).save(domain / "train" / "labels" / "a2.png")
    refused(domain.parent, domain / "train" / "labels" / "a2.png", "single-channel 8-bit", verify=False)


def png(width: int, height: int, bits: int, colour: int, rows: bytes) -> bytes:
    """A PNG written by hand, for the bit depths that Pillow reads but does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_4_bit_greyscale_labels_which_pillow_would_stretch(domain: Path) -> None:
    path = domain / "train" / "labels" / "a1.png"
    path.write_bytes(png(W, H, 4, 0, (b"\0" + b"\x11" * (W // 2)) * H))
    assert np.asarray(Image.open(path)).max() == 17  # id 1 would be read as 17, a motorcycle
    refused(domain.parent, path, "4-bit")


def test_16_bit_colour_images_which_pillow_would_cut(domain: Path) -> None:
    path = domain / "train" / "images" / "a1.png"
    path.write_bytes(png(W, H, 16, 2, (b"\0" + b"\x01\x02" * 3 * W) * H))
    assert Image.open(path).mode == "RGB"
    refused(domain.parent, path, "16-bit", verify=False)


@pytest.mark.parametrize("mode", ["RGBA", "P", "LA", "I;16"])
def test_images_that_are_not_rgb(domain: Path, mode: str) -> None:
    path = domain / "train" / "images" / "a1.png"
    image = Image.fromarray(PAINT[..., 0].astype(np.uint16)) if mode == "I;16" else Image.fromarray(PAINT).convert(mode)
    image.save(path)
    refused(domain.parent, path, "8-bit RGB", verify=False)


def test_all_foreign_values_are_named(domain: Path) -> None:
    label = LABEL.copy()
    label[0, :2] = 19, 254
    put_pair(domain / "train", "a1", label=label)
    put_pair(domain / "val", "a2", label=label)
    refused(
        domain.parent, domain / "train" / "labels" / "a1.png", domain / "val" / "labels" / "a2.png", "19, 254", "2 of 4"
    )
    unverified = open_root(domain.parent, verify=False)["N"]
    with pytest.raises(InputError, match=r"a2\.png: has the value\(s\) 19, 254"):
        unverified.val[1]


@pytest.mark.parametrize("kind", ["images", "labels"])
def test_damaged_files_are_found(domain: Path, kind: str) -> None:
    path = domain / "train" / kind / "a1.png"
    path.write_bytes(path.read_bytes()[:-25])
    refused(domain.parent, path, "damaged or truncated")
    path.write_bytes(b"no image at all")
    refused(domain.parent, path, "cannot be read as an image", verify=False)


def test_truncated_jpeg_is_found(domain: Path) -> None:
    put_pair(domain / "train", "b", image=np.tile(PAINT, (20, 20, 1)), label=np.tile(LABEL, (20, 20)), suffix=".jpg")
    path = domain / "train" / "images" / "b.jpg"
    path.write_bytes(path.read_bytes()[:-500])
    refused(domain.parent, path, "damaged or truncated")


def test_jpeg_with_damaged_data_is_found(domain: Path) -> None:
    """Pillow shows it, as a shifted picture without a word."""
    put_pair(domain / "train", "b", image=np.tile(PAINT, (20, 20, 1)), label=np.tile(LABEL, (20, 20)), suffix=".jpg")
    path = domain / "train" / "images" / "b.jpg"
    content = bytearray(path.read_bytes())
    content[-2000:-1000] = bytes(1000)
    path.write_bytes(content)
    with Image.open(path) as image:
        image.load()
    refused(domain.parent, path, "damaged or truncated")


def test_files_changed_after_opening_are_found(domain: Path) -> None:
    train = open_root(domain.parent)["N"].train
    put_pair(domain / "train", "a1", label=LABEL[:3])
    with pytest.raises(InputError, match=r"a1\.png: is 8 x 6, but its label 8 x 3"):
        train[0]
    (domain / "train" / "images" / "a2.png").unlink()
    with pytest.raises(InputError, match=r"a2\.png: cannot be read"):
        train[1]
