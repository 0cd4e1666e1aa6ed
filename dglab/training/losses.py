"""What AGG and MLDG share: one mean loss over a batch, its gradient, and how both add up.

A batch may be spread over several processes, and over several micro-batches in each. The loss stays the mean over the
labelled pixels of all of them: each part's mean counts by its *share* of these pixels. Loss, gradient and the products
with a Hessian are linear in the parts, so each is computed part by part, weighed, and summed.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dglab.classes import IGNORED
from dglab.errors import InputError
from dglab.models import logits_of
from dglab.training.distributed import sum_over_processes

Batch = tuple[Tensor, Tensor]  # images N x 3 x H x W, labels N x H x W
LossFunction = Callable[[Any, Tensor], Tensor]  # (what the model returns, labels) -> scalar


class Losses(NamedTuple):
    """The losses of one step, as numbers; nan where a term does not exist.

    ``ds`` is the loss on the (meta-)train part, ``dg`` the one on the meta-test part, ``total`` what the gradient
    belongs to.
    """

    ds: float
    dg: float
    total: float


def cross_entropy(output: Any, labels: Tensor) -> Tensor:
    """Mean cross-entropy over the labelled pixels (Eq. 2).

    Args:
        output: what the model returns; its logits are N x 19 x H x W.
        labels: N x H x W integers, 0-18, and 255 for pixels that do not count.
    """
    logits = logits_of(output)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # half precision is too coarse for a mean
    pixels = logits.movedim(1, -1).reshape(-1, logits.shape[1])  # (N H W) x 19: much faster on a CPU, the same mean
    return F.cross_entropy(pixels, labels.long().reshape(-1), ignore_index=IGNORED)


def shares_of(batch: Batch, micro_batches: int) -> list[tuple[Batch, float]]:
    """A batch in parts, each with its share of the labelled pixels of all parts in all processes.

    Args:
        batch: this process's images N x 3 x H x W and labels N x H x W.
        micro_batches: the number of parts, 1 to N; successive images, equally many if N allows.

    Raises:
        InputError: for fewer images than parts.
    """
    images, labels = batch
    if not 1 <= micro_batches <= max(1, len(images)):
        raise InputError(
            f"micro_batches is {micro_batches} for a batch of {len(images)} images; expected 1 to {len(images)}"
        )
    parts = list(zip(images.tensor_split(micro_batches), labels.tensor_split(micro_batches), strict=True))
    counts = torch.stack([(part != IGNORED).sum() for _, part in parts])
    *labelled, total = torch.cat([counts, *sum_over_processes([counts.sum(0, keepdim=True)])]).tolist()
    return [(part, count / max(1, total)) for part, count in zip(parts, labelled, strict=True)]


def loss_of(model: nn.Module, loss_fn: LossFunction, batch: Batch, share: float = 1.0) -> Tensor:
    """One forward pass and its loss times ``share``; zero, not the mean over nothing, if no pixel is labelled."""
    images, labels = batch
    output = model(images)
    if share == 0:
        return _zero(model, output, images)
    return share * loss_fn(output, labels)


def _zero(model: nn.Module, output: Any, images: Tensor) -> Tensor:
    """Zero, as a loss, in the precision that the other parts' losses have."""
    zero = images.new_zeros((), dtype=torch.promote_types(images.dtype, torch.float32)).requires_grad_()
    if any(isinstance(module, nn.SyncBatchNorm) for module in model.modules()):
        # The backward passes of the other processes wait for this one's, so there must be one.
        logits = logits_of(output)
        return zero + torch.where(torch.zeros_like(logits, dtype=torch.bool), logits, 0).sum()
    return zero


def mean_loss(
    model: nn.Module, loss_fn: LossFunction, parts: Sequence[tuple[Batch, float]], theta: Sequence[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """The mean loss over the labelled pixels of a batch and its gradient: the same in every process.

    Args:
        model, loss_fn: as in :func:`dglab.training.agg.agg_backward`.
        parts: the batch, from :func:`shares_of`. BatchNorm normalizes each part by itself.
        theta: the parameters.

    Returns:
        The loss, a scalar, and its gradient for each tensor of ``theta``.
    """

    def of(batch: Batch, share: float) -> list[Tensor]:
        loss = loss_of(model, loss_fn, batch, share)
        return [loss.detach(), *gradient(loss, theta)]  # now, so that only one graph is alive at a time

    loss, *grad = add_up(of(batch, share) for batch, share in parts)
    return loss, grad


def add_up(parts: Iterable[Sequence[Tensor]]) -> list[Tensor]:
    """Lists of tensors, summed place by place over the parts of a batch and then over all processes."""
    total: list[Tensor] = []
    for part in parts:
        total = [a + b for a, b in zip(total, part, strict=True)] if total else list(part)
    return sum_over_processes(total)


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that a step may move, each once."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def gradient(
    outputs: Tensor | Sequence[Tensor],
    theta: Sequence[Tensor],
    weights: Sequence[Tensor] | None = None,
    *,
    create_graph: bool = False,
) -> list[Tensor]:
    """The gradient of a loss for each tensor of ``theta``, zero for one that the loss does not depend on.

    Args:
        outputs: the loss; or several tensors, whose inner product with ``weights`` is the loss.
        theta: the parameters.
        weights: constants of the outputs' shapes.
        create_graph: so that the gradient can be differentiated in turn.
    """
    found = torch.autograd.grad(outputs, theta, weights, allow_unused=True, create_graph=create_graph)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(theta, found, strict=True)]
