"""AGG, the plain baseline: one cross-entropy on the union of the sources (Eq. 1-2); and its two-pass control."""

import math

from torch import nn

from dglab.training.losses import (
    Batch,
    Losses,
    LossFunction,
    add_gradient,
    clear_gradient,
    complete,
    shares_of,
    trainable,
)


def agg_backward(
    model: nn.Module, loss_fn: LossFunction, batch: Batch, *, weight: float = 1.0, micro_batches: int = 1
) -> Losses:
    """The gradient of AGG (Eq. 1-2) into ``.grad`` of every trainable parameter, replacing what was there.

    Args:
        model: run in the mode it is in; its parameters stay as they are.
        loss_fn: (what the model returns, labels) -> scalar.
        batch: images N x 3 x H x W of all source domains together, labels N x H x W (0-18, 255).
        weight: factor of the loss. ``agg2`` is ``weight=2``: the control whose step is as long as MLDG's, which
            adds two mean losses.
        micro_batches: run the batch in that many successive parts, one at a time, to save memory. The loss is the mean
            over all labelled pixels as before; BatchNorm normalizes each part by itself.

    In a process group (``torchrun``) ``batch`` is this process's part of the batch, and the loss and ``.grad`` are
    those of the whole, in every process. BatchNorm normalizes each process's part by itself.

    Returns:
        ``ds`` the loss, ``dg`` nan, ``total`` the weighted loss. A batch without a labelled pixel gives zeros.
    """
    theta, parts = trainable(model), shares_of(batch, micro_batches)
    clear_gradient(theta)
    own_loss = add_gradient(model, loss_fn, parts, theta, weight)
    (loss,) = complete(theta, own_loss)
    return Losses(ds=loss, dg=math.nan, total=weight * loss)


def split_backward(
    model: nn.Module, loss_fn: LossFunction, first: Batch, second: Batch, *, micro_batches: int = 1
) -> Losses:
    """The gradient of two losses added, from two separate passes and with no inner step between them.

    The control for everything in MLDG but its inner step: two mean losses, and batch statistics over half the
    images each. Given two halves that mix all domains it also takes the domain split away. Both passes move the
    running statistics of BatchNorm.

    Args:
        model, loss_fn, micro_batches: as in :func:`agg_backward`; process groups, too.
        first, second: the two halves, each (images, labels).

    Returns:
        ``ds`` the first loss, ``dg`` the second, ``total`` their sum.
    """
    theta, parts = trainable(model), [shares_of(half, micro_batches) for half in (first, second)]
    clear_gradient(theta)
    loss_first, loss_second = complete(theta, *(add_gradient(model, loss_fn, half, theta) for half in parts))
    return Losses(loss_first, loss_second, loss_first + loss_second)
