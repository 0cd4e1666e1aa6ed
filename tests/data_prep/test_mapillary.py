"""Mapillary Vistas on a miniature of v1.2: palette labels of many sizes, three mappings, and no way in for v2.0."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep.__main__ import main
from data_prep.mapillary import NAMES
from dglab.classes import CLASS_NAMES, PALETTE
from dglab.data.augmentation import training_augmentation
from dglab.data.batches import MultiDomainBatches
from dglab.data.prepared import open_root

# Once more as numbers, so that a slip in the tables by name is seen.
BASE = {13: 0, 15: 1, 17: 2, 6: 3, 3: 4, 45: 5, 48: 6, 50: 7, 30: 8, 29: 9, 27: 10, 19: 11, 20: 12, 55: 13, 61: 14}
BASE |= {54: 15, 58: 16, 57: 17, 52: 18}
ROBUSTNET = BASE | {24: 0, 41: 0, 2: 1, 47: 5, 21: 12, 22: 12}

SIZES = {"training": {"a_1": (66, 3), "b-2": (40, 30), "c": (30, 40)}, "validation": {"d": (132, 1)}}  # W, H


def by_parts_of_names() -> dict[int, int]:
    """The rules of openseg.pytorch, in its order: the first that fits decides."""
    rules = [
        (("trafficsign", "front", "back"), "traffic sign"),
        (("onrail",), "train"),
        (("cyclist", "rider"), "rider"),
        (("pole", "streetlight"), "pole"),
        (("curb", "pedestrianarea"), "sidewalk"),
        (("crosswalkplain", "parking", "bikelane", "servicelane", "lanemarking"), "road"),
    ]
    equal = {name.replace(" ", ""): name for name in CLASS_NAMES}
    table = {}
    for i, name in enumerate(NAMES):
        name = name.lower().replace(" ", "").replace("-", "")
        fitting = [new for parts, new in rules if any(part in name for part in parts)]
        if name in equal or fitting:
            table[i] = CLASS_NAMES.index(equal[name] if name in equal else fitting[0])
    return table


TABLES = {"base": BASE, "robustnet": ROBUSTNET, "openseg": by_parts_of_names()}


def palette_of_v12() -> np.ndarray:
    colours = np.random.default_rng(3).integers(0, 256, (256, 3), np.uint8)
    for i, train_id in BASE.items():
        colours[i] = PALETTE[train_id]
    return colours


def write_label(path: Path, ids: np.ndarray, palette: np.ndarray | None = None) -> None:
    image = Image.fromarray(ids)
    image.putpalette((palette_of_v12() if palette is None else palette).tobytes())
    assert image.mode == "P"
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def all_ids(size: tuple[int, int]) -> np.ndarray:
    return (np.arange(size[0] * size[1]) % 66).astype(np.uint8).reshape(size[::-1])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The older layout, labels beside images; ``to_v12_layout`` makes the newer one of it."""
    root, rng = tmp_path / "vistas", np.random.default_rng(1)
    for part, sizes in SIZES.items():
        (root / part / "images").mkdir(parents=True)
        for stem, size in sizes.items():
            image = Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), np.uint8))
            image.save(root / part / "images" / f"{stem}.jpg")
            write_label(root / part / "labels" / f"{stem}.png", all_ids(size))
    (root / "testing/images").mkdir(parents=True)  # without labels, as published
    Image.new("RGB", (8, 8)).save(root / "testing/images/e.jpg")
    return root


def to_v12_layout(source: Path) -> None:
    for part in SIZES:
        (source / part / "v1.2").mkdir()
        (source / part / "labels").rename(source / part / "v1.2" / "labels")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def run(source: Path, out: Path, *options: str) -> int:
    return main(["mapillary", "--source", str(source), "--out", str(out), *options])


# ------------------------------------------------------------------------------------------------------- pixels


@pytest.mark.parametrize("mapping", ["base", "robustnet", "openseg"])
def test_every_id_of_every_mapping(source: Path, out: Path, mapping: str) -> None:
    assert run(source, out, "--mapping", mapping) == 0
    domain = open_root(out)["M"]
    assert domain.train.stems == ("a_1", "b-2", "c")
    for part, sizes in ((domain.train, SIZES["training"]), (domain.val, SIZES["validation"])):
        for stem, (image, label) in zip(part.stems, part, strict=True):
            assert image.shape == (3, *sizes[stem][::-1])
            expected = [[TABLES[mapping].get(i, 255) for i in row] for row in all_ids(sizes[stem]).tolist()]
            assert label.tolist() == expected
    image = out / "mapillary/train/images/b-2.jpg"
    assert image.read_bytes() == (source / "training/images/b-2.jpg").read_bytes()


def test_mappings_are_as_published() -> None:
    further = {7: 0, 8: 0, 10: 0, 14: 0, 23: 0, 9: 1, 11: 1, 44: 5, 46: 7, 49: 7}
    assert TABLES["openseg"] == {i: new for i, new in (ROBUSTNET | further).items() if i != 41}
    assert len(NAMES) == len(set(NAMES)) == 66


def test_base_is_the_default_and_newer_archives_hold_v20_beside_v12(source: Path, out: Path) -> None:
    to_v12_layout(source)
    for part, sizes in SIZES.items():
        for stem, size in sizes.items():
            write_label(source / part / "v2.0/labels" / f"{stem}.png", all_ids(size) + 50)  # not looked at
    (source / "config_v2.0.json").write_text("{}")
    assert run(source, out) == 0
    domain = open_root(out)["M"]
    assert (domain.name, domain.info["mapping"]) == ("Mapillary", "mapillary:base")
    assert domain.train[0][1][0].tolist() == [BASE.get(i, 255) for i in range(66)]


def greyscale(source: Path) -> Path:
    """A label without a palette: its ids alone do not tell v1.2 from v2.0."""
    path = source / "validation/labels/d.png"
    Image.fromarray(all_ids((132, 1))).save(path)
    return path


def write_config(source: Path, names: tuple[str, ...]) -> None:
    (source / "config.json").write_text(json.dumps({"labels": [{"readable": name} for name in names]}))


def test_greyscale_labels_are_read_as_ids_where_the_config_names_the_classes(source: Path, out: Path) -> None:
    greyscale(source)
    write_config(source, NAMES)
    assert run(source, out) == 0
    assert open_root(out)["M"].val[0][1].tolist() == [[BASE.get(i, 255) for i in range(66)] * 2]


def test_greyscale_labels_in_the_folder_of_v12_are_read_as_ids(source: Path, out: Path) -> None:
    greyscale(source)
    to_v12_layout(source)
    assert run(source, out) == 0
    assert open_root(out)["M"].val[0][1].tolist() == [[BASE.get(i, 255) for i in range(66)] * 2]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (None, ["has no palette", "v1.2 or v2.0", "config.json"]),
        (lambda s: write_config(s, (*NAMES[1:], "Pothole")), ["66 classes, not the 66", "v2.0"]),
        (lambda s: write_config(s, (*NAMES, "Curb Cut")), ["67 classes"]),
        (lambda s: (s / "config.json").write_text("[]"), ["not a config.json of Mapillary"]),
        (lambda s: (s / "config.json").write_text("{"), ["not JSON"]),
        (lambda s: (s / "config.json").mkdir(), ["it is a folder"]),
    ],
)
def test_greyscale_labels_of_either_version_are_refused(source: Path, out: Path, capsys, config, words) -> None:
    path = greyscale(source)
    if config is not None:
        config(source)
    assert run(source, out) == 2
    stderr = capsys.readouterr().err
    assert all(word in stderr for word in words), stderr
    assert str(path) in (out / "mapillary/refused.csv").read_text()


def test_a_palette_of_three_colours_tells_nothing(source: Path, out: Path, capsys) -> None:
    path = source / "training/labels/b-2.png"
    write_label(path, np.zeros((30, 40), np.uint8), palette_of_v12()[:3])
    assert run(source, out) == 2
    assert f"{path}: has no palette" in capsys.readouterr().err


def test_sizes_may_vary_in_training(source: Path, out: Path) -> None:
    assert run(source, out, "--max-side", "32") == 0
    train = open_root(out)["M"].train
    assert [tuple(label.shape) for _, label in train] == [(1, 32), (24, 32), (32, 24)]
    batches = MultiDomainBatches([train], 3, 2, training_augmentation((16, 16), (0.5, 2.0), 0.0), seed=0)
    images, labels = batches[1]
    assert images.shape == (3, 1, 3, 16, 16)
    assert labels.shape == (3, 1, 16, 16)


# ------------------------------------------------------------------------------------------------------- refusals


def v20_ids(path: Path) -> None:
    write_label(path, all_ids((40, 30)) + 50)


def v20_palette(path: Path) -> None:
    """Ids that v1.2 has as well: only the colours tell."""
    write_label(path, all_ids((40, 30)), np.roll(palette_of_v12(), 8, axis=0))


def optimized_palette(path: Path) -> None:
    """Some programs drop unused colours and number the others anew."""
    ids = np.full((30, 40), 13, np.uint8)
    write_label(path, ids - 13, palette_of_v12()[13:])


def colours(path: Path) -> None:
    Image.open(path).convert("RGB").save(path)


def instances(path: Path) -> None:
    Image.fromarray(all_ids((40, 30)).astype(np.uint16) * 256).save(path)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (v20_ids, ["id(s) 66, 67", "another version"]),
        (v20_palette, ["palette", "v2.0", "v1.2"]),
        (optimized_palette, ["palette paints id"]),
        (colours, ["mode RGB", "not colours"]),
        (instances, ["16-bit"]),
        (lambda path: path.write_bytes(path.read_bytes()[:-40]), ["damaged or truncated"]),
        (lambda path: path.write_bytes(b""), ["cannot be read"]),
        (lambda path: write_label(path, all_ids((40, 29))), ["40 x 30", "40 x 29"]),
    ],
)
def test_a_bad_label_is_refused_and_the_rest_goes_on(source: Path, out: Path, capsys, spoil, words) -> None:
    path = source / "training/labels/b-2.png"
    spoil(path)
    assert run(source, out, "--check") == 2
    assert not out.exists()
    assert run(source, out) == 2
    stderr = capsys.readouterr().err
    assert all(word in stderr for word in [str(path), *words]), stderr
    with open(out / "mapillary/refused.csv", newline="") as file:
        assert [row["stem"] for row in csv.DictReader(file)] == ["b-2"]
    assert open_root(out)["M"].train.stems == ("a_1", "c")


def only_v20(source: Path) -> None:
    to_v12_layout(source)
    for part in SIZES:
        (source / part / "v1.2").rename(source / part / "v2.0")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (only_v20, ["training", "v2.0 only", "v1.2/labels"]),
        (lambda s: (s / "validation").rename(s / "val"), ["validation/images", "no such folder"]),
        (lambda s: (s / "training/labels").rename(s / "training/panoptic"), ["training/labels", "no such folder"]),
        (lambda s: (s / "training/labels/c.png").unlink(), ["1 image(s) without label", "c"]),
        (lambda s: (s / "training/images/c.jpg").unlink(), ["1 label(s) without image", "c"]),
    ],
)
def test_a_source_that_is_not_vistas_v12(source: Path, out: Path, capsys, spoil, words) -> None:
    spoil(source)
    assert run(source, out) == 2
    stderr = capsys.readouterr().err
    assert all(word in stderr for word in words), stderr
    assert not out.exists()
