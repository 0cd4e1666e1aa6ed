"""``dglab evaluate``."""

import json

import numpy as np
import pytest
import torch

from dglab.classes import CLASS_NAMES
from dglab.presets import PRESETS
from dglab.training.checkpoints import load_checkpoint

METHODS = ("bn", "bn-reestimated", "tn", "adabn", "guarded", "qib", "sib")
TRAIN = ("train", "--preset", "tiny", "--device", "cpu")


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


@pytest.fixture(scope="module")
def multimodal(tmp_path_factory, call):
    folder = tmp_path_factory.mktemp("gmp")
    assert call(*TRAIN, "--method", "gmp", "--task", "G+S->C", "--out", folder) == 0
    return folder / "last.safetensors"


@pytest.mark.parametrize("method", [name for name in METHODS if name != "guarded"])
def test_a_multimodal_network_is_evaluated_by_every_method(multimodal, tmp_path, dglab, method):
    """Fused, by each branch, and with a modality missing: each looks at something else."""
    confusions = []
    for options in ((), ("--branch", "rgb"), ("--branch", "depth"), ("--without", "rgb"), ("--without", "depth")):
        scores = tmp_path / "scores.json"
        told = dglab("evaluate", "--checkpoint", multimodal, "--task", "G+S->C", "--method", method, "--json", scores,
                     "--device", "cpu", *options)  # fmt: skip
        said = {"--branch": ", the {} branch (", "--without": ", without {} ("}
        assert not options or said[options[0]].format(options[1]) in told
        record = json.loads(scores.read_text())
        given = dict(zip(("--branch", "--without"), (record["branch"], record["without"]), strict=True))
        assert {name: value for name, value in given.items() if value} == dict([options] if options else [])
        confusions.append(str(record["confusion"]))
    assert len(set(confusions)) == 5


def test_what_a_multimodal_network_sees_is_what_it_was_trained_on(multimodal, tmp_path, dglab):
    """The score by hand: no stacked channels, no wrapper."""
    from dglab.data import open_domains
    from dglab.evaluation import ConfusionMatrix

    scores = tmp_path / "scores.json"
    dglab("evaluate", "--checkpoint", multimodal, "--task", "G+S->C", "--method", "bn", "--branch", "depth", "--json",
          scores, "--device", "cpu")  # fmt: skip
    model, config = load_checkpoint(multimodal)
    matrix = ConfusionMatrix()
    for images, label, letter in open_domains(config.data, modalities=config.modalities)["C"].val:
        depth = images["depth"][None].float() / 255
        logits = model.classifiers["depth"](model.encoders["depth"](depth))
        logits = torch.nn.functional.interpolate(logits, label.shape, mode="bilinear", align_corners=False)
        matrix.update(logits.argmax(1)[0], label)
        assert letter == "C"
    assert json.loads(scores.read_text())["confusion"] == matrix.counts.tolist()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--branch", "lidar"), ("no modality 'lidar'; it has rgb, depth",)),
        (("--without", "lidar"), ("no modality 'lidar'",)),
        (("--without", "rgb", "--branch", "depth"), ("--branch and --without", "leave one out")),
        (("--scores", "authors_code"), ("several modalities are scored as ours",)),
        (("--data", "ROOT"), ("holds images and labels alone",)),
    ],
)
def test_a_multimodal_network_is_refused_what_it_cannot(multimodal, root, refused, options, words):
    options = [root if option == "ROOT" else option for option in options]
    task = "G+S->D" if root in options else "G+S->C"
    refused(
        ("evaluate", "--checkpoint", multimodal, "--task", task, "--method", "bn", "--device", "cpu", *options), *words
    )


def test_a_network_of_images_has_no_branch(checkpoint, refused):
    arguments = ("evaluate", "--checkpoint", checkpoint, "--task", "G+S->C", "--method", "bn", "--device", "cpu")
    refused((*arguments, "--branch", "rgb"), "has no modalities; pass a network that --method gmp has trained")


def test_images_alone_are_no_food_for_a_multimodal_network(multimodal, images, tmp_path, refused):
    arguments = ("predict", "--checkpoint", multimodal, "--images", images, "--method", "bn", "--device", "cpu")
    refused((*arguments, "--out", tmp_path / "out"), multimodal, "takes rgb and depth, and a folder holds images alone")
    assert not (tmp_path / "out").exists()
    refused(("advise", "--checkpoint", multimodal, "--images", images, "--device", "cpu"), "takes rgb and depth, and a")


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


def test_a_network_is_tested_on_new_data_but_reestimated_on_its_own(root, tmp_path, dglab, refused):
    for name, letter in (("a", "G"), ("b", "S"), ("d", "C")):
        (root / name / "domain.json").write_text(json.dumps({"letter": letter}))
    dglab(*TRAIN, "--method", "agg", "--task", "G+S->C", "--out", tmp_path)
    arguments = ["evaluate", "--checkpoint", tmp_path / "last.safetensors", "--task", "G+S->C", "--data", root,
                 "--device", "cpu", "--method"]  # fmt: skip
    dglab(*arguments, "tn")
    refused([*arguments, "bn-reestimated"], "was trained on 'streets 32x64", "at hand are 'prepared ", "--data")


def test_a_network_of_other_data_is_not_tested_on_the_streets_unasked(root, tmp_path, dglab, refused):
    dglab(*TRAIN, "--method", "agg", "--task", "A+B->D", "--out", tmp_path / "run", "--data", root)
    trained = tmp_path / "run" / "last.safetensors"
    arguments = ["evaluate", "--checkpoint", trained, "--task", "A+B->D", "--method", "bn", "--device", "cpu"]
    refused(arguments, trained, "was not trained on the embedded streets but on 'prepared ", "as --data")
    dglab(*arguments, "--data", root)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"--method": "bnn"}, ["unknown test method 'bnn'", "bn, bn-reestimated, tn, adabn, guarded, qib, sib"]),
        ({"--task": "G+S->X"}, ["'X'", "not available"]),
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
        ({"--checkpoint": __file__}, ["test_evaluate.py is not a readable safetensors file"]),
        ({"--device": "gpu"}, ["unknown device 'gpu'"]),
        ({"--data": "no_such_folder"}, ["no_such_folder: no such folder"]),
    ],
)
def test_evaluate_refuses(checkpoint, tmp_path, refused, options, words):
    given = {"--checkpoint": checkpoint, "--task": "G+S->C", "--method": "bn", "--device": "cpu", **options}
    scores = tmp_path / "scores.json"
    refused(["evaluate", *(part for pair in given.items() for part in pair), "--json", scores], *words)
    assert not scores.exists()
