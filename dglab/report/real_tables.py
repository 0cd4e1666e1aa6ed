"""Domains left out in turn: rows of text, as in :mod:`dglab.report.tables`."""

import pandas as pd

from dglab.analysis.intervals import on_target, per_training
from dglab.experiments.methods import (
    ADABN,
    BN_REESTIMATED,
    SIB,
    SOURCE_BN,
    TN_1,
    TN_4,
    select,
    trained_in,
)
from dglab.report.tables import MISSING, Row, plus_minus
from dglab.tasks import parse_task

SHOWN = (SOURCE_BN, BN_REESTIMATED, TN_1, TN_4, SIB, ADABN)


def left_out_table(frame: pd.DataFrame) -> list[Row]:
    """mIoU on each domain while it is the unseen target, a row for each way of training and of normalization that ran.

    Args:
        frame: a tidy table with the study ``ablation`` on tasks of one target each.

    Returns:
        Rows with ``trained with``, ``normalized by``, a column a target (mean and deviation over trainings), the
        ``mean`` of the targets, empty unless all are there, and ``n``, the trainings that every target of the row has.
    """
    rows = on_target(select(frame, study="ablation"))
    targets = list(rows["target"].unique())
    of_task = rows.drop_duplicates("task").set_index("task")["target"]
    table = []
    for method in trained_in(rows):
        for test in SHOWN:
            known = per_training(rows, method, test)
            if known.empty:
                continue
            each = known.unstack("train_seed").dropna(axis=1)  # tasks x seeds
            each = each if each.shape[1] else each.iloc[:0]  # no training that every target has
            means = each.mean(axis=1).rename(of_task).to_dict()
            spread = each.std(axis=1).rename(of_task).to_dict()
            cells = {t: plus_minus(means[t], spread[t]) if t in means else MISSING for t in targets}
            mean = f"{each.mean(axis=1).mean():.1f}" if len(means) == len(targets) else ""
            table.append({"trained with": method.label, "normalized by": test.label, **cells, "mean": mean,
                          "n": str(each.shape[1]) if len(means) else ""})  # fmt: skip
    return table


def each_left_out(record: pd.DataFrame) -> pd.DataFrame:
    """The rows of tasks with four sources and one target, for the paper's letters, each left out in turn.

    Args:
        record: a tidy table.

    Returns:
        Rows of the studies ``ablation`` and ``source_and_target``, of the studies and training methods that every
        target has; none unless two targets or more have some.
    """
    rows = record[record["study"].isin(("ablation", "source_and_target"))]
    tasks = {task: parse_task(task) for task in rows["task"].unique()}
    four = [task for task, read in tasks.items() if len(read.sources) == 4 and len(read.targets) == 1]
    rows = rows[rows["task"].isin(four)]
    targets = rows["target"].nunique()
    rows = rows[rows.groupby("study")["target"].transform("nunique") == targets]
    of_methods = [method.rows(rows) for method in trained_in(rows)]
    found = [own for own in of_methods if own["target"].nunique() == targets]
    return pd.concat(found) if targets > 1 and found else rows.iloc[:0]
