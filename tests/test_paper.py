"""The published figures and claims: all there, and as printed."""

from pathlib import Path

import pandas as pd
import pytest

import dglab.paper
from dglab.paper import CLAIMS, table
from dglab.utils.errors import InputError

NAMES = sorted(path.stem for path in (Path(dglab.paper.__file__).parent / "tables").glob("*.csv"))


def test_every_table_of_the_paper_is_there():
    assert [name[:7] for name in NAMES if name.startswith("table")] == [f"table{n:02}" for n in range(1, 12)]
    assert {"inference_time", "gmp_table02_gradient_strategies", "gmp_table04_ablation"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_table_loads_whole(name):
    frame = table(name)
    assert len(frame) > 0 and not frame.columns.str.startswith("Unnamed").any()
    assert not frame.isna().all(axis=1).any()
    for column in ("miou", "selection_accuracy"):
        if column in frame:  # figures, in percent, none missing
            assert pd.api.types.is_float_dtype(frame[column]) and frame[column].between(10, 100).all()


def one(name, column, **row):
    frame = table(name)
    for key, value in row.items():
        frame = frame[frame[key] == value]
    assert len(frame) == 1
    return frame.iloc[0][column]


def test_figures_are_as_printed():
    task = "G+S+I+M->C"
    assert one("table03_ablation", "miou", method="MLDG+SIB", task=task) == 57.66
    assert one("table03_ablation", "std", method="MLDG+SIB", task=task) == 0.17
    assert one("table03_ablation", "miou", method="AGG+TN", task="G+S+I->M") == 41.24
    assert one("table04_meta_split", "miou", meta_train_domains=1, meta_test_domains=3) == 55.41
    assert one("table05_selection_policy", "miou", method="MLDG+QIB") == 51.87
    assert one("table06_style_layer", "selection_accuracy", style_layer=1) == 96.78
    assert one("table07_queue_size", "miou", queue_size=128) == 52.78
    assert one("table09_source_and_target", "miou", method="AGG+SIB", evaluated_on="G") == 48.00
    assert one("table10_backbones", "miou", method="MLDG+SIB", backbone="HRNet") == 64.09
    assert one("table11_adabn", "miou", method="MLDG+AdaBN", task=task) == 56.67
    assert one("inference_time", "seconds_per_image", method="SIB") == 0.34


def test_what_is_not_printed_is_empty_not_zero():
    assert pd.isna(one("table03_ablation", "std", method="MLDG+TN", task="G+S+I+M->C"))


def test_one_run_has_one_figure_in_every_table():
    """The paper prints MLDG and MLDG+SIB on G+S+I+M->C in Tables 3, 9, 10 and 11."""
    task = "G+S+I+M->C"
    for method in ("MLDG", "MLDG+SIB"):
        figures = {
            one("table03_ablation", "miou", method=method, task=task),
            one("table09_source_and_target", "miou", method=method, task=task, evaluated_on="C"),
            one("table10_backbones", "miou", method=method, task=task, backbone="ResNet-50 (dilated FCN)"),
            one("table11_adabn", "miou", method=method, task=task),
        }
        assert len(figures) == 1


def test_the_claims_are_numbered_one_to_twelve():
    assert [claim.number for claim in CLAIMS] == list(range(1, 13))
    assert all(claim.text and claim.where.startswith(("Table", "Figure")) for claim in CLAIMS)


def test_figures_quoted_against_a_claim_are_in_the_tables():
    for number, *quoted in (
        (1, one("table03_ablation", "miou", method="MLDG", task="G+S+I->M"), 49.26),
        (2, one("table03_ablation", "miou", method="MLDG+TN", task="G+S+I+C->M"), 54.48),
        (10, one("table09_source_and_target", "miou", method="MLDG+SIB", evaluated_on="G"), 57.09),
    ):
        against = CLAIMS[number - 1].against
        assert all(f"{figure:.2f}" in against for figure in quoted)


def test_an_unknown_table_is_refused_with_the_known():
    with pytest.raises(InputError, match="unknown table 'table12'.*table03_ablation"):
        table("table12")
    with pytest.raises(InputError, match="unknown table"):
        table("../__init__")
