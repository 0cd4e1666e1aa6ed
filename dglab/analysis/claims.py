"""The paper's claims, each with our result: differences with intervals, and a verdict.

The primary tests, their margins and what we expected stand in docs/predictions.md, written before the runs.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from dglab import paper
from dglab.analysis.intervals import (
    MARGIN,
    Difference,
    common_seeds,
    contrast,
    on_sources,
    paired_difference,
    per_domain,
    per_training,
)
from dglab.analysis.published import published_differences
from dglab.experiments.methods import (
    ADABN,
    AGG,
    BY_DOMAIN,
    MLDG,
    QIB,
    SIB,
    SOURCE_BN,
    TN_1,
    TN_4,
    TN_5,
    Normalization,
    Shown,
    TrainingMethod,
)
from dglab.paper import CLAIMS, Claim
from dglab.tasks import DOMAIN_NAMES

LEVEL = 0.95
ACCURACY_MARGIN = 5.0  # points of selection accuracy
RATIO_MARGIN = -np.log(0.8)  # of deviations: a ratio from 0.8 to 1.25
NETWORKS = 3  # architectures, for claim 11
FOUR = "+".join(list(DOMAIN_NAMES)[:4])
MAIN, THREE, ONE = f"{FOUR}->C", "G+S+I->C", "G->C"  # tasks of the paper

Values = Sequence[tuple[float, pd.Series]]  # (weight, one value per training)


class Part(NamedTuple):
    """One part of a claim as a difference that the claim says is positive; None where the table lacks its rows.

    In points of mIoU, unless the name says otherwise.
    """

    name: str
    difference: Difference | None
    primary: bool = True  # False: shown, but not part of the verdict
    whole: bool = True  # False: on less than the test demands, for example on fewer settings
    published: str = ""  # the same difference in the paper's own tables, where they have it

    def __str__(self) -> str:
        return f"{self.name}: {'not run' if self.difference is None else self.difference}"


class Verdict(NamedTuple):
    """A claim, its parts, and the verdict on it."""

    claim: Claim
    parts: list[Part]

    @property
    def tested(self) -> str:
        """``holds``, ``contradicted``, ``no difference``, ``open``, or ``not run``, by the primary parts that have run.

        One that is contradicted contradicts the claim.
        """
        found = {part.difference.verdict for part in self.parts if part.primary and part.difference is not None}
        order = ("contradicted", "open", "no difference", "holds")
        return next((verdict for verdict in order if verdict in found), "not run")

    @property
    def complete(self) -> bool:
        """Whether every primary part has run, on all that its test demands."""
        return all(part.difference is not None and part.whole for part in self.parts if part.primary)

    @property
    def outcome(self) -> str:
        """The verdict for reading; it says so where parts have not run."""
        return self.tested if self.complete or self.tested == "not run" else f"{self.tested}, as far as tested"


def judge(frame: pd.DataFrame) -> list[Verdict]:
    """A verdict on every claim of the paper from the tidy table; ``not run`` where the table lacks its rows."""
    verdicts = []
    for claim in CLAIMS:
        printed = published_differences(claim.number)
        parts = [part._replace(published=printed.get(part.name, "")) for part in _TESTS[claim.number](frame)]
        verdicts.append(Verdict(claim, parts))
    return verdicts


def _level(parts: int) -> float:
    """The level of each of several intervals that hold jointly (Bonferroni)."""
    return 1 - (1 - LEVEL) / parts


class _Rows:
    """The rows of one study, and the comparisons that the claims make of them."""

    def __init__(self, frame: pd.DataFrame, study: str, *, parts: int = 1, **fields: object) -> None:
        rows = frame[frame["study"] == study]
        for column, value in fields.items():
            rows = rows[rows[column] == value]
        self.rows, self.level = rows, _level(parts)

    def of(self, *shown: Shown, metric: str = "miou", aggregate: str = "mean", **fields: object) -> pd.Series:
        """One value per training."""
        return per_training(self.rows, *shown, metric=metric, aggregate=aggregate, **fields)

    def pairs(self, better: pd.Series, worse: pd.Series, margin: float = MARGIN) -> Difference | None:
        """The difference of two tests of the same networks."""
        common = (better - worse).notna().any()
        return paired_difference(better, worse, level=self.level, margin=margin) if common else None

    def trainings(self, groups: Values) -> Difference | None:
        """The contrast of networks trained in different ways."""
        there = all(len(values) for _, values in groups)
        return contrast(groups, level=self.level) if there else None


def _claim_1(frame: pd.DataFrame) -> list[Part]:
    four, three = (_Rows(frame, "ablation", parts=2, task=task) for task in (_main(frame), THREE))
    groups = [(1, four.of(MLDG, SOURCE_BN)), (-1, four.of(AGG, SOURCE_BN))]
    fewer = [(-1, three.of(MLDG, SOURCE_BN)), (1, three.of(AGG, SOURCE_BN))]
    return [
        Part("MLDG - AGG", four.trainings(groups)),
        Part("that with four sources - that with three", four.trainings(groups + fewer)),
    ]


def _claim_2(frame: pd.DataFrame) -> list[Part]:
    def at(tn: Normalization, study: str = "ablation", *, primary: bool = False) -> list[Part]:
        rows = _Rows(frame, study, parts=2, task=_main(frame))
        agg = rows.pairs(rows.of(AGG, SOURCE_BN), rows.of(AGG, tn))
        mldg = rows.pairs(rows.of(MLDG, tn), rows.of(MLDG, SOURCE_BN))
        named = (("AGG - AGG+TN", agg), ("MLDG+TN - MLDG", mldg))
        return [Part(f"{name} (M = {tn.batch_size})", gap, primary) for name, gap in named]

    return [*at(TN_4, primary=True), *at(TN_1), *at(_tn(16), "batch_size")]  # 16: in Figure 5's study at every scale


def _claim_3(frame: pd.DataFrame) -> list[Part]:
    rows, many = (_Rows(frame, study, parts=2, task=_main(frame)) for study in ("ablation", "arrival_orders"))
    orders = rows if many.rows.empty else many
    sib = rows.of(MLDG, SIB)
    spread, spread_sib = (np.log(orders.of(MLDG, test, aggregate="std").replace(0, np.nan)) for test in (TN_5, SIB))
    beside = [
        Part(f"MLDG+SIB - MLDG+TN (M = {tn.batch_size})", rows.pairs(sib, rows.of(MLDG, tn)), primary=False)
        for tn in (TN_1, TN_4)
    ]
    return [
        Part("MLDG+SIB - MLDG+TN (M = 5)", rows.pairs(sib, rows.of(MLDG, TN_5))),
        Part("log of the ratio of deviations over orders, TN (M = 5) : SIB",
             orders.pairs(spread, spread_sib, RATIO_MARGIN)),
        *beside,
    ]  # fmt: skip


def _claim_4(frame: pd.DataFrame) -> list[Part]:
    rows = _Rows(frame, "meta_split", parts=2, task=_main(frame))
    half, *others = (rows.of(MLDG, SOURCE_BN, split=split) for split in ("half", "3:1", "1:3", "random"))
    gaps = [rows.trainings([(1, half), (-1, other)]) for other in others]
    return [Part("2:2 - 3:1", gaps[0]), Part("2:2 - 1:3", gaps[1]), Part("2:2 - cut anywhere", gaps[2], primary=False)]


def _claim_5(frame: pd.DataFrame) -> list[Part]:
    rows = _Rows(frame, "batch_size", parts=2, task=_main(frame))
    sizes = sorted(rows.rows["batch_size"].dropna().unique())
    gaps = {size: rows.pairs(rows.of(AGG, SOURCE_BN), rows.of(AGG, _tn(size))) for size in sizes}
    best = min((gap for gap in gaps.values() if gap is not None), key=lambda gap: gap.mean, default=None)
    return [
        Part("MLDG+TN (M = 1) - MLDG", rows.pairs(rows.of(MLDG, TN_1), rows.of(MLDG, SOURCE_BN))),
        Part("AGG - the best of AGG+TN over M", best),
        *(Part(f"AGG - AGG+TN (M = {size})", gap, primary=False) for size, gap in gaps.items()),
    ]


def _claim_6(frame: pd.DataFrame) -> list[Part]:
    rows = _Rows(frame, "selection_policy", parts=2)
    tn = rows.of(MLDG, TN_5)
    return [
        Part("TN (M = 5) - QIB", rows.pairs(tn, rows.of(MLDG, QIB))),
        Part("SIB - TN (M = 5)", rows.pairs(rows.of(MLDG, SIB), tn)),
        Part("SIB - TN (M = 4)", rows.pairs(rows.of(MLDG, SIB), rows.of(MLDG, TN_4)), primary=False),
    ]


def _claim_7(frame: pd.DataFrame) -> list[Part]:
    rows = _Rows(frame, "style_layer", parts=2)
    return [
        Part("selection accuracy of layer 1 - the best other layer's, percentage points",
             _against_best(rows, "style_layer", "1", "selection_accuracy", ACCURACY_MARGIN)),
        Part("mIoU of layer 1 - the best other layer's", _against_best(rows, "style_layer", "1", "miou", MARGIN)),
    ]  # fmt: skip


def _claim_8(frame: pd.DataFrame) -> list[Part]:
    rows = _Rows(frame, "queue_size")
    printed = set(paper.table("table07_queue_size")["queue_size"])  # 4 to 512: the test is on all of them
    gap = _against_best(rows, "capacity", 128, "miou", MARGIN)
    return [Part("Q = 128 - the best other Q", gap, whole=printed <= set(rows.rows["capacity"].dropna()))]


def _claim_9(frame: pd.DataFrame) -> list[Part]:
    def gap(study: str, test: Normalization, method: TrainingMethod = MLDG) -> Difference | None:
        four, one = _Rows(frame, study, task=_main(frame)), _Rows(frame, study, task=ONE)
        return four.trainings([(1, four.of(method, test)), (-1, one.of(AGG, test))])

    fixed = _Rows(frame, "source_domains_fixed", task=_main(frame))
    by_domain, agg = fixed.of(BY_DOMAIN, SIB), fixed.of(AGG, SIB)
    return [
        Part("four sources - G alone, images fixed, with SIB", gap("source_domains_fixed", SIB)),
        Part("the same, images grow", gap("source_domains", SIB), primary=False),
        Part("images fixed, source BN", gap("source_domains_fixed", SOURCE_BN), primary=False),
        Part("images grow, source BN", gap("source_domains", SOURCE_BN), primary=False),
        Part("images fixed, with SIB: four sources by domain - G alone", gap("source_domains_fixed", SIB, BY_DOMAIN),
             primary=False),
        Part("images fixed, with SIB: four sources by domain - AGG", fixed.trainings([(1, by_domain), (-1, agg)]),
             primary=False),
    ]  # fmt: skip


def _claim_10(frame: pd.DataFrame) -> list[Part]:
    rows = _Rows(on_sources(frame), "source_and_target", parts=2, task=_main(frame))

    def gap(method: TrainingMethod, better: Normalization, worse: Normalization) -> Difference | None:
        gaps = per_domain(rows.rows, method, better) - per_domain(rows.rows, method, worse)
        of_network = gaps.dropna().groupby(["task", "train_seed"]).mean()  # on the sources that both were tested on
        return rows.pairs(of_network, 0 * of_network)

    return [
        Part("MLDG+SIB - MLDG on the sources", gap(MLDG, SIB, SOURCE_BN)),
        Part("AGG - AGG+SIB on the sources", gap(AGG, SOURCE_BN, SIB)),
    ]


def _claim_11(frame: pd.DataFrame) -> list[Part]:
    """The preset's own network decides nothing alone: the claim is about others."""
    study = frame[(frame["study"] == "backbones") & (frame["task"] == _main(frame))]
    names = list(study["backbone"].unique())
    own = frame.loc[frame["study"] == "ablation", "backbone"].unique().tolist() or names[:1]
    others = set(names) - set(own)
    names += [f"network {number} of {NETWORKS}" for number in range(len(names) + 1, NETWORKS + 1)]  # not run yet
    parts = []
    for name in names:
        rows = _Rows(study, "backbones", parts=len(names), backbone=name)
        gap = rows.trainings([(1, rows.of(MLDG, SIB)), (-1, rows.of(AGG, SOURCE_BN))])
        parts.append(Part(f"MLDG+SIB - AGG, {name}", gap, primary=bool(others) or name not in own))
    return parts


def _claim_12(frame: pd.DataFrame) -> list[Part]:
    rows = _Rows(frame, "adabn", task=_main(frame))
    return [Part("MLDG+SIB - MLDG+AdaBN", rows.pairs(rows.of(MLDG, SIB), rows.of(MLDG, ADABN)))]


def _main(frame: pd.DataFrame) -> str:
    """The paper's main task; in a table without it, the one task of its ablation."""
    tasks = frame.loc[frame["study"] == "ablation", "task"].unique()
    return tasks[0] if len(tasks) and MAIN not in tasks else MAIN


def _tn(size: int) -> Normalization:
    return Normalization(f"TN, M = {size}", "tn", size, prior=0.0)


def _against_best(rows: _Rows, column: str, value: object, metric: str, margin: float) -> Difference | None:
    """One setting against the best of the others, the one with the highest mean, over the seeds that all have."""
    there = common_seeds(rows.rows[rows.rows["metric"] == metric], column)
    each = {other: per_training(there, metric=metric, **{column: other}) for other in there[column].unique()}
    own = each.pop(value, None)
    if own is None or not each:
        return None
    return rows.pairs(own, max(each.values(), key=lambda values: values.mean()), margin)


_TESTS: dict[int, Callable[[pd.DataFrame], list[Part]]] = {
    1: _claim_1, 2: _claim_2, 3: _claim_3, 4: _claim_4, 5: _claim_5, 6: _claim_6, 7: _claim_7, 8: _claim_8,
    9: _claim_9, 10: _claim_10, 11: _claim_11, 12: _claim_12,
}  # fmt: skip
