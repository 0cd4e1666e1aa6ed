"""What a source and a command line may hold: odd names, pipes, no rights, nonsense. Refused by name, exit code 2."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep import MODULES
from data_prep.__main__ import main
from dglab.data.prepared import open_root

H, W = 12, 16
RNG = np.random.default_rng(0)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def cities(tmp_path: Path) -> Path:
    """Cityscapes of two cities."""
    for split in ("train", "val"):
        for city in ("aachen", "bochum"):
            put(tmp_path / f"C/leftImg8bit/{split}/{city}/{city}_1_leftImg8bit.png", (H, W, 3))
            put(tmp_path / f"C/gtFine/{split}/{city}/{city}_1_gtFine_labelIds.png", (H, W))
    return tmp_path / "C"


@pytest.fixture
def day(tmp_path: Path) -> Path:
    """Somebody's own folder."""
    for split in ("train", "val"):
        put(tmp_path / "day" / split / "images/a.png", (H, W, 3))
        put(tmp_path / "day" / split / "labels/a.png", (H, W))
    return tmp_path / "day"


def put(path: Path, shape: tuple[int, ...]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 19, shape, np.uint8)).save(path)


def refused(capsys, arguments: list, *words: object) -> str:
    capsys.readouterr()
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as exit:  # argparse's own way out
        code = exit.code
    stderr = capsys.readouterr().err
    assert code == 2, stderr
    assert "Traceback" not in stderr
    for word in words:
        assert str(word) in stderr, stderr
    return stderr


def denying(function, path: Path):
    """Root may read anything, so the system's answer is played."""

    def called(given, *arguments, **options):
        if str(given) == str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return function(given, *arguments, **options)

    return called


# ------------------------------------------------------------------------------------------------------- rights


@pytest.mark.parametrize("folder", ["leftImg8bit/train/bochum", "gtFine/val/aachen", "leftImg8bit/val", "gtFine/train"])
def test_an_unreadable_city_is_not_left_out(cities: Path, out: Path, capsys, monkeypatch, folder: str) -> None:
    (cities / folder).chmod(0)
    monkeypatch.setattr(os, "listdir", denying(os.listdir, cities / folder))
    refused(capsys, ["cityscapes", "--source", cities, "--out", out], cities / folder, "Permission denied")
    assert not out.exists()


@pytest.mark.parametrize("name", ["leftImg8bit/train/bochum/bochum_1_leftImg8bit.png",
                                  "gtFine/val/aachen/aachen_1_gtFine_labelIds.png"])  # fmt: skip
def test_an_unreadable_file_is_refused_and_the_rest_goes_on(cities: Path, out: Path, capsys, monkeypatch, name) -> None:
    (cities / name).chmod(0)
    monkeypatch.setattr("builtins.open", denying(open, cities / name))
    refused(capsys, ["cityscapes", "--source", cities, "--out", out], cities / name, "Permission denied", "1 pair(s)")
    assert len(open_root(out)["C"].train) + len(open_root(out)["C"].val) == 3


def test_an_out_that_cannot_be_written(day: Path, out: Path, capsys, monkeypatch) -> None:
    out.write_text("a file")
    refused(capsys, ["folder", "--source", day, "--out", out], f"cannot write {out}")
    assert out.read_text() == "a file"
    refused(capsys, ["folder", "--source", day, "--out", "/proc/new"], "cannot write /proc/new")
    monkeypatch.setattr(Path, "mkdir", denying(Path.mkdir, out.with_name("other") / "day"))
    refused(capsys, ["folder", "--source", day, "--out", out.with_name("other")], "Permission denied")


# --------------------------------------------------------------------------------------------- pipes and links


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("gone")])
@pytest.mark.parametrize("name", ["leftImg8bit/train/bochum/bochum_1_leftImg8bit.png",
                                  "gtFine/val/aachen/aachen_1_gtFine_labelIds.png"])  # fmt: skip
def test_what_is_no_file_is_refused_in_the_first_run_and_in_a_second(
    cities: Path, out: Path, capsys, name: str, make
) -> None:
    arguments = ["cityscapes", "--source", cities, "--out", out]
    assert main([str(argument) for argument in arguments]) == 0
    (cities / name).unlink()
    make(cities / name)
    for options in (["--check"], [], []):
        refused(capsys, [*arguments, *options], f"refused: {cities / name}: cannot be read")
    assert len(open_root(out)["C"].train) + len(open_root(out)["C"].val) == 3


@pytest.mark.parametrize("name", [name for name in MODULES if name != "folder"])
@pytest.mark.parametrize("source", ["/proc", "/dev/null", "/proc/self/mem", "loop"])
def test_sources_that_are_none(name: str, source: str, out: Path, capsys, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    refused(capsys, [name, "--source", source, "--out", out], "error: ", source.split("/")[-1])
    assert not out.exists()


def test_pipes_where_the_files_of_the_data_sets_belong(tmp_path: Path, out: Path, capsys) -> None:
    gta5 = tmp_path / "gta5"
    put(gta5 / "images/00001.png", (H, W, 3))
    put(gta5 / "labels/00001.png", (H, W))
    os.mkfifo(gta5 / "split.mat")
    refused(capsys, ["gta5", "--source", gta5, "--out", out], gta5 / "split.mat", "named pipe")
    idd = tmp_path / "idd"
    for split in ("train", "val"):
        put(idd / f"leftImg8bit/{split}/0/1_leftImg8bit.png", (H, W, 3))
        (idd / f"gtFine/{split}/0").mkdir(parents=True)
        os.mkfifo(idd / f"gtFine/{split}/0/1_gtFine_polygons.json")
    refused(capsys, ["idd", "--source", idd, "--out", out], "polygons.json", "named pipe", "2 pair(s) refused")


# -------------------------------------------------------------------------------------------------------- names


def test_names_that_are_not_utf_8(cities: Path, day: Path, out: Path, capsys) -> None:
    odd = os.fsdecode(b"caf\xe9")
    (cities / "leftImg8bit/train/bochum").rename(cities / "leftImg8bit/train" / odd)
    refused(capsys, ["cityscapes", "--source", cities, "--out", out], "not UTF-8", r"caf\xe9", "rename it")
    for kind in ("images", "labels"):
        (day / "val" / kind / "a.png").rename(day / "val" / kind / f"{odd}.png")
    refused(capsys, ["folder", "--source", day, "--out", out], "not UTF-8", r"caf\xe9.png")
    day.rename(day.with_name(odd))
    refused(capsys, ["folder", "--source", day.with_name(odd), "--out", out], "--source", "UTF-8")
    assert not out.exists()


@pytest.mark.parametrize("stem", ["x" * 251, "ü" * 125, "x" * 247])
def test_names_as_long_as_a_disk_takes_them(day: Path, out: Path, stem: str) -> None:
    for kind in ("images", "labels"):
        (day / "val" / kind / "a.png").rename(day / "val" / kind / f"{stem}.png")
    for _ in range(2):
        assert main(["folder", "--source", str(day), "--out", str(out)]) == 0
        assert open_root(out)["D"].val.stems == (stem,)


def test_names_that_grow_too_long(cities: Path, out: Path, capsys) -> None:
    """IDD's stems are made of two names."""
    idd = cities.with_name("idd")
    for split in ("train", "val"):
        put(idd / f"leftImg8bit/{split}/{'d' * 200}/{'f' * 100}_leftImg8bit.png", (H, W, 3))
        label = idd / f"gtFine/{split}/{'d' * 200}/{'f' * 100}_gtFine_polygons.json"
        label.parent.mkdir(parents=True)
        label.write_text("{}")
    refused(capsys, ["idd", "--source", idd, "--out", out], "2 name(s) are longer than a disk takes", "rename")
    assert not out.exists()


# ----------------------------------------------------------------------------------------------------- nonsense


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["folder", "--source", "day", "--out", ""], "--out: got nothing"),
        (["folder", "--source", "", "--out", "out"], "--source: got nothing"),
        (["folder", "--source", "day", "--out", "out", "--mapping", ""], "has no mapping ''"),
        (["list", "--source", "day"], "--source does not belong to list"),
        (["list", "--out", "out", "--limit", "3", "--check"], "--out, --limit, --check does not belong to list"),
        (["folder", "--source", "day", "--out", "x" * 300], "cannot write"),
        (["folder", "--source", "x" * 5000, "--out", "out"], "x: no such folder"),
        (["folder", "--source", "day", "--out", "out", "--limit", "9" * 5000], "--limit"),
    ],
)
def test_nonsense_is_refused(day: Path, capsys, monkeypatch, arguments: list, word: str) -> None:
    monkeypatch.chdir(day.parent)
    refused(capsys, arguments, word)
    assert sorted(path.name for path in day.parent.iterdir()) == ["day"]


def test_colour_maps_of_bdd_are_not_out_of_a_range_that_they_are_in(tmp_path: Path, out: Path, capsys) -> None:
    bdd = tmp_path / "bdd"
    for split in ("train", "val"):
        put(bdd / f"images/10k/{split}/a.png", (H, W, 3))
        (bdd / f"images/10k/{split}/a.png").rename(bdd / f"images/10k/{split}/a.jpg")
        put(bdd / f"labels/sem_seg/masks/{split}/a.png", (H, W))
    Image.fromarray(np.full((H, W), 70, np.uint8)).save(bdd / "labels/sem_seg/masks/val/a.png")  # grey of a colour map
    words = "has the id(s) 70; expected ids that the mapping knows, 0-18, 255;"
    message = refused(capsys, ["bdd100k", "--source", bdd, "--out", out], words)
    assert "0 to 255" not in message


def test_an_exif_orientation_is_ignored_and_told_of_in_every_run(day: Path, out: Path, capsys) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.fromarray(RNG.integers(0, 256, (H, W, 3), np.uint8)).save(day / "train/images/a.png", exif=exif)
    for options in (["--check"], [], []):
        assert main(["folder", "--source", str(day), "--out", str(out), *options]) == 0
        stderr = capsys.readouterr().err
        assert "day: 1 image(s) with an EXIF orientation, which is ignored" in stderr
        assert str(day / "train/images/a.png") in stderr
    with pytest.warns(UserWarning, match="EXIF"):
        assert open_root(out)["D"].train[0][0].shape == (3, H, W)
