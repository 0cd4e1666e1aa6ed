"""The paper's claims, each beside what came out: differences with intervals, and a verdict."""

from collections.abc import Callable
from typing import NamedTuple

import pandas as pd

from dglab.analysis.intervals import Difference, paired_difference, per_training
from dglab.experiments.methods import (
    ADABN,
    AGG,
    MLDG,
    QIB,
    SIB,
    SOURCE_BN,
    TN_1,
    TN_4,
    TN_5,
    Normalization,
    Shown,
)
from dglab.paper import CLAIMS, Claim

PART_TESTED = (1, 5)  # the parts on three against four sources, and on the shape of the curve, are left to the eye


class Verdict(NamedTuple):
    """A claim beside what came out: each part of it as a difference that the claim says is positive."""

    claim: Claim
    parts: list[tuple[str, Difference]]

    @property
    def outcome(self) -> str:
        """``holds``, ``does not hold``, ``open`` (an interval includes zero), or ``not run``."""
        signs = [difference.sign for _, difference in self.parts]
        if not signs:
            return "not run"
        if -1 in signs:
            return "does not hold"
        if not all(sign == 1 for sign in signs):
            return "open"
        return "holds, as far as tested" if self.claim.number in PART_TESTED else "holds"


def judge(frame: pd.DataFrame) -> list[Verdict]:
    """Every claim of the paper beside the tidy table; what the table does not hold is ``not run``."""
    return [Verdict(claim, _PARTS[claim.number](frame) if claim.number in _PARTS else []) for claim in CLAIMS]


Parts = list[tuple[str, Difference]]
Side = tuple[tuple[Shown, ...], dict[str, object]]  # records and fields that select the rows of one side


def _gap(
    frame: pd.DataFrame, study: str, better: Side, worse: Side, metric: str = "miou", aggregate: str = "mean"
) -> Difference | None:
    """The paired difference of two sides, each of records and fields; None where no training is common to both."""
    rows = frame[frame["study"] == study]
    first, second = (
        per_training(rows, *shown, metric=metric, aggregate=aggregate, **fields) for shown, fields in (better, worse)
    )
    return paired_difference(first, second) if (first - second).notna().any() else None


def _parts(*named: tuple[str, Difference | None]) -> Parts:
    return [(name, gap) for name, gap in named if gap is not None]


def _of(*shown: Shown, **fields: object) -> Side:
    return shown, fields


def _claim_1(frame: pd.DataFrame) -> Parts:
    return _parts(("MLDG - AGG", _gap(frame, "ablation", _of(MLDG, SOURCE_BN), _of(AGG, SOURCE_BN))))


def _claim_2(frame: pd.DataFrame) -> Parts:
    return _parts(
        ("AGG - AGG+TN (M = 4)", _gap(frame, "ablation", _of(AGG, SOURCE_BN), _of(AGG, TN_4))),
        ("MLDG+TN (M = 4) - MLDG", _gap(frame, "ablation", _of(MLDG, TN_4), _of(MLDG, SOURCE_BN))),
    )


def _claim_3(frame: pd.DataFrame) -> Parts:
    sib = _of(MLDG, SIB)
    sizes = {1: TN_1, 4: TN_4, 5: TN_5}
    gaps = [(f"MLDG+SIB - MLDG+TN (M = {m})", _gap(frame, "ablation", sib, _of(MLDG, tn))) for m, tn in sizes.items()]
    spread = _gap(frame, "ablation", _of(MLDG, TN_4), sib, aggregate="std")
    return _parts(*gaps, ("deviation over orders: TN (M = 4) - SIB", spread))


def _claim_5(frame: pd.DataFrame) -> Parts:
    parts = [("MLDG+TN (M = 1) - MLDG", _gap(frame, "batch_size", _of(MLDG, TN_1), _of(MLDG, SOURCE_BN)))]
    sizes = frame[frame["study"] == "batch_size"]["batch_size"].dropna().unique()
    for m in sorted(sizes):
        tn = Normalization(f"TN, M = {m}", "tn", m, prior=0.0)
        parts.append((f"AGG - AGG+TN (M = {m})", _gap(frame, "batch_size", _of(AGG, SOURCE_BN), _of(AGG, tn))))
    return _parts(*parts)


def _claim_6(frame: pd.DataFrame) -> Parts:
    return _parts(
        ("TN (M = 4) - QIB", _gap(frame, "selection_policy", _of(MLDG, TN_4), _of(MLDG, QIB))),
        ("SIB - TN (M = 4)", _gap(frame, "selection_policy", _of(MLDG, SIB), _of(MLDG, TN_4))),
    )


def _claim_7(frame: pd.DataFrame) -> Parts:
    rows = frame[frame["study"] == "style_layer"]
    others = sorted(set(rows["style_layer"].dropna()) - {"1"})
    return _parts(
        *(
            (
                f"layer 1 - layer {layer}, {what}",
                _gap(frame, "style_layer", _of(style_layer="1"), _of(style_layer=layer), metric),
            )
            for metric, what in (("miou", "mIoU"), ("selection_accuracy", "selection accuracy"))
            for layer in others
        )
    )


def _claim_8(frame: pd.DataFrame) -> Parts:
    rows = frame[frame["study"] == "queue_size"]
    others = [q for q in sorted(rows["capacity"].dropna().unique()) if q != 128]
    return _parts(
        *((f"Q = 128 - Q = {q}", _gap(frame, "queue_size", _of(capacity=128), _of(capacity=q))) for q in others)
    )


def _claim_10(frame: pd.DataFrame) -> Parts:
    rows = frame[frame["domain_evaluated"] != frame["target"]]
    return _parts(
        ("MLDG+SIB - MLDG on the sources", _gap(rows, "source_and_target", _of(MLDG, SIB), _of(MLDG, SOURCE_BN))),
        ("AGG - AGG+SIB on the sources", _gap(rows, "source_and_target", _of(AGG, SOURCE_BN), _of(AGG, SIB))),
    )


def _claim_12(frame: pd.DataFrame) -> Parts:
    return _parts(("MLDG+SIB - MLDG+AdaBN", _gap(frame, "adabn", _of(MLDG, SIB), _of(MLDG, ADABN))))


_PARTS: dict[int, Callable[[pd.DataFrame], Parts]] = {
    1: _claim_1, 2: _claim_2, 3: _claim_3, 5: _claim_5, 6: _claim_6, 7: _claim_7, 8: _claim_8, 10: _claim_10,
    12: _claim_12,
}  # fmt: skip
