"""MLDG: each step rehearses a domain shift (Eq. 3-6, Algorithm 1)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge

from dglab.models.batchnorm import batchnorm_layers
from dglab.training.distributed import sum_in_place, sum_over_processes
from dglab.training.losses import (
    Batch,
    Losses,
    LossFunction,
    Parts,
    add_gradient,
    clear_gradient,
    complete,
    loss_of,
    shares_of,
    take_gradient,
    trainable,
)
from dglab.utils.errors import InputError

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
    *,
    micro_batches: int = 1,
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
        micro_batches: run each of the two batches in that many successive parts, see
            :func:`dglab.training.agg.agg_backward`; process groups, too. The inner step is that of the whole meta-train
            batch, the same in every process. Order 2 then runs meta-train's parts forward twice, and holds one more
            copy of the parameters.

    Returns:
        ``ds`` = L_ds, ``dg`` = L_dg, ``total`` = L_dg + alpha * L_ds.

    Raises:
        InputError: for another order or another name in ``running_stats``, or for order 2 of a compiled model.
    """
    check_variant(order, running_stats)
    if order == 2:
        check_uncompiled(model)
    theta = trainable(model)
    ds, dg = shares_of(meta_train, micro_batches), shares_of(meta_test, micro_batches)
    clear_gradient(theta)
    step = first_order if order == 1 else second_order
    loss_ds, loss_dg = step(model, loss_fn, ds, dg, theta, inner_lr, alpha, RUNNING_STATS[running_stats])
    return Losses(loss_ds, loss_dg, loss_dg + alpha * loss_ds)


def first_order(
    model: nn.Module,
    loss_fn: LossFunction,
    ds: Parts,
    dg: Parts,
    theta: Sequence[nn.Parameter],
    inner_lr: float,
    alpha: float,
    moves: tuple[bool, bool],
) -> list[float]:
    """Eq. 3-6 with theta' = theta - a constant: the gradient of L_dg at theta' is added to alpha grad L_ds.

    Args:
        model, loss_fn, inner_lr, alpha: as in :func:`mldg_backward`.
        ds, dg: the meta-train and the meta-test batch in parts.
        theta: the model's parameters, their ``.grad`` empty.
        moves: whether each of the two passes moves the running statistics.

    Returns:
        L_ds and L_dg.
    """
    with running_statistics(model, move=moves[0]):
        loss_ds = add_gradient(model, loss_fn, ds, theta)  # Eq. 3
    own = take_gradient(theta)
    with inner_step(theta, sum_over_processes(own), inner_lr), running_statistics(model, move=moves[1]):  # Eq. 4
        for parameter, g in zip(theta, own, strict=True):
            parameter.grad = g if alpha == 1 else g.mul_(alpha)
        loss_dg = add_gradient(model, loss_fn, dg, theta)  # Eq. 5, which makes .grad that of Eq. 6
    return complete(theta, loss_ds, loss_dg)


def second_order(
    model: nn.Module,
    loss_fn: LossFunction,
    ds: Parts,
    dg: Parts,
    theta: Sequence[nn.Parameter],
    inner_lr: float,
    alpha: float,
    moves: tuple[bool, bool],
) -> list[float]:
    """Eq. 3-6 through the inner step: dtheta'/dtheta = 1 - inner_lr H, H the Hessian of L_ds at theta.

    Args and returns as :func:`first_order`.
    """
    with running_statistics(model, move=moves[0]):
        loss_ds, grad_ds, back_through = curved_loss(model, loss_fn, ds, theta, inner_lr, alpha)  # Eq. 3
    with inner_step(theta, grad_ds, inner_lr), running_statistics(model, move=moves[1]):  # Eq. 4
        loss_dg = add_gradient(model, loss_fn, dg, theta)  # Eq. 5
    v = take_gradient(theta)
    sum_in_place(v)  # the gradient of L_dg at theta'
    loss_ds, loss_dg, *rest = sum_over_processes([loss_ds, loss_dg, *back_through(v)])
    for parameter, g, r in zip(theta, v, rest, strict=True):
        parameter.grad = g.add_(r)  # Eq. 6: r is alpha grad L_ds - inner_lr H v
    return [loss_ds.item(), loss_dg.item()]


def check_variant(order: int, running_stats: str) -> None:
    """Refuse a variant of MLDG that does not exist."""
    if order not in (1, 2):
        raise InputError(f"order is {order!r}; expected 1 (first order) or 2 (second order)")
    if running_stats not in RUNNING_STATS:
        raise InputError(f"running_stats is {running_stats!r}; expected one of {', '.join(RUNNING_STATS)}")


def check_uncompiled(model: nn.Module) -> None:
    """Refuse a model that cannot be differentiated twice because torch has compiled it or a part of it."""
    for name, module in model.named_modules():
        if hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None:
            raise InputError(
                f"order 2 differentiates twice, which compiled modules cannot, and {name or 'the model'} is compiled; "
                "pass the model as it was before torch.compile, or order=1"
            )


def curved_loss(
    model: nn.Module,
    loss_fn: LossFunction,
    parts: Parts,
    theta: Sequence[nn.Parameter],
    inner_lr: float,
    alpha: float,
) -> tuple[Tensor, list[Tensor], Callable[[Sequence[Tensor]], list[Tensor]]]:
    """This process's part of a batch's loss L, the gradient of all of L, and the way back through both (Eq. 6).

    The way back is a function of a constant v, with H the Hessian of this process's part of L: alpha grad L - inner_lr
    H v, which is the gradient of alpha L + (- inner_lr grad L) . v, so that H itself, theta by theta, is never built.
    It can be called once, as its graph is freed on the way.

    A batch in one part keeps its graph for it. Several parts would have to keep all of theirs, and memory is what they
    are there to save: they run forward again, with the same dropout, and without moving the running statistics twice.
    """
    if len(parts) == 1:
        own_loss = loss_of(model, loss_fn, *parts[0])
        own_grad, back_through = differentiate(own_loss, theta, inner_lr, alpha)
        return own_loss.detach(), sum_over_processes(own_grad), back_through

    replayed = remember_randomness(theta[0].device)
    own_loss = add_gradient(model, loss_fn, parts, theta)

    def back_through_each(v: Sequence[Tensor]) -> list[Tensor]:
        total = [torch.zeros_like(p) for p in theta]
        with replayed(), running_statistics(model, move=False):
            for part in parts:
                back_through = differentiate(loss_of(model, loss_fn, *part), theta, inner_lr, alpha)[1]
                for whole, own in zip(total, back_through(v), strict=True):
                    whole += own
        return total

    return own_loss, sum_over_processes(take_gradient(theta)), back_through_each


def differentiate(
    loss: Tensor, theta: Sequence[nn.Parameter], inner_lr: float, alpha: float
) -> tuple[list[Tensor], Callable[[Sequence[Tensor]], list[Tensor]]]:
    """grad L, and the function v -> alpha grad L - inner_lr H v.

    Of the inner step - inner_lr grad L only the place in the graph is kept, not its numbers.
    """
    grad = torch.autograd.grad(loss, theta, create_graph=True, materialize_grads=True)
    step = {i: get_gradient_edge(-inner_lr * g) for i, g in enumerate(grad) if g.requires_grad}

    def back_through(v: Sequence[Tensor]) -> Sequence[Tensor]:
        ends, weights = [get_gradient_edge(loss), *step.values()], [torch.full_like(loss, alpha), *(v[i] for i in step)]
        return torch.autograd.grad(ends, theta, weights, materialize_grads=True)

    return [g.detach() for g in grad], back_through


@contextmanager
def inner_step(theta: Sequence[nn.Parameter], grad: list[Tensor], inner_lr: float) -> Iterator[None]:
    """Inside, theta' = theta - inner_lr * grad (Eq. 4); after it, theta bit for bit.

    The numbers behind each parameter are exchanged for others, not written to: adding back what was subtracted would
    round, and autograd, which keeps theta for the second order, refuses a parameter that was written to since.

    Args:
        theta: the parameters.
        grad: the gradient of L_ds for each of them; the list is emptied.
        inner_lr: eta.
    """
    originals = [parameter.data for parameter in theta]
    try:
        for parameter in reversed(theta):  # grad.pop() gives the last one, and frees it when it is used
            parameter.data = torch.sub(parameter.data, grad.pop(), alpha=inner_lr)
        torch.clear_autocast_cache()  # it would go on with half-precision copies of theta
        yield
    finally:
        for parameter, original in zip(theta, originals, strict=True):
            parameter.data = original
        torch.clear_autocast_cache()


@contextmanager
def running_statistics(module: nn.Module, *, move: bool) -> Iterator[None]:
    """Inside, BatchNorm layers normalize as ever, but update their running statistics only if ``move``.

    Otherwise they work on copies of them, which are dropped. To switch ``track_running_stats`` off would do as well for
    one pass, but not for one that is recomputed after this: it would differ from the pass it repeats.
    """
    layers = [] if move else list(batchnorm_layers(module).values())
    originals = [dict(layer.named_buffers(recurse=False)) for layer in layers]
    try:
        for layer, buffers in zip(layers, originals, strict=True):
            for name, buffer in buffers.items():
                setattr(layer, name, buffer.clone())
        yield
    finally:
        for layer, buffers in zip(layers, originals, strict=True):
            for name, buffer in buffers.items():
                setattr(layer, name, buffer)


def remember_randomness(device: torch.device) -> Callable[[], AbstractContextManager[None]]:
    """The random state of now, to be returned to: inside what is returned, the same numbers are drawn again.

    Raises:
        InputError: on a device whose random state is not known here.
    """
    if device.type not in ("cpu", "cuda"):
        raise InputError(
            f"order 2 in parts repeats its dropout, which goes on cpu and cuda, not on {device.type}; use "
            "micro_batches=1, or order=1"
        )
    on_gpu = device.type == "cuda"
    state, gpu_state = torch.get_rng_state(), torch.cuda.get_rng_state(device) if on_gpu else None

    @contextmanager
    def replayed() -> Iterator[None]:
        with torch.random.fork_rng(devices=[device] if on_gpu else []):
            torch.set_rng_state(state)
            if on_gpu:
                torch.cuda.set_rng_state(gpu_state, device)
            yield

    return replayed
