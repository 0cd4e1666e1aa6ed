"""How a case is measured: time in rounds that visit every case in turn, then medians; memory in a run of its own."""

import gc
import statistics
import time
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dglab.classes import NUM_CLASSES

Case = Callable[[], Any]


def measure(
    cases: dict[str, Case], *, device: str, rounds: int = 20, warmup: int = 3, enough_s: float = 120
) -> list[dict[str, Any]]:
    """Time each case in every round, so that a slow moment of the machine hits all alike.

    Args:
        cases: name -> what to time; the first is the plain one.
        device: where they run; CUDA is synchronized.
        rounds: how often, at most.
        warmup: rounds before, not counted.
        enough_s: seconds after which five rounds do.

    Returns:
        One record a case: ``seconds`` (median), ``spread`` (interquartile range over median), ``ratio`` (median over
        rounds of the ratio to the plain case of the same round), ``peak_mib`` (:func:`peak_memory`) and ``peak_ratio``
        to the plain case's.
    """
    times: dict[str, list[float]] = {name: [] for name in cases}
    on_cuda = torch.device(device).type == "cuda"
    begin = time.perf_counter()
    for current in range(warmup + rounds):
        if current >= warmup + 5 and time.perf_counter() - begin > enough_s:
            break
        for name, case in cases.items():
            if on_cuda:
                torch.cuda.synchronize(device)
            start = time.perf_counter()
            case()
            if on_cuda:
                torch.cuda.synchronize(device)
            if current >= warmup:
                times[name].append(time.perf_counter() - start)
    peaks = {name: peak_memory(case, device) for name, case in cases.items()}
    plain, plain_peak = next(iter(times.values())), next(iter(peaks.values()))
    return [
        {
            "case": name,
            "seconds": statistics.median(values),
            "spread": _spread(values),
            "ratio": statistics.median(t / p for t, p in zip(values, plain, strict=True)),
            "peak_mib": peaks[name] / 2**20,
            "peak_ratio": peaks[name] / plain_peak if plain_peak else float("nan"),
        }
        for name, values in times.items()
    ]


def _spread(values: list[float]) -> float:
    low, middle, high = statistics.quantiles(values, n=4)
    return (high - low) / middle


def peak_memory(case: Case, device: str) -> int:
    """The most memory that tensors hold at a time for one run of a case, in bytes, beyond what they hold before.

    On a CPU they are counted one by one: what an operator needs within itself is left out, and so is everything else
    that goes on in this process, so that the figure is the same at every call.
    """
    gc.collect()  # so that reference cycles of earlier cases are not freed during this one
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        case()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with _Held() as held:
        case()
    return held.peak


class _Held(TorchDispatchMode):
    """Counts the bytes of tensors made while it is active; earlier ones are only subtracted, when they are freed."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: dict[int, weakref.ref] = {}  # by id; storages cannot be compared
        objects = gc.get_objects()  # a million; taking the types of all at once takes a tenth of the time
        kinds = {kind for kind in set(map(type, objects)) if issubclass(kind, Tensor)}
        tensors = [thing for thing in objects if type(thing) in kinds]
        self._note([*tensors, *(tensor.grad for tensor in tensors if tensor.is_leaf)], new=False)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._note(tree_leaves((args, kwargs)), new=False)
        result = func(*args, **(kwargs or {}))
        self._note(tree_leaves(result), new=True)
        self.peak = max(self.peak, self.now)
        return result

    def _note(self, things: list[Any], *, new: bool) -> None:
        for tensor in things:
            if isinstance(tensor, Tensor) and id(storage := tensor.untyped_storage()) not in self._known:
                key, size = id(storage), storage.nbytes()

                def gone(_: weakref.ref, key: int = key, size: int = size) -> None:
                    del self._known[key]
                    self.now -= size

                self._known[key] = weakref.ref(storage, gone)
                self.now += size if new else 0


def random_images(count: int, size: tuple[int, int], device: str) -> tuple[Tensor, Tensor]:
    """Images count x 3 x H x W in [0, 1] and labels count x H x W (0-18), drawn from a fixed seed."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, 3, *size, generator=generator)
    labels = torch.randint(0, NUM_CLASSES, (count, *size), generator=generator)
    return images.to(device), labels.to(device)
