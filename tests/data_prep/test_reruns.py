"""Run again: content decides what is kept, never time; what is stale is replaced, what is damaged mended."""

import json
import multiprocessing
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import data_prep.convert
from data_prep.__main__ import main
from dglab.data.prepared import check_root, open_root

H, W = 24, 32


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (H, W, 3), np.uint8)


def label(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 19, (H, W), np.uint8)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two pairs in train, one of them a JPEG, and one in val."""
    folder = tmp_path / "day"
    for number, name in enumerate(("train/{}/a", "train/{}/b", "val/{}/c")):
        for kind in ("images", "labels"):
            (folder / name.format(kind)).parent.mkdir(parents=True, exist_ok=True)
        suffix = ".jpg" if name.endswith("b") else ".png"
        Image.fromarray(picture(number)).save(folder / (name.format("images") + suffix))
        Image.fromarray(label(number)).save(folder / (name.format("labels") + ".png"))
    return folder


@pytest.fixture
def out(source: Path, tmp_path: Path) -> Path:
    assert run(source, tmp_path / "out") == 0
    return tmp_path / "out"


def run(source: Path, out: Path, *options: str) -> int:
    return main(["folder", "--source", str(source), "--out", str(out), *options])


def states(capsys) -> dict[str, list[str]]:
    """Converted and kept pairs by split, as the last run has printed them."""
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("day ")]
    return {words[2]: words[5:7] for words in lines}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("years", [-20, 20])
def test_times_alone_change_nothing(source: Path, out: Path, capsys, years: int) -> None:
    before = contents(out)
    for path in (*source.rglob("*.*g"), *out.rglob("*.*g")):
        os.utime(path, (path.stat().st_mtime + years * 3e7,) * 2)
        years = -years
    capsys.readouterr()
    assert run(source, out) == 0
    assert states(capsys) == {"train": ["0", "2"], "val": ["0", "1"]}
    assert contents(out) == before


@pytest.mark.parametrize("kind", ["images", "labels"])
def test_a_source_replaced_by_an_older_file_is_converted_again(source: Path, out: Path, capsys, kind: str) -> None:
    """As tar, rsync and unzip do it; even where the size is the same."""
    path = source / f"train/{kind}/a.png"
    size = path.stat().st_size
    Image.fromarray(picture(7) if kind == "images" else label(7)).save(path)
    if kind == "images":
        assert path.stat().st_size == size
    os.utime(path, (0, 0))
    capsys.readouterr()
    assert run(source, out) == 0
    assert states(capsys) == {"train": ["1", "1"], "val": ["0", "1"]}
    image, ids = open_root(out)["D"].train[0]
    assert np.array_equal(image.permute(1, 2, 0), picture(7 if kind == "images" else 0))
    assert np.array_equal(ids, label(7 if kind == "labels" else 0))
    check_root(out)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def zero(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-60:-40] = bytes(20)
    path.write_bytes(content)


def other_pixels(path: Path) -> None:
    Image.new("L" if path.parent.name == "labels" else "RGB", (W, H), 3).save(path)


def dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to("gone")


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("damage", [truncate, zero, other_pixels, dangling, pipe, Path.unlink])
@pytest.mark.parametrize("name", ["train/images/a.png", "train/images/b.jpg", "val/labels/c.png"])
def test_a_damaged_output_is_mended(source: Path, out: Path, capsys, name: str, damage) -> None:
    before = contents(out)
    damage(out / "day" / name)
    os.utime(out / "day" / name, (4e9, 4e9)) if (out / "day" / name).exists() else None
    capsys.readouterr()
    assert run(source, out) == 0
    split = name.split("/")[0]
    assert states(capsys)[split] == (["1", "1"] if split == "train" else ["1", "0"])
    assert contents(out) == before


def test_a_second_image_of_one_stem_is_cleared_away(source: Path, out: Path) -> None:
    before = contents(out)
    Image.fromarray(picture(5)).save(out / "day/train/images/a.jpg")
    assert run(source, out) == 0
    assert contents(out) == before


@pytest.mark.parametrize("name", ["images/a.gif", "labels/a.jpg", "labels/z.png", "images/a"])
def test_a_file_that_the_reader_would_refuse_is_named(source: Path, out: Path, capsys, name: str) -> None:
    (out / "day/train" / name).touch()
    assert run(source, out) == 2
    assert f"{out / 'day/train' / name}: 1 file(s) that --source does not have" in capsys.readouterr().err


def test_a_conversion_of_before_the_digests_is_converted_once_more(source: Path, out: Path, capsys) -> None:
    before = contents(out)
    (out / "day/pairs.jsonl").unlink()
    info = json.loads((out / "day/domain.json").read_text())
    del info["digests"]
    (out / "day/domain.json").write_text(json.dumps(info))
    open_root(out)
    capsys.readouterr()
    assert run(source, out) == 0
    assert states(capsys) == {"train": ["2", "0"], "val": ["1", "0"]}
    assert contents(out) == before


def test_a_killed_run_keeps_what_it_has_done(source: Path, out: Path, capsys, tmp_path: Path) -> None:
    """Without domain.json, and with the last line of the record cut short, as a kill may leave them."""
    before = contents(out)
    (out / "day/domain.json").unlink()
    record = out / "day/pairs.jsonl"
    record.write_bytes(record.read_bytes()[:-30])
    capsys.readouterr()
    assert run(source, out) == 0
    assert states(capsys) == {"train": ["0", "2"], "val": ["1", "0"]}
    assert contents(out) == before


@pytest.mark.parametrize("content", [b"\n\n[]\n{}\n[1, 2]\nnull\n" + b"[" * 90_000, b'["train", "a", 1, 2, 3, 4]\n'])
def test_a_record_that_is_none_costs_the_work_and_nothing_else(source: Path, out: Path, content: bytes) -> None:
    before = contents(out)
    (out / "day/pairs.jsonl").write_bytes(content)
    assert run(source, out) == 0
    assert contents(out) == before


@pytest.mark.parametrize(
    ("name", "make", "word"),
    [
        ("pairs.jsonl", os.mkfifo, "named pipe"),
        ("pairs.jsonl", Path.mkdir, "it is a folder"),
        ("pairs.jsonl", lambda path: path.write_bytes(b"\xff"), "not UTF-8 text"),
        ("conversion.json", os.mkfifo, "named pipe"),
        ("conversion.json", Path.mkdir, "it is a folder"),
        ("conversion.json", lambda path: path.symlink_to("gone"), "No such file"),
        ("conversion.json", lambda path: path.write_text("[" * 90_000), "not JSON"),
        ("conversion.json", lambda path: path.write_text("[]"), "holds no settings"),
        ("domain.json", Path.mkdir, "cannot write"),
        ("refused.csv", Path.mkdir, "cannot write"),
        ("train/images/a.png", Path.mkdir, "cannot write"),
    ],
)
def test_what_stands_where_a_file_belongs_is_named(source: Path, out: Path, capsys, name: str, make, word: str) -> None:
    (out / "day" / name).unlink(missing_ok=True)
    make(out / "day" / name)
    assert run(source, out) == 2
    stderr = capsys.readouterr().err
    assert str(out / "day") in stderr and name.split("/")[-1] in stderr and word in stderr


# ----------------------------------------------------------------------------------------- one process at a time


def convert_slowly(source: Path, out: Path, begun, leave) -> None:
    original = data_prep.convert._convert_pair

    def waiting(*arguments):
        begun.set()
        leave.wait()
        return original(*arguments)

    data_prep.convert._convert_pair = waiting
    raise SystemExit(run(source, out))


def test_the_second_converter_into_one_folder_is_refused(source: Path, tmp_path: Path, capsys) -> None:
    spawn = multiprocessing.get_context("spawn")
    begun, leave, out = spawn.Event(), spawn.Event(), tmp_path / "out"
    night = shutil.copytree(source, tmp_path / "night")
    first = spawn.Process(target=convert_slowly, args=(source, out, begun, leave))
    first.start()
    assert begun.wait(60)
    before = contents(out)
    assert run(source, out) == 2
    assert f"another process is at work in {out / 'day'}" in capsys.readouterr().err
    assert run(source, out, "--check") == 0  # which writes nothing
    assert contents(out) == before
    assert run(night, out) == 0  # another domain of the same root is no conflict
    leave.set()
    first.join()
    assert first.exitcode == 0
    assert sorted(open_root(out)) == ["D", "N"]
    assert not list(out.rglob(".*"))
