"""A run beside what is recorded, against the prediction interval by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from typer.testing import CliRunner

from dglab.analysis.verification import verify
from dglab.cli import app
from dglab.experiments.record import describe_run
from dglab.experiments.recorded import recorded_table
from dglab.experiments.table import COLUMNS, TYPES, write_table
from dglab.utils.errors import InputError


def table_of(values, test_method="bn", **more):
    """Rows of mIoU from {(train_method, train_seed, test_seed): value}."""
    rows = [
        {"study": "ablation", "task": "G+S->C", "train_method": method, "test_method": test_method, "train_seed": a,
         "test_seed": b, "metric": "miou", "value": value, "target": "C", "domain_evaluated": "C", **more}
        for (method, a, b), value in values.items()
    ]  # fmt: skip
    return pd.DataFrame(rows).reindex(columns=list(COLUMNS)).astype(TYPES)


RECORD = table_of({("agg", 0, None): 20.0, ("agg", 1, None): 21.0, ("agg", 2, None): 22.0,
                   ("mldg", 0, None): 30.0, ("mldg", 1, None): 30.5})  # fmt: skip


def test_the_interval_is_that_of_one_new_training_with_a_pooled_deviation():
    found = verify(RECORD, RECORD).set_index("train_method")
    pooled = (2 * 1.0 + 1 * 0.125) / 3  # variances 1 of three trainings, 0.125 of two
    half = stats.t.ppf(0.9995, 3) * np.sqrt(pooled * (1 + 1 / 3))
    agg = found.loc["agg"]
    assert (agg["recorded"], agg["low"], agg["high"]) == pytest.approx((21, 21 - half, 21 + half))
    assert agg["here"] in (20.0, 22.0) and set(found["verdict"]) == {"inside"}


def test_an_interval_without_end_is_not_passed_off_as_agreement():
    """Two trainings alone: one degree of freedom, t(0.9995) = 637, so that nothing could lie outside."""
    two = table_of({("agg", 0, None): 20.0, ("agg", 1, None): 21.0}, "tn")
    once = table_of({("agg", 0, None): 20.0}, "adabn")
    record = pd.concat([RECORD, two, once], ignore_index=True)
    found = verify(record, record).set_index("test_method")["verdict"]
    assert found["tn"] == found["adabn"] == "not bounded" and set(found["bn"]) == {"inside"}
    assert set(verify(RECORD, record).set_index("test_method")["verdict"]["tn":"tn"]) == {"not run"}


@pytest.mark.parametrize(("value", "verdict"), [(33.0, "inside"), (45.0, "outside"), (2.0, "outside")])
def test_one_training_far_off_is_enough(value, verdict):
    found = verify(table_of({("agg", 0, None): 21.0, ("agg", 5, None): value}), RECORD).set_index("train_method")
    assert found.loc["agg", "verdict"] == verdict and found.loc["agg", "here"] == value
    assert found.loc["mldg", "verdict"] == "not run"


def test_several_modalities_are_settings_of_their_own():
    """A variant is compared with its own trainings."""
    balanced, joint = (
        table_of({("gmp", 0, None): mean, ("gmp", 1, None): mean + 1}, variant=name, modalities="rgb+depth")
        for name, mean in (("gmp", 20.0), ("joint", 10.0))
    )
    record = pd.concat([RECORD, balanced, joint], ignore_index=True)
    found = verify(record, record)
    assert found.loc[found["train_method"] == "gmp", "recorded"].tolist() == [20.5, 10.5]
    assert set(found["verdict"]) == {"inside"}


def test_tests_of_one_training_are_no_further_trainings():
    """Two domains, scored by the same networks: the variance is the mean of both, the degrees of freedom stay three."""
    other = RECORD.assign(domain_evaluated="S", value=RECORD["value"] * 2)
    found = verify(RECORD, pd.concat([RECORD, other], ignore_index=True))
    pooled = (1 + 4) / 2 * (2 * 1.0 + 1 * 0.125) / 3
    half = stats.t.ppf(0.9995, 3) * np.sqrt(pooled * (1 + 1 / 3))
    of_agg = found[found["train_method"] == "agg"]
    assert (of_agg["high"] - of_agg["low"]).tolist() == pytest.approx([2 * half] * 2)


def test_the_recorded_trainings_lie_inside_as_often_as_the_level_says():
    """One in a thousand outside is what the level allows."""
    record = recorded_table("full")
    found = [
        verify(rows, record)["verdict"].value_counts()
        for seed, rows in record.groupby("train_seed")
        if seed in range(10, 20)
    ]
    outside, inside = (sum(counts.get(verdict, 0) for counts in found) for verdict in ("outside", "inside"))
    assert 0 < outside < 0.003 * inside


def test_orders_are_averaged_and_studies_share_a_test():
    record = table_of({("agg", 0, 0): 19.0, ("agg", 0, 1): 21.0, ("agg", 1, 0): 21.0, ("agg", 1, 1): 23.0}, "sib")
    twice = pd.concat([record, record.assign(study="adabn")])
    assert verify(record, twice)[["recorded", "low", "high"]].equals(
        verify(record, record)[["recorded", "low", "high"]]
    )
    assert verify(record, record)["recorded"].item() == 21


def test_a_record_of_single_trainings_bounds_nothing():
    with pytest.raises(InputError, match="one training of each"):
        verify(RECORD, RECORD[RECORD["train_seed"] == 0])


def test_the_command(lab, frames, tmp_path, monkeypatch):
    import json

    own = pd.concat(frames.values(), ignore_index=True)
    write_table(own, tmp_path / "tables.csv")
    (tmp_path / "run.json").write_text(json.dumps(describe_run(lab, 1.0)))
    command = ["verify", "--results", str(tmp_path)]
    refused = CliRunner().invoke(app, command)
    assert isinstance(refused.exception, InputError) and "of which nothing is recorded" in str(refused.exception)

    def record(shift):
        seeds = [own.assign(train_seed=seed, value=own["value"] + 0.01 * seed + shift) for seed in (1, 2, 3)]
        monkeypatch.setattr("dglab.experiments.recorded.recorded_table", lambda *_: pd.concat(seeds))

    record(0.0)
    inside = CliRunner().invoke(app, command)
    assert inside.exit_code == 0 and " 0 outside, 0 not bounded, 0 not run" in inside.output
    record(50.0)
    outside = CliRunner().invoke(app, command)
    assert outside.exit_code == 3 and "outside: task G+S+I+M->C, train_method agg" in outside.output
    assert "backbone thin, " in outside.output and "neighbors" in outside.output and "None" not in outside.output
