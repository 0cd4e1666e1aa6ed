"""A mean loss and its derivatives, however its batch is spread over micro-batches and processes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from dglab.classes import IGNORED
from dglab.models import logits_of
from dglab.models.batchnorm import update_running_stats
from dglab.training.distributed import sum_in_place, sum_over_processes
from dglab.training.losses import Batch, LossFunction
from dglab.utils.errors import InputError
from dglab.utils.interrupts import interrupt_safe_contextmanager
from dglab.utils.randomness import own_randomness


class MeanLoss:
    """L(theta), the mean of a loss over all labelled pixels of some batches; theta are the model's parameters.

    The batches run one by one, so that BatchNorm normalizes each by its own images; each may be cut into micro-batches,
    and in a process group (``torchrun``) it is this process's share of a larger one. L stays the mean over the labelled
    pixels of all of them: a part's mean loss counts by the share of these pixels that it holds. L, its gradient and
    products with its Hessian are linear in the parts: they are computed part by part and summed, and every process gets
    the same.

    Args:
        model: run in the mode it is in.
        loss_fn: (what the model returns, labels) -> scalar, a mean over the labelled pixels.
        batches: (images N x 3 x H x W, labels N x H x W) each.
        micro_batches: parts that each batch is cut into, 1 to N, to save memory.
        update_running_stats: whether these passes update BatchNorm's running statistics.

    Raises:
        InputError: for more micro-batches than images, or a model without a parameter to train.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: LossFunction,
        batches: Sequence[Batch],
        micro_batches: int = 1,
        *,
        update_running_stats: bool = True,
    ) -> None:
        self.model, self.loss_fn, self.theta = model, loss_fn, trainable(model)
        self.update_running_stats = update_running_stats
        self.parts = [part for batch in batches for part in cut(batch, micro_batches)]
        self.shares = shares_of(self.parts)
        self._graph: Mapping[int, GradientEdge] | None = None  # of this process's gradient
        self._replayed: Callable[[], AbstractContextManager[None]] | None = None

    def value_and_grad(self, *, for_hessian: bool = False) -> tuple[Tensor, list[Tensor]]:
        """L, a scalar, and its gradient, a tensor for each of theta.

        Args:
            for_hessian: to ask for one :meth:`hessian_vector_product` afterwards.
        """
        with update_running_stats(self.model, enabled=self.update_running_stats):
            return self._value_and_grad(for_hessian)

    def _value_and_grad(self, for_hessian: bool) -> tuple[Tensor, list[Tensor]]:
        if for_hessian and len(self.parts) == 1:
            loss = self._loss(*self.parts[0], self.shares[0])
            grad = self._differentiable_gradient(loss)
            self._graph = graph_of(grad)
            value, *grad = sum_over_processes([loss.detach(), *(g.detach() for g in grad)])
            return value, grad
        if for_hessian:  # several graphs would need the memory that micro-batches are there to save: run them again
            self._replayed = remember_randomness(self.theta[0].device)
        losses = []
        clear_gradient(self.theta)
        for (images, labels), share in zip(self.parts, self.shares, strict=True):
            loss = self._loss(images, labels, share)
            with outside_autocast(loss):
                loss.backward(inputs=self.theta)  # adds to .grad
            losses.append(loss.detach())
        value, grad = torch.stack(losses).sum(), take_gradient(self.theta)
        sum_in_place([value, *grad])
        return value, grad

    def hessian_vector_product(self, v: Sequence[Tensor]) -> list[Tensor]:
        """H v, where H is the Hessian of L at theta: the gradient of (grad L) . v, so that H itself is never built.

        Called once, at the theta of ``value_and_grad(for_hessian=True)``: it frees the graph on its way.

        Args:
            v: a tensor for each of theta.

        Raises:
            RuntimeError: without that call before, or a second time after it.
        """
        if self._graph is None and self._replayed is None:
            raise RuntimeError("call value_and_grad(for_hessian=True) first, once for each product")
        clear_gradient(self.theta)
        if self._graph is not None:
            self._differentiate(self._graph, v)
            self._graph = None
        else:
            replayed, self._replayed = self._replayed, None
            with replayed(), update_running_stats(self.model, enabled=False):  # they were updated the first time
                for (images, labels), share in zip(self.parts, self.shares, strict=True):
                    loss = self._loss(images, labels, share)
                    grad = self._differentiable_gradient(loss)
                    graph = graph_of(grad)
                    del loss, grad  # their numbers, a copy of the parameters, are not needed
                    self._differentiate(graph, v)
        product = take_gradient(self.theta)
        sum_in_place(product)
        return product

    def _differentiable_gradient(self, loss: Tensor) -> Sequence[Tensor]:
        with outside_autocast(loss):
            return torch.autograd.grad(loss, self.theta, create_graph=True, materialize_grads=True)

    def _differentiate(self, graph: Mapping[int, GradientEdge], v: Sequence[Tensor]) -> None:
        """Add the gradient of (grad L) . v to ``.grad``."""
        if graph:  # a loss linear in theta has nothing to add
            with outside_autocast(v[0]):
                torch.autograd.backward(list(graph.values()), [v[i] for i in graph], inputs=self.theta)

    def _loss(self, images: Tensor, labels: Tensor, share: float) -> Tensor:
        """One forward pass and its loss times ``share``; zero, not the mean over nothing, if no pixel is labelled."""
        output = self.model(images)
        return share * self.loss_fn(output, labels) if share else self._zero(output, images)

    def _zero(self, output: Any, images: Tensor) -> Tensor:
        """Zero, as a loss, in the precision that the other parts' losses have."""
        zero = images.new_zeros((), dtype=torch.promote_types(images.dtype, torch.float32)).requires_grad_()
        if any(isinstance(module, nn.SyncBatchNorm) for module in self.model.modules()):
            # The backward passes of the other processes wait for this one's, so there must be one.
            logits = logits_of(output)
            return zero + torch.where(torch.zeros_like(logits, dtype=torch.bool), logits, 0).sum()
        return zero


def outside_autocast(at: Tensor) -> AbstractContextManager[None]:
    """Within the block, autocast is off on the device of a tensor, as torch wants it for what is no forward pass.

    A gradient goes back through the casts of its own pass. To cast once more would round again what the second order
    computes; and on a GPU, where other threads do it, some versions of torch would take float16 for bfloat16.
    """
    return torch.autocast(at.device.type, enabled=False)


def graph_of(grad: Sequence[Tensor]) -> dict[int, GradientEdge]:
    """Where the parts of a gradient that can be differentiated once more stand in the graph, by number."""
    return {i: get_gradient_edge(g) for i, g in enumerate(grad) if g.requires_grad}


def cut(batch: Batch, micro_batches: int) -> list[Batch]:
    """A batch as successive parts, equally many images in each if their number allows."""
    images, labels = batch
    if not 1 <= micro_batches <= max(1, len(images)):
        raise InputError(
            f"micro_batches is {micro_batches} for a batch of {len(images)} images; expected 1 to {len(images)}"
        )
    return list(zip(images.tensor_split(micro_batches), labels.tensor_split(micro_batches), strict=True))


def shares_of(parts: Sequence[Batch]) -> list[float]:
    """The share of each part in the labelled pixels of all parts in all processes; zeros if there are none."""
    counts = torch.stack([(labels != IGNORED).sum() for _, labels in parts])
    *own, total = torch.cat([counts, *sum_over_processes([counts.sum(0, keepdim=True)])]).tolist()
    return [count / max(1, total) for count in own]


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


def set_gradient(theta: Sequence[Tensor], grad: Sequence[Tensor]) -> None:
    """Write a gradient into ``.grad``, over what was there."""
    for parameter, g in zip(theta, grad, strict=True):
        parameter.grad = g


def clear_gradient(theta: Sequence[Tensor]) -> None:
    """Empty ``.grad``."""
    for parameter in theta:
        parameter.grad = None


def take_gradient(theta: Sequence[Tensor]) -> list[Tensor]:
    """What ``.grad`` holds, zero where no loss has depended on the parameter; ``.grad`` is empty after it."""
    taken = [torch.zeros_like(p) if p.grad is None else p.grad for p in theta]
    clear_gradient(theta)
    return taken


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

    @interrupt_safe_contextmanager
    def replayed() -> Iterator[None]:
        with own_randomness(device):
            torch.set_rng_state(state)
            if on_gpu:
                torch.cuda.set_rng_state(gpu_state, device)
            yield

    return replayed
