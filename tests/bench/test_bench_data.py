"""The bench of feeding and converting: both ways give the same crops, and what it prints can be believed."""

import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from dglab import bench, cli
from dglab.bench.data import bench_data, plain_draw
from dglab.data.augmentation import RandomScaleCrop, augment
from dglab.utils.machine import describe_machine, versions

H, W = 64, 96


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A smooth image whose brightness says its class, and its label."""
    folder = tmp_path_factory.mktemp("pair")
    label = (np.arange(W) // 8 + np.zeros((H, 1), int)).astype(np.uint8)
    Image.fromarray(np.repeat(10 * label[..., None], 3, -1)).save(folder / "image.png")
    Image.fromarray(label).save(folder / "label.png")
    return folder / "image.png", folder / "label.png"


def tensors(files):
    image, label = (torch.from_numpy(np.array(Image.open(path))) for path in files)
    return image.permute(2, 0, 1), label


@pytest.mark.parametrize("factor", [0.5, 0.75, 1.0, 1.5, 2.0])
def test_where_there_is_no_choice_both_ways_draw_the_same(files, factor):
    crop = (round(H * factor), round(W * factor))
    image, label = plain_draw(*files, crop, (factor, factor))
    expected, expected_label = augment(RandomScaleCrop(crop, (factor, factor)), *tensors(files))
    assert image.shape == (3, *crop) and image.dtype == label.dtype == torch.uint8
    assert (image.int() - expected.int()).abs().max() <= 1
    assert torch.equal(label, expected_label)


def test_the_plain_way_cuts_and_pads_anywhere(files):
    tops, lefts = set(), set()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for _ in range(200):
            image, label = plain_draw(*files, (80, 40), (1.0, 1.0))  # higher than the image, and narrower
            inside = (label != 255).any(1).nonzero().flatten()
            assert len(inside) == H and not image[:, label == 255].any()
            assert torch.equal(image[0, inside], 10 * label[inside])
            tops.add(int(inside[0]))
            lefts.add(int(label[inside[0], 0]))  # the class at its left border, 8 columns wide
    assert tops == set(range(80 - H + 1)) and lefts == set(range((W - 40) // 8 + 1))


def test_what_is_measured():
    threads = torch.get_num_threads()
    records = bench_data((64, 128), scenes=2, pairs=4, rounds=2)
    plain, prepared, alone, converted = records
    assert [r["ratio"] == 1 for r in records] == [True, False, True, False]
    assert plain["bits_per_pixel"] == prepared["bits_per_pixel"] > 0  # small PNGs keep their bytes
    assert prepared["images_per_second"] * prepared["seconds"] == pytest.approx(6)
    assert alone["case"] == "recode 4, 1 core" and 0 < converted["codec_share"]
    if sys.platform == "linux":
        assert 20 < converted["peak_mib"] < 1024
    assert all({"case", "seconds", "spread", "ratio", "peak_mib", "peak_ratio"} <= r.keys() for r in records)
    assert torch.get_num_threads() == threads


def call(*arguments):
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as caught:
        patch.setattr(sys, "argv", ["dglab", "bench", "data", *map(str, arguments)])
        cli.main()
    return caught.value.code or 0


def test_the_command(tmp_path, capsys, monkeypatch):
    seen = []
    common = {"spread": None, "peak_mib": None, "peak_ratio": None}
    records = [
        {"case": "plain", "seconds": 0.5, "ratio": 1.0, "images_per_second": 12.0, "bits_per_pixel": 9.04, **common},
        {"case": "convert", "seconds": 2.0, "ratio": 0.6, "codec_share": 0.84, **common, "peak_mib": 115.0},
    ]
    monkeypatch.setitem(bench.BENCHES, "data", lambda *arguments: seen.append(arguments) or records)
    assert call("--json", tmp_path / "record.json") == 0
    printed = capsys.readouterr().out
    assert "plain: 12.0 images/s of 9.0 bits/pixel" in printed
    assert "convert: 84 % of the cores' time" in printed
    assert printed.splitlines()[2].split() == ["convert", "2.0000", "-", "0.60", "115", "-"]
    written = json.loads((tmp_path / "record.json").read_text())
    where = {"machine": describe_machine("cpu"), "threads": torch.get_num_threads(), "versions": versions()}
    assert written == {"bench": "data", "model": None, "size": "1024x2048", **where, "cases": records}
    assert call("--size", "64x128", "--device", "cpu") == 0
    assert [size for _, size, _ in seen] == [(1024, 2048), (64, 128)]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--model", "thin"), "--model and --device do not belong to it"),
        (("--device", "cuda"), "--model and --device do not belong to it"),
        (("--size", "64"), "expected HxW"),
        (("--size", "32x32"), "at least 32 x 64"),
    ],
)
def test_wrong_use(arguments, word, capsys):
    assert call(*arguments) == 2
    output = capsys.readouterr()
    assert word in output.err and output.out == ""
