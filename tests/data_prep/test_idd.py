"""IDD from its polygons: a drawing worked out pixel by pixel, both mappings, and what a source may get wrong."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep.__main__ import main
from data_prep.idd import NAMES
from dglab.data.prepared import open_root

H, W = 6, 8
FRAMES = {"train": ["0/005506", "0/118450", "17/005506"], "val": ["5/292668"]}


def box(left: float, top: float, right: float, bottom: float) -> list[list[float]]:
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def shape(label: str, polygon: list, deleted: int = 0) -> dict:
    """An object as the release writes it, with the entries that nobody needs."""
    return {"date": "", "deleted": deleted, "draw": True, "id": 0, "label": label, "polygon": polygon, "verified": 0}


SCENE = [
    shape("sky", box(0, 0, 7, 2)),
    shape("road", box(0, 3, 6, 5)),  # column 7 stays unlabeled below
    shape("building", box(-4, -4, 3, 2)),  # over the sky, and beyond the image
    shape("non-drivable fallback", box(6, 3, 6, 5)),
    shape("cargroup", box(2, 2, 4, 4)),
    shape("no such label", box(0, 0, 7, 5), deleted=1),
    shape("ground", box(0, 0, 7, 5)),  # in no table: what lies below stays
    shape("kangaroo", box(0, 0, 3, 3)),
    shape("truck", [[0, 0], [7, 5]]),  # of fewer than three points, as two below
    shape("polegroup", box(5, 0, 5, 2)),  # a label of its own, not pole
    shape("person", [[0.9, 3.9], [2.5, 3.2], [0.1, 5.99]]),  # (0, 3) (2, 3) (0, 5), over road and car
    shape("out of roi", [[6, 0], [7, 0], [7, 0]]),
    shape("vehicle fallback", [[5, 4], [5, 5], [5, 5]]),
    shape("car", [[1, 1]]),
    shape("car", []),
]
DRAWN = """
b b b b s . . .
b b b b s . s s
b b c c c . s s
p p p c c r n .
p p c c c . n .
p r r r r . n .
"""
TRAIN_ID = {"b": 2, "s": 10, "c": 13, "p": 11, "r": 0, ".": 255, "n": 255}

# Column csTrainId of AutoNUE's table; every other name is 255 there.
CS_TRAIN_ID = {
    "road": 0, "sidewalk": 1, "building": 2, "wall": 3, "fence": 4, "pole": 5, "traffic light": 6, "traffic sign": 7,
    "vegetation": 8, "non-drivable fallback": 9, "sky": 10, "person": 11, "rider": 12, "car": 13, "truck": 14,
    "bus": 15, "train": 16, "motorcycle": 17, "bicycle": 18,
}  # fmt: skip


def expected(fallback: int = 255) -> np.ndarray:
    table = TRAIN_ID | {"n": fallback}
    return np.array([[table[letter] for letter in row.split()] for row in DRAWN.split("\n") if row])


def image_file(source: Path, split: str, frame: str, suffix: str = ".png") -> Path:
    return source / "leftImg8bit" / split / f"{frame}_leftImg8bit{suffix}"


def label_file(source: Path, split: str, frame: str) -> Path:
    return source / "gtFine" / split / f"{frame}_gtFine_polygons.json"


def write_label(path: Path, objects: list, width: int = W, height: int = H) -> None:
    path.write_text(json.dumps({"imgHeight": height, "imgWidth": width, "objects": objects}))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root, rng = tmp_path / "IDD_Segmentation", np.random.default_rng(1)
    for split, frames in FRAMES.items():
        for frame in frames:
            image_file(root, split, frame).parent.mkdir(parents=True, exist_ok=True)
            label_file(root, split, frame).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (H, W, 3), np.uint8)).save(image_file(root, split, frame))
            write_label(label_file(root, split, frame), SCENE)
    (root / "leftImg8bit/test/1").mkdir(parents=True)  # without labels, as published
    Image.new("RGB", (W, H)).save(image_file(root, "test", "1/000001"))
    return root


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def run(source: Path, out: Path, *options: str) -> int:
    return main(["idd", "--source", str(source), "--out", str(out), *options])


# ------------------------------------------------------------------------------------------------------- pixels


@pytest.mark.parametrize(("options", "fallback"), [((), 255), (("--mapping", "terrain"), 9)])
def test_every_pixel_is_drawn_as_by_hand(source: Path, out: Path, options: tuple, fallback: int) -> None:
    assert run(source, out, *options) == 0
    domain = open_root(out)["I"]
    assert (domain.name, domain.info["mapping"]) == ("IDD", f"idd:{options[1] if options else 'ignored'}")
    assert domain.train.stems == ("0_005506", "0_118450", "17_005506")  # two drives, one frame name
    assert domain.val.stems == ("5_292668",)
    for part in (domain.train, domain.val):
        for _, label in part:
            np.testing.assert_array_equal(label, expected(fallback))
    assert domain.val.images[0].read_bytes() == image_file(source, "val", "5/292668").read_bytes()


def test_what_is_passed_over_is_counted_in_every_run(source: Path, out: Path, capsys) -> None:
    for options in (("--check",), (), ()):
        assert run(source, out, *options) == 0
        stderr = capsys.readouterr().err
        counts = "polygons of fewer than 3 points (12), ground (4), kangaroo (4)"  # of 4 frames
        assert f"IDD: passed over in the labels, as by the public tool: {counts}" in stderr


def test_label_pngs_of_the_public_tool_change_nothing(source: Path, out: Path) -> None:
    for path in source.glob("gtFine/*/*/*.json"):
        for kind in ("labelcsIds", "labelcsTrainIds", "labellevel3Ids", "instanceids"):
            Image.new("L", (W, H), 7).save(path.with_name(path.name.replace("polygons.json", f"{kind}.png")))
    assert run(source, out) == 0
    np.testing.assert_array_equal(open_root(out)["I"].val[0][1], expected())


@pytest.mark.parametrize(("mapping", "differs"), [("terrain", {}), ("ignored", {"non-drivable fallback": 255})])
def test_every_name_of_the_table(source: Path, out: Path, mapping: str, differs: dict) -> None:
    names = [*NAMES, "persongroup", "trailergroup", "ground", "groundgroup"]
    frame = ("val", "5/292668")
    Image.new("RGB", (len(names), 2)).save(image_file(source, *frame))
    write_label(
        label_file(source, *frame), [shape(n, [[i, 0], [i, 1], [i, 1]]) for i, n in enumerate(names)], len(names), 2
    )
    assert run(source, out, "--mapping", mapping) == 0
    table = CS_TRAIN_ID | {"persongroup": 11} | differs
    assert open_root(out)["I"].val[0][1].tolist() == [[table.get(name, 255) for name in names]] * 2
    assert len(set(NAMES)) == len(NAMES) == 40
    assert [NAMES.index(name) for name in ("car", "truck", "polegroup", "license plate")] == [12, 13, 27, 39]


def test_part_2_has_jpegs_another_name_and_no_published_count(source: Path, out: Path, capsys) -> None:
    assert run(source, out, "--check") == 0
    assert "found 3 pairs, published are 6993" in capsys.readouterr().err
    for split, frames in FRAMES.items():
        for frame in frames:
            Image.open(image_file(source, split, frame)).save(image_file(source, split, frame, ".jpg"))
            image_file(source, split, frame).unlink()
    assert run(source, out) == 0
    assert "published are" not in capsys.readouterr().err
    domain = open_root(out)["I"]
    assert domain.name == "IDD part II"
    assert domain.val.images[0].suffix == ".jpg"


# ------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["it is empty"]),
        (json.dumps({"imgHeight": H, "imgWidth": W, "objects": SCENE}).encode()[:-30], ["no polygon file"]),
        (b"\x89PNG\r\n\x1a\n\xff", ["no polygon file"]),
        (b"[]", ["no polygon file"]),
        (b'{"imgHeight": 6, "objects": []}', ["imgWidth"]),
        (b'{"imgHeight": 6, "imgWidth": 7, "objects": []}', ["8 x 6", "7 x 6", "expected equal sizes"]),
        ([shape(["car"], box(0, 0, 1, 1))], ["no polygon file", "label ['car'] is not text"]),
        ([shape("car", [[1, 1], [10**400, 2], [3, 3]])], ["no polygon file", "expected a number"]),
        ([shape("car", [[1, 1], [10**9, 2], [3, 3]])], ["no polygon file", "1000000000, expected a number"]),
        ([shape("car", [[1, 1], ["7", 2], [3, 3]])], ["no polygon file", "expected a number"]),
        (b'{"imgHeight": 1000000000, "imgWidth": 1000000000, "objects": []}', ["no polygon file", "1000000000"]),
        (b'{"imgHeight": 100000, "imgWidth": 100000, "objects": []}', ["100000 x 100000 pixels"]),
        (b"[" * 100_000, ["no polygon file", "nested too deeply"]),
        (b'{"imgHeight": 6, "imgWidth": 8, "objects": ' + b"[" * 100_000, ["nested too deeply"]),
        ([shape("car", [[1, 1], [2]])], ["no polygon file"]),
        ([shape("car", [[1, 1], [float("nan"), 2], [3, 3]])], ["no polygon file", "NaN"]),
    ],
)  # fmt: skip
def test_a_bad_polygon_file_is_refused_and_the_rest_goes_on(source: Path, out: Path, capsys, content, words) -> None:
    path = label_file(source, "train", "0/118450")
    path.write_bytes(content) if isinstance(content, bytes) else write_label(path, content)
    assert run(source, out, "--check") == 2
    assert not out.exists()
    assert run(source, out) == 2
    stderr = capsys.readouterr().err
    assert str(path) in stderr
    assert all(word in stderr for word in words), stderr
    with open(out / "idd/refused.csv", newline="") as file:
        assert [row["stem"] for row in csv.DictReader(file)] == ["0_118450"]
    assert open_root(out)["I"].train.stems == ("0_005506", "17_005506")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda s: (s / "gtFine").rename(s / "gt"), ["gtFine/train", "no such folder"]),
        (
            lambda s: [p.rename(p.with_name(p.name.replace("polygons.json", "labelcsIds.png")))
                       for p in s.glob("gtFine/*/*/*.json")],
            ["holds no */*_gtFine_polygons.json"],
        ),
        (lambda s: label_file(s, "val", "5/292668").unlink(), ["gtFine/val", "holds no"]),
        (lambda s: label_file(s, "train", "0/118450").unlink(), ["1 image(s) without label", "0_118450"]),
        (lambda s: image_file(s, "train", "17/005506").unlink(), ["1 label(s) without image", "17_005506"]),
        (
            lambda s: Image.new("RGB", (W, H)).save(image_file(s, "train", "0/118450", ".jpg")),
            ["0/118450_leftImg8bit", "same name"],
        ),
    ],
)  # fmt: skip
def test_a_source_that_is_not_idd(source: Path, out: Path, capsys, spoil, words) -> None:
    spoil(source)
    assert run(source, out) == 2
    stderr = capsys.readouterr().err
    assert all(word in stderr for word in words), stderr
    assert not out.exists()
