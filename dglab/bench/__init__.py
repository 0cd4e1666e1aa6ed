"""Benches: costs as ratios to the plain case, all measured in one run."""

from typing import Any

from dglab.bench.data import bench_data
from dglab.bench.measure import measure
from dglab.bench.testtime import bench_testtime
from dglab.bench.train import bench_train
from dglab.bench.widgets import bench_widgets
from dglab.utils.errors import InputError
from dglab.utils.machine import refuse_what_cannot_fit

__all__ = ["BENCHES", "bench_data", "bench_testtime", "bench_train", "bench_widgets", "measure", "run_bench"]

BENCHES = {
    "train": bench_train,
    "testtime": bench_testtime,
    "data": lambda model_name, size, device: bench_data(size),  # no network takes part
    "widgets": lambda model_name, size, device: bench_widgets(),  # those that ship, at their size
}


def height_and_width(text: str, least: int) -> tuple[int, int]:
    """``600x600`` -> (600, 600).

    Raises:
        InputError: for another form, or fewer pixels than ``least``.
    """
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdecimal() and len(part) < 10 and int(part) >= least for part in parts):
        raise InputError(f"the size is {text!r}; expected HxW in pixels, each {least} or more, for example 96x192")
    height, width = map(int, parts)
    refuse_what_cannot_fit(
        16 * height * width, f"an image of {height} x {width} and its label", "choose a smaller size"
    )
    return height, width


def run_bench(name: str, model_name: str | None, size: str, device: str) -> list[dict[str, Any]]:
    """A bench by name, the size written as HxW.

    Raises:
        InputError: for an unknown bench or a size in another form.
    """
    if name not in BENCHES:
        raise InputError(f"unknown bench {name!r}; the benches are {', '.join(BENCHES)}")
    return BENCHES[name](model_name, height_and_width(size, least=32), device)
