"""The paper's claims, each beside what came out: differences with intervals, and a verdict."""

from collections.abc import Callable
from typing import NamedTuple

import pandas as pd

from dglab.analysis.intervals import Difference, paired_difference, per_training
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


def _gap(
    frame: pd.DataFrame, study: str, better: dict, worse: dict, metric: str = "miou", statistic: str = "mean"
) -> Difference | None:
    rows = frame[frame["study"] == study]
    first, second = (per_training(rows, metric, statistic, **side) for side in (better, worse))
    return paired_difference(first, second) if (first - second).notna().any() else None


def _parts(*named: tuple[str, Difference | None]) -> Parts:
    return [(name, gap) for name, gap in named if gap is not None]


def _claim_1(frame: pd.DataFrame) -> Parts:
    return _parts(("MLDG - AGG", _gap(frame, "ablation", {"method": "MLDG"}, {"method": "AGG"})))


def _claim_2(frame: pd.DataFrame) -> Parts:
    tn = {"batch_size": 4}
    return _parts(
        ("AGG - AGG+TN (M = 4)", _gap(frame, "ablation", {"method": "AGG"}, {"method": "AGG+TN", **tn})),
        ("MLDG+TN (M = 4) - MLDG", _gap(frame, "ablation", {"method": "MLDG+TN", **tn}, {"method": "MLDG"})),
    )


def _claim_3(frame: pd.DataFrame) -> Parts:
    sib, tn = {"method": "MLDG+SIB"}, {"method": "MLDG+TN"}
    gaps = [(f"MLDG+SIB - MLDG+TN (M = {m})", _gap(frame, "ablation", sib, {**tn, "batch_size": m})) for m in (1, 4, 5)]
    spread = _gap(frame, "ablation", {**tn, "batch_size": 4}, sib, statistic="std")
    return _parts(*gaps, ("deviation over orders: TN (M = 4) - SIB", spread))


def _claim_5(frame: pd.DataFrame) -> Parts:
    one = {"batch_size": 1}
    parts = [("MLDG+TN (M = 1) - MLDG", _gap(frame, "batch_size", {"method": "MLDG+TN", **one}, {"method": "MLDG"}))]
    rows = frame[(frame["study"] == "batch_size") & (frame["method"] == "AGG+TN")]
    for m in sorted(rows["batch_size"].dropna().unique()):
        best = {"method": "AGG+TN", "batch_size": m}
        parts.append((f"AGG - AGG+TN (M = {m})", _gap(frame, "batch_size", {"method": "AGG"}, best)))
    return _parts(*parts)


def _claim_6(frame: pd.DataFrame) -> Parts:
    tn = {"method": "MLDG+TN", "batch_size": 4}
    return _parts(
        ("TN (M = 4) - QIB", _gap(frame, "selection_policy", tn, {"method": "MLDG+QIB"})),
        ("SIB - TN (M = 4)", _gap(frame, "selection_policy", {"method": "MLDG+SIB"}, tn)),
    )


def _claim_7(frame: pd.DataFrame) -> Parts:
    rows = frame[frame["study"] == "style_layer"]
    first, others = {"style_layer": "1"}, sorted(set(rows["style_layer"].dropna()) - {"1"})
    return _parts(
        *(
            (f"layer 1 - layer {layer}, {what}", _gap(frame, "style_layer", first, {"style_layer": layer}, metric))
            for metric, what in (("miou", "mIoU"), ("selection_accuracy", "selection accuracy"))
            for layer in others
        )
    )


def _claim_8(frame: pd.DataFrame) -> Parts:
    rows = frame[frame["study"] == "queue_size"]
    others = [q for q in sorted(rows["capacity"].dropna().unique()) if q != 128]
    return _parts(
        *((f"Q = 128 - Q = {q}", _gap(frame, "queue_size", {"capacity": 128}, {"capacity": q})) for q in others)
    )


def _claim_10(frame: pd.DataFrame) -> Parts:
    rows = frame[(frame["study"] == "source_and_target") & (frame["domain_evaluated"] != frame["target"])]
    return _parts(
        ("MLDG+SIB - MLDG on the sources", _gap(rows, "source_and_target", {"method": "MLDG+SIB"}, {"method": "MLDG"})),
        ("AGG - AGG+SIB on the sources", _gap(rows, "source_and_target", {"method": "AGG"}, {"method": "AGG+SIB"})),
    )


def _claim_12(frame: pd.DataFrame) -> Parts:
    return _parts(("MLDG+SIB - MLDG+AdaBN", _gap(frame, "adabn", {"method": "MLDG+SIB"}, {"method": "MLDG+AdaBN"})))


_PARTS: dict[int, Callable[[pd.DataFrame], Parts]] = {
    1: _claim_1, 2: _claim_2, 3: _claim_3, 5: _claim_5, 6: _claim_6, 7: _claim_7, 8: _claim_8, 10: _claim_10,
    12: _claim_12,
}  # fmt: skip
