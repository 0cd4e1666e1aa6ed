"""Studies on the preset tiny: the tidy table, the cache, and the statistics drawn from it."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy import stats

from dglab import paper
from dglab.analysis.claims import judge
from dglab.analysis.intervals import Difference, paired_difference, per_training, summarize
from dglab.data import streets_domains
from dglab.evaluation import ConfusionMatrix, arrival_order, evaluate, image_batches
from dglab.experiments import lab as lab_module
from dglab.experiments.lab import Job, Lab, choose_device, load_domains, open_lab, preset_of
from dglab.experiments.studies import (
    COLUMNS,
    STUDIES,
    VARIANTS,
    main_tasks,
    mixed_task,
    read_tidy,
    run_study,
    shipped_table,
    task_of,
    tidy,
    variant_name,
)
from dglab.presets import PRESETS, find_preset
from dglab.testtime import TargetNormalization
from dglab.testtime.methods import TestConfig, bank, bn, tn
from dglab.training.checkpoints import load_checkpoint
from dglab.utils.errors import InputError

TINY = PRESETS["tiny"]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return Lab(TINY, "streets", tmp_path_factory.mktemp("results"), "cpu", use_shipped=False)


@pytest.fixture(scope="module")
def frames(lab):
    return {study: run_study(lab, study) for study in STUDIES}


def prepared(root, letters, images=3):
    """A prepared root of streets: folders 0G, 1S, ... in the order of ``letters``."""
    domains = streets_domains(32, 64, train_images=images, val_images=images)
    for number, letter in enumerate(letters):
        for split in ("train", "val"):
            part = getattr(domains[letter], split)
            for index in range(images):
                image, label = part[index]
                for kind, picture in (("images", image.permute(1, 2, 0)), ("labels", label)):
                    path = root / f"{number}{letter}" / split / kind / f"{index}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(picture.numpy()).save(path)
    return root


# ------------------------------------------------------------------------------------------------ the table


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_gives_a_tidy_table(lab, frames, study):
    frame = frames[study]
    assert tuple(frame.columns) == (
        "study", "preset", "data", "task", "method", "backbone", "target", "domain_evaluated", "batch_size",
        "neighbors", "capacity", "style_layer", "policy", "train_seed", "test_seed", "order", "steps", "metric",
        "class", "value",
    ) == COLUMNS  # fmt: skip
    assert set(frame["study"]) == {study} and set(frame["preset"]) == {"tiny"} and set(frame["data"]) == {"streets"}
    assert set(frame["metric"]) <= {"miou", "iou", "absent_classes", "selection_accuracy", "agreement"}
    assert frame["value"].notna().all()
    assert (frame["class"].notna() == (frame["metric"] == "iou")).all()
    settings = [c for c in COLUMNS if c not in ("metric", "class", "value")]
    assert not frame.duplicated([*settings, "metric", "class"]).any()  # one value a row
    jobs = STUDIES[study](lab)
    assert (
        len(jobs) == len(set(jobs)) == (frame["metric"] == "miou").sum() == (frame["metric"] == "absent_classes").sum()
    )
    for _, rows in frame.groupby(settings, dropna=False):
        iou = rows.loc[rows["metric"] == "iou", "value"]
        assert rows.loc[rows["metric"] == "miou", "value"].item() == pytest.approx(iou.mean())
        assert rows.loc[rows["metric"] == "absent_classes", "value"].item() == 19 - len(iou)


def test_the_studies_hold_what_the_paper_tested(frames):
    def methods(study):
        return set(frames[study]["method"])

    assert methods("ablation") == {
        variant + test for variant in VARIANTS for test in ("", "+BN re-estimated", "+TN", "+SIB")
    }
    assert methods("batch_size") == {variant + test for variant in VARIANTS for test in ("", "+TN")}
    policies = ("", "+AdaBN", "+TN", "+QIB", "+SIB")
    expected = {variant + test for variant in ("AGG", "MLDG") for test in policies} | {"MLDG+random", "MLDG+oracle"}
    assert methods("selection_policy") == expected
    assert methods("style_layer") == methods("queue_size") == {"MLDG+SIB"}
    assert set(frames["style_layer"]["style_layer"]) == {"1", "2", "3", "4"}
    assert set(frames["queue_size"]["capacity"]) == set(TINY.queue_sizes)
    assert set(frames["batch_size"]["batch_size"].dropna()) == set(TINY.batch_sizes)
    assert set(frames["source_and_target"]["domain_evaluated"]) == set("GSIMC")
    assert set(frames["source_and_target"]["task"]) == {"G+S+I+M->C"}
    for study in ("selection_policy", "style_layer", "queue_size"):
        assert set(frames[study]["task"]) == {"G+S+I->C+M"} and set(frames[study]["domain_evaluated"]) == {"C+M"}
        accuracy = frames[study][frames[study]["metric"] == "selection_accuracy"]
        assert (
            set(accuracy["policy"]) == set(frames[study]["policy"].dropna()) and accuracy["value"].between(0, 100).all()
        )
    chosen = frames["selection_policy"]
    oracle = chosen[(chosen["metric"] == "selection_accuracy") & (chosen["policy"] == "oracle")]
    assert (oracle["value"] == 100).all() and len(oracle) == 1  # the oracle never errs
    assert not (frames["ablation"]["metric"] == "selection_accuracy").any()  # one domain: nothing to select wrongly


def test_scores_are_those_of_an_evaluation_by_hand(lab, frames):
    """mIoU in percent of AGG under source BN and under TN (M = 2), from the checkpoint, with numpy alone."""
    training = lab.training("GSIM", 0, method="agg")
    model, config = load_checkpoint(lab.out / "runs" / training.address / "last.safetensors")
    assert config == training and (config.steps, config.crop) == (TINY.training.steps, TINY.training.crop)
    val = streets_domains(TINY.streets.height, TINY.streets.width, 1, TINY.streets.val_images)["C"].val
    images = torch.stack([val[i][0] for i in range(len(val))]).float() / 255
    labels = np.stack([val[i][1] for i in range(len(val))])

    def percent(predictions):
        counted = labels != 255
        iou = []
        for c in range(19):
            label, prediction = labels[counted] == c, predictions[counted] == c
            if (label | prediction).any():
                iou.append((label & prediction).sum() / (label | prediction).sum())
        return 100 * np.mean(iou)

    rows = frames["batch_size"]
    rows = rows[(rows["metric"] == "miou") & rows["method"].isin(["AGG", "AGG+TN"])].set_index("method")
    with torch.no_grad():
        source = torch.cat([model(image[None]) for image in images]).argmax(1).numpy()
        assert rows.loc["AGG", "value"] == pytest.approx(percent(source), abs=1e-9)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.train()
                module.momentum = 0.0
        single = torch.cat([model(image[None]) for image in images]).argmax(1).numpy()
    alone = rows[(rows["batch_size"] == 1)].loc["AGG+TN", "value"]
    assert alone == pytest.approx(percent(single), abs=0.05)  # pixels at a tie may fall either way
    assert rows.loc["AGG", "value"] != pytest.approx(alone, abs=0.05)


def test_a_table_survives_its_file(frames, tmp_path):
    frame = pd.concat(frames.values(), ignore_index=True)
    frame.to_csv(tmp_path / "tables.csv", index=False)
    back = read_tidy(tmp_path / "tables.csv")
    whole = ["batch_size", "neighbors", "capacity", "train_seed", "test_seed", "order", "steps"]
    assert list(back.columns) == list(frame.columns)
    for column in COLUMNS:
        if column in whole:
            assert back[column].dtype == frame[column].dtype == "Int64" and back[column].equals(frame[column])
        elif column == "value":
            np.testing.assert_allclose(back[column], frame[column], rtol=1e-12)
        else:
            assert back[column].fillna("").tolist() == frame[column].fillna("").tolist()
    assert judge(back) == judge(frame) and judge(back)[6].parts  # claim 7 rests on the style layers


def test_a_style_layer_is_text_whatever_else_the_table_holds(lab, frames):
    rows = {str(row) for frame in frames.values() for row in frame["style_layer"].dropna()}
    assert rows == {"1", "2", "3", "4"}  # not 1.0, though most rows have none
    job = Job(lab.training("GSI", 0, method="mldg"), bank("sib", ("C", "M"), 0, style_layer="layer1.relu"))
    assert set(tidy(lab, "style_layer", lab.results([job]))["style_layer"]) == {"layer1.relu"}


# ------------------------------------------------------------------------------------------------ the cache


def test_a_second_call_neither_trains_nor_tests(lab, frames, monkeypatch):
    monkeypatch.setattr(lab_module, "train", lambda *_, **__: pytest.fail("trained again"))
    monkeypatch.setattr(lab_module, "run_test", lambda *_, **__: pytest.fail("tested again"))
    for study, frame in frames.items():
        pd.testing.assert_frame_equal(run_study(lab, study), frame)


def test_a_result_does_not_depend_on_what_ran_before(lab, frames, tmp_path):
    jobs = STUDIES["selection_policy"](lab)
    chosen = [job for job in jobs if job.test.method in ("bn", "random", "sib")][::-1][:4]
    fresh = Lab(TINY, "streets", tmp_path, "cpu", use_shipped=False)
    alone, together = fresh.results(chosen), lab.results(jobs)
    for job in chosen:
        assert np.array_equal(alone[job].matrix.counts, together[job].matrix.counts)
        assert alone[job].selection_accuracy == together[job].selection_accuracy
    checkpoint = fresh.checkpoint(chosen[0].training)
    assert checkpoint.read_bytes() == lab.checkpoint(chosen[0].training).read_bytes()


def test_what_is_missing_is_computed_and_nothing_else(lab, frames, monkeypatch):
    jobs = STUDIES["queue_size"](lab)
    before = lab.results(jobs)[jobs[-1]]
    lab.score_path(jobs[-1]).unlink()
    tested = []
    run_test = lab_module.run_test
    monkeypatch.setattr(
        lab_module, "run_test", lambda *args, **options: tested.append(args[2]) or run_test(*args, **options)
    )
    monkeypatch.setattr(lab_module, "train", lambda *_, **__: pytest.fail("trained again"))
    after = lab.results(jobs)[jobs[-1]]
    assert tested == [jobs[-1]] and np.array_equal(after.matrix.counts, before.matrix.counts)


def test_every_setting_has_a_score_of_its_own(lab):
    training = lab.training("GSI", 0, method="mldg")
    tests = [bn(("C",)), bn(("M",)), tn(("C",), 2, 0), tn(("C",), 2, 1), tn(("C",), 4, 0)]
    tests += [bank("sib", ("C",), 0, **{name: 2}) for name in ("neighbors", "capacity", "style_layer")]
    tests += [bank("qib", ("C",), 0), bank("sib", ("C",), 0), bank("sib", ("C", "M"), 0)]
    jobs = [Job(training, test) for test in tests]
    jobs += [Job(dataclasses.replace(training, seed=1), tests[0])]
    assert len({lab.score_path(job) for job in jobs}) == len(jobs)


def test_a_training_that_cannot_be_is_refused_before_the_first_one_starts(tmp_path):
    fresh = Lab(TINY, "streets", tmp_path / "new", "cpu", use_shipped=False)
    good, bad = fresh.training("GSI", 0, method="agg"), fresh.training("G", 0, method="mldg")
    with pytest.raises(InputError, match="need two or more"):
        fresh.train_all([good, bad])
    assert not (tmp_path / "new").exists()


def test_selection_accuracy_by_hand(lab, frames):
    """The queue takes the latest arrivals: who they are is known from the order of arrival alone."""
    job = next(j for j in STUDIES["selection_policy"](lab) if j.test.method == "qib")
    stream = lab.target_set(("C", "M"))
    count = TINY.streets.val_images
    assert [stream.domain_of(i) for i in range(2 * count)] == ["C"] * count + ["M"] * count
    order = lab_module.arrival_order(2 * count, job.test.test_seed)
    assert sorted(order) == list(range(2 * count)) != order
    domains = [index // count for index in order]
    hits = [domains[j] == domains[i] for i in range(2 * count) for j in range(max(0, i - job.test.neighbors), i)]
    assert lab.results([job])[job].selection_accuracy == pytest.approx(np.mean(hits))


def test_image_batches_are_cut_where_sizes_change():
    sizes = [(4, 6)] * 3 + [(5, 6)] + [(4, 6)] * 2
    images = [(torch.full((3, *size), i, dtype=torch.uint8), None) for i, size in enumerate(sizes)]
    assert [tuple(batch.shape) for batch in image_batches(images, 4, "cpu", resize=True)] == [
        (4, 3, 4, 6),
        (2, 3, 4, 6),
    ]
    batches = list(image_batches(images, 2, "cpu"))
    assert [len(b) for b in batches] == [2, 1, 1, 2]
    found = torch.cat([b[:, 0, 0, 0] for b in batches])
    torch.testing.assert_close(found, torch.arange(6) / 255)


# -------------------------------------------------------------------------------------------- the statistics


def table_of(values, method="MLDG", study="ablation", **more):
    """Rows of mIoU from {(train_seed, test_seed): value}."""
    rows = [
        {"study": study, "task": "G+S->C", "method": method, "train_seed": a, "test_seed": b, "metric": "miou",
         "value": value, "batch_size": None, "target": "C", "domain_evaluated": "C", **more}
        for (a, b), value in values.items()
    ]  # fmt: skip
    return pd.DataFrame(rows).reindex(columns=list(COLUMNS))


def test_two_kinds_of_deviation_by_hand():
    """Trainings 0: 10, 12 and 1: 20, 26. Their means 11 and 23, their deviations over orders 1.414 and 4.243."""
    frame = table_of({(0, 0): 10, (0, 1): 12, (1, 0): 20, (1, 1): 26})
    row = summarize(frame, ["method"]).iloc[0]
    assert (row["mean"], row["trainings"]) == (17, 2)
    assert row["train_sd"] == pytest.approx(12 / 2**0.5)  # of 11 and 23
    assert row["test_sd"] == pytest.approx((2 / 2**0.5 + 6 / 2**0.5) / 2)


def test_a_deviation_of_one_value_is_not_zero_but_unknown():
    row = summarize(table_of({(0, 0): 10, (0, 1): 12}), ["method"]).iloc[0]
    assert np.isnan(row["train_sd"]) and row["test_sd"] == pytest.approx(2**0.5)
    row = summarize(table_of({(0, pd.NA): 10, (1, pd.NA): 12}), ["method"]).iloc[0]
    assert np.isnan(row["test_sd"]) and row["train_sd"] == pytest.approx(2**0.5)


def test_groups_keep_what_is_empty_and_metrics_do_not_mix():
    frame = pd.concat([
        table_of({(0, 0): 10}), table_of({(0, 0): 30}, batch_size=4), table_of({(0, 0): 90}, metric="absent_classes"),
        table_of({(0, 0): 50}, method="AGG"),
    ])  # fmt: skip
    found = summarize(frame, ["method", "batch_size"]).set_index("method")["mean"]
    assert found["MLDG"].tolist() == [10, 30] and found["AGG"] == 50
    assert summarize(frame, ["method"], "absent_classes")["mean"].tolist() == [90]


@pytest.mark.parametrize("count", [2, 3, 10])
def test_the_interval_is_the_paired_t_tests(count):
    rng = np.random.default_rng(count)
    better, worse = (pd.Series(rng.normal(mean, 1, count)) for mean in (1, 0))
    expected = stats.ttest_rel(better, worse).confidence_interval(0.95)
    found = paired_difference(better, worse)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.mean == pytest.approx((better - worse).mean()) and found.trainings == count


def test_pairs_are_matched_by_seed_and_the_others_left_out():
    better = pd.Series([5.0, 1.0, 99.0], index=[1, 0, 7])
    worse = pd.Series([0.0, 3.0, 50.0], index=[0, 1, 8])
    found = paired_difference(better, worse)
    assert (found.mean, found.trainings) == (1.5, 2)  # (1 - 0 + 5 - 3) / 2


def test_one_training_decides_nothing():
    found = paired_difference(pd.Series([9.0]), pd.Series([1.0]))
    assert found == Difference(8.0, -np.inf, np.inf, 1) and found.sign == 0 and str(found) == "+8.00"
    with pytest.raises(ValueError, match="no training seed"):
        paired_difference(pd.Series([9.0], index=[0]), pd.Series([1.0], index=[1]))


@pytest.mark.parametrize(
    ("difference", "sign", "text"),
    [
        (Difference(2, 1, 3, 3), 1, "+2.00 [+1.00, +3.00]"),
        (Difference(-2, -3, -1, 3), -1, "-2.00 [-3.00, -1.00]"),
        (Difference(0.5, -1, 2, 3), 0, "+0.50 [-1.00, +2.00]"),
        (Difference(1, 0, 2, 3), 0, "+1.00 [+0.00, +2.00]"),  # an interval that touches zero decides nothing
    ],
)
def test_what_a_difference_says(difference, sign, text):
    assert difference.sign == sign and str(difference) == text


def test_values_per_training_average_the_orders_of_arrival():
    frame = pd.concat([table_of({(0, 0): 10, (0, 1): 14, (1, 0): 20}), table_of({(0, 0): 99}, batch_size=5)])
    values = per_training(frame[frame["batch_size"].isna()], method="MLDG")
    assert values.to_dict() == {("G+S->C", 0): 12, ("G+S->C", 1): 20}


def test_a_claim_is_judged_by_its_differences():
    def of(gaps):
        agg = table_of({(seed, pd.NA): 30.0 + seed for seed in range(3)}, method="AGG")
        mldg = table_of({(seed, pd.NA): 30.0 + seed + gap for seed, gap in enumerate(gaps)})
        return {v.claim.number: v for v in judge(pd.concat([agg, mldg]))}[1]

    assert of([2.0, 2.1, 1.9]).outcome == "holds, as far as tested"
    assert of([-2.0, -2.1, -1.9]).outcome == "does not hold"
    assert of([-2.0, 2.0, 0.1]).outcome == "open"
    assert of([2.0, 2.1, 1.9]).parts[0][1].mean == pytest.approx(2.0)


def test_seeds_that_do_not_meet_are_not_run():
    frame = pd.concat([table_of({(0, 0): 1.0}, method="AGG"), table_of({(1, 0): 1.0})])
    assert {v.outcome for v in judge(frame)} == {"not run"}


def test_what_the_table_does_not_hold_is_not_run(frames):
    empty = pd.DataFrame(columns=list(COLUMNS))
    verdicts = judge(empty)
    assert [v.claim for v in verdicts] == list(paper.CLAIMS)
    assert {v.outcome for v in verdicts} == {"not run"}
    judged = {"ablation": {1, 2, 3}, "batch_size": {5}, "selection_policy": {6}, "style_layer": {7},
              "source_and_target": {10}, "adabn": {12}}  # fmt: skip
    for study, numbers in judged.items():
        assert {v.claim.number for v in judge(frames[study]) if v.outcome != "not run"} == numbers
    # One training decides nothing; Tables 4, 8 and 10 have no study, and tiny's bank never holds 128.
    outcomes = {v.claim.number: v.outcome for v in judge(pd.concat(frames.values()))}
    assert {n for n, outcome in outcomes.items() if outcome == "not run"} == {4, 8, 9, 11}
    assert set(outcomes.values()) == {"not run", "open"}


# ------------------------------------------------------------------------------------------ tasks and labs


def test_the_papers_tasks_on_streets(lab):
    assert [str(task) for task in main_tasks(lab)] == ["G+S+I+M->C"] and str(mixed_task(lab)) == "G+S+I->C+M"


@pytest.mark.parametrize(
    ("letters", "tasks", "mixed"),
    [
        ("GSIM", ["S+I+M->G", "G+I+M->S", "G+S+M->I", "G+S+I->M"], "S+I->G+M"),
        ("GSI", ["S+I->G", "G+I->S", "G+S->I"], "None"),
        ("MCGIS", ["C+G+I+S->M", "M+G+I+S->C", "M+C+I+S->G", "M+C+G+S->I", "M+C+G+I->S"], "C+G+I->M+S"),
    ],
)
def test_a_prepared_root_leaves_each_domain_out_in_turn(tmp_path, letters, tasks, mixed):
    root = prepared(tmp_path / "mine", letters)
    opened = open_lab("tiny", str(root), device="cpu", results=tmp_path / "results", use_shipped=False)
    assert "".join(opened.domains) == letters and opened.data_name == "mine"
    assert [str(task) for task in main_tasks(opened)] == tasks and str(mixed_task(opened)) == mixed
    for study in ("selection_policy", "style_layer", "queue_size"):
        assert (STUDIES[study](opened) == []) == (mixed == "None")
    jobs = [job for job in STUDIES["adabn"](opened) if job.test.method == "bn"]
    assert [str(task_of(opened, job)) for job in jobs] == [task for task in tasks for _ in ("AGG", "MLDG")]
    frame = tidy(opened, "adabn", opened.results(jobs[-1:]))
    assert set(frame["data"]) == {"mine"} and set(frame["task"]) == {tasks[-1]}


def test_a_study_that_the_data_do_not_allow_is_an_empty_table(tmp_path):
    root = prepared(tmp_path / "mine", "GSI")
    opened = open_lab("tiny", str(root), device="cpu", results=tmp_path / "results", use_shipped=False)
    frame = run_study(opened, "selection_policy")
    assert tuple(frame.columns) == COLUMNS and frame.empty
    assert {v.outcome for v in judge(frame)} == {"not run"}


def test_other_data_are_another_run(tmp_path):
    first = Lab(TINY, str(prepared(tmp_path / "a", "GSI")), tmp_path, "cpu", False).training("GS", 0)
    second = Lab(TINY, str(prepared(tmp_path / "b", "GSI", images=2)), tmp_path, "cpu", False).training("GS", 0)
    streets = Lab(TINY, "streets", tmp_path, "cpu", False).training("GS", 0)
    assert len({config.address for config in (first, second, streets)}) == 3
    # The same files elsewhere are the same data.
    assert Lab(TINY, str(prepared(tmp_path / "c", "GSI")), tmp_path, "cpu", False).training("GS", 0) == first


def test_a_test_on_a_source_belongs_to_the_task_of_its_network(lab):
    training = lab.training("GSIM", 0, method="mldg")
    assert str(task_of(lab, Job(training, bn(("G",))))) == "G+S+I+M->C"
    assert str(task_of(lab, Job(lab.training("GSI", 0), bn(("C", "M"))))) == "G+S+I->C+M"


def test_every_variant_has_its_name_back(lab):
    for name, settings in VARIANTS.items():
        assert variant_name(lab.training("GSI", 0, **settings)) == name


def test_a_preset_is_found_by_the_data_of_a_run(lab, tmp_path):
    assert preset_of(lab.training("GS", 0)) == TINY
    for preset in PRESETS.values():
        assert find_preset(preset.name) is preset
        assert preset_of(Lab(preset, "streets", tmp_path).training("GS", 0)) == preset


def test_settings_that_a_test_does_not_have_are_empty():
    assert tn(("C",), 1, 5).test_seed is None and tn(("C",), 2, 5).test_seed == 5
    assert bank("sib", ("C",), 0) == TestConfig("sib", ("C",), None, 4, 128, 1, "joint", 0)  # the paper's defaults


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "huge"}, "unknown preset 'huge'; the presets are tiny, quick, standard, paper"),
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


def test_two_domains_are_too_few(tmp_path):
    with pytest.raises(InputError, match="holds 2 domains.*three or more"):
        open_lab("tiny", str(prepared(tmp_path, "GS")), device="cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is here")
def test_a_device_that_is_not_here_is_refused():
    with pytest.raises(InputError, match="'cuda' is not available here; use --device cpu"):
        choose_device("cuda")
    assert choose_device("auto") in ("cpu", "mps")


@pytest.mark.parametrize("device", ["cpu:x", "cuda:x", "gpu", "", "meta"])
def test_a_device_that_is_none_is_refused(device):
    with pytest.raises(InputError, match=f"unknown device '{device}'; expected auto, cpu, cuda or mps"):
        choose_device(device)


def test_a_device_of_the_right_kind_but_a_number_too_many_is_refused():
    assert choose_device("cpu:0") == "cpu:0"
    for device in ("cpu:1", "cuda:99"):
        with pytest.raises(InputError, match=f"'{device}' is not available here"):
            choose_device(device)


def test_results_lie_beside_the_notebooks(tmp_path, monkeypatch):
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


def test_domains_of_streets_have_the_presets_size():
    domains = load_domains("streets", TINY.streets, True)
    assert list(domains) == ["G", "S", "I", "M", "C"]
    for domain in domains.values():
        assert (len(domain.train), len(domain.val)) == (TINY.streets.train_images, TINY.streets.val_images)
        assert domain.val[0][0].shape == (3, TINY.streets.height, TINY.streets.width)


def test_data_of_another_size_are_other_data(tmp_path):
    root = prepared(tmp_path / "mine", "GSI")
    before = Lab(TINY, str(root), tmp_path, "cpu", False).identity
    for path in root.glob("*/*/images/*.png"):
        Image.open(path).resize((128, 64)).save(path)
    lab_module.fingerprint.cache_clear()
    assert Lab(TINY, str(root), tmp_path, "cpu", False).identity != before


def test_images_of_unlike_sizes_are_normalized_together(tmp_path):
    """Within a target and between the two of a mixed stream, as in GTA5, IDD and Mapillary."""
    root = prepared(tmp_path / "mine", "GSIM")
    for name, size in (("1S/val/{}/0.png", (128, 64)), ("3M/val/{}/1.png", (48, 48))):
        for kind in ("images", "labels"):
            path = root / name.format(kind)
            Image.open(path).resize(size, Image.Resampling.NEAREST).save(path)
    lab = open_lab("tiny", str(root), device="cpu", results=tmp_path / "results")
    run = lab.training(("G", "I"), 0, method="agg")
    tests = [tn(("S", "M"), 2, 0), TestConfig("adabn", ("S", "M")), bn(("S", "M"))]
    tests += [bank(policy, ("S", "M"), 0, neighbors=2, statistics=kind)
              for policy in ("sib", "qib", "oracle") for kind in ("joint", "cached")]  # fmt: skip
    results = lab.results(Job(run, test) for test in tests)
    stream = lab.target_set(("S", "M"))
    labelled = sum(int((stream[i][1] != 255).sum()) for i in range(len(stream)))
    assert len(results) == len(tests) and {r.matrix.counts.sum() for r in results.values()} == {labelled}

    # TN over the first two arrivals, by hand
    model = lab.trained(run)
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


def test_a_folder_called_streets_is_shown_no_shipped_figures(tmp_path):
    root = prepared(tmp_path / "streets", "GSIM")
    assert shipped_table(open_lab("quick", str(root), device="cpu", results=tmp_path / "out")) is None
