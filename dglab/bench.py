"""Timings as ratios to the plain case, measured in one run: rounds that visit every case in turn, then medians."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from dglab.classes import NUM_CLASSES
from dglab.errors import InputError
from dglab.models import build_model
from dglab.testtime import ImageBank, SourceNormalization, TargetNormalization
from dglab.training import agg_backward, cross_entropy, mldg_backward, split_backward

Case = Callable[[], Any]


def measure(cases: dict[str, Case], *, device: str, rounds: int = 20, warmup: int = 3) -> list[dict[str, Any]]:
    """Time each case in every round, so that a slow moment of the machine hits all alike.

    Args:
        cases: name -> what to time; the first is the plain one.
        device: where they run; CUDA is synchronized.
        rounds: how often.
        warmup: rounds before, not counted.

    Returns:
        One record a case: ``seconds`` (median), ``spread`` (interquartile range over median), ``ratio`` (median over
        rounds of the ratio to the plain case of the same round), ``peak_mib`` on CUDA.
    """
    times: dict[str, list[float]] = {name: [] for name in cases}
    peaks: dict[str, float] = {}
    on_cuda = torch.device(device).type == "cuda"
    for current in range(warmup + rounds):
        for name, case in cases.items():
            if on_cuda:
                torch.cuda.synchronize(device)
                torch.cuda.reset_peak_memory_stats(device)
            start = time.perf_counter()
            case()
            if on_cuda:
                torch.cuda.synchronize(device)
                peaks[name] = torch.cuda.max_memory_allocated(device) / 2**20
            if current >= warmup:
                times[name].append(time.perf_counter() - start)
    plain = next(iter(times.values()))
    return [
        {
            "case": name,
            "seconds": statistics.median(values),
            "spread": _spread(values),
            "ratio": statistics.median(t / p for t, p in zip(values, plain, strict=True)),
            "peak_mib": peaks.get(name),
        }
        for name, values in times.items()
    ]


def _spread(values: list[float]) -> float:
    low, middle, high = statistics.quantiles(values, n=4)
    return (high - low) / middle


def bench_train(model_name: str, size: tuple[int, int], device: str, *, per_domain: int = 3) -> list[dict[str, Any]]:
    """One step of AGG, split and MLDG (order 1 and 2) on the same images from four domains."""
    model = build_model(model_name, seed=0).to(device).train()
    images, labels = _images(4 * per_domain, size, device)
    whole, half = (images, labels), 2 * per_domain
    first, second = (images[:half], labels[:half]), (images[half:], labels[half:])
    return measure(
        {
            "AGG": lambda: agg_backward(model, cross_entropy, whole),
            "split": lambda: split_backward(model, cross_entropy, first, second),
            "MLDG, order 1": lambda: mldg_backward(model, cross_entropy, first, second, 0.01),
            "MLDG, order 2": lambda: mldg_backward(model, cross_entropy, first, second, 0.01, order=2),
        },
        device=device,
    )


def bench_testtime(model_name: str, size: tuple[int, int], device: str) -> list[dict[str, Any]]:
    """One image under plain inference, source BN, TN and SIB (M = 4, a full bank). The paper: SIB 2.83 times plain."""
    model: nn.Module = build_model(model_name, seed=0).to(device).eval()
    images, _ = _images(8, size, device)
    image = images[:1]
    source, target = SourceNormalization(model), TargetNormalization(model)
    bank = ImageBank(model, neighbors=4, capacity=8)
    bank.observe(images)

    def plain() -> Tensor:
        with torch.no_grad():
            return model(image)

    return measure(
        {
            "plain": plain,
            "source BN": lambda: source(image),
            "TN, M = 1": lambda: target(image),
            "SIB, M = 4, joint": lambda: bank(image),
        },
        device=device,
    )


def _images(count: int, size: tuple[int, int], device: str) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, 3, *size, generator=generator)
    labels = torch.randint(0, NUM_CLASSES, (count, *size), generator=generator)
    return images.to(device), labels.to(device)


BENCHES = {"train": bench_train, "testtime": bench_testtime}


def run_bench(name: str, model_name: str, size: str, device: str) -> list[dict[str, Any]]:
    """A bench by name, the size written as HxW.

    Raises:
        InputError: for an unknown bench or a size in another form.
    """
    if name not in BENCHES:
        raise InputError(f"unknown bench {name!r}; the benches are {', '.join(BENCHES)}")
    parts = size.lower().split("x")
    if len(parts) != 2 or not all(part.isdecimal() and int(part) >= 32 for part in parts):
        raise InputError(f"the size is {size!r}; expected HxW in pixels, each 32 or more, for example 96x192")
    return BENCHES[name](model_name, (int(parts[0]), int(parts[1])), device)
