"""The tables of the page: ours beside the paper's, as rows of text."""

import dataclasses
from typing import Any

import pandas as pd

from dglab import paper
from dglab.analysis.intervals import summarize
from dglab.experiments.methods import (
    ADABN,
    AGG,
    BN_REESTIMATED,
    MLDG,
    ORACLE,
    QIB,
    RANDOM,
    SIB,
    SOURCE_BN,
    TN_1,
    TN_4,
    TN_5,
    TRAINING_METHODS,
    Normalization,
    TrainingMethod,
    select,
)

MISSING = "not run"
# What the paper's tables call a method. They do not state the M of TN; that they print no deviation suggests 1.
_PAPER_TRAINING = {AGG: "AGG", MLDG: "MLDG"}
_PAPER_TEST = {SOURCE_BN: ("", "+BN"), TN_1: ("+TN",), QIB: ("+QIB",), SIB: ("+SIB",), ADABN: ("+AdaBN",)}


def ablation_table(frame: pd.DataFrame, task: str, streets: bool) -> list[dict[str, Any]]:
    """Table 3 with controls: one row a training method and normalization, ours beside the paper's.

    Returns:
        Rows with ``training``, ``test``, ``ours`` (mean ± deviation over trainings), ``order`` (deviation over orders
        of arrival, what the paper's ± is), ``paper``, and ``first``, whether a training method begins there.
    """
    rows = frame[(frame["study"] == "ablation") & (frame["task"] == task)]
    shown = (SOURCE_BN, BN_REESTIMATED, TN_1, TN_4, TN_5, dataclasses.replace(SIB, label=f"{SIB.label}, M = 4"))
    return [
        {
            "training": method.label,
            "test": normalization.label,
            "first": normalization is SOURCE_BN,
            **_ours(rows, method, normalization),
            "paper": _published("table03_ablation", task, method, normalization) if streets else "",
        }
        for method in TRAINING_METHODS
        for normalization in shown
    ]


def adabn_table(frame: pd.DataFrame, task: str, streets: bool) -> list[dict[str, Any]]:
    """Table 11: source BN, AdaBN and SIB, for both training methods."""
    rows = frame[(frame["study"] == "adabn") & (frame["task"] == task)]
    return [
        {
            "method": _name(method, normalization),
            **_ours(rows, method, normalization),
            "paper": _published("table11_adabn", task, method, normalization) if streets else "",
        }
        for method in (AGG, MLDG)
        for normalization in (SOURCE_BN, ADABN, SIB)
        if len(select(rows, method, normalization))
    ]


def policy_table(frame: pd.DataFrame, streets: bool) -> list[dict[str, Any]]:
    """Table 5 with controls, for both training methods; ``accuracy``: how many were chosen from the same domain."""
    rows = frame[frame["study"] == "selection_policy"]
    task = rows["task"].iloc[0] if len(rows) else ""
    table = []
    for method in (AGG, MLDG):
        for rule in (SOURCE_BN, ADABN, TN_1, TN_4, TN_5, QIB, SIB, RANDOM, ORACLE):
            found = select(rows, method, rule)
            if found.empty:
                continue
            accuracy = summarize(found, ["task"], "selection_accuracy")["mean"]
            table.append({
                "method": _name(method, rule),
                "accuracy": f"{accuracy.iloc[0]:.1f}" if len(accuracy) else "",
                **_ours(rows, method, rule),
                "paper": _published("table05_selection_policy", task, method, rule) if streets else "",
            })  # fmt: skip
    return table


def _name(method: TrainingMethod, normalization: Normalization) -> str:
    return method.label if normalization is SOURCE_BN else f"{method.label}+{normalization.label}"


def _ours(frame: pd.DataFrame, method: TrainingMethod, normalization: Normalization) -> dict[str, str]:
    """What a table shows of one method: ours, and its deviation over orders of arrival."""
    found = summarize(select(frame, method, normalization), ["task"])
    if found.empty:
        return {"ours": MISSING, "order": ""}
    one = found.iloc[0]
    return {
        "ours": plus_minus(one["mean"], one["train_sd"]),
        "order": "" if pd.isna(one["test_sd"]) else f"± {one['test_sd']:.2f}",
    }


def plus_minus(mean: float, deviation: float) -> str:
    """``12.3 ± 0.4``, or ``12.3`` where there is no deviation."""
    return f"{mean:.1f}" if pd.isna(deviation) else f"{mean:.1f} ± {deviation:.1f}"


def _published(name: str, task: str, method: TrainingMethod, normalization: Normalization) -> str:
    """The paper's figure for a method, empty where it prints none."""
    table = paper.table(name)
    training, tests = _PAPER_TRAINING.get(method, ""), _PAPER_TEST.get(normalization, ())
    names = [training + test for test in tests if training]
    found = table[(table["task"] == task) & table["method"].isin(names)]
    if found.empty:
        return ""
    row = found.iloc[0]
    return f"{row['miou']:.2f}" + ("" if pd.isna(row["std"]) else f" ± {row['std']:.2f}")
