"""Gradient surgery by others: the aggregators of TorchJD, an optional package, in the place of GMP's projection.

Source: Quinton and Rey, "Jacobian Descent for Multi-Objective Optimization", arXiv 2406.16232, and torchjd.org.
"""

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dglab.utils.errors import InputError
from dglab.utils.extras import extras_named


def by_torchjd(aggregator: Callable[[Tensor], Tensor]) -> Callable[..., list[Tensor]]:
    """A variant of GMP: IGDM, then any of TorchJD's aggregators (PCGrad, UPGrad, MGDA, ...) in CAGP's place.

    With alpha_k = alpha_p = 0, which modulate nothing, it is the aggregator alone.

    Args:
        aggregator: 2 x n -> n, for example ``torchjd.aggregation.PCGrad()``. The step is as long as it makes it: PCGrad
            adds both tasks, as GMP does, MGDA takes a mean.
    """

    def step(g_c: list[Tensor], g_d: list[Tensor], of: Any) -> list[Tensor]:
        rows = [factor * torch.cat([one.flatten() for one in g]) for factor, g in ((of.k, g_c), (of.p, g_d))]
        pieces = aggregator(torch.stack(rows)).split([g.numel() for g in g_c])
        return [piece.view_as(g) for piece, g in zip(pieces, g_c, strict=True)]

    return step


def find_aggregator(name: str) -> Callable[[Tensor], Tensor]:
    """One of TorchJD's aggregators, with its default settings.

    Raises:
        InputError: where TorchJD, or what the aggregator needs, is not installed; for another name; or for one that has
            no default settings.
    """
    with extras_named(f"the variant torchjd:{name}"):
        aggregation = importlib.import_module("torchjd.aggregation")
    kind = getattr(aggregation, name, None)
    if not (isinstance(kind, type) and issubclass(kind, aggregation.Aggregator)):
        raise InputError(f"TorchJD has no aggregator {name!r}; expected for example PCGrad, UPGrad or MGDA")
    try:
        return kind()
    except (TypeError, ImportError) as error:
        raise InputError(
            f"TorchJD's {name} cannot be made from its name alone ({error}); install what it needs, or pass "
            "variant=by_torchjd(...) with an aggregator that you have made"
        ) from error
