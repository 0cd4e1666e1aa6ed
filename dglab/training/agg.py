"""AGG, the plain baseline: one cross-entropy on the union of the sources (Eq. 1-2); and its two-pass control."""

import math

from torch import nn

from dglab.training.losses import Batch, Losses, LossFunction, gradient, loss_of, trainable


def agg_backward(model: nn.Module, loss_fn: LossFunction, batch: Batch, *, weight: float = 1.0) -> Losses:
    """The gradient of AGG (Eq. 1-2) into ``.grad`` of every trainable parameter, replacing what was there.

    Args:
        model: run in the mode it is in; its parameters stay as they are.
        loss_fn: (what the model returns, labels) -> scalar.
        batch: images N x 3 x H x W of all source domains together, labels N x H x W (0-18, 255).
        weight: factor of the loss. ``agg2`` is ``weight=2``: the control whose step is as long as MLDG's, which
            adds two mean losses.

    Returns:
        ``ds`` the loss, ``dg`` nan, ``total`` the weighted loss. A batch without a labelled pixel gives zeros.
    """
    theta = trainable(model)
    loss = loss_of(model, loss_fn, batch)
    total = weight * loss
    for parameter, g in zip(theta, gradient(total, theta), strict=True):
        parameter.grad = g
    return Losses(ds=loss.item(), dg=math.nan, total=total.item())


def split_backward(model: nn.Module, loss_fn: LossFunction, first: Batch, second: Batch) -> Losses:
    """The gradient of two losses added, from two separate passes and with no inner step between them.

    The control for everything in MLDG but its inner step: two mean losses, and batch statistics over half the
    images each. Given two halves that mix all domains it also takes the domain split away. Both passes move the
    running statistics of BatchNorm.

    Args:
        model, loss_fn: as in :func:`agg_backward`.
        first, second: the two halves, each (images, labels).

    Returns:
        ``ds`` the first loss, ``dg`` the second, ``total`` their sum.
    """
    theta = trainable(model)
    loss_first = loss_of(model, loss_fn, first)
    grad_first = gradient(loss_first, theta)  # now, so that only one graph is alive at a time
    loss_second = loss_of(model, loss_fn, second)
    for parameter, g1, g2 in zip(theta, grad_first, gradient(loss_second, theta), strict=True):
        parameter.grad = g1 + g2
    return Losses(loss_first.item(), loss_second.item(), loss_first.item() + loss_second.item())
