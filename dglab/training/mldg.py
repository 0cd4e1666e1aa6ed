"""MLDG: each step rehearses a domain shift (Eq. 3-6, Algorithm 1)."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from dglab.training.checks import check_mldg
from dglab.training.losses import Batch, Losses, LossFunction
from dglab.training.mean_loss import MeanLoss, set_gradient
from dglab.utils.interrupts import interrupt_safe_contextmanager


def mldg_backward(
    model: nn.Module,
    loss_fn: LossFunction,
    meta_train: Batch,
    meta_test: Batch,
    inner_lr: float,
    alpha: float = 1.0,
    order: int = 1,
    running_stats: str = "meta_train",
    *,
    micro_batches: int = 1,
) -> Losses:
    """The gradient of MLDG (Eq. 6) into ``.grad`` of every trainable parameter, replacing what was there.

    Args:
        model: run in its current mode; its parameters are bit for bit the same afterwards.
        loss_fn: (what the model returns, labels) -> scalar.
        meta_train, meta_test: (images N x 3 x H x W, labels N x H x W with 0-18, 255), of disjoint domains.
        inner_lr: eta, the learning rate of the inner step, 0 or more; 0 is the control without one.
        alpha: weight of L_ds (Eq. 6; Algorithm 1 of the paper weights L_dg instead, the same at alpha = 1).
        order: 2 differentiates L_dg through the inner step (Eq. 6 as written, MAML); 1 takes the gradient of L_dg
            at theta' as if it were one at theta (the authors' public code), which is cheaper and the default.
        running_stats: the passes that update BatchNorm's running statistics: ``"meta_train"`` (the authors' code),
            ``"both"`` or ``"none"``.
        micro_batches: run each of the two batches in so many parts, see :func:`dglab.training.agg.agg_backward`, also
            for process groups. The inner step is always that of all meta-train images, the same in every process. With
            more than one micro-batch, order 2 runs the forward passes of meta-train twice.

    Returns:
        ``ds`` = L_ds, ``dg`` = L_dg, ``total`` = L_dg + alpha * L_ds.

    Raises:
        InputError: for another order or another name in ``running_stats``, for order 2 of a compiled model, for more
            micro-batches than images, or a model without a trainable parameter.
    """
    check_mldg(model, order, running_stats)
    ds = MeanLoss(model, loss_fn, [meta_train], micro_batches, update_running_stats=running_stats != "none")
    dg = MeanLoss(model, loss_fn, [meta_test], micro_batches, update_running_stats=running_stats == "both")

    loss_ds, grad_ds = ds.value_and_grad(for_hessian=order == 2)  # Eq. 3
    with inner_step(ds.theta, grad_ds, inner_lr):  # Eq. 4
        loss_dg, grad = dg.value_and_grad()  # Eq. 5, at theta'
    if order == 2:  # d theta' / d theta = I - eta H, where H is the Hessian of L_ds at theta
        for g, hv in zip(grad, ds.hessian_vector_product(grad), strict=True):
            g.sub_(hv, alpha=inner_lr)
    set_gradient(ds.theta, [g.add_(s, alpha=alpha) for g, s in zip(grad, grad_ds, strict=True)])  # Eq. 6

    loss_ds, loss_dg = loss_ds.item(), loss_dg.item()
    return Losses(loss_ds, loss_dg, loss_dg + alpha * loss_ds)


@interrupt_safe_contextmanager
def inner_step(theta: Sequence[nn.Parameter], grad: Sequence[Tensor], inner_lr: float) -> Iterator[None]:
    """Context manager: within the block the parameters are theta' = theta - inner_lr * grad (Eq. 4); after it they are
    theta again, bit for bit.

    Swaps ``parameter.data``: adding back what was subtracted would round, and autograd, which needs theta for the
    second order, refuses parameters that were modified in place. Ctrl-C is deferred during a swap.

    Args:
        theta: the parameters.
        grad: the gradient of L_ds with respect to each of them.
        inner_lr: eta.
    """
    originals = [parameter.data for parameter in theta]
    try:
        for parameter, g in zip(theta, grad, strict=True):
            parameter.data = torch.sub(parameter.data, g, alpha=inner_lr)
        torch.clear_autocast_cache()  # which holds half-precision copies of theta
        yield
    finally:
        for parameter, original in zip(theta, originals, strict=True):
            parameter.data = original
        torch.clear_autocast_cache()
