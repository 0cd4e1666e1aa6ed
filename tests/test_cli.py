"""The command line as people use it, and as they misuse it: exit codes, messages, and what is left on disk."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from dglab import bench, cli, doctor
from dglab.bench.measure import peak_memory
from dglab.classes import CLASS_NAMES, PALETTE
from dglab.presets import PRESETS
from dglab.testtime import ImageBank, TargetNormalization
from dglab.training import log, trainer
from dglab.training.checkpoints import load_checkpoint
from dglab.utils.errors import InputError
from dglab.utils.images import read_image

H, W = 32, 48
METHODS = ("bn", "bn-reestimated", "tn", "adabn", "qib", "sib")
TRAIN = ("train", "--preset", "tiny", "--device", "cpu")


def call(*arguments):
    """The exit code of ``dglab ...``, through the same door as the installed command."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as caught:
        patch.setattr(sys, "argv", ["dglab", *map(str, arguments)])
        cli.main()
    return caught.value.code


@pytest.fixture
def dglab(capsys):
    """Run a command that must succeed; what it prints."""

    def run(*arguments):
        capsys.readouterr()
        code = call(*arguments)
        output = capsys.readouterr()
        assert code in (0, None), output.err
        return output.out

    return run


@pytest.fixture
def refused(capsys):
    """Run a command that is wrong use: exit code 2, all the words on stderr, nothing on stdout, no traceback."""

    def run(arguments, *words):
        capsys.readouterr()
        assert call(*arguments) == 2
        output = capsys.readouterr()
        assert output.out == "" and "Traceback" not in output.err
        assert output.err.count("error: ") == 1
        for word in words:
            assert str(word) in output.err
        return output.err

    return run


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    assert call(*TRAIN, "--method", "mldg", "--task", "G+S->C", "--out", folder) == 0
    return folder / "last.safetensors"


def picture(seed, size=(H, W), channels=(3,)):
    return np.random.default_rng(seed).integers(0, 256, (*size, *channels), np.uint8)


@pytest.fixture
def images(tmp_path):
    """Three images whose natural order is not the alphabet's."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in (1, 2, 10):
        Image.fromarray(picture(number) // number).save(folder / f"img{number}.png")
    return folder


@pytest.fixture
def root(tmp_path):
    """A prepared root of three domains A, B, D."""
    for number, name in enumerate(("a", "b", "d")):
        for split in ("train", "val"):
            for kind in ("images", "labels"):
                (tmp_path / "root" / name / split / kind).mkdir(parents=True)
            for stem in "xy":
                place = tmp_path / "root" / name / split
                Image.fromarray(picture(number, (32, 64))).save(place / "images" / f"{stem}.png")
                Image.fromarray(picture(number, (32, 64), ()) % 19).save(place / "labels" / f"{stem}.png")
    return tmp_path / "root"


# ------------------------------------------------------------------------------------------- what people do


def test_presets_prints_every_preset_with_its_settings(dglab):
    text = dglab("presets")
    for preset in PRESETS.values():
        assert f"{preset.name}: {preset.about}" in text
        assert f"steps = {preset.training.steps}" in text and f"height = {preset.streets.height}" in text


def test_doctor_is_content_with_this_machine(dglab):
    text = dglab("doctor")
    assert f"torch {torch.__version__}".split("+")[0] in text and "GiB free" in text and "all is well" in text


def test_doctor_names_what_is_missing_and_the_remedy(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "NEEDED", ("torch", "no_such_package"))
    assert call("doctor") == 2
    output = capsys.readouterr()
    assert "PROBLEM: no_such_package cannot be imported" in output.err and "pip install" in output.err
    assert "all is well" not in output.out


def test_as_a_process(tmp_path):
    """``python -m dglab``: the only test that pays for a fresh interpreter."""
    arguments = ["train", "--method", "mldg", "--task", "G+C->C", "--out", "new"]
    done = subprocess.run([sys.executable, "-m", "dglab", *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: task G+C->C: C is both source and target")
    assert len(done.stderr.splitlines()) == 1 and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("method", METHODS)
def test_evaluate_by_every_method(checkpoint, tmp_path, dglab, method):
    scores = tmp_path / "new" / "scores.json"
    text = dglab(
        "evaluate", "--checkpoint", checkpoint, "--task", "G+S->C", "--method", method, "--json", scores, "--device",
        "cpu",
    )  # fmt: skip
    record = json.loads(scores.read_text())
    counts = np.array(record["confusion"])  # label x prediction
    labelled = PRESETS["tiny"].streets
    assert counts.shape == (19, 19) and 0 < counts.sum() <= labelled.height * labelled.width * labelled.val_images
    union = counts.sum(0) + counts.sum(1) - counts.diagonal()
    iou = {
        name: counts[c, c] / union[c] if union[c] else None for c, name in enumerate(CLASS_NAMES)
    }  # None is JSON's null, NaN would be no JSON
    assert record["iou"] == pytest.approx(iou)
    present = [value for value in iou.values() if value is not None]
    assert record["miou"] == pytest.approx(np.mean(present)) and record["absent_classes"] == 19 - len(present)
    assert (record["task"], record["method"], record["checkpoint"]) == ("G+S->C", method, str(checkpoint))
    assert record["domains"] == ["C"]
    assert f"mIoU {100 * np.mean(present):.2f} over {len(present)} classes, G+S->C, {method}" in text
    assert [line.split("  ")[0] for line in text.splitlines()[:19]] == list(CLASS_NAMES)


def test_evaluate_repeats_and_its_options_matter(checkpoint, tmp_path, dglab):
    def confusion(*options):
        path = tmp_path / "scores.json"
        dglab("evaluate", "--checkpoint", checkpoint, "--task", "S + G -> C + M", "--device", "cpu", "--json", path,
              *options)  # fmt: skip
        return json.loads(path.read_text())

    sib = confusion("--method", "sib")
    assert confusion("--method", "sib") == sib
    assert (sib["neighbors"], sib["capacity"], sib["style_layer"], sib["statistics"]) == (4, 128, 1, "joint")
    assert 0 <= sib["selection_accuracy"] <= 1 and sib["task"] == "S+G->C+M" and sib["domains"] == ["C", "M"]
    for options in (("--neighbors", "1"), ("--capacity", "1"), ("--style-layer", "4"), ("--seed", "1")):
        assert confusion("--method", "sib", *options)["confusion"] != sib["confusion"]
    by_path = confusion("--method", "sib", "--style-layer", "layer1")
    assert by_path["confusion"] == sib["confusion"] and by_path["style_layer"] == "layer1"
    tn = confusion("--method", "tn", "--batch-size", "2")
    assert tn["confusion"] != confusion("--method", "tn")["confusion"] and tn["selection_accuracy"] is None


def test_own_folders_train_and_evaluate(root, tmp_path, dglab):
    out = tmp_path / "run"
    dglab(*TRAIN, "--method", "mldg_mean", "--task", "A+B->D", "--out", out, "--data", root, "--order", "2",
          "--inner-lr", "0.5", "--alpha", "0.3", "--split", "1:1", "--seed", "7", "--steps", "1", "--lr",
          "0.25")  # fmt: skip
    _, config = load_checkpoint(out / "last.safetensors")
    assert (config.method, config.sources, config.order, config.inner_lr) == ("mldg_mean", ("A", "B"), 2, 0.5)
    assert (config.alpha, config.split, config.seed, config.steps, config.lr) == (0.3, "1:1", 7, 1, 0.25)
    text = dglab("evaluate", "--checkpoint", out / "last.safetensors", "--task", "A+B->D", "--method", "tn", "--data",
                 root, "--batch-size", "2", "--device", "cpu")  # fmt: skip
    assert "A+B->D, tn" in text


def test_a_folder_called_streets_is_not_the_embedded_streets(root, tmp_path, dglab, monkeypatch):
    root.rename(tmp_path / "streets")
    monkeypatch.chdir(tmp_path)
    dglab(*TRAIN, "--method", "agg", "--task", "A+B->D", "--out", tmp_path / "run", "--data", "streets")
    assert load_checkpoint(tmp_path / "run" / "last.safetensors")[1].data.startswith("prepared ")


def test_a_network_is_tested_on_new_data_but_reestimated_on_its_own(root, tmp_path, dglab, refused):
    for name, letter in (("a", "G"), ("b", "S"), ("d", "C")):
        (root / name / "domain.json").write_text(json.dumps({"letter": letter}))
    dglab(*TRAIN, "--method", "agg", "--task", "G+S->C", "--out", tmp_path)
    arguments = ["evaluate", "--checkpoint", tmp_path / "last.safetensors", "--task", "G+S->C", "--data", root,
                 "--device", "cpu", "--method"]  # fmt: skip
    dglab(*arguments, "tn")
    refused([*arguments, "bn-reestimated"], "was trained on 'streets 32x64", "at hand are 'prepared ", "--data")


@pytest.mark.parametrize("method", ["bn", "tn", "adabn", "qib", "sib"])
def test_predict_writes_labels_and_overlays(checkpoint, images, tmp_path, dglab, method):
    Image.fromarray(picture(3, channels=())).save(images / "grey.jpg")  # greyscale and JPEG are fine
    out = tmp_path / "new" / "out"
    text = dglab("predict", "--checkpoint", checkpoint, "--images", images, "--method", method, "--out", out,
                 "--device", "cpu")  # fmt: skip
    assert "predicted 4 images" in text
    stems = ["grey", "img1", "img10", "img2"]
    assert sorted(path.name for path in out.iterdir()) == ["labels", "overlays"]
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


def test_predict_images_of_any_size_one_at_a_time(checkpoint, images, tmp_path, dglab):
    Image.fromarray(picture(5, (37, 53))).save(images / "other.png")
    for method in (("bn",), ("tn",), ("sib", "--statistics", "cached")):
        out = tmp_path / method[0]
        dglab("predict", "--checkpoint", checkpoint, "--images", images, "--method", *method, "--out", out,
              "--device", "cpu")  # fmt: skip
        assert Image.open(out / "labels" / "other.png").size == (53, 37)


# ------------------------------------------------------------------------------------------ a run's folder


def test_a_finished_run_is_not_trained_over(checkpoint, refused):
    before = checkpoint.read_bytes()
    for resume in ((), ("--resume",)):
        arguments = (*TRAIN, "--method", "mldg", "--task", "G+S->C", "--out", checkpoint.parent, *resume)
        refused(arguments, checkpoint.parent, "holds a finished run", "choose another --out")
    assert checkpoint.read_bytes() == before


def test_an_interrupted_run_goes_on_only_when_asked_to(tmp_path, dglab, refused, monkeypatch):
    tiny = PRESETS["tiny"]
    training = dataclasses.replace(tiny.training, checkpoint_every=1)
    monkeypatch.setitem(PRESETS, "tiny", dataclasses.replace(tiny, training=training))
    arguments = (*TRAIN, "--method", "mldg", "--task", "G+S->C", "--out", tmp_path / "run")
    original = trainer.training_step

    def interrupted(model, batch, config, step):
        if step == 1:
            raise KeyboardInterrupt
        return original(model, batch, config, step)

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "training_step", interrupted)
        assert call(*arguments) not in (0, 2)
    refused(arguments, "holds an interrupted run", "--resume", "another --out")
    assert not (tmp_path / "run" / "last.safetensors").exists()
    assert "trained: " in dglab(*arguments, "--resume")
    dglab(*arguments[:-1], tmp_path / "whole")
    resumed, whole = (tmp_path / run / "last.safetensors" for run in ("run", "whole"))
    assert resumed.read_bytes() == whole.read_bytes()


def test_a_run_that_stopped_before_its_first_step_was_kept_is_simply_started_again(tmp_path, dglab):
    (tmp_path / log.LOG).touch()
    dglab(*TRAIN, "--method", "agg", "--task", "G->C", "--out", tmp_path)
    assert (tmp_path / "last.safetensors").exists()


def test_resume_in_an_empty_folder_starts(tmp_path, dglab):
    dglab(*TRAIN, "--method", "agg", "--task", "G->C", "--out", tmp_path, "--resume", "--steps", "1")
    assert (tmp_path / "last.safetensors").exists()


# -------------------------------------------------------------------------------------------- wrong use


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"--task": "G+X->C"}, ["'X'", "not at hand", "G, S, I, M, C"]),
        ({"--task": "G+S->X"}, ["'X'"]),
        ({"--task": "G+C->C"}, ["C is both source and target", "unseen"]),
        ({"--task": "G+S"}, ["one arrow"]),
        ({"--task": "G->C"}, ["MLDG", "two or more, got 1"]),
        ({"--task": "G->C", "--method": "split"}, ["two or more, got 1"]),
        ({"--method": "mldgg"}, ["unknown training method 'mldgg'", "agg, agg2, split, mldg, mldg_mean"]),
        ({"--preset": "huge"}, ["unknown preset 'huge'", "tiny, quick, standard, paper"]),
        ({"--split": "3:1"}, ["'3:1'", "2 source domains"]),
        ({"--steps": "0"}, ["steps is 0; expected 1 or more"]),
        ({"--inner-lr": "nan"}, ["inner_lr is nan"]),
        ({"--alpha": "-1"}, ["alpha is -1.0"]),
        ({"--precision": "16"}, ["precision is '16'", "32, bf16"]),
        ({"--device": "tpu"}, ["unknown device 'tpu'", "auto, cpu, cuda or mps"]),
        ({"--device": "cpu:x"}, ["unknown device 'cpu:x'"]),
        ({"--lr": "-1"}, ["lr is -1.0; expected a finite number of 0 or more"]),
        ({"--order": "3"}, ["order is 3; expected 1"]),
        ({"--backbone": "vgg"}, ["unknown backbone 'vgg'"]),
        ({"--data": "no_such_folder"}, ["no_such_folder: no such folder"]),
    ],
)
def test_train_refuses(tmp_path, refused, options, words):
    given = {"--method": "mldg", "--task": "G+S->C", "--preset": "tiny", "--device": "cpu", **options}
    out = tmp_path / "new"
    refused(["train", *(part for pair in given.items() for part in pair), "--out", out], *words)
    assert not out.exists()


@pytest.mark.parametrize(
    ("method", "options", "foreign"),
    [
        ("agg", ("--split", "1:1", "--order", "2"), "--order, --split"),
        ("agg2", ("--alpha", "0.5"), "--alpha"),
        ("split", ("--split", "1:1", "--inner-lr", "0.1"), "--inner-lr"),
    ],
)
def test_options_of_mldg_belong_to_no_other_method(tmp_path, refused, method, options, foreign):
    arguments = (*TRAIN, "--method", method, "--task", "G+S->C", "--out", tmp_path / "new", *options)
    refused(arguments, f"error: {foreign} does not belong to --method {method}")
    assert not (tmp_path / "new").exists()


def test_an_output_that_cannot_be_written_is_refused_before_work_starts(checkpoint, images, tmp_path, refused):
    (tmp_path / "file").write_text("")
    evaluate = ["evaluate", "--checkpoint", checkpoint, "--task", "G+S->C", "--method", "bn", "--json"]
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        refused([*TRAIN, "--method", "agg", "--task", "G->C", "--out", out], f"cannot write {out}: ")
        refused(["predict", "--checkpoint", checkpoint, "--images", images, "--method", "bn", "--out", out], out)
        refused(["reproduce", "--preset", "tiny", "--out", out], out)
    refused([*evaluate, tmp_path / "file" / "scores.json"], tmp_path / "file", "choose another place")
    refused([*evaluate, tmp_path], f"cannot write {tmp_path}: it is a folder; name a file")
    refused(["bench", "testtime", "--size", "32x32", "--json", tmp_path], "it is a folder")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "images"]


@pytest.mark.parametrize("damage", ["empty root", "empty folder", "no labels", "image without label", "16-bit image"])
def test_train_refuses_bad_data(root, tmp_path, refused, damage):
    images, labels = root / "b" / "train" / "images", root / "b" / "train" / "labels"
    words = [images]
    if damage == "empty root":
        root = tmp_path / "nothing"
        root.mkdir()
        words = [root, "has no domain folders"]
    elif damage == "empty folder":
        for folder in (images, labels):
            for path in folder.iterdir():
                path.unlink()
        words += ["is empty"]
    elif damage == "no labels":
        labels.rename(tmp_path / "elsewhere")
        words = [labels, "no such folder"]
    elif damage == "image without label":
        (labels / "y.png").unlink()
        words = [images / "y.png", "without label"]
    else:
        Image.fromarray(np.zeros((32, 64), np.uint16)).save(images / "y.png")
        words = [images / "y.png", "16-bit", "8-bit RGB or greyscale"]
    arguments = (*TRAIN, "--method", "agg", "--task", "A+B->D", "--out", tmp_path / "new", "--data", root)
    refused(arguments, *words)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"--method": "bnn"}, ["unknown test method 'bnn'", "bn, bn-reestimated, tn, adabn, qib, sib"]),
        ({"--task": "G+S->X"}, ["'X'", "not at hand"]),
        ({"--task": "G+S->S"}, ["S is both source and target"]),
        ({"--task": "G+I->C"}, ["was trained on G+S", "--task 'G+S->C'"]),
        ({"--method": "tn", "--batch-size": "0"}, ["batch size is 0"]),
        ({"--method": "tn", "--neighbors": "2"}, ["--neighbors does not belong to --method tn"]),
        ({"--method": "bn", "--capacity": "8"}, ["--capacity does not belong to --method bn"]),
        ({"--method": "adabn", "--style-layer": "1", "--batch-size": "2"}, ["--batch-size, --style-layer does not"]),
        ({"--method": "sib", "--batch-size": "2"}, ["--batch-size does not belong to --method sib"]),
        ({"--method": "sib", "--neighbors": "0"}, ["neighbors is 0; expected an integer of 1 or more"]),
        ({"--method": "sib", "--neighbors": "-1"}, ["neighbors is -1"]),
        ({"--method": "qib", "--capacity": "0"}, ["capacity is 0; expected an integer of 1 or more"]),
        ({"--method": "sib", "--style-layer": "9"}, ["style_layer is 9", "1 = layer1"]),
        ({"--method": "sib", "--style-layer": "layer9"}, ["'layer9'", "4 = layer4"]),
        ({"--method": "sib", "--statistics": "merged"}, ["statistics is 'merged'", "joint"]),
        ({"--checkpoint": "none.safetensors"}, ["no checkpoint at none.safetensors"]),
        ({"--checkpoint": __file__}, ["test_cli.py is no readable safetensors file"]),
        ({"--device": "gpu"}, ["unknown device 'gpu'"]),
        ({"--data": "no_such_folder"}, ["no_such_folder: no such folder"]),
    ],
)
def test_evaluate_refuses(checkpoint, tmp_path, refused, options, words):
    given = {"--checkpoint": checkpoint, "--task": "G+S->C", "--method": "bn", "--device": "cpu", **options}
    scores = tmp_path / "scores.json"
    refused(["evaluate", *(part for pair in given.items() for part in pair), "--json", scores], *words)
    assert not scores.exists()


@pytest.mark.parametrize("damage", ["missing", "a file", "empty", "16-bit", "text", "palette", "truncated", "twice"])
def test_predict_refuses_bad_images(checkpoint, images, tmp_path, refused, damage):
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
    else:
        Image.fromarray(picture(0)).save(images / "img2.jpg")
        words = [images, "two images called img2"]
    arguments = ["predict", "--checkpoint", checkpoint, "--images", images, "--method", "bn", "--device", "cpu"]
    refused([*arguments, "--out", tmp_path / "new"], *words)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "options", [("sib",), ("sib", "--statistics", "cached"), ("qib",), ("tn", "--batch-size", "2"), ("adabn",)]
)
def test_predict_brings_images_of_different_sizes_together(checkpoint, images, tmp_path, options):
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
        (("oracle",), ["cannot use oracle", "bn, tn, adabn, qib, sib", "dglab evaluate"]),
        (("random",), ["cannot use random", "bn, tn, adabn, qib, sib", "dglab evaluate"]),
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


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--preset", "huge"), ["unknown preset 'huge'"]),
        (("--preset", "tiny", "--data", "no_such_folder"), ["no_such_folder: no such folder"]),
        (("--preset", "tiny", "--device", "abacus"), ["unknown device 'abacus'"]),
        (("--preset", "tiny", "--only", "99_nothing"), ["notebooks"]),
    ],
)
def test_reproduce_refuses(tmp_path, refused, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    message = refused(("reproduce", *arguments, "--out", "new"))
    if "--only" in arguments:  # in a clone the lessons are listed
        assert "there is no lesson '99_nothing'" in message or "no notebooks folder here" in message
    else:
        assert all(word in message for word in words)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("size", ["96", "96x", "x", "0x64", "96x16", "-96x96", "96x96x3", "96,96", "1e2x96"])
def test_bench_refuses_a_size_that_is_none(refused, size):
    refused(("bench", "testtime", "--size", size, "--device", "cpu"), repr(size), "HxW", "96x192")


def test_bench_refuses_other_names(refused):
    refused(
        ("bench", "train", "--model", "vgg", "--size", "32x32", "--device", "cpu"), "unknown backbone 'vgg'", "thin"
    )
    with pytest.raises(InputError, match="unknown bench 'speed'; the benches are train, testtime"):
        bench.run_bench("speed", "thin", "32x32", "cpu")


def test_a_bench_visits_the_cases_in_turn_and_leaves_the_warmup_out():
    visits = []
    cases = {"plain": lambda: visits.append("plain"), "other": lambda: visits.append("other")}
    records = bench.measure(cases, device="cpu", rounds=5, warmup=2)
    assert visits[:14] == ["plain", "other"] * 7  # then once more each, for the memory
    assert [record["case"] for record in records] == ["plain", "other"]
    assert records[0]["ratio"] == 1 and all(record["seconds"] > 0 and record["spread"] >= 0 for record in records)


def test_peak_memory_counts_what_lives_at_the_same_time():
    mib = 2**20

    def case():
        a = torch.zeros(10 * mib // 4)
        b = a + 1  # 20 MiB
        del a
        c = b + 1  # 20 again
        return c.clone()[:0] + 1  # 30

    assert 30 * mib <= peak_memory(case, "cpu") < 31 * mib


@pytest.mark.parametrize(
    "arguments",
    [
        ("fly",),
        ("train", "--method", "agg", "--task", "G->C"),  # no --out
        ("train", "--method", "agg", "--task", "G->C", "--out", "new", "--speed", "9"),
        ("train", "--method", "agg", "--task", "G->C", "--out", "new", "--steps", "many"),
        ("evaluate", "--method", "bn"),
        ("bench", "speed"),
        ("presets", "tiny"),
    ],
)
def test_usage_errors_exit_with_two(tmp_path, monkeypatch, capsys, arguments):
    monkeypatch.chdir(tmp_path)
    assert call(*arguments) == 2
    output = capsys.readouterr()
    assert "Usage: " in output.err and "Traceback" not in output.err and output.out == ""
    assert list(tmp_path.iterdir()) == []


def test_our_own_faults_are_not_hidden(monkeypatch):
    """What is no InputError keeps its traceback (exit code 1): it is a bug, and to be reported."""
    monkeypatch.setattr(doctor, "examine", lambda: 1 / 0)
    monkeypatch.setattr(sys, "argv", ["dglab", "doctor"])
    with pytest.raises(ZeroDivisionError):
        cli.main()
