"""``dglab train``."""

import dataclasses
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from dglab.presets import PRESETS
from dglab.testtime import SourceReference
from dglab.training import trainer
from dglab.training.checkpoints import load_checkpoint
from dglab.training.log import LOG
from dglab.training.methods import METHODS

TRAIN = ("train", "--preset", "tiny", "--device", "cpu")


def test_a_folder_called_streets_is_not_the_embedded_streets(root, tmp_path, dglab, monkeypatch):
    root.rename(tmp_path / "streets")
    monkeypatch.chdir(tmp_path)
    dglab(*TRAIN, "--method", "agg", "--task", "A+B->D", "--out", tmp_path / "run", "--data", "streets")
    assert load_checkpoint(tmp_path / "run" / "last.safetensors")[1].data.startswith("prepared ")


def test_a_finished_run_is_not_trained_over(checkpoint, refused, dglab):
    before = {path: path.read_bytes() for path in checkpoint.parent.iterdir() if path.is_file()}
    arguments = (*TRAIN, "--method", "mldg", "--task", "G+S->C", "--out", checkpoint.parent)
    refused(arguments, checkpoint.parent, "holds a finished run", "choose another --out")
    refused((*arguments, "--resume", "--seed", "5"), checkpoint.parent, "holds a finished run")
    assert dglab(*arguments, "--resume") == f"trained before, with these settings: {checkpoint}\n"
    assert before == {path: path.read_bytes() for path in checkpoint.parent.iterdir() if path.is_file()}


def test_nothing_is_written_into_a_data_root(root, refused):
    before = sorted(root.rglob("*"))
    for out in (root, root / "results", root / "A" / "run"):
        refused((*TRAIN, "--method", "agg", "--task", "A+B->D", "--out", out, "--data", root), out, "in the data root")
        refused(("reproduce", "--preset", "tiny", "--data", root, "--out", out, "--device", "cpu"), "in the data root")
    assert sorted(root.rglob("*")) == before


def test_a_run_killed_before_its_reference_was_written_gets_it_with_resume(checkpoint, tmp_path, dglab, refused):
    run = tmp_path / "run"
    shutil.copytree(checkpoint.parent, run)
    reference = run / "reference.safetensors"
    expected, before = SourceReference.load(reference), checkpoint.read_bytes()
    reference.unlink()
    command = (*TRAIN, "--method", "mldg", "--out", run, "--resume")
    refused((*command, "--task", "G+I->C"), run, "holds a finished run")  # other settings
    dglab(*command, "--task", "G+S->C")
    again = SourceReference.load(reference)
    assert (again.images, again.domains) == (expected.images, expected.domains)
    for name, layer in expected.layers.items():
        assert all(map(torch.equal, layer, again.layers[name]))
    assert (run / "last.safetensors").read_bytes() == before


def test_a_finished_run_of_gmp_is_finished_though_it_has_no_reference(tmp_path, dglab, refused):
    command = (*TRAIN, "--method", "gmp", "--task", "G+S->C", "--out", tmp_path / "run")
    dglab(*command)
    assert not (tmp_path / "run" / "reference.safetensors").exists()
    refused(command, tmp_path / "run", "holds a finished run")
    assert dglab(*command, "--resume").startswith("trained before, with these settings: ")
    assert not (tmp_path / "run" / "reference.safetensors").exists()


def test_an_interrupted_run_goes_on_only_when_asked_to(tmp_path, dglab, refused, monkeypatch, call):
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
    (tmp_path / LOG).touch()
    dglab(*TRAIN, "--method", "agg", "--task", "G->C", "--out", tmp_path)
    assert (tmp_path / "last.safetensors").exists()


def test_resume_in_an_empty_folder_starts(tmp_path, dglab):
    dglab(*TRAIN, "--method", "agg", "--task", "G->C", "--out", tmp_path, "--resume", "--steps", "1")
    assert (tmp_path / "last.safetensors").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"--task": "G+X->C"}, ["'X'", "not available", "G, S, I, M, C"]),
        ({"--task": "G+S->X"}, ["'X'"]),
        ({"--task": "G+C->C"}, ["C is both source and target", "unseen"]),
        ({"--task": "G+S"}, ["one arrow"]),
        ({"--task": "G->C"}, ["MLDG", "two or more, got 1"]),
        ({"--task": "G->C", "--method": "split"}, ["two or more, got 1"]),
        ({"--method": "mldgg"}, ["unknown training method 'mldgg'", ", ".join(METHODS)]),
        ({"--preset": "huge"}, ["unknown preset 'huge'", "tiny, quick, full, real, standard, paper"]),
        ({"--split": "3:1"}, ["'3:1'", "2 source domains"]),
        ({"--steps": "0"}, ["steps is 0; expected 1 or more"]),
        ({"--inner-lr": "nan"}, ["inner_lr is nan"]),
        ({"--alpha": "-1"}, ["alpha is -1.0"]),
        ({"--precision": "16"}, ["precision is '16'", "32, bf16"]),
        ({"--augmentation": "ours"}, ["augmentation is 'ours'", "paper, authors"]),
        ({"--method": "gmp", "--augmentation": "authors"}, ["augmentation is 'authors'", "'paper' for the method gmp"]),
        ({"--device": "tpu"}, ["unknown device 'tpu'", "auto, cpu, cuda or mps"]),
        ({"--device": "cpu:x"}, ["unknown device 'cpu:x'"]),
        ({"--lr": "-1"}, ["lr is -1.0; expected a finite number of 0 or more"]),
        ({"--order": "3"}, ["order is 3; expected 1"]),
        ({"--backbone": "vgg"}, ["unknown backbone 'vgg'"]),
        ({"--data": "no_such_folder"}, ["no_such_folder: no such folder"]),
        ({"--method": "gmp", "--variant": "gmpp"}, ["unknown variant of GMP 'gmpp'", "gmp, joint, igdm"]),
        ({"--method": "gmp", "--modalities": "rgb+lidar"}, ["('rgb', 'lidar')", "rgb, depth, normals"]),
        ({"--method": "gmp", "--modalities": "depth"}, ["only one modality, depth", "joint"]),
        ({"--method": "gmp", "--alpha-k": "1.5"}, ["alpha_k is 1.5; expected a number from 0 to 1"]),
        ({"--method": "gmp", "--alpha-p": "nan"}, ["alpha_p is nan"]),
        ({"--method": "gmp", "--task": "G->C"}, ["tell source domains apart", "two or more"]),
        ({"--method": "gmp", "--backbone": "resnet50"}, ["backbone is 'resnet50'; expected 'thin'", "gmp"]),
        ({"--method": "gmp", "--activation-checkpointing": None}, ["activation_checkpointing is True; expected False"]),
    ],
)
def test_train_refuses(tmp_path, refused, options, words):
    given = {"--method": "mldg", "--task": "G+S->C", "--preset": "tiny", "--device": "cpu", **options}
    out = tmp_path / "new"
    arguments = [part for pair in given.items() for part in pair if part is not None]
    refused(["train", *arguments, "--out", out], *words)
    assert not out.exists()


@pytest.mark.parametrize(
    ("method", "options", "foreign"),
    [
        ("agg", ("--split", "1:1", "--order", "2"), "--order, --split"),
        ("agg2", ("--alpha", "0.5"), "--alpha"),
        ("split", ("--split", "1:1", "--inner-lr", "0.1"), "--inner-lr"),
        ("mldg", ("--modalities", "rgb+depth", "--variant", "gmp"), "--modalities, --variant"),
        ("gmp", ("--inner-lr", "0.1", "--alpha-k", "0.1", "--alpha", "1"), "--inner-lr, --alpha"),
    ],
)
def test_options_of_one_method_belong_to_no_other(tmp_path, refused, method, options, foreign):
    arguments = (*TRAIN, "--method", method, "--task", "G+S->C", "--out", tmp_path / "new", *options)
    refused(arguments, f"error: {foreign} does not belong to --method {method}")
    assert not (tmp_path / "new").exists()


def test_modalities_of_a_prepared_root_are_refused(root, tmp_path, refused):
    arguments = (*TRAIN, "--method", "gmp", "--task", "A+B->D", "--out", tmp_path / "new", "--data", root)
    refused(arguments, root, "holds images and labels alone", "leave --data out")


@pytest.mark.parametrize("variant", ["joint", "ogm_ge"])
@pytest.mark.parametrize("modalities", ["rgb+depth", "normals+rgb+depth"])
def test_gmp_trains_any_modalities_by_any_variant(tmp_path, dglab, variant, modalities):
    options = ("--variant", variant, "--modalities", modalities, "--alpha-k", "0.2", "--steps", "1")
    dglab(*TRAIN, "--method", "gmp", "--task", "G+S->C", "--out", tmp_path, *options)
    model, config = load_checkpoint(tmp_path / "last.safetensors")
    assert list(model.encoders) == modalities.split("+") and config.modalities == tuple(modalities.split("+"))
    assert (config.variant, config.alpha_k, config.alpha_p) == (variant, 0.2, 0.5)


def test_a_single_modality_is_trained_jointly(tmp_path, dglab):
    options = ("--variant", "joint", "--modalities", "depth", "--steps", "1")
    dglab(*TRAIN, "--method", "gmp", "--task", "G+S->C", "--out", tmp_path, *options)
    assert list(load_checkpoint(tmp_path / "last.safetensors")[0].encoders) == ["depth"]


def test_an_interrupted_run_of_gmp_ends_with_the_same_bits(tmp_path, dglab, monkeypatch, call):
    """The strength of the gradient reversal goes on where it was, too."""
    tiny = PRESETS["tiny"]
    training = dataclasses.replace(tiny.training, checkpoint_every=2, steps=4)
    monkeypatch.setitem(PRESETS, "tiny", dataclasses.replace(tiny, training=training))
    arguments = (*TRAIN, "--method", "gmp", "--task", "G+S->C", "--out")
    original = trainer.training_step

    def interrupted(model, batch, config, step):
        if step == 3:
            raise KeyboardInterrupt
        return original(model, batch, config, step)

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "training_step", interrupted)
        assert call(*arguments, tmp_path / "run") not in (0, 2)
    dglab(*arguments, tmp_path / "run", "--resume")
    dglab(*arguments, tmp_path / "whole")
    resumed, whole = (tmp_path / run / "last.safetensors" for run in ("run", "whole"))
    assert resumed.read_bytes() == whole.read_bytes()


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
