"""The tidy table: a row is the fields of its trial, and survives its file."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from dglab.analysis.claims import judge
from dglab.data import streets_domains
from dglab.evaluation import ConfusionMatrix
from dglab.experiments import recorded
from dglab.experiments.methods import MAIN_METHODS, select
from dglab.experiments.recorded import SHIPPED, read_recorded, recorded_table, write_recorded, write_studies
from dglab.experiments.table import COLUMNS, LABELS, OF_GMP, TYPES, read_table, tidy, write_table
from dglab.experiments.trials import STUDIES, Trial
from dglab.presets import PRESETS
from dglab.tasks import parse_task
from dglab.testtime.methods import TestConfig, bank, bn, tn
from dglab.testtime.testing import Result
from dglab.training.checkpoints import load_checkpoint
from dglab.utils.errors import InputError

TINY = PRESETS["tiny"]
RESULT = Result(ConfusionMatrix())
RESULT.matrix.counts[0, 0] = 1


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_gives_a_tidy_table(lab, frames, study):
    frame = frames[study]
    assert tuple(frame.columns) == (
        "study", "preset", "data", "task", "train_method", "test_method", "method", "backbone", "weights", "target",
        "domain_evaluated", "batch_size", "neighbors", "capacity", "style_layer", "policy", "statistics", "prior",
        "guard", "train_seed", "test_seed", "order", "inner_lr", "alpha", "split", "domains_per_pass", "train_images",
        "steps", "lr", "batch_per_domain", "shift", "dose", "modalities", "variant", "alpha_k", "alpha_p", "branch",
        "without", "metric", "class", "value",
    ) == COLUMNS  # fmt: skip
    assert set(frame["study"]) == {study} and set(frame["preset"]) == {"tiny"} and set(frame["data"]) == {"streets"}
    assert set(frame["metric"]) <= {
        "miou", "miou_low", "miou_high", "category_miou", "iou", "absent_classes", "selection_accuracy", "agreement"
    }  # fmt: skip
    assert frame["value"].notna().all()
    assert (frame["class"].notna() == (frame["metric"] == "iou")).all()
    settings = [c for c in COLUMNS if c not in ("method", "metric", "class", "value")]  # without the name for display
    assert not frame.duplicated([*settings, "metric", "class"]).any()  # one value a row
    trials = STUDIES[study](lab)
    assert len(trials) == len(set(trials))
    for metric in ("miou", "absent_classes"):
        assert (frame["metric"] == metric).sum() == len(trials)
    for _, rows in frame.groupby(settings, dropna=False):
        iou = rows.loc[rows["metric"] == "iou", "value"]
        assert rows.loc[rows["metric"] == "miou", "value"].item() == pytest.approx(iou.mean())
        assert rows.loc[rows["metric"] == "absent_classes", "value"].item() == 19 - len(iou)


def test_the_studies_hold_what_the_paper_tested(frames):
    def methods(study):
        pairs = frames[study][["train_method", "test_method"]].drop_duplicates()
        return set(pairs.itertuples(index=False, name=None))

    trainings = ("agg", "by_domain", "mldg")
    assert methods("ablation") == {(a, b) for a in trainings for b in ("bn", "bn-reestimated", "tn", "sib")}
    assert methods("batch_size") == {(a, b) for a in trainings for b in ("bn", "tn")}
    for study in ("ablation", "batch_size"):
        assert all(len(select(frames[study], method)) for method in MAIN_METHODS)
        assert set(frames[study]["inner_lr"].dropna()) == {0, TINY.training.inner_lr}
    policies = ("bn", "adabn", "tn", "qib", "sib")
    expected = {(a, b) for a in ("agg", "mldg") for b in policies} | {("mldg", "random"), ("mldg", "oracle")}
    assert methods("selection_policy") == expected
    assert methods("style_layer") == methods("queue_size") == {("mldg", "sib")}
    assert set(frames["cached_statistics"]["statistics"]) == {"joint", "cached"}
    assert sorted(frames["prior"]["prior"].dropna().unique()) == [0, 0.25, 0.5, 0.75]
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
    rows = rows[(rows["metric"] == "miou") & (rows["train_method"] == "agg")].set_index("test_method")
    with torch.no_grad():
        source = torch.cat([model(image[None]) for image in images]).argmax(1).numpy()
        assert rows.loc["bn", "value"] == pytest.approx(percent(source), abs=1e-9)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.train()
                module.momentum = 0.0
        single = torch.cat([model(image[None]) for image in images]).argmax(1).numpy()
    alone = rows[(rows["batch_size"] == 1)].loc["tn", "value"]
    assert alone == pytest.approx(percent(single), abs=0.05)  # pixels at a tie may fall either way
    assert rows.loc["bn", "value"] != pytest.approx(alone, abs=0.05)


def test_a_table_survives_its_file(frames, tmp_path):
    frame = pd.concat(frames.values(), ignore_index=True)
    write_table(frame, tmp_path / "tables.csv")
    back = read_table(tmp_path / "tables.csv")
    assert list(back.columns) == list(frame.columns)
    assert [str(back[column].dtype) for column in TYPES] == [str(frame[column].dtype) for column in TYPES]
    np.testing.assert_allclose(back["value"], frame["value"], atol=5.01e-5)  # four decimals
    pd.testing.assert_frame_equal(back.drop(columns="value"), frame.drop(columns="value"))
    exact = frame.assign(value=back["value"])
    assert judge(back) == judge(exact) and judge(back)[6].parts  # claim 7 rests on the style layers


def test_a_style_layer_is_text_whatever_else_the_table_holds(lab, frames):
    rows = {str(row) for frame in frames.values() for row in frame["style_layer"].dropna()}
    assert rows == {"1", "2", "3", "4"}  # not 1.0, though most rows have none
    training, test = lab.training("GSI", 0, method="mldg"), bank("sib", ("C", "M"), 0, style_layer="layer1.relu")
    trial = Trial("style_layer", parse_task("G+S+I->C+M"), training, test)
    assert set(tidy(lab, lab.results([trial]))["style_layer"]) == {"layer1.relu"}


def test_a_setting_is_empty_where_it_does_not_apply(frames):
    frame = pd.concat(frames.values())
    mldg, bank_rows = frame["train_method"].isin(["mldg", "mldg_mean"]), frame["neighbors"].notna()
    for column in ("order", "inner_lr", "alpha"):
        assert (frame[column].notna() == mldg).all()
    assert (frame["split"].notna() == (mldg | (frame["train_method"] == "split"))).all()
    assert set(frame.loc[bank_rows, "test_method"]) == {"qib", "sib", "random", "oracle"}
    for column in ("capacity", "style_layer", "policy", "statistics"):
        assert (frame[column].notna() == bank_rows).all()
    assert (frame["batch_size"].notna() == (frame["test_method"] == "tn")).all()
    assert (frame["prior"].notna() == (bank_rows | (frame["test_method"] == "tn"))).all()
    unused = ["guard", "domains_per_pass", "shift", "dose", "modalities", *OF_GMP]
    assert frame[unused].isna().all(axis=None)
    assert set(frame["train_images"]) == {TINY.streets.train_images} and set(frame["weights"]) == {"random"}


def test_the_name_for_display_says_what_the_fields_say(lab):
    def name(test, **settings):
        training = dataclasses.replace(lab.training("GSI", 0), **settings)
        trial = Trial("ablation", parse_task("G+S+I->C"), training, test)
        return tidy(lab, {trial: RESULT})["method"].iloc[0]

    c = ("C",)
    assert name(bn(c)) == "AGG" and name(bn(c), weights="imagenet") == "AGG (ImageNet)"
    assert name(tn(c, 4, 0), method="mldg", inner_lr=0.0) == "MLDG inner 0+TN"
    assert name(tn(c, 1, None, prior=0.25), method="mldg") == "MLDG+TN prior 0.25"
    assert name(tn(c, 1, None, prior=0.0), method="mldg_mean") == "MLDG mean+TN"
    assert name(bank("sib", c, 0, statistics="cached"), method="agg2") == "AGG2+SIB cached"
    assert name(TestConfig("bn-reestimated", c), method="split") == "split+BN re-estimated"


def test_a_small_rate_is_not_written_as_none_at_all(frames, tmp_path):
    """1e-6 to four decimals would be 0: the control without an inner step."""
    frame = frames["ablation"].assign(inner_lr=1e-6)
    write_table(frame, tmp_path / "table.csv")
    assert set(read_table(tmp_path / "table.csv")["inner_lr"]) == {1e-6}


def test_a_table_of_another_version_is_refused(tmp_path):
    with pytest.raises(InputError, match="there is no table .*none.csv"):
        read_table(tmp_path / "none.csv")
    (tmp_path / "old.csv").write_text("study,method,value,colour\nablation,AGG,1,red\n")
    with pytest.raises(InputError, match=r"old.csv is not a table of this version.*train_method.*unknown ones: colour"):
        read_table(tmp_path / "old.csv")


RECORDS = sorted(SHIPPED.glob("*/*/*.csv"))


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: "-".join((*path.parts[-3:-1], path.stem)))
def test_a_record_comes_back_as_it_was_written(path, tmp_path):
    write_recorded(read_recorded(path), tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == path.read_bytes()


def test_a_study_of_a_record_is_written_without_the_others(frames, tmp_path, monkeypatch):
    """The first two studies, then the second again with other values: the first stays, the second is replaced."""
    assert len(RECORDS) > 40  # of five data sets, each compared above
    monkeypatch.setattr(recorded, "SHIPPED", tmp_path)
    first, second = frames["queue_size"], frames["style_layer"]
    write_studies(pd.concat([second, first], ignore_index=True), tmp_path / "tiny" / "mine")
    before = (tmp_path / "tiny" / "mine" / "queue_size.csv").read_bytes()
    write_studies(second.assign(value=0.25), tmp_path / "tiny" / "mine")
    assert {path.stem for path in (tmp_path / "tiny" / "mine").iterdir()} == {"queue_size", "style_layer"}
    assert (tmp_path / "tiny" / "mine" / "queue_size.csv").read_bytes() == before
    found = recorded_table("tiny", "mine")
    assert found.groupby("study").size().to_dict() == {"queue_size": len(first), "style_layer": len(second)}
    assert set(found.loc[found["study"] == "style_layer", "value"]) == {0.25}
    assert recorded_table("tiny") is None


def test_a_record_holds_what_the_table_holds(frames, tmp_path):
    frame = pd.concat([frames["selection_policy"], frames["prior"]], ignore_index=True)
    write_recorded(frame, tmp_path / "record.csv")
    back = read_recorded(tmp_path / "record.csv")
    key = [*LABELS, "metric", "class"]
    pd.testing.assert_frame_equal(back[[*key, "method"]], frame[[*key, "method"]])
    assert np.allclose(back["value"], frame["value"], atol=5.01e-3)
    whole = frame["metric"] != "iou"
    assert np.allclose(back["value"][whole], frame["value"][whole], atol=5.01e-5)
    with pytest.raises(InputError, match="no record"):
        read_recorded(tmp_path / "none.csv")
    (tmp_path / "old.csv").write_text("study,value\nablation,1\n")
    with pytest.raises(InputError, match=r"old.csv is not a record of this version"):
        read_recorded(tmp_path / "old.csv")
