"""The paper's protocol: its numbers, where they stand, and a dry run from the real command line on miniature data."""

import dataclasses
import json
import re
import sys

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from torchvision.models import resnet50

from dglab import cli
from dglab.models.weights import identify
from dglab.presets import PAPER, PLACES, PRESETS, QUICK, TINY
from dglab.training.checkpoints import load_checkpoint

SMALL = {"--batch-per-domain": "1", "--crop": "64x64", "--steps": "2"}  # all that a laptop cannot afford
LETTERS = {"gta5": "G", "synthia": "S", "idd": "I", "mapillary": "M", "cityscapes": "C"}


def dglab(*arguments):
    """The exit code of ``dglab ...``."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as caught:
        patch.setattr(sys, "argv", ["dglab", *map(str, arguments)])
        cli.main()
    return caught.value.code or 0


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A prepared root of the five domains, two images of 64 x 128 in each split."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for name, letter in LETTERS.items():
        for split in ("train", "val"):
            for kind, shape in (("images", (64, 128, 3)), ("labels", (64, 128))):
                folder = root / name / split / kind
                folder.mkdir(parents=True)
                for stem in "ab":
                    pixels = rng.integers(0, 256 if kind == "images" else 19, shape, np.uint8)
                    Image.fromarray(pixels).save(folder / f"{stem}.png")
        (root / name / "domain.json").write_text(json.dumps({"letter": letter}))
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file like torchvision's ``resnet50-0676ba61.pth``, the classifier included, but of random weights."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "resnet50.pth"
    torch.save(resnet50(weights=None).state_dict(), path)
    return path


@pytest.mark.parametrize("method", ["agg", "mldg"])
def test_a_dry_run_of_the_paper_s_protocol(root, weights, tmp_path, capsys, method):
    changes = [part for pair in SMALL.items() for part in pair]
    out = tmp_path / "run"
    assert dglab("train", "--preset", "paper", "--method", method, "--task", "G+S+I+M->C", "--data", root, "--weights",
                 weights, "--out", out, "--device", "cpu", *changes) == 0  # fmt: skip
    model, config = load_checkpoint(out / "last.safetensors")
    expected = dataclasses.replace(
        PAPER.training, method=method, sources=("G", "S", "I", "M"), data=config.data, weights=identify(weights),
        steps=2, batch_per_domain=1, crop=(64, 64),
    )  # fmt: skip
    assert config == expected and config.data.startswith("prepared ")
    start = torch.load(weights, weights_only=True)["conv1.weight"].flatten()
    assert torch.corrcoef(torch.stack([start, model.stem[0].weight.detach().flatten()]))[0, 1] > 0.9
    for test, options in (("bn", ()), ("tn", ("--batch-size", "2"))):
        scores = tmp_path / f"{test}.json"
        assert dglab("evaluate", "--checkpoint", out / "last.safetensors", "--task", "G+S+I+M->C", "--data", root,
                     "--method", test, *options, "--device", "cpu", "--json", scores) == 0  # fmt: skip
        record = json.loads(scores.read_text())
        assert 0 <= record["miou"] <= 1 and np.sum(record["confusion"]) == 2 * 64 * 128
    assert f"mIoU {100 * record['miou']:.2f} over" in capsys.readouterr().out


def test_the_authors_scores_from_the_command_line(root, tmp_path, capsys):
    assert dglab("train", "--preset", "tiny", "--method", "agg", "--task", "G->C", "--data", root, "--out", tmp_path,
                 "--device", "cpu") == 0  # fmt: skip
    evaluate = ("evaluate", "--checkpoint", tmp_path / "last.safetensors", "--task", "G->C", "--data", root, "--method",
                "tn", "--device", "cpu", "--json", tmp_path / "scores.json", "--scores")  # fmt: skip
    assert dglab(*evaluate, "authors_code") == 0
    record = json.loads((tmp_path / "scores.json").read_text())
    assert record["scores"] == "authors_code" and np.sum(record["confusion"]) == 2 * 768 * 768
    assert "G->C, tn, scored as authors_code" in capsys.readouterr().out
    assert dglab(*evaluate, "theirs") == 2
    assert "unknown scores 'theirs'; expected ours or authors_code" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--weights", "none.pth"), "there are no weights at none.pth"),
        (("--weights", __file__), "cannot be read as weights"),
        (("--backbone", "thin"), "there are no ImageNet weights of 'thin'"),
        (("--backbone", "resnet18", "--weights", "FILE"), "the weights do not fit"),
        (("--crop", "600"), "'600'; expected HxW"),
        (("--crop", "0x64", "--weights", "random"), "the size is '0x64'; expected HxW in pixels, each 3 or more"),
        (("--batch-per-domain", "0", "--weights", "random"), "batch_per_domain is 0"),
    ],
)
def test_what_cannot_be_started_is_refused(root, weights, tmp_path, capsys, options, words):
    options = [weights if option == "FILE" else option for option in options]
    assert dglab("train", "--preset", "paper", "--method", "agg", "--task", "G->C", "--data", root, "--out",
                 tmp_path / "run", "--device", "cpu", *options) == 2  # fmt: skip
    assert words in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert not (tmp_path / "run").exists()


def test_the_paper_preset_is_the_paper_s_protocol():
    """Section 4.1, by hand; 120 epochs of 3,000 draws at a batch of 8."""
    training = PAPER.training
    assert (training.backbone, training.weights, training.precision) == ("resnet50", "imagenet", "32")
    assert (training.steps, training.batch_per_domain, training.crop) == (120 * 3000 // 8, 8, (600, 600))
    assert (training.lr, training.inner_lr, training.alpha, training.order) == (5e-3, 1e-3, 1, 1)
    assert (training.momentum, training.weight_decay, training.power) == (0.9, 5e-4, 0.9)
    assert (training.scale, training.split, training.running_stats) == ((0.5, 2.0), "half", "meta_train")
    assert (len(PAPER.train_seeds), len(PAPER.test_seeds)) == (1, 5)
    assert PAPER.queue_sizes == (4, 8, 16, 32, 64, 128, 256, 512) and PAPER.style_layers == (1, 2, 3, 4)


def test_every_value_of_the_protocol_is_printed_with_its_place(capsys):
    fields = {field.name for where in (PAPER, PAPER.training) for field in dataclasses.fields(where)}
    assert set(PLACES) <= fields and all("section" in p or "code" in p or "Table" in p or "Figure" in p or "paper" in p
                                         for p in PLACES.values())  # fmt: skip
    assert dglab("presets") == 0
    paper = capsys.readouterr().out.split("paper: ")[1].splitlines()
    for name, place in PLACES.items():
        (line,) = (line for line in paper if line.strip().startswith(f"{name} = "))
        assert line.endswith(f"  # {place}")


def test_every_difference_from_the_authors_code_is_printed(capsys):
    assert dglab("presets") == 0
    shown = capsys.readouterr().out.split("differences from the authors' code")[1]
    options = re.findall(r"--[a-z-]+", shown)
    known = {name for command in typer.main.get_command(cli.app).commands.values() for p in command.params
             for name in p.opts}  # fmt: skip
    assert {"--augmentation", "--scores", "--split", "--batch-size"} <= set(options) <= known
    for what in ("rotation", "random scale", "Gaussian blur", "with replacement", "Dropout2d", "align_corners=True",
                 "best on the target", "G 1914, S 1280, I 1280, M 2590, C 2048", "class 0, road"):  # fmt: skip
        assert what in shown


def test_the_authors_augmentation_trains_on_real_letters(root, tmp_path):
    options = ("--preset", "tiny", "--method", "agg", "--task", "G+M->C", "--data", root, "--device", "cpu")
    made = {}
    for name in ("paper", "authors"):
        assert dglab("train", *options, "--augmentation", name, "--out", tmp_path / name) == 0
        made[name], config = load_checkpoint(tmp_path / name / "last.safetensors")
        assert config.augmentation == name
    weights = [next(model.parameters()) for model in made.values()]
    assert not torch.equal(*weights)


def test_a_preset_s_own_values_do_not_borrow_the_paper_s_place():
    assert QUICK.reason("lr", 0.1) == QUICK.why["lr"] and "section" not in QUICK.why["lr"]
    assert TINY.reason("steps", 2) == "" and TINY.reason("momentum", 0.9) == PLACES["momentum"]
    assert set(PRESETS) == {"tiny", "quick", "full", "real", "standard", "paper"}
    for preset in PRESETS.values():
        own = [*dataclasses.fields(preset.training), *dataclasses.fields(preset)]
        assert set(preset.why) <= {field.name for field in own}
