"""What is trained and tested, and what is not because it has been already."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from dglab.data import fingerprint
from dglab.data.streams import arrival_order
from dglab.evaluation import ConfusionMatrix, evaluate
from dglab.experiments import runner
from dglab.experiments.runner import Lab, open_lab, recorded, run
from dglab.experiments.trials import STUDIES, Trial, studies_of
from dglab.presets import PRESETS
from dglab.tasks import Task
from dglab.testtime import TargetNormalization
from dglab.testtime.methods import TestConfig, bank, bn, tn
from dglab.training.guards import check_fits
from dglab.utils.errors import InputError

TINY = PRESETS["tiny"]


def trial(training, test):
    """A trial of no study in particular."""
    unseen = tuple(letter for letter in test.domains if letter not in training.sources) or ("X",)
    return Trial("own", Task(training.sources, unseen), training, test)


def test_a_second_call_neither_trains_nor_tests(lab, frames, monkeypatch):
    monkeypatch.setattr(runner, "train", lambda *_, **__: pytest.fail("trained again"))
    monkeypatch.setattr(runner, "run_test", lambda *_, **__: pytest.fail("tested again"))
    for study, frame in frames.items():
        pd.testing.assert_frame_equal(run(lab, STUDIES[study](lab)), frame)


def test_a_result_does_not_depend_on_what_ran_before(lab, frames, tmp_path):
    trials = STUDIES["selection_policy"](lab)
    chosen = [one for one in trials if one.test.method in ("bn", "random", "sib")][::-1][:4]
    fresh = Lab(TINY, "streets", tmp_path, "cpu", use_shipped=False)
    alone, together = fresh.results(chosen), lab.results(trials)
    for one in chosen:
        assert np.array_equal(alone[one].matrix.counts, together[one].matrix.counts)
        assert alone[one].selection_accuracy == together[one].selection_accuracy
    checkpoint = fresh.checkpoint(chosen[0].training)
    assert checkpoint.read_bytes() == lab.checkpoint(chosen[0].training).read_bytes()


def test_what_is_missing_is_computed_and_nothing_else(lab, frames, monkeypatch):
    trials = STUDIES["queue_size"](lab)
    before = lab.results(trials)[trials[-1]]
    lab.score_path(trials[-1]).unlink()
    tested = []
    run_test = runner.run_test
    monkeypatch.setattr(
        runner, "run_test", lambda *args, **options: tested.append(args[2]) or run_test(*args, **options)
    )
    monkeypatch.setattr(runner, "train", lambda *_, **__: pytest.fail("trained again"))
    after = lab.results(trials)[trials[-1]]
    assert tested == [trials[-1].test] and np.array_equal(after.matrix.counts, before.matrix.counts)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"counts": [[1]], "selection_accuracy": null, "agreement": null}'])
def test_a_damaged_score_is_refused_by_name(lab, frames, text):
    trials = STUDIES["queue_size"](lab)[:1]
    path = lab.score_path(trials[0])
    whole = path.read_text()
    path.write_text(text)
    try:
        with pytest.raises(InputError, match=rf"{path.name}.*(remove it|make it again)"):
            lab.results(trials)
    finally:
        path.write_text(whole)


def test_a_network_with_other_settings_in_the_folder_of_this_one_is_refused(lab, frames, tmp_path):
    one, other = (next(t for t in STUDIES["ablation"](lab) if t.training.method == name) for name in ("agg", "mldg"))
    fresh = Lab(TINY, "streets", tmp_path, "cpu", use_shipped=False)
    place = tmp_path / "runs" / one.training.address / "last.safetensors"
    place.parent.mkdir(parents=True)
    place.write_bytes(lab.checkpoint(other.training).read_bytes())
    with pytest.raises(InputError, match="other settings: .*mldg"):
        fresh.results([one])


def test_every_setting_has_a_score_of_its_own(lab):
    training = lab.training("GSI", 0, method="mldg")
    tests = [bn(("C",)), bn(("M",)), tn(("C",), 2, 0), tn(("C",), 2, 1), tn(("C",), 4, 0)]
    tests += [bank("sib", ("C",), 0, **{name: 2}) for name in ("neighbors", "capacity", "style_layer")]
    tests += [bank("qib", ("C",), 0), bank("sib", ("C",), 0), bank("sib", ("C", "M"), 0)]
    trials = [trial(training, test) for test in tests]
    trials += [trial(dataclasses.replace(training, seed=1), tests[0])]
    assert len({lab.score_path(one) for one in trials}) == len(trials)


def test_studies_share_a_score(lab):
    """What an ablation has tested the study of batch sizes does not test again."""
    ablation, sizes = ({lab.score_path(one) for one in STUDIES[name](lab)} for name in ("ablation", "batch_size"))
    assert len(ablation & sizes) == 8  # source BN, and TN with M = 1, of four training methods


def test_addresses_on_disk_stay_as_they_were(lab):
    """Finished runs and scores of earlier versions are found again."""
    training = lab.training("GSIM", 0, method="mldg")
    assert training.address == "mldg_G+S+I+M_seed0_a4fdf742e9"
    path = lab.score_path(trial(training, bank("sib", ("C",), 0)))
    assert path.relative_to(lab.out).as_posix() == "scores/mldg_G+S+I+M_seed0_a4fdf742e9/sib_80d02f5af3d2.json"


def test_a_training_that_cannot_be_is_refused_before_the_first_one_starts(tmp_path):
    fresh = Lab(TINY, "streets", tmp_path / "new", "cpu", use_shipped=False)
    good, bad = fresh.training("GSI", 0, method="agg"), fresh.training("G", 0, method="mldg")
    with pytest.raises(InputError, match="need two or more"):
        fresh.train_all([good, bad])
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_every_network_of_every_preset_can_be_trained_on_the_embedded_streets(preset, tmp_path):
    """What a method refuses is not found out after the hours of those before it."""
    fresh = Lab(preset, "streets", tmp_path / "new", "cpu", use_shipped=False)
    trainings = {trial.training for study in studies_of(fresh).values() for trial in study(fresh)}
    for training in trainings:
        check_fits(training, fresh.domains_of(training))
    assert {"agg", "mldg"} <= {training.method for training in trainings}


def test_selection_accuracy_by_hand(lab, frames):
    """The queue takes the latest arrivals: who they are is known from the order of arrival alone."""
    qib = next(one for one in STUDIES["selection_policy"](lab) if one.test.method == "qib")
    stream = lab.target_set(("C", "M"))
    count = TINY.streets.val_images
    assert [stream.domain_of(i) for i in range(2 * count)] == ["C"] * count + ["M"] * count
    order = arrival_order(2 * count, qib.test.test_seed)
    assert sorted(order) == list(range(2 * count)) != order
    domains = [index // count for index in order]
    hits = [domains[j] == domains[i] for i in range(2 * count) for j in range(max(0, i - qib.test.neighbors), i)]
    assert lab.results([qib])[qib].selection_accuracy == pytest.approx(np.mean(hits))


def test_other_data_are_another_run(tmp_path, prepared):
    first = Lab(TINY, str(prepared(tmp_path / "a", "GSI")), tmp_path, "cpu", False).training("GS", 0)
    second = Lab(TINY, str(prepared(tmp_path / "b", "GSI", images=2)), tmp_path, "cpu", False).training("GS", 0)
    streets = Lab(TINY, "streets", tmp_path, "cpu", False).training("GS", 0)
    assert len({config.address for config in (first, second, streets)}) == 3
    # The same files elsewhere are the same data.
    assert Lab(TINY, str(prepared(tmp_path / "c", "GSI")), tmp_path, "cpu", False).training("GS", 0) == first


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "huge"}, "unknown preset 'huge'; the presets are tiny, quick, full, real, standard, paper"),
        ({"seed": 7}, "seed is 7; the preset tiny trains the seeds 0"),
        ({"device": "tpu"}, "unknown device 'tpu'; expected auto, cpu, cuda or mps"),
        ({"data": "no/such/folder"}, "no/such/folder: no such folder"),
    ],
)
def test_a_lab_with_bad_input_is_refused(tmp_path, options, message):
    with pytest.raises(InputError) as caught:
        open_lab(**{"preset": "tiny", "device": "cpu", "results": tmp_path / "new", **options})
    assert message in str(caught.value)
    assert not (tmp_path / "new").exists()


def test_two_domains_are_too_few(tmp_path, prepared):
    with pytest.raises(InputError, match="holds 2 domains.*three or more"):
        open_lab("tiny", str(prepared(tmp_path, "GS")), device="cpu")


def test_results_lie_beside_the_notebooks(tmp_path, prepared, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "00_start_here.ipynb").write_text("{}")
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for here in (tmp_path / "notebooks", tmp_path / "deep" / "er"):
        monkeypatch.chdir(here)
        assert open_lab("tiny", device="cpu").out == tmp_path / "results" / "tiny"
    root = prepared(tmp_path / "mine", "GSI")
    monkeypatch.chdir(tmp_path)
    assert open_lab("tiny", "mine", device="cpu").out == tmp_path / "results" / "tiny-mine"
    assert open_lab("tiny", "mine", device="cpu").data == str(root)  # also after the working folder changes


def test_data_of_another_size_are_other_data(tmp_path, prepared):
    root = prepared(tmp_path / "mine", "GSI")
    before = Lab(TINY, str(root), tmp_path, "cpu", False).identity
    for path in root.glob("*/*/images/*.png"):
        Image.open(path).resize((128, 64)).save(path)
    fingerprint.cache_clear()
    assert Lab(TINY, str(root), tmp_path, "cpu", False).identity != before


def test_what_a_file_manager_leaves_behind_is_no_data(tmp_path, prepared):
    root = prepared(tmp_path / "mine", "GSI")
    before = Lab(TINY, str(root), tmp_path, "cpu", False).identity
    for folder in root.glob("*/*/images"):
        for name in (".DS_Store", "Thumbs.db", ".hidden/x"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text("x")
    (root / ".Trash" / "train" / "images").mkdir(parents=True)
    (root / ".Trash" / "train" / "images" / "0.png").write_text("x")
    fingerprint.cache_clear()
    assert Lab(TINY, str(root), tmp_path, "cpu", False).identity == before


def test_images_of_unlike_sizes_are_normalized_together(tmp_path, prepared):
    """Within a target and between the two of a mixed stream, as in GTA5, IDD and Mapillary."""
    root = prepared(tmp_path / "mine", "GSIM")
    for name, size in (("1S/val/{}/0.png", (128, 64)), ("3M/val/{}/1.png", (48, 48))):
        for kind in ("images", "labels"):
            path = root / name.format(kind)
            Image.open(path).resize(size, Image.Resampling.NEAREST).save(path)
    lab = open_lab("tiny", str(root), device="cpu", results=tmp_path / "results")
    training = lab.training(("G", "I"), 0, method="agg")
    tests = [tn(("S", "M"), 2, 0), TestConfig("adabn", ("S", "M")), bn(("S", "M"))]
    tests += [bank(policy, ("S", "M"), 0, neighbors=2, statistics=kind)
              for policy in ("sib", "qib", "oracle") for kind in ("joint", "cached")]  # fmt: skip
    results = lab.results(trial(training, test) for test in tests)
    stream = lab.target_set(("S", "M"))
    labelled = sum(int((stream[i][1] != 255).sum()) for i in range(len(stream)))
    assert len(results) == len(tests) and {r.matrix.counts.sum() for r in results.values()} == {labelled}

    # TN over the first two arrivals, by hand
    model = lab.trained(training)
    first, second = (stream[i] for i in arrival_order(len(stream), 0)[:2])
    sizes = [item[1].shape for item in (first, second)]
    assert sizes[0] != sizes[1]
    images = [item[0][None].float() / 255 for item in (first, second)]
    images[1] = torch.nn.functional.interpolate(images[1], sizes[0], mode="bilinear", antialias=True)
    logits = TargetNormalization(model)(torch.cat(images))
    expected = ConfusionMatrix()
    expected.update(logits[:1].argmax(1), first[1][None])
    back = torch.nn.functional.interpolate(logits[1:], sizes[1], mode="bilinear", antialias=True)
    expected.update(back.argmax(1), second[1][None])
    found = evaluate(TargetNormalization(model), [first, second], batch_size=2, resize=True)
    assert (found.counts == expected.counts).all()


def test_a_folder_called_streets_is_shown_no_shipped_figures(tmp_path, prepared):
    root = prepared(tmp_path / "streets", "GSIM")
    lab = open_lab("quick", str(root), device="cpu", results=tmp_path / "out")
    assert recorded(lab, STUDIES["ablation"](lab)) == {}
