"""The guarded default and its advice on the command line."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

from dglab.data import open_domains
from dglab.presets import PRESETS
from dglab.testtime import GuardedNormalization, SourceReference
from dglab.testtime.of_sources import REFERENCE, evenly, source_reference
from dglab.training.checkpoints import load_checkpoint
from dglab.utils.images import read_image


@pytest.fixture(scope="module")
def trained(tmp_path_factory, call):
    """A run of dglab train, with what it writes."""
    folder = tmp_path_factory.mktemp("trained")
    arguments = ("train", "--preset", "tiny", "--device", "cpu", "--method", "agg", "--task", "G+S->C")
    assert call(*arguments, "--out", folder) in (0, None)
    return folder


def test_train_writes_the_reference_of_its_sources_training_images(trained):
    model, config = load_checkpoint(trained / "last.safetensors")
    domains = open_domains(PRESETS["tiny"].streets)
    written = SourceReference.load(trained / REFERENCE)
    images = [domains[letter].train[index][0][None] / 255 for letter in "GS" for index in range(4)]
    measured = SourceReference.measure(model, torch.cat(images), "GGGGSSSS")
    assert (written.images, written.domains) == (8, 2)
    for name, layer in measured.layers.items():
        for a, b in zip(layer, written.layers[name], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)
    assert source_reference(model, domains, config.sources).running == written.running


def test_images_are_evenly_spaced():
    assert evenly(3, 32) == [0, 1, 2] and evenly(100, 4) == [0, 25, 50, 75]


def test_evaluate_guarded_reads_the_reference_beside_the_checkpoint(trained, tmp_path, dglab, capsys):
    def record(*options):
        path = tmp_path / "scores.json"
        dglab("evaluate", "--checkpoint", trained / "last.safetensors", "--task", "G+S->C", "--method", "guarded",
              "--device", "cpu", "--json", path, *options)  # fmt: skip
        return json.loads(path.read_text())

    beside = record()
    assert beside["method"] == "guarded"
    assert record("--reference", trained / REFERENCE)["confusion"] == beside["confusion"]
    assert record("--batch-size", "2")["batch_size"] == 2


def test_predict_guarded_predicts_each_image_and_logs_its_drift(trained, images, tmp_path, dglab):
    dglab("predict", "--checkpoint", trained / "last.safetensors", "--images", images, "--method", "guarded", "--out",
          tmp_path / "out", "--device", "cpu")  # fmt: skip
    model, _ = load_checkpoint(trained / "last.safetensors")
    guard = GuardedNormalization(model, SourceReference.load(trained / REFERENCE))
    with open(tmp_path / "out" / "drift.csv", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["", "img1", "img2", "img10"]
    for column, stem in enumerate(header[1:], 1):
        image = torch.from_numpy(read_image(images / f"{stem}.png")).permute(2, 0, 1)[None].float() / 255
        label = guard(image).argmax(1)[0].numpy()
        assert np.array_equal(np.array(Image.open(tmp_path / "out" / "labels" / f"{stem}.png")), label)
        logged = {row[0]: float(row[column]) for row in rows}
        assert logged.pop("scene") == 1
        assert logged == pytest.approx(guard.guard.state, rel=1e-2)
        assert list(logged) == ["distance", "share", *guard.distances]


@pytest.mark.parametrize("m", [1, 2])
def test_predict_guarded_begins_anew_where_a_film_cuts(trained, tmp_path, dglab, m):
    rng = np.random.default_rng(0)
    film = [np.clip(rng.normal(level, 20, (32, 64, 3)), 0, 255).astype(np.uint8) for level in [40] * 5 + [200] * 4]
    (tmp_path / "film").mkdir()
    for number, frame in enumerate(film):
        Image.fromarray(frame).save(tmp_path / "film" / f"frame{number}.png")
    dglab("predict", "--checkpoint", trained / "last.safetensors", "--images", tmp_path / "film", "--method", "guarded",
          "--batch-size", str(m), "--out", tmp_path / "out", "--device", "cpu")  # fmt: skip
    with open(tmp_path / "out" / "drift.csv", newline="") as file:
        header, scene, distance, *_ = csv.reader(file)
    assert header[1:] == [f"frame{number}" for number in range(9)] and scene[1:] == ["1"] * 5 + ["2"] * 4

    model, _ = load_checkpoint(trained / "last.safetensors")
    guard = GuardedNormalization(model, SourceReference.load(trained / REFERENCE))
    batches = [[0], [1], [2], [3], [4], [5], [6], [7], [8]] if m == 1 else [[0, 1], [2, 3], [4], [5, 6], [7, 8]]
    for batch in batches:
        if batch[0] == 5:
            guard.reset()
        guard(torch.stack([torch.from_numpy(film[i]).permute(2, 0, 1).float() / 255 for i in batch]))
        assert float(distance[1 + batch[-1]]) == pytest.approx(guard.guard.distance, rel=1e-2)


def test_guarded_without_a_reference_warns_and_a_wrong_one_is_refused(checkpoint, trained, images, tmp_path, call):
    arguments = ("predict", "--checkpoint", checkpoint, "--images", images, "--method", "guarded", "--device", "cpu")
    alone = tmp_path / "alone" / "last.safetensors"
    alone.parent.mkdir()
    alone.write_bytes(checkpoint.read_bytes())
    with pytest.warns(UserWarning, match="no source reference"):
        assert call(*arguments[:2], alone, *arguments[3:], "--out", tmp_path / "prior") in (0, None)
    assert not (tmp_path / "prior" / "drift.csv").exists()


def test_options_of_the_guard_are_named(trained, images, tmp_path, refused):
    predict = ["predict", "--checkpoint", trained / "last.safetensors", "--images", images, "--device", "cpu", "--out",
               tmp_path / "out", "--method"]  # fmt: skip
    refused([*predict, "tn", "--reference", trained / REFERENCE], "--reference does not belong to --method tn")
    refused([*predict, "guarded", "--reference", tmp_path / "none"], "none", "cannot be read")
    refused([*predict, "guarded", "--reference", trained / "last.safetensors"], "is not a source reference")


def test_advise_prints_and_writes_its_reasons(trained, tmp_path, dglab, images, picture):
    for number in range(3, 6):
        Image.fromarray(picture(number)).save(images / f"img{number}.png")
    text = dglab("advise", "--checkpoint", trained / "last.safetensors", "--images", images, "--device", "cpu",
                 "--json", tmp_path / "a.json", "--html", tmp_path / "a.html")  # fmt: skip
    record = json.loads((tmp_path / "a.json").read_text())
    assert text.startswith(f"{record['recommendation']} (share of source statistics: {record['prior']:.2f})")
    assert all(words in text for words in record["words"]) and len(record["drift"]) == 6
    assert "<polyline" in (tmp_path / "a.html").read_text()
