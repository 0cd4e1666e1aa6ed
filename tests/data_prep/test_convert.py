"""The converter on miniature sources in the public layouts: right pixels, loud refusals, safe to kill and run again."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import data_prep.convert
from data_prep import MODULES, report
from data_prep.__main__ import main
from data_prep.convert import convert
from data_prep.dataset import Dataset, Domain, LabelMapping, Pair, files_by_key, matched
from dglab.classes import CLASS_NAMES
from dglab.data.prepared import open_root
from dglab.utils.errors import InputError

H, W = 12, 16
CAMVID = MODULES["camvid"].DATASET

# Written once more, by name, so that a slip in the converter's table of numbers is seen.
SEGNET_CLASSES = "sky building pole road pavement tree sign fence car pedestrian bicyclist void".split()
BY_NAME = {"pavement": "sidewalk", "tree": "vegetation", "sign": "traffic sign", "pedestrian": "person"}
BY_NAME |= {"bicyclist": "rider"}


def expected_train_ids(label: np.ndarray) -> np.ndarray:
    def one(old: int) -> int:
        name = SEGNET_CLASSES[old]
        return 255 if name == "void" else CLASS_NAMES.index(BY_NAME.get(name, name))

    return np.array([[one(old) for old in row] for row in label])


FRAMES = {  # the official parts, miniature, with frames on both sides of every cut
    "train": ["0001TP_009270", "0006R0_f00930", "0006R0_f03060", "0016E5_00390", "0016E5_08640"],
    "val": ["0016E5_07959", "0016E5_07961"],
    "test": ["0001TP_009300", "Seq05VD_f00000", "Seq05VD_f03570", "Seq05VD_f03600"],
}
SPLITS = {
    "0001TP/train": ["0001TP_009270"],
    "0001TP/val": ["0001TP_009300"],
    "0006R0/train": ["0006R0_f00930"],
    "0006R0/val": ["0006R0_f03060"],
    "0016E5/train": ["0016E5_00390"],
    "0016E5/val": ["0016E5_07959", "0016E5_07961", "0016E5_08640"],
    "Seq05VD/train": ["Seq05VD_f00000", "Seq05VD_f03570"],
    "Seq05VD/val": ["Seq05VD_f03600"],
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    root = tmp_path / "clone" / "CamVid"
    for part, stems in FRAMES.items():
        for folder in (part, f"{part}annot"):
            (root / folder).mkdir(parents=True)
        for stem in stems:
            Image.fromarray(rng.integers(0, 256, (H, W, 3), np.uint8)).save(root / part / f"{stem}.png")
            label = rng.permutation(np.arange(H * W) % 12).reshape(H, W).astype(np.uint8)  # all ids in each label
            Image.fromarray(label).save(root / f"{part}annot" / f"{stem}.png")
    return root


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def run(source: Path, out: Path, *options: str) -> int:
    return main(["camvid", "--source", str(source), "--out", str(out), *options])


def source_file(source: Path, stem: str, kind: str = "") -> Path:
    return next(source / f"{part}{kind}" / f"{stem}.png" for part in FRAMES if stem in FRAMES[part])


def data_files(out: Path) -> dict[str, tuple[int, bytes]]:
    """Everything on disk, hidden files included: time of writing and content."""
    return {str(p.relative_to(out)): (p.stat().st_mtime_ns, p.read_bytes()) for p in out.rglob("*") if p.is_file()}


def contents(out: Path) -> dict[str, bytes]:
    return {name: content for name, (_, content) in data_files(out).items()}


# ---------------------------------------------------------------------------------------------- what is written


def test_camvid_regrouped_by_recording_and_split_by_time(source: Path, out: Path) -> None:
    assert run(source, out) == 0
    for place, stems in SPLITS.items():
        for kind in ("images", "labels"):
            assert sorted(p.stem for p in (out / place / kind).iterdir()) == stems, place
    domains = open_root(out)
    assert {letter: d.name for letter, d in domains.items()} == {
        "T": "CamVid 0001TP",
        "R": "CamVid 0006R0",
        "E": "CamVid 0016E5",
        "V": "CamVid Seq05VD",
    }


def test_every_pixel(source: Path, out: Path) -> None:
    run(source.parent, out)  # the clone that holds the folder CamVid does as well
    for domain in open_root(out).values():
        for part in (domain.train, domain.val):
            for stem, image, label in zip(part.stems, part.images, part.labels, strict=True):
                assert image.read_bytes() == source_file(source, stem).read_bytes()
                ids = np.asarray(Image.open(source_file(source, stem, "annot")))
                with Image.open(label) as written:
                    assert written.mode == "L"
                    assert np.array_equal(np.asarray(written), expected_train_ids(ids))


def test_domain_json(source: Path, out: Path) -> None:
    run(source, out)
    info = json.loads((out / "0016E5" / "domain.json").read_text())
    labels = [source_file(source, s, "annot") for s in SPLITS["0016E5/train"] + SPLITS["0016E5/val"]]
    pixels = np.concatenate([expected_train_ids(np.asarray(Image.open(label))).ravel() for label in labels])
    assert (info["name"], info["letter"], info["num_train"], info["num_val"]) == ("CamVid 0016E5", "E", 1, 3)
    assert (info["mapping"], info["converter_version"], info["num_refused"]) == ("camvid:segnet11", 2, 0)
    assert info["pixels_per_class"] == [int((pixels == i).sum()) for i in range(19)]
    assert info["pixels_ignored"] == (pixels == 255).sum()
    assert info["classes_present"] == [0, 1, 2, 4, 5, 7, 8, 10, 11, 12, 13]
    assert "CamVid" in info["source"]


def test_max_side_keeps_image_and_label_together(source: Path, out: Path) -> None:
    halves = np.zeros((H, W, 3), np.uint8)
    halves[:, W // 2 :] = 255
    label = np.full((H, W), 3, np.uint8)
    label[:, W // 2 :] = 0
    for stem in ("0001TP_009270", "0001TP_009300"):
        Image.fromarray(halves).save(source_file(source, stem))
        Image.fromarray(label).save(source_file(source, stem, "annot"))
    assert run(source, out, "--max-side", "8") == 0
    image, label = open_root(out)["T"].train[0]
    assert image.shape == (3, 6, 8)
    assert label.shape == (6, 8)
    assert set(label.unique().tolist()) == {0, 10}  # no class between road and sky came up
    assert ((image[0] > 127) == (label == 10)).all()  # and the border is where it was


def test_resized_images_do_not_alias(source: Path, out: Path) -> None:
    stripes = np.zeros((H, W, 3), np.uint8)
    stripes[:, ::2] = 255  # one pixel wide: bare subsampling would give black or white
    Image.fromarray(stripes).save(source_file(source, "0001TP_009270"))
    run(source, out, "--max-side", "4")
    image, _ = open_root(out)["T"].train[0]
    assert (image.float() - 127.5).abs().max() < 40


def test_images_within_max_side_keep_their_bytes(source: Path, out: Path) -> None:
    run(source, out, "--max-side", str(W))
    assert (out / "0001TP/train/images/0001TP_009270.png").read_bytes() == source_file(
        source, "0001TP_009270"
    ).read_bytes()


def test_limit_takes_an_even_spread(source: Path, out: Path) -> None:
    assert run(source, out, "--limit", "2") == 0
    assert open_root(out)["E"].val.stems == ("0016E5_07959", "0016E5_07961")
    assert len(open_root(out)["V"].train) == 2
    many = [Pair(Domain("d", "d", "D"), "train", f"f{i}", Path(), Path()) for i in range(100)]
    assert [p.stem for p in data_prep.convert._choose(many[::-1], 4)] == ["f0", "f25", "f50", "f75"]


def test_summary_compares_with_published_counts(source: Path, out: Path, capsys) -> None:
    run(source, out)
    printed = capsys.readouterr()
    line = next(line for line in printed.out.splitlines() if line.startswith("CamVid 0016E5") and " val " in line)
    assert line.split()[2:] == ["E", "val", "157", "3", "3", "0", "0", "16", "x", "12"]
    assert "CamVid 0016E5 val: found 3 pairs, published are 157" in printed.err
    assert "traffic sign" in printed.out
    assert "motorcycle" not in printed.out  # absent everywhere


def test_check_reads_all_and_writes_nothing(source: Path, out: Path, capsys) -> None:
    assert run(source, out, "--check") == 0
    source_file(source, "0001TP_009300", "annot").write_bytes(b"")
    assert run(source, out, "--check") == 2
    assert "0001TP_009300.png" in capsys.readouterr().err
    assert not out.exists()


# -------------------------------------------------------------------------------------------------- large images


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source with a large PNG and a large JPEG in train, and a large PNG in val; all show the same."""
    source = tmp_path_factory.mktemp("large") / "day"
    rows, columns = np.mgrid[:512, :1024]
    image = np.stack([rows // 4, columns // 8, (rows + columns) // 8], -1).astype(np.uint8)
    image[:, 500:504] = 255, 0, 0  # thin and red
    label = ((columns // 64 + rows // 64) % 19).astype(np.uint8)
    for split, stem, suffix in (("train", "a", ".png"), ("train", "b", ".jpg"), ("val", "c", ".png")):
        for kind in ("images", "labels"):
            (source / split / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(source / split / "images" / (stem + suffix))
        Image.fromarray(label).save(source / split / "labels" / f"{stem}.png")
    return source


def convert_folder(source: Path, out: Path, *options: str) -> int:
    return main(["folder", "--source", str(source), "--out", str(out), *options])


def test_of_large_images_pngs_of_train_become_jpegs_and_all_else_keeps_its_bytes(large: Path, out: Path) -> None:
    assert convert_folder(large, out) == 0
    assert [path.name for path in sorted((out / "day/train/images").iterdir())] == ["a.jpg", "b.jpg"]
    for kept in ("train/images/b.jpg", "val/images/c.png"):
        assert (out / "day" / kept).read_bytes() == (large / kept).read_bytes()
    with Image.open(large / "train/images/a.png") as before, Image.open(out / "day/train/images/a.jpg") as after:
        assert [layer[1:3] for layer in after.layer] == [(1, 1)] * 3  # colours at full resolution
        error = np.asarray(after).astype(float) - np.asarray(before)
    assert 10 * np.log10(255**2 / np.mean(error**2)) > 43  # dB
    assert np.abs(error).max() < 30  # the red line, too
    (day,) = open_root(out).values()
    expected = np.asarray(Image.open(large / "val/labels/c.png"))
    assert all(np.array_equal(label, expected) for part in (day.train, day.val) for _, label in part)


def test_lossless_keeps_large_pngs(large: Path, out: Path, capsys) -> None:
    assert convert_folder(large, out, "--lossless") == 0
    for kept in ("train/images/a.png", "train/images/b.jpg", "val/images/c.png"):
        assert (out / "day" / kept).read_bytes() == (large / kept).read_bytes()
    assert convert_folder(large, out) == 2
    assert "lossless was True and is now False" in capsys.readouterr().err


def test_resized_images_are_large_or_not_as_they_are_written(large: Path, out: Path) -> None:
    assert convert_folder(large, out, "--max-side", "512") == 0
    assert {path.name for path in out.glob("day/*/images/*")} == {"a.png", "b.png", "c.png"}


def test_a_conversion_of_large_images_can_be_run_again(large: Path, out: Path, capsys) -> None:
    convert_folder(large, out)
    before = data_files(out)
    (out / "day/train/images/a.jpg").write_bytes(b"")
    capsys.readouterr()
    assert convert_folder(large, out) == 0
    assert contents(out) == {name: content for name, (_, content) in before.items()}
    line = next(line for line in capsys.readouterr().out.splitlines() if " train " in line)
    assert line.split()[4:7] == ["2", "1", "1"]  # found, converted, kept


# --------------------------------------------------------------------------------------------- bad single files


def damage(source: Path, how: str) -> Path:
    """Spoil one pair; the file that must be named."""
    image, label = source_file(source, "0016E5_07961"), source_file(source, "0016E5_07961", "annot")
    if how == "unknown id":
        ids = np.asarray(Image.open(label)).copy()
        ids[3, 3] = 12
        Image.fromarray(ids).save(label)
        return label
    if how == "size":
        Image.fromarray(np.zeros((H, W - 1), np.uint8)).save(label)
        return image
    if how == "colours":
        Image.open(image).save(label)
        return label
    path = image if how == "truncated image" else label
    path.write_bytes(path.read_bytes()[:-30])
    return path


@pytest.mark.parametrize("how", ["unknown id", "size", "colours", "truncated image", "truncated label"])
def test_one_bad_pair_is_refused_and_the_rest_goes_on(source: Path, out: Path, capsys, how: str) -> None:
    good = {p: p.read_bytes() for p in source.rglob("0016E5_07961.png")}
    named = damage(source, how)
    assert run(source, out) == 2
    assert str(named) in (stderr := capsys.readouterr().err)
    assert "1 pair(s) refused" in stderr
    with open(out / "0016E5" / "refused.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["stem"] == "0016E5_07961"
    assert str(named) in row["reason"]
    opened = open_root(out)  # all others are there, and the counts are true
    assert opened["E"].val.stems == ("0016E5_07959", "0016E5_08640")
    assert opened["E"].info["num_refused"] == 1

    for path, content in good.items():  # the source is mended
        path.write_bytes(content)
    assert run(source, out) == 0
    assert not (out / "0016E5" / "refused.csv").exists()
    assert len(open_root(out)["E"].val) == 3


def test_a_source_gone_bad_takes_its_outputs_along(source: Path, out: Path) -> None:
    run(source, out)
    damage(source, "unknown id")
    assert run(source, out) == 2
    assert not list(out.rglob("0016E5_07961.*"))


def test_a_changed_source_is_converted_again(source: Path, out: Path) -> None:
    run(source, out)
    path = source_file(source, "0001TP_009270", "annot")
    Image.fromarray(np.full((H, W), 8, np.uint8)).save(path)
    os.utime(path, ns=(later := (out / "0001TP/train/labels/0001TP_009270.png").stat().st_mtime_ns + 10**9, later))
    run(source, out)
    assert (open_root(out)["T"].train[0][1] == 13).all()


# ---------------------------------------------------------------------------------- the source as a whole, and --out


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda s: (s / "testannot").rename(s / "elsewhere"), ["testannot", "no such folder"]),
        (lambda s: [p.unlink() for p in (s / "val").iterdir()], ["val", "holds no *.png"]),
        (lambda s: (s / "valannot/0016E5_07961.png").unlink(), ["1 image(s) without label", "0016E5_07961"]),
        (lambda s: (s / "val/0016E5_07961.png").unlink(), ["1 label(s) without image", "0016E5_07961"]),
        (
            lambda s: [(s / d / "0016E5_07961.png").rename(s / d / "val_00001.png") for d in ("val", "valannot")],
            ["val_00001.png", "does not begin with a recording"],
        ),
        (
            lambda s: [(s / a / "0016E5_07961.png").rename(s / b / "0016E5_08640.png") for a, b in
                       (("val", "val"), ("valannot", "valannot"))],
            ["0016E5/val/0016E5_08640", "more than once"],
        ),
    ],
)  # fmt: skip
def test_a_source_that_is_not_camvid(source: Path, out: Path, capsys, spoil, words) -> None:
    spoil(source)
    assert run(source, out) == 2
    stderr = capsys.readouterr().err
    assert all(word in stderr for word in words), stderr
    assert not out.exists()


def test_other_settings_in_an_existing_out(source: Path, out: Path, capsys) -> None:
    run(source, out, "--limit", "1")
    before = contents(out)
    assert run(source, out, "--max-side", "8") == 2
    stderr = capsys.readouterr().err
    assert "limit was 1 and is now None" in stderr
    assert "max_side was None and is now 8" in stderr
    assert "mapping was" not in stderr
    assert contents(out) == before


def test_out_that_holds_something_else(source: Path, out: Path, capsys) -> None:
    (out / "0006R0").mkdir(parents=True)
    (out / "0006R0" / "mine.txt").write_text("mine")
    assert run(source, out) == 2
    assert "0006R0: exists, but was not written by data_prep" in capsys.readouterr().err
    assert list(contents(out)) == ["0006R0/mine.txt"]


def test_files_that_the_source_has_no_more(source: Path, out: Path, capsys) -> None:
    run(source, out)
    for path in source.rglob("0016E5_07961.png"):
        path.unlink()
    assert run(source, out) == 2
    assert str(out / "0016E5/val/images/0016E5_07961.png") in capsys.readouterr().err


def test_out_inside_the_source(source: Path, capsys) -> None:
    assert run(source, source / "prepared") == 2
    assert "--out is inside --source" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------- killed, and run again


def test_run_twice_redoes_nothing(source: Path, out: Path, capsys) -> None:
    run(source, out)
    before = data_files(out)
    assert run(source, out) == 0
    after = data_files(out)
    assert {n: c for n, (_, c) in before.items()} == {n: c for n, (_, c) in after.items()}
    pairs = [name for name in before if "/images/" in name or "/labels/" in name]
    assert len(pairs) == 22
    assert all(before[name] == after[name] for name in pairs)


@pytest.mark.parametrize("writes", [0, 1, 2, 5, 8, 13])
def test_killed_at_any_write_and_run_again(source: Path, out: Path, tmp_path: Path, monkeypatch, writes: int) -> None:
    """The process dies between writing a file beside its place and renaming it."""
    run(source, tmp_path / "undisturbed")
    left = iter(range(writes))

    def dying(old: Path, new: Path, replace=os.replace) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        replace(old, new)

    with monkeypatch.context() as patch:
        patch.setattr(data_prep.convert.os, "replace", dying)
        assert run(source, out) == 130
    if any((out / "0001TP").glob("*.json")):
        with pytest.raises(InputError, match="unfinished|no such folder"):
            open_root(out)
    assert run(source, out) == 0
    assert contents(out) == contents(tmp_path / "undisturbed")  # and so no temporary files


def test_second_run_killed_leaves_the_domain_unfinished(source: Path, out: Path, monkeypatch) -> None:
    run(source, out)
    with monkeypatch.context() as patch:
        patch.setattr(data_prep.convert, "_convert_pair", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert run(source, out) == 130
    with pytest.raises(InputError, match="0001TP: its conversion is unfinished"):
        open_root(out)


def test_temporary_files_of_a_killed_run_are_cleared_away(source: Path, out: Path) -> None:
    run(source, out)
    (out / "0001TP/val/labels/.0001TP_009300.png.partial").write_bytes(b"half")
    assert len(open_root(out)["T"].val) == 1
    run(source, out)
    assert not list(out.rglob("*.partial"))


def test_outputs_lost_or_damaged_are_made_again(source: Path, out: Path) -> None:
    run(source, out)
    whole = contents(out)
    (out / "0001TP/train/images/0001TP_009270.png").unlink()
    (out / "0006R0/val/labels/0006R0_f03060.png").write_bytes(b"")
    (out / "Seq05VD/domain.json").unlink()
    assert run(source, out) == 0
    assert contents(out) == whole


def test_a_full_disk_is_told_and_not_blamed_on_a_file(source: Path, out: Path, capsys, monkeypatch) -> None:
    def full(old: Path, new: Path) -> None:
        raise OSError(28, "No space left on device", str(new))

    def full_while_writing(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")  # as a write does, which knows of no name

    for owner, name, broken in ((data_prep.convert.os, "replace", full), (Path, "write_bytes", full_while_writing)):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, broken)
            assert run(source, out) == 2
        stderr = capsys.readouterr().err
        assert "No space left on device" in stderr and str(out) in stderr and "refused" not in stderr
    assert run(source, out) == 0


# ---------------------------------------------------------------------------------------------------- command line


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([], "required: name"),
        (["nuscenes"], "invalid choice"),
        (["camvid"], "--source is missing"),
        (["camvid", "--source", "/nowhere"], "--out is missing"),
        (["camvid", "--source", "/nowhere", "--out", "x"], "/nowhere: no such folder"),
        (["camvid", "--source", "/", "--out", "x", "--limit", "0"], "whole number from 1"),
        (["camvid", "--source", "/", "--out", "x", "--max-side", "big"], "whole number from 1"),
        (["camvid", "--source", "/", "--out", "x", "--mapping", "no"], "expected one of segnet11"),
    ],
)
def test_wrong_use_exits_with_2(arguments: list[str], word: str, capsys) -> None:
    try:
        code = main(arguments)
    except SystemExit as exit:  # argparse's own way out
        code = exit.code
    assert code == 2
    stderr = capsys.readouterr().err
    assert word in stderr
    assert "Traceback" not in stderr


def test_as_a_process(source: Path, out: Path) -> None:
    def process(*arguments: object) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "data_prep", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, cwd=Path(data_prep.__file__).parents[1])

    assert process("camvid", "--source", source, "--out", out).returncode == 0
    source_file(source, "0001TP_009300").unlink()
    wrong = process("camvid", "--source", source, "--out", out)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("error: ")
    assert "Traceback" not in wrong.stderr


def test_list_describes_every_data_set(capsys) -> None:
    assert main(["list"]) == 0
    printed = capsys.readouterr().out
    for name, module in MODULES.items():
        assert module.DATASET.name == name
        for text in (name, module.DATASET.download, module.DATASET.licence, *module.DATASET.mappings):
            assert text in printed


# ------------------------------------------------------------------------------- the contract for other data sets


def test_mappings_refuse_impossible_entries() -> None:
    for table in ({256: 0}, {-1: 0}, {0: 19}, {0: -1}, {0: 256}):
        with pytest.raises(ValueError, match="mapping entry"):
            LabelMapping(table, "nowhere")


@pytest.mark.parametrize("name", list(MODULES))
def test_letters_and_folders_of_a_data_set_are_unique(name: str) -> None:
    domains = MODULES[name].DATASET.domains
    assert len({d.letter for d in domains}) == len({d.folder for d in domains}) == len(domains)


def test_16_bit_ids_two_mappings_and_jpeg(tmp_path: Path) -> None:
    """A data set unlike CamVid: its own label reader, ids above 255, a choice of mappings, JPEG images."""
    source, domain = tmp_path / "source", Domain("x", "X", "X")
    (source / "rgb").mkdir(parents=True)
    (source / "ids").mkdir()
    for stem, top in (("a", 2), ("b", 2), ("c", 300)):
        Image.new("RGB", (4, 3), (90, 20, 30)).save(source / "rgb" / f"{stem}.jpeg")
        ids = np.ones((3, 4), np.uint16)
        ids[0] = top
        np.save(source / "ids" / f"{stem}.npy", ids)

    def find_pairs(root: Path, mapping: str) -> list[Pair]:
        images, labels = files_by_key(root / "rgb", "*.jpeg"), files_by_key(root / "ids", "*.npy")
        return [Pair(domain, "val" if stem == "b" else "train", stem, *files)
                for stem, *files in matched(images, labels, root)]  # fmt: skip

    mappings = {"plain": LabelMapping({1: 0, 2: 1}, "test"), "merged": LabelMapping({1: 0, 2: 0}, "test")}
    dataset = Dataset("x", "X", "", "", "", "", (), mappings, find_pairs, np.load)
    for name, top in (("plain", 1), ("merged", 0)):
        (done,) = convert(dataset, source, tmp_path / name, mapping=name)
        assert [o.pair.stem for o in done.refused] == ["c"]
        assert "300" in done.refused[0].reason
        opened = open_root(tmp_path / name)["X"]
        assert opened.val[0][1].tolist() == [[top] * 4, [0] * 4, [0] * 4]
        assert opened.val.images[0].read_bytes() == (source / "rgb" / "b.jpeg").read_bytes()
        assert opened.val.images[0].suffix == ".jpg"
        assert not report.warnings([done])  # nothing published, nothing to compare
