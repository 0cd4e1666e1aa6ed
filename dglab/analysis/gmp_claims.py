"""The four claims of GMP's paper, each with our result: differences with intervals, and a verdict.

By the rules of docs/predictions.md: a primary part for each thing that a claim says, a model of means over trainings,
intervals that hold together. Every part is a difference between networks that were trained in different ways.
"""

import pandas as pd

from dglab.analysis.claims import LEVEL, Part, Verdict
from dglab.analysis.gmp_published import GAIN_OF_BRANCH, NOT_AT_HAND, published_difference
from dglab.analysis.intervals import contrast, on_sources, on_target, per_domain, per_training
from dglab.experiments.gmp_methods import (
    ALONE,
    BRANCHES,
    CAGP,
    FUSED,
    GMP,
    IGDM,
    JOINT,
    OGM_GE,
    UNIFIED,
    UNSEEN,
    MultimodalMethod,
)
from dglab.experiments.methods import SOURCE_BN
from dglab.paper import Claim
from dglab.tasks import parse_task

GMP_CLAIMS: tuple[Claim, ...] = (
    Claim(1, "joint training leaves each branch below its training alone, and GMP narrows the gap", "Table 1"),
    Claim(2, "IGDM and CAGP each help, and add up", "Table 4"),
    Claim(3, "modulation of each task by itself beats one coefficient for both", "Table 4"),
    Claim(4, "balancing by source accuracy (OGM-GE) helps the sources more than the target", "Table 2"),
)  # fmt: skip


def judge_gmp(frame: pd.DataFrame) -> list[Verdict]:
    """Every claim beside the tidy table.

    Args:
        frame: tidy rows of ``gmp_ablation``, ``gmp_strategies`` and ``gmp_branches``; what it does not hold is
            ``not run``. Of several tasks the main one decides (see :func:`of_task`), and only tests under source BN
            count.
    """
    rows = SOURCE_BN.rows(frame[(frame["metric"] == "miou") & frame["without"].isna()])
    ablation, strategies, branches = (of_task(rows, f"gmp_{name}") for name in ("ablation", "strategies", "branches"))
    found = (_claim_1(branches), _claim_2(ablation), _claim_3(ablation), _claim_4(strategies))
    return [Verdict(claim, parts) for claim, parts in zip(GMP_CLAIMS, found, strict=True)]


def of_task(frame: pd.DataFrame, study: str, number: int = 0) -> pd.DataFrame:
    """The rows of a study on its main task, or on its second, which a preset that runs every table has.

    By name, in whatever order the rows stand: with C unseen, then with M; a study of other domains has its tasks in the
    order of its rows.

    Args:
        frame: a tidy table.
        study: its name.
        number: of the task, from 0.
    """
    rows = frame[frame["study"] == study]
    targets = dict(zip(rows["task"], rows["target"], strict=True))
    named = [[task for task, target in targets.items() if target == unseen] for unseen in UNSEEN]
    others = [[task] for task, target in targets.items() if target not in UNSEEN]
    places = [*named, *others] if any(named) else others  # with M alone, its place is the second
    return rows[rows["task"].isin(places[number] if number < len(places) else [])]


def _claim_1(rows: pd.DataFrame) -> list[Part]:
    rows, gaps, printed = on_target(rows), [], []
    for name, view in BRANCHES.items():
        alone, joint, balanced = (per_training(rows, method, view) for method in (ALONE[name], JOINT, GMP))
        gaps += [(f"{name}: alone - joint", alone, joint), (f"{name}: GMP - joint", balanced, joint)]
        printed += [NOT_AT_HAND, GAIN_OF_BRANCH[name]]
    return [part._replace(published=text) for part, text in zip(_parts(*gaps), printed, strict=True)]


def _claim_2(rows: pd.DataFrame) -> list[Part]:
    return _of_ablation(rows, (IGDM, JOINT), (CAGP, JOINT), (GMP, IGDM), (GMP, CAGP))


def _claim_3(rows: pd.DataFrame) -> list[Part]:
    return _of_ablation(rows, (GMP, UNIFIED))


def _claim_4(rows: pd.DataFrame) -> list[Part]:
    """The gap between sources and target for each network, as one value: its two scores are not independent.

    Of networks that were tested on all their sources: a mean over others is no mean over the same domains.
    """
    sources = [letter for task in rows["task"].unique() for letter in parse_task(task).sources]
    ogm_ge, joint = (
        (
            per_domain(on_sources(rows), method, FUSED).unstack().reindex(columns=sources).dropna().mean(axis=1)
            - per_training(on_target(rows), method, FUSED)
        ).dropna()
        for method in (OGM_GE, JOINT)
    )
    return _parts(("sources - target, OGM-GE - joint", ogm_ge, joint))


def _of_ablation(rows: pd.DataFrame, *pairs: tuple[MultimodalMethod, MultimodalMethod]) -> list[Part]:
    """Differences of the fused classifier on the target, beside those of the printed table."""
    rows = on_target(rows)
    gaps = [
        (" - ".join(_NAMES.get(method, method.label) for method in pair), *(per_training(rows, m, FUSED) for m in pair))
        for pair in pairs
    ]
    return [
        part._replace(published=published_difference(*pair)) for part, pair in zip(_parts(*gaps), pairs, strict=True)
    ]


_NAMES = {JOINT: "joint", IGDM: "IGDM", CAGP: "CAGP", GMP: "GMP"}  # of parts; others by their label


def _parts(*gaps: tuple[str, pd.Series, pd.Series]) -> list[Part]:
    """Parts whose intervals hold jointly (Bonferroni); the published figure is not at hand unless a caller has it."""
    level = 1 - (1 - LEVEL) / len(gaps)
    return [
        Part(name, contrast([(1, better), (-1, worse)], level=level) if len(better) and len(worse) else None,
             published=NOT_AT_HAND)
        for name, better, worse in gaps
    ]  # fmt: skip
