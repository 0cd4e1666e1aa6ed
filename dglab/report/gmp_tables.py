"""The tables of GMP: ours beside the published figures, as rows of text."""

import pandas as pd

from dglab.analysis.gmp_claims import of_task
from dglab.analysis.gmp_published import DATA_SETS, GRAD_BLENDING, Printed, published_table_2, published_table_4
from dglab.analysis.intervals import contrast, on_sources, on_target, paired_difference, per_training
from dglab.experiments.gmp_methods import (
    ABLATION,
    ALONE,
    BOTH,
    BRANCHES,
    CAGP,
    FIXED_C,
    FIXED_D,
    FUSED,
    GMP,
    IGDM,
    JOINT,
    OGM_GE,
    PCGRAD,
    UNIFIED,
    UNSEEN,
    MultimodalMethod,
)
from dglab.experiments.methods import (
    MLDG,
    MLDG_INNER_0,
    PROJECTED,
    SIB,
    SOURCE_BN,
    TN_1,
    TN_4,
    Shown,
    TrainingMethod,
)
from dglab.report.tables import MISSING, plus_minus

STUDIES = ("gmp_ablation", "gmp_strategies", "gmp_branches")
Row = dict[str, str]
Named = MultimodalMethod | TrainingMethod | str  # a name alone: published, and not built here
LOST = "target - sources [95 %]"
IN_TABLE_2: tuple[Named, ...] = (JOINT, OGM_GE, GRAD_BLENDING, FIXED_C, FIXED_D, PCGRAD, GMP)


def ablation_rows(frame: pd.DataFrame) -> list[Row]:
    """Table 4: each half alone, one coefficient for both tasks, and GMP; empty without results.

    Args:
        frame: a tidy table.
    """
    rows = of_task(frame, "gmp_ablation")
    if rows.empty:
        return []
    balances = {JOINT: ("", ""), IGDM: ("yes", ""), CAGP: ("", "yes"), UNIFIED: ("one for both tasks", "yes"),
                GMP: ("yes", "yes")}  # fmt: skip
    return [
        {
            "variant": method.label, "IGDM": balances[method][0], "CAGP": balances[method][1],
            "trainings": _trainings(rows, method),
            "ours, unseen target": _cell(on_target(rows), method, FUSED, SOURCE_BN),
            **_published(published_table_4(), method),
        }
        for method in ABLATION
    ]  # fmt: skip


def strategies_rows(frame: pd.DataFrame) -> list[Row]:
    """Table 2: other ways to balance and to project, on the unseen target and on the sources.

    Those that it does not have stand there only where they have been run. The differences from GMP are on the unseen
    target.
    """
    rows = of_task(frame, "gmp_strategies")
    if rows.empty:
        return []
    return [
        {
            "strategy": f"{method} (not built here)" if isinstance(method, str) else method.label,
            "trainings": _trainings(rows, method),
            "ours, unseen target": _cell(on_target(rows), method, FUSED, SOURCE_BN),
            "row - GMP [95 %]": _gap(on_target(rows), method, GMP, FUSED, SOURCE_BN),
            "ours, the sources": _cell(on_sources(rows), method, FUSED, SOURCE_BN),
            **_published(published_table_2(), method),
        }
        for method in IN_TABLE_2
        if method in published_table_2() or len(method.rows(rows))
    ]


def branches_rows(frame: pd.DataFrame, number: int = 0) -> list[Row]:
    """Each branch by how it was trained, under every normalization on the unseen target.

    The last column is paired: the same networks, normalized in two ways.

    Args:
        frame: a tidy table.
        number: of the study's task, from 0.
    """
    rows = of_task(frame, "gmp_branches", number)
    if rows.empty:
        return []
    target, found = on_target(rows), []
    for view in (*BRANCHES.values(), FUSED):
        for method in (*ALONE.values(), JOINT, GMP) if view is FUSED else (ALONE[view.branch], JOINT, GMP):
            source_bn, tn = (per_training(target, method, view, test) for test in (SOURCE_BN, TN_4))
            common = (tn - source_bn).notna().any()
            found.append({
                "read by": view.label, "trained": method.label,
                "on the sources": _cell(on_sources(rows), method, view, SOURCE_BN),
                **{test.label: _cell(target, method, view, test) for test in (SOURCE_BN, TN_1, TN_4, SIB)},
                "TN, M = 4 - source BN": str(paired_difference(tn, source_bn)) if common else MISSING,
            })  # fmt: skip
    return found


def shift_rows(frame: pd.DataFrame) -> list[Row]:
    """What each modality loses towards an unseen domain, in a network of this modality alone, under source BN.

    Whether the design of :mod:`dglab.data.streets.sensors` comes out: depth should lose less than RGB towards C, and
    more towards M. Two rows of each domain are of networks; in the last column they are paired, the same ones on target
    and sources. The third is the difference of both, over trainings: in the last column below 0 where RGB loses more.

    Args:
        frame: a tidy table; each task of ``gmp_branches`` that it has counts.
    """
    found = []
    for rows in (of_task(frame, "gmp_branches", number) for number in range(len(UNSEEN))):
        if rows.empty:
            continue
        unseen, scores = {"unseen": rows["target"].iloc[0]}, {method: _shift(rows, method) for method in ALONE.values()}
        for method, (sources, target, lost) in scores.items():
            found.append(unseen | {
                "network": method.label, "trainings": _trainings(rows, method), "on the sources": _mean(sources),
                "on the target": _mean(target),
                LOST: str(paired_difference(target, sources)) if len(lost) else MISSING,
            })  # fmt: skip
        gaps = [_contrast(rgb, depth) for rgb, depth in zip(*scores.values(), strict=True)]
        found.append(unseen | {
            "network": " - ".join(ALONE), "trainings": "", "on the sources": gaps[0], "on the target": gaps[1],
            LOST: gaps[2],
        })  # fmt: skip
    return found


def _shift(rows: pd.DataFrame, method: MultimodalMethod) -> tuple[pd.Series, pd.Series, pd.Series]:
    """mIoU of each training on the sources, on the target, and how much more it is there."""
    sources, target = (per_training(on(rows), method, FUSED, SOURCE_BN) for on in (on_sources, on_target))
    return sources, target, (target - sources).dropna()


def missing_rows(frame: pd.DataFrame) -> list[Row]:
    """What the fused classifier does on the target when a sensor fails, under source BN."""
    rows = of_task(frame, "gmp_branches")
    if rows.empty:
        return []
    failing = {f"without {name}": rows[(rows["without"] == name).fillna(False)] for name in BOTH}
    return [
        {
            "trained": method.label,
            "both": _cell(on_target(rows), method, FUSED, SOURCE_BN),
            **{title: _cell(part, method, SOURCE_BN) for title, part in failing.items()},
        }
        for method in (JOINT, GMP)
    ]


def conflict_rows(frame: pd.DataFrame) -> list[Row]:
    """Projection between domains in the inner step's place, images alone, on the unseen target.

    Each is compared with the same split of the domains without either.
    """
    rows = of_task(frame, "domain_conflict")
    if rows.empty:
        return []
    return [
        {
            "trained with": method.label,
            "trainings": str(method.rows(rows)["train_seed"].nunique()),
            **{test.label: _cell(rows, method, test) for test in (SOURCE_BN, TN_1)},
            **{f"- {MLDG_INNER_0.label}, {test.label}": _gap(rows, method, MLDG_INNER_0, test)
               for test in (SOURCE_BN, TN_1)},
        }
        for method in (MLDG_INNER_0, PROJECTED, MLDG)
    ]  # fmt: skip


def _gap(rows: pd.DataFrame, method: Named, base: Shown, *shown: Shown) -> str:
    """mIoU over that of a base, both over trainings, with its interval; empty for the base itself."""
    if isinstance(method, str) or method is base:
        return ""
    return _contrast(*(per_training(rows, one, *shown) for one in (method, base)))


def _contrast(own: pd.Series, other: pd.Series) -> str:
    return str(contrast([(1, own), (-1, other)])) if len(own) and len(other) else ""


def has_gmp(frame: pd.DataFrame) -> bool:
    """Whether a tidy table has rows of GMP's studies."""
    return bool(frame["study"].isin(STUDIES).any())


def _trainings(rows: pd.DataFrame, method: Named) -> str:
    return "" if isinstance(method, str) else str(method.rows(rows)["train_seed"].nunique())


def _cell(rows: pd.DataFrame, method: Named, *shown: Shown) -> str:
    """mIoU ± deviation over trainings, each the mean over the domains that it was tested on."""
    if isinstance(method, str):
        return ""
    return _mean(per_training(rows, method, *shown))


def _mean(values: pd.Series) -> str:
    return plus_minus(values.mean(), values.std()) if len(values) else MISSING


def _published(table: Printed, method: Named) -> Row:
    return {
        f"published, {name}": f"{table[method][column]:.2f}" if method in table else ""
        for column, name in DATA_SETS.items()
    }
