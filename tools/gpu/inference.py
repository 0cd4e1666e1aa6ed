"""The step inference: what target statistics cost beside plain inference, in time and in memory."""

from contextlib import nullcontext

import torch

from dglab.bench.testtime import bench_testtime
from dglab.experiments.record import describe_machine
from tools.gpu.plan import Book
from tools.gpu.tables import add_rows, read_rows

PRECISIONS = ("32", "bf16")  # as torch sets them: on a GPU convolutions in float32 round to TF32
OF_CASE = ("case", "seconds", "spread", "ratio", "peak_mib", "peak_ratio", "bank_mib", "paper_ratio")
COLUMNS = ("machine", "torch", "backbone", "size", "precision", "rounds", *OF_CASE)


def time_inference(book: Book) -> bool:
    """One row a case and precision in ``inference.csv``: medians over rounds that visit each case in turn, the device
    waited for before and after each, ratios to plain inference of the same round, and memory beyond the network's.

    Returns:
        Whether all were timed: False where time ran out before.
    """
    plan, path = book.plan, book.out / "inference.csv"
    common = {
        "machine": describe_machine(book.device), "torch": torch.__version__, "backbone": plan.backbone,
        "size": f"{plan.size[0]}x{plan.size[1]}", "rounds": plan.rounds,
    }  # fmt: skip
    kind = torch.device(book.device).type
    for precision in PRECISIONS:
        own = {**common, "precision": precision}
        if any(all(row[name] == str(value) for name, value in own.items()) for row in read_rows(path)):
            continue
        if book.seconds_left < 60:
            return False
        with torch.autocast(kind, torch.bfloat16) if precision == "bf16" else nullcontext():
            records = bench_testtime(plan.backbone, plan.size, book.device, rounds=plan.rounds)
        rows = [{**own, **{name: _shown(record.get(name, "")) for name in OF_CASE}} for record in records]
        add_rows(path, COLUMNS, rows, (*own, "case"))
        for row in rows:
            print(f"{precision:4} {row['case']}: {row['seconds']} s, {row['ratio']} of plain, {row['peak_mib']} MiB")
    return True


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
