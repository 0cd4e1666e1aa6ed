"""Cutting the tail: behind the last BatchNorm layer, the current image goes on without its neighbours."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from dglab.testtime.outputs import first_row, is_rows
from dglab.testtime.override import Statistics, input_of, normalizing_with
from dglab.utils.interrupts import unbroken

TAIL_TOLERANCE = 1e-5  # of the largest output, a tenth of what the bank promises


@unbroken
def first_only_after(model: nn.Module, layer: str) -> Iterator[None]:
    """Inside, only the first image of a batch goes on from a BatchNorm layer, normalized by the whole batch's moments.

    After the last BatchNorm layer the images of a batch no longer act on each other, so head and upsampling need not
    be computed for the neighbours. To be entered after ``normalizing_with``, whose hook then sees the whole batch;
    an empty name changes nothing.
    """

    def before_forward(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        return (input_of(args, kwargs)[:1], *args[1:]), dict(list(kwargs.items())[0 if args else 1 :])

    layers = [model.get_submodule(layer)] if layer else []
    handles = [it.register_forward_pre_hook(before_forward, with_kwargs=True) for it in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def find_tail(model: nn.Module, images: Tensor, statistics: Statistics) -> str:
    """The last BatchNorm layer that runs, if cutting the batch there leaves the first image's output as it is.

    Tried once on real images: where it fails or changes the output, as it may where later layers mix in earlier
    features, the answer is an empty name and nothing is cut.
    """
    calls: list[str] = []

    def listen(name: str, x: Tensor, source: Any) -> Any:
        calls.append(name)
        return statistics(name, x, source)

    with normalizing_with(model, listen):
        whole = first_row(model(images), len(images))
    if calls.count(calls[-1]) > 1:
        return ""
    try:
        with normalizing_with(model, statistics), first_only_after(model, calls[-1]):
            cut = first_row(model(images), len(images))
        pairs = [(w, c) for w, c in zip(tree_leaves(whole), tree_leaves(cut), strict=True) if is_rows(w, 1)]
        same = all((w.double() - c.double()).abs().max() <= TAIL_TOLERANCE * w.double().abs().max() for w, c in pairs)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:  # shapes no longer fit: this network cannot be cut here
        return ""
    return calls[-1] if same else ""
