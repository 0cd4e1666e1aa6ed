"""What the studies consist of: tasks, trainings, tests."""

import dataclasses

import pytest
import torch

from dglab.analysis.claims import judge
from dglab.data.shifts import shifted
from dglab.experiments.methods import MAIN_METHODS, TRAINING_METHODS
from dglab.experiments.runner import open_lab, recorded, run
from dglab.experiments.table import COLUMNS, labels_of
from dglab.experiments.trials import EXTRA_STUDIES, STUDIES, describe, main_tasks, mixed_task, photometric, studies_of
from dglab.paper import table
from dglab.presets import FULL, PRESETS
from dglab.reproduce import impossible
from dglab.testtime.methods import TestConfig, bank, tn


def test_the_papers_tasks_on_streets(lab):
    assert [str(task) for task in main_tasks(lab)] == ["G+S+I+M->C"] and str(mixed_task(lab)) == "G+S+I->C+M"


@pytest.mark.parametrize(
    ("letters", "tasks", "mixed"),
    [
        ("GSIM", ["S+I+M->G", "G+I+M->S", "G+S+M->I", "G+S+I->M"], "S+I->G+M"),
        ("GSI", ["S+I->G", "G+I->S", "G+S->I"], "None"),
    ],
)
def test_a_prepared_root_leaves_each_domain_out_in_turn(tmp_path, prepared, letters, tasks, mixed):
    root = prepared(tmp_path / "mine", letters)
    opened = open_lab("tiny", str(root), device="cpu", results=tmp_path / "results", use_shipped=False)
    assert "".join(opened.domains) == letters and opened.data_name == "mine"
    assert [str(task) for task in main_tasks(opened)] == tasks and str(mixed_task(opened)) == mixed
    for study in ("selection_policy", "style_layer", "queue_size"):
        assert (STUDIES[study](opened) == []) == (mixed == "None")
    trials = [trial for trial in STUDIES["adabn"](opened) if trial.test.method == "bn"]
    assert [str(trial.task) for trial in trials] == [task for task in tasks for _ in ("AGG", "MLDG")]
    frame = run(opened, trials[-1:])
    assert set(frame["data"]) == {"mine"} and set(frame["task"]) == {tasks[-1]}


def test_quick_trains_the_networks_of_four_sources_and_leaves_the_mixed_stream_to_the_record(tmp_path, prepared):
    opened = open_lab("quick", device="cpu", results=tmp_path / "results", use_shipped=False)
    trials = [trial for study in studies_of(opened).values() for trial in study(opened)]
    assert {str(trial.task) for trial in trials} == {"G+S+I+M->C"}
    methods = {"agg": (0.08,), "by_domain": (0.08,), "mldg": (0.0, 0.04)}  # and their inner rates
    assert {(trial.training.method, trial.training.inner_lr, trial.training.seed) for trial in trials} == {
        (method, rate, seed) for method, rates in methods.items() for rate in rates for seed in (0, 1)
    }
    others = [trial for name in opened.preset.as_recorded for trial in STUDIES[name](opened)]
    assert len(recorded(opened, others)) == len(others)
    own = open_lab("quick", str(prepared(tmp_path / "mine", "GSIM")), device="cpu", results=tmp_path / "mine_out")
    assert list(studies_of(own)) == list(STUDIES)  # of these data nothing is recorded


def test_photometric_shifts_of_two_unseen_targets(tmp_path, prepared):
    root = prepared(tmp_path / "mine", "GSIM")
    opened = open_lab("tiny", str(root), device="cpu", results=tmp_path / "results", use_shipped=False)
    trials = photometric(opened)
    assert {str(trial.task) for trial in trials} == {"S+I+M->G", "G+S+I->M"}
    assert {trial.training.method for trial in trials} == {"agg", "by_domain", "mldg"}
    assert len(trials) == 2 * 3 * (4 + 6 * 5 * 6)
    [dark] = [t for t in trials if t.training.method == "agg" and str(t.task) == "G+S+I->M" and t.test.method == "bn"
              and t.test.shift == "dark" and t.test.dose == 0.75]  # fmt: skip
    plain, changed = opened.domains["M"].val, opened.images_of(dark)
    assert torch.equal(changed[1][0], shifted(plain[1][0], "dark", 0.75)) and len(changed) == len(plain) == 3
    beside = next(t for t in trials if t.test.domains == ("M", "M") and t.test.shift == "dark" and t.test.dose == 0.75)
    assert [opened.images_of(beside).domain_of(i) for i in range(3)] == ["M", "M", "M dark"]
    whole = dataclasses.replace(opened, preset=dataclasses.replace(opened.preset, whole=True))
    assert "photometric" in studies_of(whole) and "photometric" not in studies_of(opened)
    [sib] = [
        t for t in trials if (t.training, t.test) == (beside.training, dataclasses.replace(beside.test, method="sib"))
    ]
    frame = run(opened, [dark, sib])
    assert frame["dose"].tolist() == [0.75] * len(frame) and set(frame["domain_evaluated"]) == {"M", "M+M"}
    assert "selection_accuracy" in set(frame["metric"]) and "agreement" not in set(frame["metric"])


def test_on_streets_styles_are_mixed_instead_and_of_the_papers_five_one_alone_is_left_out(lab, tmp_path, prepared):
    assert photometric(lab) == []
    root = prepared(tmp_path / "mine", "GSIMC")
    assert photometric(dataclasses.replace(lab, data=str(root))) == []


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("letters", ["", "GSI", "GSIM"])
def test_every_study_of_every_preset_has_trials_or_needs_something(preset, letters, tmp_path, prepared):
    data = str(prepared(tmp_path / "mine", letters)) if letters else "streets"
    opened = open_lab(preset, data, device="cpu", results=tmp_path / "results", use_shipped=False)
    found = impossible(opened)
    assert set(found) < {*STUDIES, *EXTRA_STUDIES} and all(found.values())
    assert ("photometric" in found) == (letters != "GSIM") and ("gmp_ablation" in found) == (letters != "")
    assert ("ibn_net" in found) == (preset == "real")


def test_a_root_with_the_papers_letters_has_its_tasks(tmp_path, prepared):
    """In the paper's order, whatever the order of the folders."""
    root = prepared(tmp_path / "mine", "CGIMS")
    opened = open_lab("tiny", str(root), device="cpu", results=tmp_path / "results", use_shipped=False)
    assert "".join(opened.domains) == "GSIMC" and opened.of_paper and opened.data != "streets"
    assert [str(task) for task in main_tasks(opened)] == ["G+S+I+M->C"] and str(mixed_task(opened)) == "G+S+I->C+M"
    whole = dataclasses.replace(opened, preset=dataclasses.replace(opened.preset, whole=True))
    tasks = {str(trial.task) for study in studies_of(whole).values() for trial in study(whole)}
    assert tasks >= {"G+S+I->C", "G+S+I->M", "G+S+I+C->M", "S+I+M+C->G", "G+S->I", "G->C", "C->C"}
    assert "gmp_ablation" in studies_of(whole) and not EXTRA_STUDIES["gmp_ablation"](whole)  # real data have no depth


def test_a_study_that_the_data_do_not_allow_is_an_empty_table(tmp_path, prepared):
    root = prepared(tmp_path / "mine", "GSI")
    opened = open_lab("tiny", str(root), device="cpu", results=tmp_path / "results", use_shipped=False)
    frame = run(opened, STUDIES["selection_policy"](opened))
    assert tuple(frame.columns) == COLUMNS and frame.empty
    assert {v.outcome for v in judge(frame)} == {"not run"}


def test_a_test_on_a_source_belongs_to_the_task_of_its_network(lab):
    on_a_source = [trial for trial in STUDIES["source_and_target"](lab) if trial.test.domains == ("G",)]
    assert on_a_source and {str(trial.task) for trial in on_a_source} == {"G+S+I+M->C"}
    alone = [trial for trial in STUDIES["prior"](lab) if trial.test.domains == ("M",)]
    assert alone and {str(trial.task) for trial in alone} == {"G+S+I->C+M"}


def test_orders_of_arrival_of_single_claims(lab):
    """20 for claim 3's deviations, five of SIB where every table is wanted for claims 9 and 10, else one."""
    full = dataclasses.replace(lab, preset=FULL)

    def orders(opened, study):
        of_sib = [trial for trial in (STUDIES | EXTRA_STUDIES)[study](opened) if trial.test.method == "sib"]
        networks = {trial.training for trial in of_sib}
        return len(networks), {len({t.test.test_seed for t in of_sib if t.training == one}) for one in networks}

    assert orders(full, "arrival_orders") == (10, {20})
    assert orders(full, "source_and_target") == (10, {5}) and orders(lab, "source_and_target")[1] == {1}
    assert orders(full, "source_domains_fixed") == (70, {5})  # AGG 10, 5, 5, 10; by domain and MLDG 5, 5, 10


@pytest.mark.parametrize("study", [*STUDIES, *EXTRA_STUDIES])
def test_every_trial_is_of_its_study_and_of_its_networks_task(lab, study):
    for trial in (STUDIES | EXTRA_STUDIES)[study](lab):
        assert trial.study == study and trial.task.sources == trial.training.sources
        assert set(trial.test.domains) <= {*trial.task.sources, *trial.task.targets}


def test_the_training_methods_are_told_apart_by_fields(lab, frames):
    frame = frames["ablation"]
    assert sum(len(method.rows(frame)) for method in TRAINING_METHODS) == len(frame)  # every row belongs to one
    for method in MAIN_METHODS:
        training = lab.training("GSI", 0, **method.settings)
        assert training.method == method.method and (training.inner_lr == 0) == (not method.inner_step)
        inner_lrs = set(method.rows(frame)["inner_lr"].dropna())
        assert inner_lrs == ({training.inner_lr} if method.method.startswith("mldg") else set())


def test_a_study_shows_what_it_consists_of(lab):
    table = describe(STUDIES["queue_size"](lab))
    assert table.to_dict("list") == {
        "task": ["G+S+I->C+M"] * 2, "train_method": ["mldg"] * 2, "test_method": ["sib"] * 2, "capacity": [4, 8],
        "trainings": [1, 1], "orders of arrival": [1, 1],
    }  # fmt: skip
    table = describe(STUDIES["ablation"](lab))
    assert list(table.columns) == ["task", "train_method", "test_method", "batch_size", "inner_lr", "trainings",
                                   "orders of arrival"]  # fmt: skip
    assert len(table) == 4 * 6  # training methods x normalizations
    of_mldg = table[(table["train_method"] == "mldg") & (table["test_method"] == "bn")]
    assert sorted(of_mldg["inner_lr"]) == [0, 0.02] and set(of_mldg["orders of arrival"]) == {""}
    assert describe([]).empty


def test_settings_that_a_test_does_not_have_are_empty():
    assert tn(("C",), 1, 5).test_seed is None and tn(("C",), 2, 5).test_seed == 5
    assert bank("sib", ("C",), 0) == TestConfig("sib", ("C",), None, 4, 128, 1, "joint", 0)  # the paper's defaults


def test_a_way_to_train_is_compared_on_every_unseen_domain_and_on_the_sources(lab):
    trials = EXTRA_STUDIES["train_as_you_test"](lab)
    methods = {(trial.training.method, trial.training.inner_lr == 0) for trial in trials}
    assert methods == {("agg", False), ("agg2", False), ("by_domain", False), ("by_domain2", False), ("mldg", True),
                       ("mldg", False)}  # fmt: skip
    assert {trial.task.sources for trial in trials} == {("G", "S")}
    assert {trial.test.domains for trial in trials} == {("I",), ("M",), ("C",), ("G",), ("S",)}
    assert len(set(trials)) == len(trials) == 6 * 5 * 4  # methods x domains x ways to normalize
    frame = run(lab, [trial for trial in trials if trial.training.method == "by_domain"])
    rows = frame[frame["metric"] == "miou"]
    assert set(rows["train_method"]) == {"by_domain"} and rows["inner_lr"].isna().all() and len(rows) == 5 * 4


def test_from_one_domain_a_pass_to_all(lab):
    trials = EXTRA_STUDIES["domains_per_pass"](lab)
    counts = {(str(trial.task), trial.training.domains_per_pass) for trial in trials}
    assert counts == {*((f"G+S->{target}", count) for target in "IMC" for count in (1, 2)),
                      *(("G+S+I+M->C", count) for count in (1, 2, 4))}  # fmt: skip
    assert {trial.training.batch_per_domain for trial in trials} == {4} and len(set(trials)) == len(trials)
    frame = run(lab, [one for one in trials if str(one.task) == "G+S->C" and one.test.method == "bn"])
    assert frame["domains_per_pass"].drop_duplicates().tolist() == [1, 2] and set(frame["train_method"]) == {"agg"}
    assert set(frame["method"]) == {"AGG 1 domain(s) a pass", "AGG 2 domain(s) a pass"}
    assert frame[frame["metric"] == "miou"]["value"].nunique() == 2  # other networks


def test_three_networks_of_different_kind(lab):
    trials = EXTRA_STUDIES["backbones"](lab)
    assert {trial.training.backbone for trial in trials} == {"thin", "thin-fpn", "thin-fpn-ibn-a"}
    full = [trial.training for trial in EXTRA_STUDIES["backbones"](dataclasses.replace(lab, preset=FULL))]
    kinds = {(one.backbone, one.weights, one.steps) for one in full}
    assert kinds == {("thin-fpn", "", 1500), ("efficientnet-lite0", "imagenet", 500), ("hrnet-w18", "", 500)}
    assert {one.method for one in full} == {"agg", "mldg"}
    seeds = {name: {one.seed for one in full if one.backbone == name} for name, _, _ in kinds}
    assert {name: len(own) for name, own in seeds.items()} == {"thin-fpn": 20, "efficientnet-lite0": 5, "hrnet-w18": 5}
    shared = {trial.training for trial in STUDIES["ablation"](dataclasses.replace(lab, preset=FULL))}
    assert {one for one in full if one.backbone == "thin-fpn"} <= shared  # trained for Table 3


def test_table_11_has_the_papers_four_tasks(lab):
    trials = STUDIES["ablation"](dataclasses.replace(lab, preset=FULL)) + STUDIES["adabn"](lab)
    tasks = {str(trial.task) for trial in trials if trial.test.method == "adabn"}
    assert set(table("table11_adabn")["task"]) <= tasks


def test_ten_trainings_where_five_leave_a_wide_interval(lab):
    """Of the splits of Table 4, two of which have 20, and of the ends of Table 8 with the images fixed
    (docs/predictions.md)."""
    at_full = dataclasses.replace(lab, preset=FULL)
    splits = {(t.training.split, t.training.seed) for t in EXTRA_STUDIES["meta_split"](at_full)}
    last = {"3:1": 20, "half": 30, "1:3": 30, "random": 20}
    assert splits == {(split, seed) for split, end in last.items() for seed in range(10, end)}
    counts = {}
    for trial in EXTRA_STUDIES["source_domains_fixed"](at_full):
        counts.setdefault(len(trial.training.sources), set()).add(trial.training.seed)
    assert {count: len(seeds) for count, seeds in counts.items()} == {1: 10, 2: 5, 3: 5, 4: 10}


def test_twenty_trainings_of_the_papers_methods_where_ten_leave_a_wide_interval(lab):
    """Of AGG and MLDG on the main task, in the studies of claims 1, 2, 5 and 11 (docs/predictions.md)."""
    at_full = dataclasses.replace(lab, preset=FULL)
    every = STUDIES | EXTRA_STUDIES

    def trainings(study, method, inner=True):
        found = {t.training for t in every[study](at_full) if str(t.task) == "G+S+I+M->C"}
        own = {t for t in found if (t.method, t.inner_lr != 0) == (method, inner) and t.backbone == "thin-fpn"}
        return len({t.seed for t in own})

    for study in ("ablation", "batch_size", "backbones"):
        assert trainings(study, "agg") == trainings(study, "mldg") == 20
    assert trainings("ablation", "by_domain") == trainings("ablation", "mldg", inner=False) == 10
    assert trainings("arrival_orders", "mldg") == 10 and trainings("source_and_target", "agg") == 5
    few = dataclasses.replace(at_full, preset=FULL.with_seeds(3))
    assert {t.training.seed for t in STUDIES["ablation"](few)} == {10, 11, 12}


def test_of_three_sources_the_main_methods_are_trained_and_at_the_common_rate_all(lab):
    at_full = dataclasses.replace(lab, preset=FULL)
    three = [t for t in STUDIES["ablation"](at_full) if str(t.task) in ("G+S+I->C", "G+S+I->M")]
    trained = {(t.training.method, t.training.inner_lr != 0) for t in three}
    assert trained == {("agg", True), ("by_domain", True), ("mldg", False), ("mldg", True)}
    assert {t.training.seed for t in three} == set(range(10, 15)) and len({t.training for t in three}) == 20
    assert {t.training.method for t in three if t.test.method == "sib"} == {"agg", "mldg"}
    common = {t.training for t in EXTRA_STUDIES["common_rate"](at_full)}
    assert {t.lr for t in common} == {0.2} and {t.seed for t in common} == {10, 11, 12} and len(common) == 24


def test_tn_on_the_domains_that_were_trained_on(lab):
    """Source BN, and TN with four images in every order of arrival, on each source and on nothing else."""
    at_full = dataclasses.replace(lab, preset=FULL)
    trials = EXTRA_STUDIES["tn_on_sources"](at_full)
    [network] = {t.training for t in trials if (t.training.method, t.training.seed) == ("by_domain", 10)}
    tests = [t.test for t in trials if t.training == network]
    ways = [("bn", None, None), *(("tn", 4, order) for order in range(5))]
    found = {(test.domains, test.method, test.batch_size, test.test_seed) for test in tests}
    assert found == {((source,), *way) for source in "GSIM" for way in ways}
    assert {t.training.seed for t in trials} == set(range(10, 20)) and len({t.training for t in trials}) == 40


def test_with_the_images_fixed_by_domain_is_the_control_of_several_domains(lab):
    """A pass holds one domain, and a step as many images as any other row's; of one domain it would be AGG."""
    at_full = dataclasses.replace(lab, preset=FULL)
    trained = {trial.training for trial in EXTRA_STUDIES["source_domains_fixed"](at_full)}
    seeds = {}
    for training in trained:
        seeds.setdefault((len(training.sources), training.method), set()).add(training.seed)
    assert {key: len(found) for key, found in seeds.items() if key[1] == "by_domain"} == {
        (2, "by_domain"): 5, (3, "by_domain"): 5, (4, "by_domain"): 10
    }  # fmt: skip
    assert seeds[4, "by_domain"] == seeds[4, "agg"] == seeds[1, "agg"]
    one = next(training for training in trained if training.method == "by_domain" and len(training.sources) == 4)
    assert dataclasses.replace(one, method="agg") in trained


def test_the_bound_has_the_budget_of_the_others(lab):
    """C's own images alone, as many steps as AGG on four sources, and as many images a step."""
    [bound] = {trial.training for trial in EXTRA_STUDIES["bound"](lab)}
    agg = lab.training("GSIM", 0, method="agg")
    assert bound.sources == ("C",) and bound == dataclasses.replace(agg, sources=("C",), batch_per_domain=4)
    assert agg.batch_per_domain == 1


def test_the_split_of_the_domains_and_their_number_are_varied(lab):
    splits = [trial.training.split for trial in EXTRA_STUDIES["meta_split"](lab)]
    assert list(dict.fromkeys(splits)) == ["3:1", "half", "1:3", "random"]
    trials = EXTRA_STUDIES["source_domains"](lab)
    trained = {(str(trial.task), trial.training.method) for trial in trials}
    assert trained == {("G->C", "agg"), ("G+S->C", "agg"), ("G+S->C", "mldg"), ("G+S+I->C", "agg"),
                       ("G+S+I->C", "mldg"), ("G+S+I+M->C", "agg"), ("G+S+I+M->C", "mldg")}  # fmt: skip


@pytest.mark.parametrize(("study", "column"), [("common_rate", "lr"), ("source_domains_fixed", "batch_per_domain")])
def test_a_setting_that_a_study_varies_is_a_column_of_its_rows(lab, study, column):
    """Its rows differ from those of Table 3 not by their study alone."""
    full = dataclasses.replace(lab, preset=FULL)
    own, main = (labels_of(full, EXTRA_STUDIES[study](full)), labels_of(full, STUDIES["ablation"](full)))
    alike = own.merge(main, on=[c for c in own if c not in ("study", column, "lr", "inner_lr", "train_images")])
    assert len(alike) and (alike[f"{column}_x"] != alike[f"{column}_y"]).any()
