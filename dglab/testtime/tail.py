"""Cutting the tail: after the last BatchNorm layer, only the current image is computed, without its neighbours."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from dglab.testtime.outputs import Rows, parts_of
from dglab.testtime.override import Statistics, input_of, normalizing_with
from dglab.utils.interrupts import DeferredInterrupts, interrupt_safe_contextmanager

TAIL_TOLERANCE = 1e-5  # of the largest output; a hundredth of what the bank promises
TAIL_TOLERANCE_DOUBLE = 1e-10  # a tenth of what it promises in double precision


class Tail(NamedTuple):
    """Where a network can be cut: its last BatchNorm layer ("": nowhere), and all BatchNorm layers in their order."""

    layer: str
    path: list[str]


NOWHERE = Tail("", [])


@interrupt_safe_contextmanager
def first_only_after(model: nn.Module, layer: str) -> Iterator[None]:
    """Within the block, a BatchNorm layer passes on only the first image, normalized by the moments of the full batch.

    After the last BatchNorm layer the images of a batch no longer interact, so that head and upsampling need not be
    computed for the neighbours. To be entered after ``normalizing_with``, whose hook then gets the full batch.
    """

    def before_forward(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        return (input_of(args, kwargs)[:1], *args[1:]), dict(list(kwargs.items())[0 if args else 1 :])

    handle = model.get_submodule(layer).register_forward_pre_hook(before_forward, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def noting(statistics: Statistics, path: list[str]) -> Statistics:
    """The same statistics; the layers that ask for them are appended to ``path``, in the order in which they run."""

    def note(name: str, x: Tensor, source: Any) -> Any:
        path.append(name)
        return statistics(name, x, source)

    return note


class CutFailed(Exception):
    """Other layers have run than when the cut was tried, or the network has failed."""


def run_cut(model: nn.Module, images: Tensor, statistics: Statistics, tail: Tail) -> Any:
    """The output of the network with the batch cut at the tail.

    Raises:
        CutFailed: if the output may not be that of the first image.
    """
    path: list[str] = []
    try:
        with normalizing_with(model, noting(statistics, path)), first_only_after(model, tail.layer):
            output = model(images)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:  # shapes do not fit: another path through the network, or an error of its own
        raise CutFailed from error
    if path != tail.path:
        raise CutFailed
    return output


def find_tail(model: nn.Module, images: Tensor, statistics: Statistics, rows: Rows) -> Tail:
    """The last BatchNorm layer that runs, if cutting the batch there does not change the first image's output.

    Tried once on real images: where it fails or changes the output, as when later layers use earlier features, nothing
    is cut. Nor is it where the network reads values (``if x.mean() > 0``): its control flow may depend on them, and
    differ between the first image and the batch.
    """
    path: list[str] = []
    with normalizing_with(model, noting(statistics, path)), DeferredInterrupts(), _Reads() as reads, _Exports(reads):
        output = model(images)
    tail = Tail(path[-1], path)
    if reads.any or path.count(tail.layer) > 1:
        return NOWHERE
    whole = parts_of(rows.first(output, images))
    try:
        cut = parts_of(rows.first(run_cut(model, images, statistics, tail), images))
    except CutFailed:
        return NOWHERE
    return tail if whole.keys() == cut.keys() and all(_same(whole[name], cut[name]) for name in whole) else NOWHERE


def _same(whole: Any, cut: Any) -> bool:
    if not isinstance(whole, Tensor) or not isinstance(cut, Tensor):
        return type(whole) is type(cut)
    if whole.shape != cut.shape or whole.numel() == 0:
        return whole.shape == cut.shape
    wide = torch.complex128 if whole.is_complex() else torch.float64
    tolerance = TAIL_TOLERANCE_DOUBLE if whole.dtype == wide else TAIL_TOLERANCE
    a, b = whole.to(wide), cut.to(wide)
    return bool((a - b).abs().max() <= tolerance * a.abs().max())


class _Reads(TorchDispatchMode):
    """Notes whether Python reads the values of a tensor, as ``if x.mean() > 0`` does.

    Inside, Ctrl-C must be deferred: torch removes its modes during each operator and would not restore them.
    """

    READING = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.equal.default)
    any = False

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        self.any |= function in self.READING
        return function(*args, **(kwargs or {}))


class _Exports(TorchFunctionMode):
    """Notes the same for methods that export values without a torch operator."""

    EXPORTING = (Tensor.tolist, Tensor.numpy, Tensor.__array__, Tensor.data_ptr)

    def __init__(self, reads: _Reads) -> None:
        super().__init__()
        self._reads = reads

    def __torch_function__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        self._reads.any |= function in self.EXPORTING
        return function(*args, **(kwargs or {}))
