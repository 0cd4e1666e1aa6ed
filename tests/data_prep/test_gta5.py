"""GTA5 from a miniature in its public layout and encoding (palette PNGs, split.mat), through the command line."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from data_prep import MODULES
from data_prep.__main__ import main
from dglab.classes import CLASS_NAMES, PALETTE
from dglab.data.prepared import open_root

H, W = 7, 10
SPLIT = {"trainIds": [1, 4, 24966], "valIds": [2, 12], "testIds": [3]}
# Index by index; the last one is the id -1 of Cityscapes.
NAMES = """unlabeled ego-vehicle rectification-border out-of-roi static dynamic ground road sidewalk parking rail-track
    building wall fence guard-rail bridge tunnel pole polegroup traffic-light traffic-sign vegetation terrain sky
    person rider car truck bus caravan trailer train motorcycle bicycle license-plate""".split()


def expected_train_ids(label: np.ndarray) -> np.ndarray:
    def one(old: int) -> int:
        name = NAMES[old].replace("-", " ")
        return CLASS_NAMES.index(name) if name in CLASS_NAMES else 255

    return np.array([[one(old) for old in row] for row in label])


def palette_png(ids: np.ndarray) -> Image.Image:
    """Indices with Cityscapes' colours, in which pole and polegroup, and all kinds of void, look the same."""
    colours = dict(zip(CLASS_NAMES, PALETTE, strict=True)) | {"polegroup": (153, 153, 153)}
    image = Image.fromarray(ids)
    image.putpalette([value for name in NAMES for value in colours.get(name.replace("-", " "), (0, 0, 0))])
    return image


def write_split(path: Path, **parts: list[int]) -> None:
    """As in read_mapping.zip: one column of numbers a part."""
    savemat(path, {name: np.array(numbers, np.uint16)[:, None] for name, numbers in (SPLIT | parts).items()})


@pytest.fixture
def source(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    root = tmp_path / "gta5"
    for kind in ("images", "labels"):
        (root / kind).mkdir(parents=True)
    write_split(root / "split.mat")
    for number in sum(SPLIT.values(), []):
        Image.fromarray(rng.integers(0, 256, (H, W, 3), np.uint8)).save(root / "images" / f"{number:05d}.png")
        ids = rng.permutation(np.arange(H * W) % 35).reshape(H, W).astype(np.uint8)  # every id in each label
        palette_png(ids).save(root / "labels" / f"{number:05d}.png")
    return root


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def run(source: Path, out: Path, *options: str) -> int:
    return main(["gta5", "--source", str(source), "--out", str(out), *options])


def indices(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.mode == "P"
        return np.asarray(image)


def doubled(path: Path, start: int, length: int) -> None:
    """Some bytes of a file twice."""
    content = path.read_bytes()
    path.write_bytes(content[: start + length] + content[start:])


def test_every_pixel_and_the_official_split(source: Path, out: Path) -> None:
    assert run(source, out) == 0
    domain = open_root(out)["G"]
    assert (domain.name, domain.folder.name) == ("GTA5", "gta5")
    assert domain.train.stems == ("00001", "00004", "24966")
    assert domain.val.stems == ("00002", "00012")  # 00003, of testIds, is nowhere
    for part in (domain.train, domain.val):
        for stem, image, label in zip(part.stems, part.images, part.labels, strict=True):
            assert image.read_bytes() == (source / "images" / f"{stem}.png").read_bytes()
            with Image.open(label) as written:
                assert np.array_equal(written, expected_train_ids(indices(source / "labels" / f"{stem}.png")))
    assert domain.info["classes_present"] == list(range(19))


def test_check_writes_nothing_and_counts_are_compared(source: Path, out: Path, capsys) -> None:
    assert run(source, out, "--check") == 0
    assert not out.exists()
    stderr = capsys.readouterr().err
    assert "GTA5 train: found 3 pairs, published are 12403" in stderr
    assert "GTA5 val: found 2 pairs, published are 6382" in stderr
    (domain,) = MODULES["gta5"].DATASET.domains
    assert domain.num_train + domain.num_val + 6181 == 24966  # with the test part of split.mat


def test_parts_that_are_not_unpacked_are_counted(source: Path, out: Path, capsys) -> None:
    for kind in ("images", "labels"):
        (source / kind / "24966.png").unlink()
    assert run(source, out) == 0
    assert "GTA5 train: found 2 pairs, published are 12403" in capsys.readouterr().err


def test_what_other_tools_write_beside_the_labels_is_left_alone(source: Path, out: Path) -> None:
    Image.new("L", (W, H)).save(source / "labels" / "00001_labelTrainIds.png")
    assert run(source, out) == 0
    assert len(open_root(out)["G"].train) == 3


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_labels_decoded_to_colours_are_refused(source: Path, out: Path, capsys, mode: str) -> None:
    label = source / "labels" / "00002.png"
    palette_png(indices(label)).convert(mode).save(label)
    assert run(source, out) == 2
    stderr = capsys.readouterr().err
    assert f"refused: {label}: is a 8-bit PNG of mode {mode}" in stderr
    assert "decoded the palette to colours" in stderr
    assert open_root(out)["G"].val.stems == ("00012",)


def test_labels_turned_to_grey_are_refused(source: Path, out: Path, capsys) -> None:
    """Numbers again, and wrong ones: brightness instead of ids."""
    label = source / "labels" / "00002.png"
    palette_png(indices(label)).convert("RGB").convert("L").save(label)
    assert run(source, out, "--check") == 2
    assert f"refused: {label}: has the id(s)" in capsys.readouterr().err


def test_a_label_of_another_size_is_refused_and_listed(source: Path, out: Path) -> None:
    """As 60 labels of the data set are."""
    path = source / "labels" / "00004.png"
    palette_png(indices(path)[:, :-2].copy()).save(path)
    assert run(source, out) == 2
    with open(out / "gta5" / "refused.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["split"], row["stem"]) == ("train", "00004")
    assert f"is {W} x {H}, but its label" in row["reason"]
    assert open_root(out)["G"].train.stems == ("00001", "24966")


def test_split_mat_in_the_folder_of_its_archive(source: Path, out: Path) -> None:
    (source / "read_mapping").mkdir()
    (source / "split.mat").rename(source / "read_mapping" / "split.mat")
    assert run(source, out, "--check") == 0


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda s: (s / "split.mat").unlink(), ["split.mat: is missing", "read_mapping.zip", "from_games"]),
        (lambda s: (s / "split.mat").write_bytes(b"<html>not found</html>"), ["split.mat: is not a split"]),
        (lambda s: (s / "split.mat").write_bytes(b""), ["split.mat: is not a split"]),
        (lambda s: doubled(s / "split.mat", 105, 64), ["split.mat: is not a split"]),  # ends the process that reads it
        (lambda s: savemat(s / "split.mat", {"trainIds": [[1]]}), ["is not a split of this data set ('valIds')"]),
        (lambda s: write_split(s / "split.mat", valIds=[2, 12, 4]), ["names a frame more than once"]),
        (lambda s: write_split(s / "split.mat", valIds=[2]), ["1 frame(s) are in no part of split.mat: 00012"]),
        (lambda s: (s / "labels").rename(s / "elsewhere"), ["labels: no such folder"]),
        (lambda s: (s / "labels" / "00001.png").unlink(), ["1 image(s) without label: 00001"]),
        (lambda s: (s / "images" / "00003.png").unlink(), ["1 label(s) without image: 00003"]),
        (lambda s: [p.rename(p.with_name(f"gta_{p.name}")) for p in (s / "images").iterdir()], ["images: holds no"]),
    ],
)
def test_a_source_that_is_not_gta5(source: Path, out: Path, capsys, spoil, words) -> None:
    spoil(source)
    assert run(source, out) == 2
    stderr = capsys.readouterr().err
    assert all(word in stderr for word in words), stderr
    assert "Traceback" not in stderr
    assert not out.exists()
