"""Streets drawn once for all: what is read is what would be drawn."""

import pytest
import torch

from dglab.data import open_domains
from dglab.data.multimodal import MultimodalStreets
from dglab.data.streets import StreetsDataset, kept
from dglab.data.streets.size import StreetsSize
from dglab.utils.errors import InputError

SIZE = StreetsSize(32, 64, train_images=3, val_images=2)


def test_kept_scenes_are_those_that_would_be_drawn(tmp_path, monkeypatch):
    for split in ("train", "val"):
        kept.draw(SIZE, "I", split, tmp_path)
    drawn = StreetsDataset("I", "train", 3, height=32, width=64)
    expected = [drawn[index] for index in range(3)]
    monkeypatch.setattr(StreetsDataset, "__getitem__", lambda *_: pytest.fail("drawn again"))
    domain = open_domains(SIZE, drawn=tmp_path)["I"]
    assert (len(domain.train), len(domain.val)) == (3, 2)
    for index, (image, label) in enumerate(expected):
        found = domain.train[index]
        assert torch.equal(found[0], image) and torch.equal(found[1], label)
        assert found[0].dtype == found[1].dtype == torch.uint8
    kept.draw(SIZE, "I", "val", tmp_path)  # it is there: nothing to do


@pytest.mark.parametrize("modalities", [("rgb", "depth"), ("depth",), ("normals", "rgb")])
def test_kept_scenes_of_several_modalities_are_those_that_would_be_drawn(tmp_path, monkeypatch, modalities):
    for modality in ("rgb", *modalities):
        kept.draw(SIZE, "M", "val", tmp_path, modality)
    drawn = MultimodalStreets("M", "val", 2, modalities=modalities, height=32, width=64)
    expected = [drawn[index] for index in range(2)]
    monkeypatch.setattr(MultimodalStreets, "__getitem__", lambda *_: pytest.fail("drawn again"))
    domain = open_domains(SIZE, modalities=modalities, drawn=tmp_path)["M"]
    for index, (images, label, letter) in enumerate(expected):
        found = domain.val[index]
        assert list(found[0]) == list(images) and found[2] == letter
        for tensor, other in ((found[1], label), *((found[0][name], images[name]) for name in modalities)):
            assert torch.equal(tensor, other) and tensor.dtype == torch.uint8


def test_scenes_of_which_a_modality_is_missing_are_drawn(tmp_path):
    kept.draw(SIZE, "G", "val", tmp_path)
    domain = open_domains(SIZE, modalities=("rgb", "depth"), drawn=tmp_path)["G"]
    expected = MultimodalStreets("G", "val", 2, height=32, width=64)[1][0]
    assert torch.equal(domain.val[1][0]["depth"], expected["depth"])


def test_what_is_not_kept_is_drawn(tmp_path):
    domain = open_domains(SIZE, drawn=tmp_path / "nothing")["G"]
    assert torch.equal(domain.val[1][0], StreetsDataset("G", "val", 2, height=32, width=64)[1][0])


def test_other_scenes_have_another_file(tmp_path):
    other_sizes = [StreetsSize(64, 64, 3, 2), StreetsSize(32, 128, 3, 2), StreetsSize(32, 64, 4, 2)]
    paths = {kept.kept_path(tmp_path, size, "G", "train") for size in (SIZE, *other_sizes)}
    assert len(paths) == 4
    assert kept.kept_path(tmp_path, SIZE, "G", "train", "depth") not in paths
    more_val = StreetsSize(32, 64, 3, 9)  # the training scenes are the same
    assert kept.kept_path(tmp_path, more_val, "G", "train") == kept.kept_path(tmp_path, SIZE, "G", "train")


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: _flipped(b)])
def test_a_damaged_file_is_named(tmp_path, damage):
    kept.draw(SIZE, "S", "val", tmp_path)
    [path] = tmp_path.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=r"S_val.*cannot be read.*remove the file"):
        open_domains(SIZE, drawn=tmp_path)["S"].val[0]
    open_domains.cache_clear()


def _flipped(content):
    middle = len(content) // 3  # among the pixels
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
