"""MLDG: each step rehearses a domain shift (Eq. 3-6, Algorithm 1)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn

from dglab.batchnorm import batchnorm_layers
from dglab.errors import InputError
from dglab.training.distributed import sum_over_processes
from dglab.training.losses import (
    Batch,
    Losses,
    LossFunction,
    add_up,
    gradient,
    loss_of,
    mean_loss,
    shares_of,
    trainable,
)

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
            batch, the same in every process. Order 2 then runs meta-train's parts forward twice.

    Returns:
        ``ds`` = L_ds, ``dg`` = L_dg, ``total`` = L_dg + alpha * L_ds.

    Raises:
        InputError: for another order or another name in ``running_stats``.
    """
    check_variant(order, running_stats)
    theta = trainable(model)
    moves_ds, moves_dg = RUNNING_STATS[running_stats]
    ds, dg = shares_of(meta_train, micro_batches), shares_of(meta_test, micro_batches)
    with running_statistics(model, move=moves_ds):  # Eq. 3
        if order == 1:
            loss_ds, grad_ds = mean_loss(model, loss_fn, ds, theta)
        else:
            loss_ds, grad_ds, hessian_times = curved_loss(model, loss_fn, ds, theta)
    with inner_step(theta, grad_ds, inner_lr), running_statistics(model, move=moves_dg):  # Eq. 4: theta'
        loss_dg, grad_dg = mean_loss(model, loss_fn, dg, theta)  # Eq. 5, the gradient taken at theta'
    if order == 2:  # by the chain rule: dtheta'/dtheta = 1 - inner_lr * H, H the Hessian of L_ds at theta
        grad_dg = [g - inner_lr * h for g, h in zip(grad_dg, hessian_times(grad_dg), strict=True)]
    for parameter, g_ds, g_dg in zip(theta, grad_ds, grad_dg, strict=True):
        parameter.grad = torch.add(g_dg, g_ds, alpha=alpha)  # Eq. 6
    return Losses(loss_ds.item(), loss_dg.item(), loss_dg.item() + alpha * loss_ds.item())


def check_variant(order: int, running_stats: str) -> None:
    """Refuse a variant of MLDG that does not exist."""
    if order not in (1, 2):
        raise InputError(f"order is {order!r}; expected 1 (first order) or 2 (second order)")
    if running_stats not in RUNNING_STATS:
        raise InputError(f"running_stats is {running_stats!r}; expected one of {', '.join(RUNNING_STATS)}")


def curved_loss(
    model: nn.Module, loss_fn: LossFunction, parts: Sequence[tuple[Batch, float]], theta: Sequence[Tensor]
) -> tuple[Tensor, list[Tensor], Callable[[Sequence[Tensor]], list[Tensor]]]:
    """As :func:`dglab.training.losses.mean_loss`, and with it the function v -> H v, H being the loss's Hessian.

    H v is the gradient of (gradient of the loss) . v for a constant v: H itself, theta by theta, is never built. The
    function can be called once. A batch in one part keeps its graph for it. Several parts would have to keep all of
    theirs, and memory is what they are there to save: they run forward again, with the same dropout, and without moving
    the running statistics twice.
    """
    if len(parts) > 1:
        replayed = remember_randomness(theta[0].device)
        loss, grad = mean_loss(model, loss_fn, parts, theta)

        def hessian_times(v: Sequence[Tensor]) -> list[Tensor]:
            with replayed(), running_statistics(model, move=False):
                return add_up(
                    product(gradient(loss_of(model, loss_fn, *part), theta, create_graph=True), theta, v)
                    for part in parts
                )

        return loss, grad, hessian_times
    own_loss = loss_of(model, loss_fn, *parts[0])
    own_grad = gradient(own_loss, theta, create_graph=True)
    loss, *grad = sum_over_processes([own_loss.detach(), *(g.detach() for g in own_grad)])
    return loss, grad, lambda v: sum_over_processes(product(own_grad, theta, v))


def product(grad: Sequence[Tensor], theta: Sequence[Tensor], v: Sequence[Tensor]) -> list[Tensor]:
    """H v from a gradient that still has its graph; zero where the gradient is constant."""
    curved = [(g, x) for g, x in zip(grad, v, strict=True) if g.requires_grad]
    if not curved:
        return [torch.zeros_like(p) for p in theta]
    outputs, weights = zip(*curved, strict=True)
    return gradient(outputs, theta, weights)


@contextmanager
def inner_step(theta: Sequence[nn.Parameter], grad: Sequence[Tensor], inner_lr: float) -> Iterator[None]:
    """Inside, theta' = theta - inner_lr * grad (Eq. 4); after it, theta bit for bit.

    The numbers behind each parameter are exchanged for others, not written to: adding back what was subtracted would
    round, and autograd, which keeps theta for the second order, refuses a parameter that was written to since.
    """
    originals = [parameter.data for parameter in theta]
    try:
        for parameter, g in zip(theta, grad, strict=True):
            parameter.data = torch.sub(parameter.data, g, alpha=inner_lr)
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
    """The random state of now, to be returned to: inside what is returned, the same numbers are drawn again."""
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
