"""A mean loss and its derivatives, also where its batch is split into micro-batches or over processes."""

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

    Each batch has a forward pass of its own, so that BatchNorm normalizes it by its own images. It may be cut into
    micro-batches, and in a process group (``torchrun``) it is this process's share of a larger one. L is always the
    mean over the labelled pixels of all of these parts: the mean loss of a part is weighted by its share of these
    pixels. L, its gradient and its Hessian-vector products are linear in the parts: they are computed part by part and
    summed, and are the same in every process.

    Args:
        model: run in its current mode.
        loss_fn: (what the model returns, labels) -> scalar, a mean over the labelled pixels.
        batches: (images N x 3 x H x W, labels N x H x W) each.
        micro_batches: number of parts that each batch is cut into, 1 to N, to save memory.
        update_running_stats: whether these passes update BatchNorm's running statistics.

    Raises:
        InputError: for no batch, more micro-batches than images, or a model without a trainable parameter.
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
        if not batches:
            raise InputError("there is no batch; pass images and labels of at least one domain")
        self.parts = [part for batch in batches for part in cut(batch, micro_batches)]
        self.shares = shares_of(self.parts)
        self._graph: Mapping[int, GradientEdge] | None = None  # of this process's gradient
        self._replayed: Callable[[], AbstractContextManager[None]] | None = None

    def value_and_grad(self, *, for_hessian: bool = False) -> tuple[Tensor, list[Tensor]]:
        """L, a scalar, and its gradient, one tensor per parameter of theta.

        Args:
            for_hessian: keep what one call of :meth:`hessian_vector_product` needs.
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
        if for_hessian:  # keeping a graph per part would take the memory that micro-batches save: run them again
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

        To be called once after ``value_and_grad(for_hessian=True)``, at the same theta: it frees the graph.

        Args:
            v: one tensor per parameter of theta.

        Raises:
            RuntimeError: without that call before it, or when called a second time.
        """
        if self._graph is None and self._replayed is None:
            raise RuntimeError("call value_and_grad(for_hessian=True) first, once for each product")
        clear_gradient(self.theta)
        if self._graph is not None:
            self._differentiate(self._graph, v)
            self._graph = None
        else:
            replayed, self._replayed = self._replayed, None
            with replayed(), update_running_stats(self.model, enabled=False):  # the first passes updated them
                for (images, labels), share in zip(self.parts, self.shares, strict=True):
                    loss = self._loss(images, labels, share)
                    grad = self._differentiable_gradient(loss)
                    graph = graph_of(grad)
                    del loss, grad  # only the graph is needed; the values are as large as the parameters
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
        """One forward pass and its loss times ``share``; zero instead of NaN if no pixel is labelled."""
        output = self.model(images)
        return share * self.loss_fn(output, labels) if share else self._zero(output, images)

    def _zero(self, output: Any, images: Tensor) -> Tensor:
        """A zero loss of the same precision as the other parts' losses."""
        zero = images.new_zeros((), dtype=torch.promote_types(images.dtype, torch.float32)).requires_grad_()
        if any(isinstance(module, nn.SyncBatchNorm) for module in self.model.modules()):
            # the other processes' backward passes wait for this one's, so this part needs one, too
            logits = logits_of(output)
            return zero + torch.where(torch.zeros_like(logits, dtype=torch.bool), logits, 0).sum()
        return zero


def outside_autocast(at: Tensor) -> AbstractContextManager[None]:
    """Within the block, autocast is off on the device of a tensor, as torch recommends for backward passes.

    A backward pass repeats the casts of its forward pass. Casting again would round the second order a second time; and
    on a GPU, where other threads run the backward pass, some versions of torch would use float16 instead of bfloat16.
    """
    return torch.autocast(at.device.type, enabled=False)


def graph_of(grad: Sequence[Tensor]) -> dict[int, GradientEdge]:
    """The graph edges of those tensors of a gradient that can be differentiated again, by their index."""
    return {i: get_gradient_edge(g) for i, g in enumerate(grad) if g.requires_grad}


def cut(batch: Batch, micro_batches: int) -> list[Batch]:
    """A batch as successive parts of equally many images, or as equally as their number allows.

    Raises:
        InputError: for more parts than images, or fewer than one.
    """
    images, labels = batch
    if not 1 <= micro_batches <= max(1, len(images)):
        raise InputError(
            f"micro_batches is {micro_batches} for a batch of {len(images)} images; expected 1 to {len(images)}"
        )
    return list(zip(images.tensor_split(micro_batches), labels.tensor_split(micro_batches), strict=True))


def shares_of(parts: Sequence[Batch]) -> list[float]:
    """The share of each part in the labelled pixels of all parts of all processes, 0 to 1; zeros if there are none."""
    counts = torch.stack([(labels != IGNORED).sum() for _, labels in parts])
    *own, total = torch.cat([counts, *sum_over_processes([counts.sum(0, keepdim=True)])]).tolist()
    return [count / max(1, total) for count in own]


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """The trainable parameters, each once.

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
    """Write a gradient into ``.grad``, replacing what was there."""
    for parameter, g in zip(theta, grad, strict=True):
        parameter.grad = g


def clear_gradient(theta: Sequence[Tensor]) -> None:
    """Set ``.grad`` to None."""
    for parameter in theta:
        parameter.grad = None


def take_gradient(theta: Sequence[Tensor]) -> list[Tensor]:
    """Take the gradient out of ``.grad``, zeros for parameters that no loss depends on; ``.grad`` is then None."""
    taken = [torch.zeros_like(p) if p.grad is None else p.grad for p in theta]
    clear_gradient(theta)
    return taken


def remember_randomness(device: torch.device) -> Callable[[], AbstractContextManager[None]]:
    """A context manager in which the random numbers drawn from now on are drawn again, for dropout in a repeated pass.

    Raises:
        InputError: for a device other than cpu and cuda.
    """
    if device.type not in ("cpu", "cuda"):
        raise InputError(
            f"order 2 in parts repeats its dropout, which works on cpu and cuda, not on {device.type}; use "
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
