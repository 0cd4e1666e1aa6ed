"""Write the tables of README.md and docs/ from the recorded results: ``python -m tools.write_tables``.

Each stands between ``<!-- table NAME -->`` and ``<!-- end -->``. A test compares the files with what this would write,
and so it does with the means that the report's sliders of real streets move over.
"""

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from dglab import paper
from dglab.analysis.doses import (
    dose_predictions,
    dose_table,
    photometric_means,
    photometric_predictions,
    selection_means,
)
from dglab.analysis.intervals import seed_correlation, summarize
from dglab.analysis.predictions import OF_THREE, as_rows, expected_of_claims, five_real_domains, train_as_you_test
from dglab.analysis.stability import move_rows, verdict_rows
from dglab.analysis.targets import rows_over_targets
from dglab.analysis.twice_the_steps import twice_the_steps
from dglab.experiments.methods import (
    AGG,
    BN_REESTIMATED,
    BY_DOMAIN,
    MLDG,
    MLDG_INNER_0,
    SIB,
    SOURCE_BN,
    TN_1,
    TN_4,
    Normalization,
    select,
    trained_in,
)
from dglab.experiments.recorded import AGAIN, REAL, read_recorded, recorded_table
from dglab.report import gmp_tables, overview
from dglab.report import tables as of_paper
from dglab.report.moving import SHIFTS
from dglab.report.real_tables import each_left_out, left_out_table
from dglab.report.tables import plus_minus
from tools import advice_tables, guard_tables
from tools.goals_table import goals

ROOT = Path(__file__).parents[1]
FILES = ("README.md", "docs/results.md", "docs/guard.md", "docs/when_to_use.md", "docs/test_time.md")
MAIN = "G+S+I+M->C"
_TABLE = re.compile(r"(<!-- table (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def markdown(rows: Sequence[dict[str, object]]) -> str:
    """Rows as a table of Markdown."""
    if not rows:
        return "(not recorded yet)\n"
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    return "".join(f"| {' | '.join(str(cell) for cell in line)} |\n" for line in lines)


def methods_by_normalization(
    frame: pd.DataFrame, tests: Sequence[Normalization], study: str = "ablation"
) -> list[dict[str, object]]:
    """mIoU ± deviation over trainings on the main task: a row a training method."""
    rows = select(frame, study=study, task=MAIN)
    found = []
    for method in trained_in(rows):
        trainings = rows.loc[method.rows(rows).index, "train_seed"].nunique()
        cells = {test.label: _cell(select(rows, method, test)) for test in tests}
        found.append({"trained with": method.label, "trainings": trainings, **cells})
    return found


def _cell(rows: pd.DataFrame) -> str:
    found = summarize(rows, ["task"]) if len(rows) else rows
    return plus_minus(found["mean"].iloc[0], found["train_sd"].iloc[0]) if len(found) else ""


def as_you_test(rows: pd.DataFrame) -> list[dict[str, object]]:
    """Source BN / re-estimated / TN (M = 4) on each domain, means over trainings, for rows of the same sources."""
    unseen = set(rows["target"])
    found = []
    for method in trained_in(rows):
        own = method.rows(rows)
        cells = {}
        for domain in rows["domain_evaluated"].unique():
            means = [select(own, test, metric="miou", domain_evaluated=domain)["value"].mean()
                     for test in (SOURCE_BN, BN_REESTIMATED, TN_4)]  # fmt: skip
            place = "unseen" if domain in unseen else "a source"
            known = not np.isnan(means).any()
            cells[f"{domain} ({place})"] = " / ".join(f"{mean:.1f}" for mean in means) if known else ""
        found.append({"trained with": method.label, "trainings": own["train_seed"].nunique(), **cells})
    return found


def seed_correlations(frame: pd.DataFrame) -> list[dict[str, object]]:
    """Whether trainings of one seed resemble each other across methods: the intraclass correlation, two sources."""
    rows = frame[frame["study"] == "train_as_you_test"]
    groups = (
        ("AGG, MLDG", (AGG, MLDG)),
        ("AGG, by domain", (AGG, BY_DOMAIN)),
        ("by domain, MLDG inner 0, MLDG", (BY_DOMAIN, MLDG_INNER_0, MLDG)),
    )
    found = []
    for test in (SOURCE_BN, TN_4):
        for name, methods in groups:
            cells = {}
            for domain in rows["domain_evaluated"].unique():
                own = select(rows, test, domain_evaluated=domain)
                cells[domain] = f"{seed_correlation(pd.concat([method.rows(own) for method in methods])):+.2f}"
            found.append({"normalized by": test.label, "methods": name, **cells})
    return found


def learning_curve() -> list[dict[str, object]]:
    """mIoU on the sources' validation images by the number of steps, at one rate: docs/tries.csv.

    Means are over the seeds that both methods have tried.
    """
    tried = pd.read_csv(ROOT / "docs" / "tries.csv").query("backbone == 'thin-fpn' and lr == 0.2")
    each = tried.pivot(index=["steps", "seed"], columns="method", values="mean").dropna()
    return [
        {"steps": steps, **{name.upper(): f"{part[name].mean():.1f}" for name in part}, "seeds": len(part)}
        for steps, part in each.groupby("steps")
    ]


def claims(rows: Sequence[dict[str, object]]) -> list[dict[str, object]]:
    """Each claim with its verdicts, and its primary parts: the paper's own difference, and ours at each scale."""
    found = [row for row in rows if not str(row[overview.PARTS]).startswith("beside it")]
    return [row if row[overview.PARTS] == overview.VERDICT else row | {"claim": ""} for row in found]  # its text once


def with_quick(
    make: Callable[[pd.DataFrame], list[dict[str, str]]], full: pd.DataFrame, quick: pd.DataFrame
) -> list[dict[str, object]]:
    """A table of GMP at full, and the results on the unseen target at quick beside it."""
    ours = "ours, unseen target"
    other = {next(iter(row.values())): row[ours] for row in make(quick)}
    found = []
    for row in make(full):
        first = next(iter(row.values()))
        pairs = [(name, cell) for name, cell in row.items() if name != ours]
        names = {"row - GMP [95 %]": "full: row - GMP [95 %]", "ours, the sources": "full, the sources"}
        place = list(row).index(ours)
        pairs = [(names.get(name, name), cell) for name, cell in pairs]
        pairs[place:place] = [("full, unseen target", row[ours]), ("quick, unseen target", other.get(first, ""))]
        found.append(dict(pairs))
    return found


def policies(scales: dict[str, pd.DataFrame], with_paper: bool) -> list[dict[str, str]]:
    """Table 5, with or without the paper's own figures."""
    return of_paper.at_scales(partial(of_paper.policy_table, of_paper=with_paper), scales)


def published(name: str) -> list[dict[str, object]]:
    """A table of the paper as printed."""
    return paper.table(name).astype(object).fillna("").to_dict("records")


def tables() -> dict[str, Callable[[], list[dict[str, object]]]]:
    """What can stand between the marks, by name."""
    quick, full = recorded_table("quick"), recorded_table("full")
    both = {"full": full, "quick": quick}
    on_gpu, real = recorded_table("standard"), recorded_table("real", REAL)
    three = {"full": full, "standard": on_gpu, "quick": quick}
    short = (SOURCE_BN, TN_1, TN_4, SIB)
    whole = (SOURCE_BN, BN_REESTIMATED, TN_1, TN_4, SIB)
    return {
        "quick_short": lambda: methods_by_normalization(quick, short),
        "quick": lambda: methods_by_normalization(quick, whole),
        "standard": lambda: methods_by_normalization(on_gpu, whole),
        "full": lambda: methods_by_normalization(full, whole),
        "as_you_test": lambda: as_you_test(select(full, study="train_as_you_test")),
        "as_you_test_three": lambda: as_you_test(full[(full["study"] == "ablation") & full["task"].isin(OF_THREE)]),
        "domains_per_pass": lambda: of_paper.domains_per_pass_table(full),
        "predictions": lambda: as_rows(train_as_you_test(full)),
        "claims": lambda: claims(overview.claim_rows(three)),
        "expected": lambda: expected_of_claims(full),
        "goals": lambda: goals(full, quick),
        "learning_curve": learning_curve,
        "seeds": lambda: seed_correlations(full),
        "networks": lambda: overview.networks_table(full),
        "table_1": lambda: of_paper.at_scales(of_paper.bound_table, both),
        "table_1_printed": lambda: published("table01_state_of_the_art"),
        "table_2": lambda: of_paper.per_class_table(full),
        "categories": lambda: of_paper.categories_table(full),
        "table_3": lambda: of_paper.tasks_table(full),
        "common_rate": lambda: of_paper.common_rate_table(full),
        "figure_5": lambda: of_paper.batch_size_table(full),
        "table_4": lambda: of_paper.split_table(full),
        "table_5": lambda: policies(both, with_paper=True),
        "table_6": lambda: of_paper.at_scales(of_paper.style_layer_table, both),
        "table_7": lambda: of_paper.at_scales(of_paper.queue_size_table, both),
        "table_8": lambda: of_paper.sources_table(full),
        "table_8_fixed": lambda: of_paper.sources_table(full, fixed=True),
        "table_9": lambda: of_paper.stacked(of_paper.source_and_target_table, three),
        "table_9_printed": of_paper.published_source_and_target,
        "table_10": lambda: of_paper.backbones_table(full),
        "inference": of_paper.inference_table,
        "inference_on_gpu": of_paper.inference_on_gpu_table,
        "table_11": lambda: of_paper.at_scales(of_paper.adabn_tasks, three),
        "left_out": lambda: left_out_table(each_left_out(full)),
        "left_out_targets": lambda: rows_over_targets(each_left_out(full)),
        "style_dose": lambda: dose_table(full),
        "style_dose_predictions": lambda: as_rows(dose_predictions(full)),
        "stability": lambda: move_rows(full, read_recorded(AGAIN)) if AGAIN.exists() else [],
        "stability_verdicts": lambda: verdict_rows(full, read_recorded(AGAIN)) if AGAIN.exists() else [],
        "real": lambda: [] if real is None else left_out_table(real),
        "real_expected": lambda: [] if real is None else five_real_domains(real),
        "photometric": lambda: [] if real is None else photometric_means(real),
        "photometric_selection": lambda: [] if real is None else selection_means(real),
        "photometric_predictions": lambda: [] if real is None else as_rows(photometric_predictions(real)),
        "twice_scores": lambda: methods_by_normalization(full, whole, "twice_the_steps"),
        "twice_the_steps": lambda: twice_the_steps(full),
        "real_mixed": lambda: [] if real is None else policies({"real": real}, with_paper=False),
        **guard_tables.tables(),
        "gmp_claims": lambda: claims(overview.gmp_claim_rows(both)),
        "gmp_ablation": lambda: with_quick(gmp_tables.ablation_rows, full, quick),
        "gmp_strategies": lambda: with_quick(gmp_tables.strategies_rows, full, quick),
        "gmp_branches": lambda: gmp_tables.branches_rows(full),
        "gmp_branches_m": lambda: gmp_tables.branches_rows(full, number=1),
        "gmp_shift": lambda: gmp_tables.shift_rows(full),
        "gmp_missing": lambda: gmp_tables.missing_rows(full),
        "domain_conflict": lambda: gmp_tables.conflict_rows(full),
        **advice_tables.tables(),
    }


def renewed(text: str) -> str:
    """A page with its tables written anew."""
    known = tables()
    return _TABLE.sub(lambda match: match[1] + markdown(known[match[2]]()) + match[3], text)


def main() -> None:
    """Write them."""
    for name in FILES:
        path = ROOT / name
        path.write_text(renewed(path.read_text(encoding="utf-8")), encoding="utf-8")
        print(name)
    guard_tables.shift_means().to_csv(SHIFTS, index=False)


if __name__ == "__main__":
    main()
