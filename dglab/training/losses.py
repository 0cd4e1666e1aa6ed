"""The loss of a batch: the mean cross-entropy over its labelled pixels (Eq. 2), and the losses that a step reports."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from dglab.classes import IGNORED
from dglab.models import logits_of

Batch = tuple[Tensor, Tensor]  # images N x 3 x H x W, labels N x H x W
MultiDomainBatch = tuple[Tensor, Tensor]  # the same of D domains: images B x D x 3 x H x W, labels B x D x H x W
LossFunction = Callable[[Any, Tensor], Tensor]  # (what the model returns, labels) -> scalar


class Losses(NamedTuple):
    """The losses of one step, as numbers; nan where a term does not exist.

    ``ds`` is the loss on the (meta-)train batch, ``dg`` that on the meta-test batch, ``total`` the one whose gradient
    is in ``.grad``.
    """

    ds: float
    dg: float
    total: float


def cross_entropy(output: Any, labels: Tensor) -> Tensor:
    """Mean cross-entropy over the labelled pixels (Eq. 2).

    Args:
        output: what the model returns; its logits are N x 19 x H x W.
        labels: N x H x W integers, 0-18, and 255 for pixels that do not count.

    Returns:
        A scalar; nan where no pixel is labelled.
    """
    logits = logits_of(output)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # half precision is too coarse for a mean
    pixels = logits.movedim(1, -1).reshape(-1, logits.shape[1])  # (N H W) x 19: much faster on a CPU, the same mean
    return F.cross_entropy(pixels, labels.long().reshape(-1), ignore_index=IGNORED)
