"""``dglab check``: what a decoder cannot see, the digests of the converter do."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from data_prep.__main__ import main as data_prep
from dglab.utils.errors import InputError
from dglab.utils.images import read_image


@pytest.fixture(scope="module")
def converted(tmp_path_factory, picture):
    """A root with JPEGs in it, converted from somebody's own folder."""
    source, out = tmp_path_factory.mktemp("source") / "day", tmp_path_factory.mktemp("out")
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (source / split / kind).mkdir(parents=True)
        for stem in "ab":
            Image.fromarray(picture(3, (96, 160)) // 2).save(source / split / "images" / f"{stem}.jpg", quality=95)
            Image.fromarray(picture(4, (96, 160), ()) % 19).save(source / split / "labels" / f"{stem}.png")
    assert data_prep(["folder", "--source", str(source), "--out", str(out)]) == 0
    return out


@pytest.fixture
def out(converted, tmp_path):
    return shutil.copytree(converted, tmp_path / "prepared")


def test_a_sound_root(out, root, dglab):
    assert dglab("check", out) == "D = day: 4 pairs, as written\n"
    assert dglab("check", root).splitlines()[0] == (
        "A = a: 4 pairs, decoded; no digests in domain.json to compare with"
    )


def test_damage_in_a_jpeg_is_found(out, refused):
    """There are places where the decoder sees nothing; the digest sees every one."""
    path = out / "day/train/images/b.jpg"
    content = path.read_bytes()
    unseen = 0
    for start in range(1000, len(content) - 1000, len(content) // 12):
        for damage in (bytes(8), bytes([content[start] ^ 1])):
            path.write_bytes(content[:start] + damage + content[start + len(damage) :])
            try:
                read_image(path)
                unseen += 1
            except InputError:
                pass
            refused(["check", out], path, "1 of 4 pairs are bad")
    assert unseen


def test_every_damaged_pair_is_named(out, refused):
    for split in ("train", "val"):
        for stem in "ab":
            Image.fromarray(np.zeros((96, 160), np.uint8)).save(
                out / f"day/{split}/labels/{stem}.png"
            )  # sound, another
    message = refused(["check", out], "4 of 4 pairs are bad", "is not the file that was written")
    assert message.count("data_prep command again") == 4
    Image.new("L", (9, 9)).save(out / "day/train/labels/a.png")
    refused(["check", out], "its label 9 x 9")


def test_a_pair_that_came_later_and_digests_that_are_none(out, refused):
    for kind, suffix in (("images", "jpg"), ("labels", "png")):
        (out / f"day/val/{kind}/a.{suffix}").rename(out / f"day/val/{kind}/c.{suffix}")
    refused(["check", out], "c.jpg: was not written with the others")
    path = out / "day/domain.json"
    info = json.loads(path.read_text())
    for digests in ([], {"val": 3}, {"val": {"a": "short"}}, {"val": {"a": None}}):
        path.write_text(json.dumps({**info, "digests": digests}))
        refused(["check", out], path, "its digests are none")


def test_what_is_no_root(tmp_path, refused):
    refused(["check", tmp_path / "none"], "no such folder")
    refused(["check", tmp_path], "no domain folders")
