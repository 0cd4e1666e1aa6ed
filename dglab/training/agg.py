"""AGG, the plain baseline: one cross-entropy on the union of the sources (Eq. 1-2); and its controls."""

import math
from collections.abc import Sequence

from torch import nn

from dglab.training.losses import Batch, Losses, LossFunction
from dglab.training.mean_loss import MeanLoss, set_gradient


def agg_backward(
    model: nn.Module, loss_fn: LossFunction, batch: Batch, *, weight: float = 1.0, micro_batches: int = 1
) -> Losses:
    """The gradient of AGG (Eq. 1-2) into ``.grad`` of every trainable parameter, replacing what was there.

    Args:
        model: run in its current mode; its parameters do not change.
        loss_fn: (what the model returns, labels) -> scalar.
        batch: images N x 3 x H x W of all source domains together, labels N x H x W (0-18, 255).
        weight: factor of the loss. ``agg2`` is ``weight=2``, a control: MLDG adds two mean losses, so that its step at
            the same learning rate is twice as long as AGG's.
        micro_batches: run the batch in so many successive parts, one at a time, to save memory. The loss is still the
            mean over all labelled pixels; BatchNorm normalizes each part by itself.

    In a process group (``torchrun``) ``batch`` is this process's share of the global batch; loss and ``.grad`` are
    those of the global batch, in every process. BatchNorm normalizes each process's share by itself.

    Returns:
        ``ds`` the loss, ``dg`` nan, ``total`` the weighted loss. A batch without a labelled pixel gives zeros.

    Raises:
        InputError: for more micro-batches than images, or a model without a trainable parameter.
    """
    ds = MeanLoss(model, loss_fn, [batch], micro_batches)
    loss, grad = ds.value_and_grad()  # Eq. 2
    set_gradient(ds.theta, [g.mul_(weight) for g in grad])
    return Losses(ds=loss.item(), dg=math.nan, total=weight * loss.item())


def by_domain_backward(
    model: nn.Module, loss_fn: LossFunction, domains: Sequence[Batch], *, weight: float = 1.0, micro_batches: int = 1
) -> Losses:
    """The gradient of AGG's loss with one forward pass per domain, so that BatchNorm normalizes each domain by its own
    statistics.

    The control for what MLDG's domain split alone does to BatchNorm. The loss is the mean over all labelled pixels, as
    AGG's. Every pass updates the running statistics.

    Args:
        model, loss_fn, weight, micro_batches: as in :func:`agg_backward`, also in a process group.
        domains: a batch (images, labels) of each source domain.

    Returns:
        As :func:`agg_backward`.
    """
    # AGG's lines but for the batches: MeanLoss runs each by itself. AGG is not written as the special case of a single
    # batch, because it is the method that readers look for first, and it should show all that it does.
    ds = MeanLoss(model, loss_fn, domains, micro_batches)
    loss, grad = ds.value_and_grad()
    set_gradient(ds.theta, [g.mul_(weight) for g in grad])
    return Losses(ds=loss.item(), dg=math.nan, total=weight * loss.item())


def split_backward(
    model: nn.Module, loss_fn: LossFunction, first: Batch, second: Batch, *, micro_batches: int = 1
) -> Losses:
    """The gradient of the sum of two losses, from two forward passes without an inner step between them.

    The control for all of MLDG except its inner step: two mean losses, and batch statistics of half the images each.
    With halves that mix all domains it has no domain split either. Both passes update BatchNorm's running statistics.

    Args:
        model, loss_fn, micro_batches: as in :func:`agg_backward`, also in a process group.
        first, second: the two halves, each (images, labels).

    Returns:
        ``ds`` the first loss, ``dg`` the second, ``total`` their sum.
    """
    halves = [MeanLoss(model, loss_fn, [half], micro_batches) for half in (first, second)]
    (loss_1, grad_1), (loss_2, grad_2) = (half.value_and_grad() for half in halves)
    set_gradient(halves[0].theta, [g.add_(h) for g, h in zip(grad_1, grad_2, strict=True)])
    return Losses(loss_1.item(), loss_2.item(), loss_1.item() + loss_2.item())
