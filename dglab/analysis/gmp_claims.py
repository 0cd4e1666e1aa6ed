"""The four claims of GMP's paper, each beside what came out: differences with intervals, and a verdict."""

from typing import NamedTuple

import pandas as pd

from dglab.analysis.intervals import Difference, paired_difference, per_training
from dglab.experiments.gmp_methods import ALONE, BRANCHES, CAGP, FUSED, GMP, IGDM, JOINT, OGM_GE, UNIFIED
from dglab.experiments.methods import SOURCE_BN
from dglab.paper import Claim

GMP_CLAIMS: tuple[Claim, ...] = (
    Claim(1, "joint training leaves each branch below its training alone, and GMP narrows the gap", "the text",
          "the figures by branch are of GMP against joint training: +3.5 video, +1.7 audio"),
    Claim(2, "IGDM and CAGP each help, and add up", "Table 4"),
    Claim(3, "modulation of each task by itself beats one coefficient for both", "Table 4"),
    Claim(4, "balancing by source accuracy (OGM-GE) helps the sources more than the target", "Table 2",
          "the table has no figures on the sources"),
)  # fmt: skip

Parts = list[tuple[str, Difference]]


class GmpVerdict(NamedTuple):
    """A claim beside what came out: each part of it as a difference that the claim says is positive."""

    claim: Claim
    parts: Parts

    @property
    def outcome(self) -> str:
        """``holds``, ``does not hold``, ``open`` (an interval includes zero), or ``not run``."""
        signs = [difference.sign for _, difference in self.parts]
        if not signs:
            return "not run"
        return "does not hold" if -1 in signs else "holds" if all(sign == 1 for sign in signs) else "open"


def judge_gmp(frame: pd.DataFrame) -> list[GmpVerdict]:
    """Every claim beside the tidy table, by pairs of trainings of one seed, which begin from the same weights.

    Args:
        frame: tidy rows of ``gmp_ablation``, ``gmp_strategies`` and ``gmp_branches``; what it does not hold is
            ``not run``. Of several targets the first one decides, which is the paper's kind: all others are sources.
    """
    rows = frame[frame["metric"] == "miou"]
    rows = SOURCE_BN.rows(rows[rows["without"].isna()])
    of = {study: _first_task(rows[rows["study"] == study]) for study in rows["study"].unique()}
    none = rows.iloc[:0]
    ablation, strategies, branches = (of.get(f"gmp_{name}", none) for name in ("ablation", "strategies", "branches"))
    found = (_claim_1(branches), _claim_2(ablation), _claim_3(ablation), _claim_4(strategies))
    return [GmpVerdict(claim, parts) for claim, parts in zip(GMP_CLAIMS, found, strict=True)]


def _claim_1(rows: pd.DataFrame) -> Parts:
    rows = _on_target(rows)
    parts = []
    for name, view in BRANCHES.items():
        alone, joint, balanced = (per_training(rows, method, view) for method in (ALONE[name], JOINT, GMP))
        parts += [(f"{name}: alone - joint", alone, joint), (f"{name}: GMP - joint", balanced, joint)]
    return _paired(parts)


def _claim_2(rows: pd.DataFrame) -> Parts:
    joint, igdm, cagp, both = (per_training(_on_target(rows), method, FUSED) for method in (JOINT, IGDM, CAGP, GMP))
    return _paired([
        ("IGDM - joint", igdm, joint), ("CAGP - joint", cagp, joint),
        ("GMP - IGDM", both, igdm), ("GMP - CAGP", both, cagp),
    ])  # fmt: skip


def _claim_3(rows: pd.DataFrame) -> Parts:
    decoupled, unified = (per_training(_on_target(rows), method, FUSED) for method in (GMP, UNIFIED))
    return _paired([("GMP - unified modulation", decoupled, unified)])


def _claim_4(rows: pd.DataFrame) -> Parts:
    on_target = rows["domain_evaluated"] == rows["target"]
    at_home, away = (
        per_training(part, OGM_GE, FUSED) - per_training(part, JOINT, FUSED)
        for part in (rows[~on_target], rows[on_target])
    )
    return _paired([("(OGM-GE - joint) on the sources - on the target", at_home, away)])


def _paired(parts: list[tuple[str, pd.Series, pd.Series]]) -> Parts:
    return [(name, paired_difference(a, b)) for name, a, b in parts if (a - b).notna().any()]


def _on_target(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["domain_evaluated"] == rows["target"]]


def _first_task(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["task"] == rows["task"].iloc[0]]
