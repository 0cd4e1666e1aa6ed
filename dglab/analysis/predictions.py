"""Why does TN suit MLDG? The predictions of docs/predictions.md and their outcomes.

The hypothesis, *train as you test*: what TN needs is a training whose BatchNorm batches hold one domain, and the inner
step adds nothing to that.
"""

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import pandas as pd

from dglab.analysis.claims import judge
from dglab.analysis.intervals import Difference, contrast, paired_difference, per_training
from dglab.analysis.published import MAIN
from dglab.analysis.targets import COMPARED, rows_over_targets
from dglab.experiments.methods import (
    AGG,
    AGG2,
    BN_REESTIMATED,
    BY_DOMAIN,
    BY_DOMAIN2,
    MLDG,
    MLDG_INNER_0,
    SIB,
    SOURCE_BN,
    TN_4,
    TN_5,
    Normalization,
    TrainingMethod,
    select,
)
from dglab.tasks import parse_task, sources_of

# what was expected of each claim's primary parts, in the order of their tests, see docs/predictions.md
EXPECTED: Mapping[int, tuple[str, ...]] = {
    1: ("no difference", "open"), 2: ("contradicted", "holds"), 3: ("no difference", "open"), 4: ("no difference",),
    5: ("holds", "contradicted"), 6: ("no difference", "holds"), 7: ("open",), 8: ("no difference",), 9: ("holds",),
    10: ("holds", "open"), 11: ("open",), 12: ("no difference",),
}  # fmt: skip
# the same of the differences over five real domains, in the order of COMPARED, and of the mixed stream of two of them
EXPECTED_OVER_TARGETS = (
    "open; its sign depends on the target", "open; negative on T, positive on V and K",
    "open; positive on T, negative on V and K", "no difference", "open", "open", "positive", "positive", "open",
    "positive", "positive", "no difference", "negative", "positive", "positive", "positive",
)  # fmt: skip
EXPECTED_MIXED = "positive"
OF_THREE = ("G+S+I->C", "G+S+I->M")  # the tasks with three sources


class Prediction(NamedTuple):
    """One difference, and its prediction from before the runs."""

    number: int  # in docs/predictions.md
    what: str
    domain: str  # tested on
    expected: str  # positive, negative, or no difference
    difference: Difference

    @property
    def outcome(self) -> str:
        """``as predicted``, ``against it``, or ``open``."""
        found = self.difference.sign
        if found == "open":
            return "open"
        # a certain difference inside the margin does not contradict a prediction of none
        inside = max(-self.difference.low, self.difference.high) < self.difference.margin
        agrees = found == self.expected or (self.expected == "no difference" and inside)
        return "as predicted" if agrees else "against it"


def train_as_you_test(frame: pd.DataFrame) -> list[Prediction]:
    """The predictions, each domain by itself: on the tasks with two, three and four sources; M of TN is 4.

    Args:
        frame: a tidy table with the studies ``train_as_you_test`` (two sources), ``domains_per_pass``,
            ``tn_on_sources`` (1 with four sources) and ``ablation`` (2 to 4 with three and four); what it lacks is left
            out.
    """
    rows = frame[(frame["study"] == "train_as_you_test") & (frame["metric"] == "miou")]
    domains = rows["domain_evaluated"].unique()
    unseen = set(rows["target"])
    of = {domain: rows[rows["domain_evaluated"] == domain] for domain in domains}
    found: list[Prediction] = []

    def add(number: int, what: str, domain: str, expected: str, difference: Difference | None) -> None:
        if difference is not None:
            found.append(Prediction(number, what, domain, expected, difference))

    on_sources = {domain: of[domain] for domain in domains if domain not in unseen}
    rows = select(frame, study="tn_on_sources", task=MAIN, metric="miou")
    on_sources |= {
        f"{domain}, from {sources_of(MAIN)}": part for domain, part in rows.groupby("domain_evaluated", sort=False)
    }
    for domain, part in on_sources.items():
        for method in (AGG, BY_DOMAIN, MLDG_INNER_0, MLDG):
            gain = _within(part, method, TN_4, SOURCE_BN)
            add(1, f"{method.label}: TN - source BN", domain, "negative" if method is AGG else "positive", gain)
    parts = {domain: of[domain] for domain in domains if domain in unseen}
    for task in (*OF_THREE, MAIN):
        [target] = parse_task(task).targets
        parts[f"{target}, from {sources_of(task)}"] = select(frame, study="ablation", task=task, metric="miou")
    for domain, part in parts.items():
        add(2, "source BN: by domain - AGG", domain, "negative", _between(part, SOURCE_BN, BY_DOMAIN, AGG))
        add(2, "by domain: re-estimated - source BN", domain, "positive",
            _within(part, BY_DOMAIN, BN_REESTIMATED, SOURCE_BN))  # fmt: skip
        add(3, "TN: by domain, 2x - AGG2", domain, "positive", _between(part, TN_4, BY_DOMAIN2, AGG2))
        for control in (MLDG_INNER_0, BY_DOMAIN2):
            add(4, f"TN: MLDG - {control.label}", domain, "no difference", _between(part, TN_4, MLDG, control))
        equal_steps = _between(part, TN_4, MLDG, BY_DOMAIN)  # not by_domain2's, at the rates that were chosen
        add(4, "TN: MLDG - by domain (added later)", domain, "no difference", equal_steps)
    return found + fewer_domains_a_pass(frame)


def fewer_domains_a_pass(frame: pd.DataFrame) -> list[Prediction]:
    """Prediction 5: from BatchNorm batches of one domain to batches of all, the gain of TN over source BN falls.

    Args:
        frame: a tidy table.
    """
    rows = frame[(frame["study"] == "domains_per_pass") & (frame["metric"] == "miou")]
    found = []
    for (sources, domain), part in rows.groupby([rows["task"].map(sources_of), "domain_evaluated"], sort=False):
        counts = sorted(part["domains_per_pass"].dropna().unique())
        gains = [_gain(part[part["domains_per_pass"] == count]) for count in counts]
        for (fewer, more), (high, low) in zip(pairwise(counts), pairwise(gains), strict=True):
            if len(high) and len(low):
                what = f"{sources}: TN - source BN, {fewer} minus {more} domains a pass"
                found.append(Prediction(5, what, domain, "positive", contrast([(1, high), (-1, low)])))
    return found


def expected_of_claims(frame: pd.DataFrame) -> list[dict[str, str]]:
    """What was expected of the paper's claims before the runs, and what came out.

    Args:
        frame: a tidy table.

    Returns:
        A row for each primary part that has run: the claim's number, the difference, ``expected``, the verdict that
        ``came out``, and whether that was ``as expected``: yes, no, or empty where one of the two is *open*.
    """
    rows = []
    for verdict in judge(frame):
        parts = [part for part in verdict.parts if part.primary]
        expected = EXPECTED[verdict.claim.number]
        for part, what in zip(parts, expected if len(expected) > 1 else expected * len(parts), strict=True):
            if part.difference is not None:
                found = part.difference.verdict
                agrees = "" if "open" in (found, what) else "yes" if found == what else "no"
                rows.append({"claim": str(verdict.claim.number), "difference": part.name, "expected": what,
                             "came out": found, "as expected": agrees})  # fmt: skip
    return rows


def five_real_domains(frame: pd.DataFrame) -> list[dict[str, str]]:
    """What was expected of five real domains, each left out in turn, and what came out.

    Args:
        frame: a tidy table of the preset real.

    Returns:
        The rows of :func:`dglab.analysis.targets.rows_over_targets`, each with what was ``expected``, also of what has
        not run; and the one prediction about a stream of two targets, whose interval is over trainings.
    """
    found = {row["difference"]: row for row in rows_over_targets(frame)}
    empty = dict.fromkeys(next(iter(found.values()), ()), "")
    rows = [
        found.get(one.name, empty | {"about": one.about, "difference": one.name, "over the targets": "not run"})
        | {"expected": what}
        for one, what in zip(COMPARED, EXPECTED_OVER_TARGETS, strict=True)
        if found
    ]
    mixed = select(frame, MLDG, study="selection_policy")
    sib, tn = (per_training(mixed, test) for test in (SIB, TN_5))
    if rows and (sib - tn).notna().any():
        gap = paired_difference(sib, tn)
        targets = "+".join(parse_task(mixed["task"].iloc[0]).targets)
        rows.append({
            **dict.fromkeys(rows[0], ""), "about": f"one stream of {targets}",
            "difference": f"MLDG+{SIB.label} - MLDG+{TN_5.label}", "over the targets": f"{gap}, over trainings",
            "it is": gap.sign, "expected": EXPECTED_MIXED,
        })  # fmt: skip
    return rows


def _gain(rows: pd.DataFrame) -> pd.Series:
    """TN - source BN of each network."""
    return (per_training(select(rows, TN_4)) - per_training(select(rows, SOURCE_BN))).dropna()


def as_rows(predictions: Iterable[Prediction]) -> list[dict[str, Any]]:
    """The predictions as a table, one row each."""
    return [
        {
            "prediction": one.number,
            "difference": one.what,
            "tested on": one.domain,
            "expected": one.expected,
            "came out [95 %]": str(one.difference),
            "outcome": one.outcome,
        }
        for one in predictions
    ]


def _within(
    frame: pd.DataFrame, method: TrainingMethod, better: Normalization, worse: Normalization
) -> Difference | None:
    first, second = (per_training(select(frame, method, test)) for test in (better, worse))
    return paired_difference(first, second) if (first - second).notna().any() else None


def _between(
    frame: pd.DataFrame, test: Normalization, better: TrainingMethod, worse: TrainingMethod
) -> Difference | None:
    first, second = (per_training(select(frame, method, test)) for method in (better, worse))
    return contrast([(1, first), (-1, second)]) if len(first) and len(second) else None
