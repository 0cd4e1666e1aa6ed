"""The studies of GMP: what they consist of, that they run, and what their rows say."""

import dataclasses

import pandas as pd
import pytest
import torch

from dglab.analysis.gmp_claims import judge_gmp
from dglab.data import open_domains
from dglab.evaluation import ConfusionMatrix
from dglab.experiments import recorded, runner
from dglab.experiments.gmp_methods import ALONE, BRANCHES, CAGP, FUSED, GMP, IGDM, JOINT, OGM_GE, PCGRAD, STRATEGIES
from dglab.experiments.gmp_trials import gmp_ablation, gmp_branches, gmp_strategies
from dglab.experiments.methods import TN_1, select
from dglab.experiments.recorded import read_recorded, write_recorded
from dglab.experiments.runner import Lab, available, open_lab, run
from dglab.experiments.table import COLUMNS, LABELS, OF_GMP, read_table, write_table
from dglab.experiments.trials import EXTRA_STUDIES, WHOLE_STUDIES
from dglab.presets import PRESETS
from dglab.report import figures
from dglab.testtime.methods import TestConfig, bn
from dglab.training.checkpoints import load_checkpoint
from dglab.utils.errors import InputError
from tools import record_full, record_gmp

GMP_STUDIES = {"gmp_ablation": gmp_ablation, "gmp_strategies": gmp_strategies, "gmp_branches": gmp_branches}


@pytest.fixture(scope="module")
def tables(lab):
    return {name: run(lab, study(lab)) for name, study in GMP_STUDIES.items()}


@pytest.fixture(scope="module")
def whole(lab):
    return dataclasses.replace(lab, preset=dataclasses.replace(lab.preset, whole=True, train_seeds=(0, 1)))


def test_the_studies_are_run_by_name_and_by_the_preset_that_runs_every_table():
    for name, study in GMP_STUDIES.items():
        assert EXTRA_STUDIES[name] is WHOLE_STUDIES[name] is study


@pytest.mark.parametrize("study", GMP_STUDIES)
def test_a_row_says_what_was_trained_and_what_of_it_was_tested(lab, tables, study):
    frame = tables[study]
    assert set(frame["study"]) == {study} and set(frame["train_method"]) == {"gmp"}
    assert frame[["variant", "alpha_k", "alpha_p", "modalities"]].notna().all(axis=None)
    assert frame[["inner_lr", "order", "alpha", "split"]].isna().all(axis=None)
    assert set(frame["alpha_k"]) == {lab.training("GS", 0, method="gmp").alpha_k}
    assert not frame.duplicated([*LABELS, "metric", "class"]).any()
    assert (frame["metric"] == "miou").sum() == len(GMP_STUDIES[study](lab))


def test_the_ablation_has_each_half_alone(tables):
    frame = tables["gmp_ablation"]
    assert set(frame["variant"]) == {"joint", "igdm", "cagp", "unified", "gmp"}
    assert set(frame["domain_evaluated"]) == {"C"} and frame["branch"].isna().all()
    for method in (JOINT, IGDM, CAGP, GMP):
        assert len(select(frame, method, FUSED, metric="miou")) == 1


def test_strategies_are_compared_on_the_target_and_on_every_source(tables, whole):
    frame = tables["gmp_strategies"]
    assert set(frame["domain_evaluated"]) == set("GSIMC") and set(frame["target"]) == {"C"}
    assert set(frame["variant"]) == {"joint", "ogm_ge", "gmp"}
    trials = gmp_strategies(whole)
    assert {trial.training.variant for trial in trials} == {method.variant for method in STRATEGIES}
    assert {trial.training.seed for trial in trials} == {0, 1}
    assert PCGRAD.variant == "torchjd:PCGrad" and len(select(frame, OGM_GE, metric="miou")) == 5


def test_what_was_computed_is_recorded_and_read_back(lab, tables, tmp_path, monkeypatch):
    monkeypatch.setattr(record_gmp, "open_lab", lambda *_, **__: lab)
    for module in (record_full, recorded):
        monkeypatch.setattr(module, "SHIPPED", tmp_path)
    (tmp_path / "tiny").mkdir()
    record_gmp.main()
    frame = recorded.recorded_table("tiny")
    for name, own in tables.items():
        expected = own[own["metric"].isin(record_gmp.METRICS)].reset_index(drop=True)
        found = frame[frame["study"] == name].reset_index(drop=True)
        pd.testing.assert_frame_equal(found, expected.assign(value=expected["value"].round(4)))
    networks = pd.read_csv(tmp_path / "tiny" / "networks_gmp.csv")["network"]
    trained = {trial.training.address for study in GMP_STUDIES.values() for trial in study(lab)}
    assert trained <= set(networks) and len(networks) <= len(trained) + 3  # those of domain_conflict, if they were run


def test_every_branch_is_tested_alone_joint_and_balanced(tables, whole):
    frame = tables["gmp_branches"]
    for name, view in BRANCHES.items():
        other = next(method for modality, method in ALONE.items() if modality != name)
        for method in (ALONE[name], JOINT, GMP):
            rows = select(frame, method, view, metric="miou")
            assert set(rows["domain_evaluated"]) == set("GSIMC")
            assert set(rows["test_method"]) == {"bn", "tn", "sib"} and len(select(rows, TN_1)) == 1
        assert select(frame, other, view).empty
    assert set(frame["without"].dropna()) == {"rgb", "depth"} and select(frame, ALONE["rgb"])["without"].isna().all()
    assert {str(trial.task) for trial in gmp_branches(whole)} == {"G+S+I+M->C", "G+S+I+C->M"}


def test_a_branchs_score_by_hand(lab, tables):
    """From the checkpoint, without stacked channels or a wrapper."""
    training = lab.training("GSIM", 0, **JOINT.settings)
    model, config = load_checkpoint(lab.checkpoint(training))
    assert config == training and list(model.encoders) == ["rgb", "depth"]
    matrix = ConfusionMatrix()
    val = open_domains(config.data, modalities=("rgb", "depth"))["C"].val
    for i in range(len(val)):
        images, label, _ = val[i]
        with torch.no_grad():
            logits = model.branch({"depth": images["depth"][None].float() / 255}, "depth")
        matrix.update(logits.argmax(1)[0], label)
    rows = select(tables["gmp_branches"], JOINT, BRANCHES["depth"], metric="miou", domain_evaluated="C")
    assert rows[rows["test_method"] == "bn"]["value"].item() == pytest.approx(100 * matrix.miou(), abs=1e-9)


def test_a_missing_modality_is_seen_as_nothing(lab):
    training = lab.training("GSIM", 0, **JOINT.settings)
    trial = next(t for t in gmp_branches(lab) if t.training == training and t.test.without == "rgb")
    assert (
        lab.results([trial])[trial].matrix.counts != lab.results([_fused(lab, training)]).popitem()[1].matrix.counts
    ).any()


def _fused(lab, training):
    return next(t for t in gmp_branches(lab) if t.training == training and t.test == bn(("C",)))


def test_a_table_and_a_record_with_branches_survive_their_files(frames, tables, tmp_path):
    frame = pd.concat([frames["prior"], *tables.values()], ignore_index=True)
    write_table(frame, tmp_path / "tables.csv")
    write_recorded(frame, tmp_path / "record.csv")
    for back in (read_table(tmp_path / "tables.csv"), read_recorded(tmp_path / "record.csv")):
        pd.testing.assert_frame_equal(back[LABELS], frame[LABELS])


def test_a_file_from_before_gmp_is_read_as_one_without_it(frames, tmp_path):
    frame = frames["prior"]
    write_table(frame, tmp_path / "new.csv")
    pd.read_csv(tmp_path / "new.csv", dtype=str).drop(columns=list(OF_GMP)).to_csv(tmp_path / "old.csv", index=False)
    pd.testing.assert_frame_equal(read_table(tmp_path / "old.csv"), read_table(tmp_path / "new.csv"))
    write_recorded(frame, tmp_path / "record.csv")
    assert not set(OF_GMP) & set(pd.read_csv(tmp_path / "record.csv", nrows=0).columns)


def test_the_name_for_display_says_what_was_looked_at(tables):
    names = set(tables["gmp_branches"]["method"])
    assert {"joint training", "joint training+TN", "rgb alone, rgb branch", "GMP (IGDM + CAGP), depth branch",
            "GMP (IGDM + CAGP)+SIB, rgb branch", "joint training, without depth"} <= names  # fmt: skip
    assert set(tables["gmp_ablation"]["method"]) == {"joint training", "IGDM only", "CAGP only", "unified modulation",
                                                     "GMP (IGDM + CAGP)"}  # fmt: skip


def test_what_is_available_is_shown_and_nothing_is_computed(lab, tables, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "train", lambda *_, **__: pytest.fail("trained"))
    monkeypatch.setattr(runner, "run_test", lambda *_, **__: pytest.fail("tested"))
    pd.testing.assert_frame_equal(available(lab, gmp_ablation(lab)), tables["gmp_ablation"])
    nothing = available(dataclasses.replace(lab, out=tmp_path), gmp_ablation(lab))
    assert nothing.empty and tuple(nothing.columns) == COLUMNS
    assert len(figures.gmp_ablation(tables["gmp_ablation"]).axes) == 3
    assert len(figures.gmp_strategies(tables["gmp_strategies"]).axes) == 4
    assert len(figures.gmp_branches(tables["gmp_branches"]).axes) == 3
    assert {verdict.outcome for verdict in judge_gmp(pd.concat(tables.values()))} == {"open"}  # one training


def test_branches_have_scores_of_their_own_and_others_keep_theirs(lab):
    trials = [trial for trial in gmp_branches(lab) if trial.training.variant == "gmp"]
    assert len({lab.score_path(trial) for trial in trials}) == len(trials)


def test_images_alone_have_no_modalities(tmp_path, prepared):
    root = prepared(tmp_path / "mine", "GSI")
    opened = open_lab("tiny", str(root), device="cpu", results=tmp_path / "results", use_shipped=False)
    assert all(study(opened) == [] for study in GMP_STUDIES.values())


def test_a_network_that_cannot_be_trained_is_refused_before_the_first(tmp_path):
    fresh = Lab(PRESETS["tiny"], "streets", tmp_path / "new", "cpu", use_shipped=False)
    alone = fresh.training("GS", 0, method="gmp", variant="gmp", modalities=("rgb",))
    with pytest.raises(InputError, match="only one modality, rgb"):
        fresh.train_all([fresh.training("GS", 0, method="gmp"), alone])
    assert not (tmp_path / "new").exists()


def test_a_branch_sees_one_modality_alone():
    with pytest.raises(InputError, match="branch and without .* leave one out"):
        TestConfig("bn", ("C",), branch="rgb", without="depth")
