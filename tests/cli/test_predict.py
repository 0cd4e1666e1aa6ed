"""``dglab predict``."""

import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from dglab.classes import PALETTE
from dglab.testtime import ImageBank, TargetNormalization
from dglab.training.checkpoints import load_checkpoint
from dglab.utils.images import read_image

H, W = 32, 48


@pytest.mark.parametrize("method", ["bn", "tn", "adabn", "guarded", "qib", "sib"])
def test_predict_writes_labels_and_overlays(checkpoint, images, tmp_path, dglab, method, picture):
    Image.fromarray(picture(3, channels=())).save(images / "grey.jpg")  # greyscale and JPEG are fine
    out = tmp_path / "new" / "out"
    text = dglab("predict", "--checkpoint", checkpoint, "--images", images, "--method", method, "--out", out,
                 "--device", "cpu")  # fmt: skip
    assert "predicted 4 images" in text
    stems = ["grey", "img1", "img10", "img2"]
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == ["labels", "overlays"]
    for kind in ("labels", "overlays"):
        assert sorted(path.name for path in (out / kind).iterdir()) == [f"{stem}.png" for stem in stems]
    palette = np.array(PALETTE, float)
    for stem in stems:
        with Image.open(out / "labels" / f"{stem}.png") as label, Image.open(out / "overlays" / f"{stem}.png") as over:
            assert (label.mode, label.size, over.mode, over.size) == ("L", (W, H), "RGB", (W, H))
            ids, overlay = np.array(label), np.array(over, float)
        assert ids.max() <= 18
        original = np.array(Image.open(next(images.glob(f"{stem}.*"))).convert("RGB"), float)
        np.testing.assert_allclose(overlay, 0.55 * palette[ids] + 0.45 * original, atol=0.51)


def test_predict_takes_images_in_natural_order(checkpoint, images, tmp_path, dglab):
    """img2 comes before img10: under QIB with one neighbour each prediction depends on the image before it."""
    dglab("predict", "--checkpoint", checkpoint, "--images", images, "--method", "qib", "--neighbors", "1", "--out",
          tmp_path, "--device", "cpu")  # fmt: skip
    model, _ = load_checkpoint(checkpoint)

    def by_hand(order):
        bank = ImageBank(model, 1, neighbors=1, policy="queue")
        pixels = (torch.from_numpy(np.array(Image.open(images / f"{s}.png"))).permute(2, 0, 1) for s in order)
        return {s: bank(x[None].float() / 255).argmax(1)[0].numpy() for s, x in zip(order, pixels, strict=True)}

    natural, alphabet = by_hand(["img1", "img2", "img10"]), by_hand(["img1", "img10", "img2"])
    assert any((natural[stem] != alphabet[stem]).any() for stem in natural)
    for stem, expected in natural.items():
        assert np.array_equal(np.array(Image.open(tmp_path / "labels" / f"{stem}.png")), expected)


def test_predict_images_of_any_size_one_at_a_time(checkpoint, images, tmp_path, dglab, picture):
    Image.fromarray(picture(5, (37, 53))).save(images / "other.png")
    for method in (("bn",), ("tn",), ("sib", "--statistics", "cached")):
        out = tmp_path / method[0]
        dglab("predict", "--checkpoint", checkpoint, "--images", images, "--method", *method, "--out", out,
              "--device", "cpu")  # fmt: skip
        assert Image.open(out / "labels" / "other.png").size == (53, 37)


@pytest.mark.parametrize("damage", ["missing", "a file", "empty", "16-bit", "text", "palette", "truncated", "twice",
                                    "tall"])  # fmt: skip
def test_predict_refuses_bad_images(checkpoint, images, tmp_path, refused, damage, picture):
    words = [images]
    if damage == "missing":
        images = tmp_path / "none"
        words = ["there is no folder", images]
    elif damage == "a file":
        images = images / "img1.png"
        words = ["there is no folder", images]
    elif damage == "empty":
        images = tmp_path / "empty"
        images.mkdir()
        (images / "notes.txt").write_text("no image")
        words = [images, "holds no image", ".jpg"]
    elif damage == "16-bit":
        Image.fromarray(np.zeros((H, W), np.uint16)).save(images / "img3.png")
        words = [images / "img3.png", "16-bit", "convert it"]
    elif damage == "text":
        (images / "img3.jpg").write_text("no image")
        words = [images / "img3.jpg", "cannot be read as an image"]
    elif damage == "palette":
        Image.fromarray(picture(0)).convert("P").save(images / "img3.png")
        words = [images / "img3.png", "mode P"]
    elif damage == "truncated":
        whole = (images / "img10.png").read_bytes()
        (images / "img10.png").write_bytes(whole[: len(whole) // 2])
        words = [images / "img10.png", "damaged or truncated"]
    elif damage == "tall":  # Pillow shows a million rows, black but for the first
        whole = (images / "img10.png").read_bytes()
        header = b"IHDR" + whole[16:20] + (2**20 + H).to_bytes(4, "big") + whole[24:29]
        (images / "img10.png").write_bytes(whole[:12] + header + zlib.crc32(header).to_bytes(4, "big") + whole[33:])
        words = [images / "img10.png", "rows of pixels are missing"]
    else:
        Image.fromarray(picture(0)).save(images / "img2.jpg")
        words = [images, "two images called img2"]
    arguments = ["predict", "--checkpoint", checkpoint, "--images", images, "--method", "bn", "--device", "cpu"]
    refused([*arguments, "--out", tmp_path / "new"], *words)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "options", [("sib",), ("sib", "--statistics", "cached"), ("qib",), ("tn", "--batch-size", "2"), ("adabn",)]
)
def test_predict_brings_images_of_different_sizes_together(checkpoint, images, tmp_path, options, call, picture):
    Image.fromarray(picture(0, (40, 56))).save(images / "img3.png")  # between img2 and img10
    arguments = ["predict", "--checkpoint", checkpoint, "--images", images, "--device", "cpu", "--method", *options]
    assert call(*arguments, "--out", tmp_path / "new") in (0, None)
    found = {path.stem: np.array(Image.open(path)) for path in (tmp_path / "new" / "labels").iterdir()}
    assert {stem: label.shape for stem, label in found.items()} == {
        "img1": (H, W), "img2": (H, W), "img3": (40, 56), "img10": (H, W)
    }  # fmt: skip
    if options[0] == "tn":  # img3 and img10 are normalized together, at the size of img3
        first, second = (torch.from_numpy(read_image(images / f"img{n}.png")).permute(2, 0, 1)[None] for n in (3, 10))
        small = torch.nn.functional.interpolate(second / 255, (40, 56), mode="bilinear", antialias=True)
        logits = TargetNormalization(load_checkpoint(checkpoint)[0])(torch.cat([first / 255, small]))
        back = torch.nn.functional.interpolate(logits[1:], (H, W), mode="bilinear", antialias=True)
        assert (logits[0].argmax(0).numpy() == found["img3"]).all() and (
            back[0].argmax(0).numpy() == found["img10"]
        ).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("bn-reestimated",), ["needs the source data", "dglab evaluate"]),
        (("oracle",), ["cannot use oracle", "bn, tn, adabn, guarded, qib, sib", "dglab evaluate"]),
        (("random",), ["cannot use random", "bn, tn, adabn, guarded, qib, sib", "dglab evaluate"]),
        (("nearest",), ["unknown test method 'nearest'"]),
        (("bn", "--neighbors", "2"), ["--neighbors does not belong to --method bn"]),
        (("sib", "--capacity", "0"), ["capacity is 0"]),
        (("sib", "--neighbors", "0"), ["neighbors is 0"]),
        (("sib", "--style-layer", "7"), ["style_layer is 7"]),
        (("tn", "--batch-size", "-3"), ["batch size is -3"]),
        (("bn", "--checkpoint", "none"), ["no checkpoint at none"]),
    ],
)
def test_predict_refuses_bad_settings(checkpoint, images, tmp_path, refused, options, words):
    arguments = ["predict", "--checkpoint", checkpoint, "--images", images, "--device", "cpu", "--method", *options]
    refused([*arguments, "--out", tmp_path / "new"], *words)
    assert not (tmp_path / "new").exists()


def test_predictions_are_not_written_over_images_or_ground_truth(checkpoint, root, tmp_path, dglab, refused):
    """A root has its labels beside its images, where a newcomer may well send the predictions."""
    part = root / "A" / "val" if (root / "A").is_dir() else next(root.glob("*/val"))
    before = {path: path.read_bytes() for path in part.rglob("*.png")}
    command = ("predict", "--checkpoint", checkpoint, "--method", "bn", "--device", "cpu")
    refused((*command, "--images", part / "images", "--out", part), "labels holds files that no prediction has written")
    refused((*command, "--images", part / "labels", "--out", part), "would be written over the images in")
    assert before == {path: path.read_bytes() for path in part.rglob("*.png")}
    for _ in range(2):  # once more into the same folder, which is ours
        dglab(*command, "--images", part / "images", "--out", tmp_path / "out")


def test_a_drift_log_of_an_earlier_run_does_not_stay_beside_other_predictions(checkpoint, images, tmp_path, dglab):
    command = ("predict", "--checkpoint", checkpoint, "--images", images, "--out", tmp_path / "out", "--device", "cpu")
    dglab(*command, "--method", "guarded")
    assert (tmp_path / "out" / "drift.csv").exists()
    dglab(*command, "--method", "bn")
    assert not (tmp_path / "out" / "drift.csv").exists()


def test_images_of_another_format_are_left_out_with_a_word(checkpoint, images, tmp_path, dglab):
    Image.new("RGB", (8, 8)).save(images / "more.bmp")
    (images / "notes.txt").write_text("not an image")
    with pytest.warns(UserWarning, match=r"more.bmp: 1 image\(s\) left out; .jpg, .jpeg, .png are read"):
        dglab("predict", "--checkpoint", checkpoint, "--method", "bn", "--device", "cpu", "--images", images,
              "--out", tmp_path / "out")  # fmt: skip
