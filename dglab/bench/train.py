"""``dglab bench train``: what a step of MLDG costs beside one of AGG, and beside what other libraries make of it; and
one of GMP beside the plain step of a multimodal network."""

import functools
import importlib.util
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from dglab.bench.measure import Case, measure, random_images
from dglab.models import build_model
from dglab.models.multimodal import build_multimodal
from dglab.training import agg_backward, cross_entropy, gmp_backward, mldg_backward, split_backward
from dglab.training.losses import Batch, LossFunction
from dglab.training.two_tasks import MultimodalBatch, two_losses


def bench_train(model_name: str, size: tuple[int, int], device: str, *, per_domain: int = 3) -> list[dict[str, Any]]:
    """One gradient of AGG, split and MLDG (order 1 and 2) on the same images from four domains; and, with ratios to a
    plain step of their own, those of the multimodal network, see :func:`multimodal_cases`.

    Where they are installed, higher and torchopt take the gradient of order 2, too.
    """
    model = build_model(model_name, seed=0).to(device).train()
    images, labels = random_images(4 * per_domain, size, device)
    whole, half = (images, labels), 2 * per_domain
    halves = (images[:half], labels[:half]), (images[half:], labels[half:])
    step = functools.partial(mldg_backward, model, cross_entropy, *halves, 0.01)
    cases: dict[str, Case] = {
        "AGG": lambda: agg_backward(model, cross_entropy, whole),
        "split": lambda: split_backward(model, cross_entropy, *halves),
        "MLDG, order 1": step,
        "MLDG, order 2": functools.partial(step, order=2),
    }
    for name, backward in LIBRARIES.items():
        if importlib.util.find_spec(name):
            cases[f"order 2, {name}"] = functools.partial(backward, model, cross_entropy, *halves, 0.01)
    records = measure({name: _and_clear(model, case) for name, case in cases.items()}, device=device)
    multimodal = build_multimodal(("rgb", "depth"), 4, seed=0).to(device).train()
    batch = {"rgb": images, "depth": images[:, :1]}, labels, torch.arange(len(labels), device=device) % 4
    cases = multimodal_cases(multimodal, batch)
    return records + measure({name: _and_clear(multimodal, case) for name, case in cases.items()}, device=device)


def multimodal_cases(model: nn.Module, batch: MultimodalBatch) -> dict[str, Case]:
    """One gradient of GMP, and first of the sum of the same losses in one plain backward pass.

    GMP runs forward once and backward twice through the encoders, once through everything else.
    """

    def plain() -> None:
        loss_c, loss_d, _, _ = two_losses(model, cross_entropy, batch)
        (loss_c + loss_d).backward()

    gmp = functools.partial(gmp_backward, model, cross_entropy, batch, alpha_k=0.5, alpha_p=0.5)
    return {"multimodal, plain": plain, "multimodal, GMP": gmp}


def _and_clear(model: nn.Module, case: Case) -> Case:
    """A case that frees its gradient at its end, which would otherwise be freed during the next case."""

    def run() -> None:
        case()
        model.zero_grad(set_to_none=True)

    return run


def higher_backward(
    model: nn.Module, loss_fn: LossFunction, meta_train: Batch, meta_test: Batch, inner_lr: float, order: int = 2
) -> None:
    """The gradient of MLDG (Eq. 6, alpha = 1) into ``.grad``, by way of the library higher.

    Source: Grefenstette et al., arXiv 1910.01727. The running statistics of BatchNorm stay as they are.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # the library raises it in current Python versions
        import higher

    constant = {} if order == 2 else {"grad_callback": lambda gradients: [g.detach() for g in gradients]}
    optimizer = torch.optim.SGD(model.parameters(), inner_lr)
    with higher.innerloop_ctx(model, optimizer, copy_initial_weights=False) as (network, inner):
        loss_ds = loss_fn(network(meta_train[0]), meta_train[1])
        inner.step(loss_ds, **constant)
        loss_dg = loss_fn(network(meta_test[0]), meta_test[1])
        (loss_dg + loss_ds).backward()


def torchopt_backward(
    model: nn.Module, loss_fn: LossFunction, meta_train: Batch, meta_test: Batch, inner_lr: float
) -> None:
    """The gradient of MLDG (Eq. 6, alpha = 1, order 2) into ``.grad``, by way of the library torchopt.

    Source: Ren et al., JMLR 2023. Both passes move the running statistics of BatchNorm.
    """
    import torchopt

    theta = torchopt.extract_state_dict(model, by="reference", with_buffers=False)
    inner = torchopt.MetaSGD(model, lr=inner_lr)
    loss_ds = loss_fn(model(meta_train[0]), meta_train[1])
    inner.step(loss_ds)
    loss_dg = loss_fn(model(meta_test[0]), meta_test[1])
    (loss_dg + loss_ds).backward()
    torchopt.recover_state_dict(model, theta)


LIBRARIES: dict[str, Callable[..., None]] = {"higher": higher_backward, "torchopt": torchopt_backward}
