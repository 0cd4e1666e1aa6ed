"""What AGG and MLDG share: one mean loss over a batch, its gradient, and how both add up.

A batch may be spread over several processes, and over several micro-batches in each. The loss stays the mean over the
labelled pixels of all of them: each part's mean counts by its *share* of these pixels. Loss, gradient and the products
with a Hessian are linear in the parts, so each is computed part by part, weighed, and added up: in ``.grad`` over the
parts of a process, by :func:`complete` over the processes.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dglab.classes import IGNORED
from dglab.models import logits_of
from dglab.training.distributed import sum_in_place, sum_over_processes
from dglab.utils.errors import InputError

Batch = tuple[Tensor, Tensor]  # images N x 3 x H x W, labels N x H x W
Parts = Sequence[tuple[Batch, float]]  # of a batch, each with its share of the labelled pixels: from shares_of
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


def shares_of(batch: Batch, micro_batches: int) -> Parts:
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


def add_gradient(
    model: nn.Module,
    loss_fn: LossFunction,
    parts: Parts,
    theta: Sequence[Tensor],
    weight: float = 1.0,
) -> Tensor:
    """Run a batch forward and backward, and add the gradient of ``weight`` times its loss to ``.grad``.

    Added in place and part by part: one graph is alive at a time, and one gradient.

    Args:
        model, loss_fn: as in :func:`dglab.training.agg.agg_backward`.
        parts: this process's part of the batch, from :func:`shares_of`. BatchNorm normalizes each part by itself.
        theta: the parameters.
        weight: of the loss in the gradient.

    Returns:
        The loss, unweighted: what this process adds to the mean over the labelled pixels of all processes.
    """
    losses = []
    for batch, share in parts:
        loss = loss_of(model, loss_fn, batch, share)
        (weight * loss).backward(inputs=theta)
        losses.append(loss.detach())
    return torch.stack(losses).sum()


def clear_gradient(theta: Sequence[Tensor]) -> None:
    """Empty ``.grad``, for losses to add theirs."""
    for parameter in theta:
        parameter.grad = None


def take_gradient(theta: Sequence[Tensor]) -> list[Tensor]:
    """What ``.grad`` holds, zero where no loss has depended on the parameter; ``.grad`` is empty after it."""
    taken = [torch.zeros_like(p) if p.grad is None else p.grad for p in theta]
    clear_gradient(theta)
    return taken


def complete(theta: Sequence[Tensor], *losses: Tensor) -> list[float]:
    """Make ``.grad`` and the losses, so far this process's, those of the whole batch: the same in every process."""
    grad = take_gradient(theta)
    sum_in_place([*losses, *grad])
    for parameter, g in zip(theta, grad, strict=True):
        parameter.grad = g
    return [loss.item() for loss in losses]


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that a step may move, each once.

    Raises:
        InputError: if there is none.
    """
    theta = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not theta:
        raise InputError(
            f"no parameter of the {type(model).__name__} requires a gradient, so there is nothing to train; set "
            "requires_grad on those that are to move"
        )
    return theta
