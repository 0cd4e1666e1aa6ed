"""MLDG: each step rehearses a domain shift (Eq. 3-6, Algorithm 1)."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call

from dglab.batchnorm import batchnorm_layers
from dglab.errors import InputError
from dglab.training.losses import Batch, Losses, LossFunction, gradient, loss_of, trainable

RUNNING_STATS = {
    "meta_train": (True, False),
    "both": (True, True),
    "none": (False, False),
}  # which pass moves them


def mldg_backward(
    model: nn.Module,
    loss_fn: LossFunction,
    meta_train: Batch,
    meta_test: Batch,
    inner_lr: float,
    alpha: float = 1.0,
    order: int = 1,
    running_stats: str = "meta_train",
) -> Losses:
    """The gradient of MLDG (Eq. 6) into ``.grad`` of every trainable parameter, replacing what was there.

    L_ds = CE(meta_train; theta), theta' = theta - inner_lr * grad L_ds, L_dg = CE(meta_test; theta'), and the
    gradient is that of L_dg + alpha * L_ds.

    Args:
        model: run in the mode it is in; its parameters come back bit for bit.
        loss_fn: (what the model returns, labels) -> scalar.
        meta_train, meta_test: (images, labels) of disjoint domains.
        inner_lr: eta, the length of the inner step; 0 is the control without an inner step.
        alpha: weight of L_ds (Eq. 6; Algorithm 1 of the paper weighs L_dg instead, the same at alpha = 1).
        order: 2 differentiates L_dg through the inner step (Eq. 6 as written, MAML); 1 takes the gradient of L_dg
            at theta' as if it were one at theta (the authors' public code), cheaper and the default.
        running_stats: the passes that move BatchNorm's running statistics: ``"meta_train"`` (the authors' code),
            ``"both"`` or ``"none"``.

    Returns:
        ``ds`` = L_ds, ``dg`` = L_dg, ``total`` = L_dg + alpha * L_ds.

    Raises:
        InputError: for another order or another name in ``running_stats``.
    """
    check_variant(order, running_stats)
    backward = _first_order if order == 1 else _second_order
    loss_ds, loss_dg = backward(model, loss_fn, meta_train, meta_test, inner_lr, alpha, RUNNING_STATS[running_stats])
    return Losses(loss_ds.item(), loss_dg.item(), loss_dg.item() + alpha * loss_ds.item())


def check_variant(order: int, running_stats: str) -> None:
    """Refuse a variant of MLDG that does not exist."""
    if order not in (1, 2):
        raise InputError(f"order is {order!r}; expected 1 (first order) or 2 (second order)")
    if running_stats not in RUNNING_STATS:
        raise InputError(f"running_stats is {running_stats!r}; expected one of {', '.join(RUNNING_STATS)}")


def _first_order(model, loss_fn, meta_train, meta_test, inner_lr, alpha, moves) -> tuple[Tensor, Tensor]:
    theta = trainable(model)
    with running_statistics(model, move=moves[0]):
        loss_ds = loss_of(model, loss_fn, meta_train)  # Eq. 3
    grad_ds = gradient(loss_ds, theta)
    with inner_step(theta, grad_ds, inner_lr), running_statistics(model, move=moves[1]):  # Eq. 4: theta'
        loss_dg = loss_of(model, loss_fn, meta_test)  # Eq. 5
        grad_dg = gradient(loss_dg, theta)  # taken at theta'
    for parameter, ds, dg in zip(theta, grad_ds, grad_dg, strict=True):
        parameter.grad = torch.add(dg, ds, alpha=alpha)  # Eq. 6
    return loss_ds, loss_dg


def _second_order(model, loss_fn, meta_train, meta_test, inner_lr, alpha, moves) -> tuple[Tensor, Tensor]:
    names, theta = zip(*((n, p) for n, p in model.named_parameters() if p.requires_grad), strict=True)
    with running_statistics(model, move=moves[0]):
        loss_ds = loss_of(model, loss_fn, meta_train)  # Eq. 3
    grad_ds = gradient(loss_ds, theta, create_graph=True)
    theta_prime = {n: p - inner_lr * g for n, p, g in zip(names, theta, grad_ds, strict=True)}  # Eq. 4
    with running_statistics(model, move=moves[1]):
        # A functional call replaces the parameters alone: the running statistics it moves are the model's own.
        loss_dg = loss_of(lambda images: functional_call(model, theta_prime, (images,)), loss_fn, meta_test)  # Eq. 5
    grad_dg = gradient(loss_dg, theta)  # through the inner step
    for parameter, ds, dg in zip(theta, grad_ds, grad_dg, strict=True):
        parameter.grad = torch.add(dg, ds.detach(), alpha=alpha)  # Eq. 6
    return loss_ds, loss_dg


@contextmanager
def inner_step(theta: list[nn.Parameter], grad: list[Tensor], inner_lr: float) -> Iterator[None]:
    """Inside, theta' = theta - inner_lr * grad (Eq. 4); after it, theta bit for bit.

    Adding back what was subtracted would round, hence the one copy.
    """
    saved = [parameter.detach().clone() for parameter in theta]
    try:
        with torch.no_grad():
            for parameter, g in zip(theta, grad, strict=True):
                parameter.sub_(g, alpha=inner_lr)
        torch.clear_autocast_cache()  # it would go on with half-precision copies of theta
        yield
    finally:
        with torch.no_grad():
            for parameter, original in zip(theta, saved, strict=True):
                parameter.copy_(original)
        torch.clear_autocast_cache()


@contextmanager
def running_statistics(model: nn.Module, *, move: bool) -> Iterator[None]:
    """Inside, BatchNorm layers normalize as ever, but update their running statistics only if ``move``.

    A layer that does not track normalizes a training batch by the batch's own statistics and leaves its buffers
    alone, whereas a momentum of 0 would still write to them and count the batch.
    """
    layers = [] if move else [m for m in batchnorm_layers(model).values() if hasattr(m, "track_running_stats")]
    tracked = [layer.track_running_stats for layer in layers]
    try:
        for layer in layers:
            layer.track_running_stats = False
        yield
    finally:
        for layer, track in zip(layers, tracked, strict=True):
            layer.track_running_stats = track
