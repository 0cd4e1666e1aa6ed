"""Classification and domain invariance of a multimodal network: both losses, both gradients, from one forward pass."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dglab.classes import IGNORED
from dglab.models.multimodal import upsampled
from dglab.training.distributed import sum_over_processes
from dglab.training.losses import LossFunction
from dglab.training.mean_loss import outside_autocast, trainable
from dglab.utils.errors import InputError

MultimodalBatch = tuple[Mapping[str, Tensor], Tensor, Tensor]
# ({modality: N x C x H x W}, labels N x H x W (0-18, 255) or N, domains N (0 to D - 1))


class TwoTasks(NamedTuple):
    """The losses and gradients of classification (c) and domain invariance (d), from one forward pass.

    Attributes:
        loss_c: the fused loss plus those of the modalities' own classifiers.
        loss_d: the cross-entropies of the discriminators, added.
        g_c, g_d: their gradients, a tensor for each trainable parameter; behind a gradient reversal, g_d leads an
            encoder to features that the discriminator cannot tell apart. Not taken apart, g_c is the gradient of both
            losses added, and g_d is empty.
        semantic: by modality the batch's mean of q, the probability of the true class by its own classifier. The q of
            an image is the mean over its labelled pixels, 0 where there is none.
        domain: by modality the batch's mean of c, the probability of the true domain by its discriminator.
    """

    loss_c: Tensor
    loss_d: Tensor
    g_c: list[Tensor]
    g_d: list[Tensor]
    semantic: dict[str, Tensor]
    domain: dict[str, Tensor]


def two_tasks(
    model: nn.Module, loss_fn: LossFunction, batch: MultimodalBatch, micro_batches: int = 1, *, apart: bool = True
) -> TwoTasks:
    """Both losses and both gradients of a batch; no parameter moves and ``.grad`` stays as it is.

    Args:
        model, batch: as :func:`dglab.training.gmp.gmp_backward` has checked them; in a process group, this process's
            share of the batch.
        loss_fn: (logits, labels) -> scalar, a mean over the labelled pixels.
        micro_batches: successive parts to cut it into. A part counts by the share that it holds of all labelled pixels
            in ``loss_c``, and of all images in ``loss_d``.
        apart: compute both gradients; otherwise that of their sum, which takes one backward pass instead of two.

    Raises:
        InputError: for more micro-batches than images.
    """
    theta, parts, total = trainable(model), _cut(batch, micro_batches), None
    for part, (share_c, share_d) in zip(parts, _shares(parts), strict=True):
        loss_c, loss_d, own, told = two_losses(model, loss_fn, part)
        q, c = _mean_truth(own, part[1]), _mean_truth(told, part[2])
        if apart:
            g_c = gradient(share_c * loss_c, theta, retain_graph=True)  # both from the one pass
            g_d = gradient(share_d * loss_d, theta)
        else:
            g_c, g_d = gradient(share_c * loss_c + share_d * loss_d, theta), []
        found = [share_c * loss_c.detach(), share_d * loss_d.detach(), share_d * q, share_d * c, *g_c, *g_d]
        total = found if total is None else [a + b for a, b in zip(total, found, strict=True)]
    loss_c, loss_d, q, c, *g = sum_over_processes(total)
    # a mean of probabilities may round to more than 1
    semantic, domain = (dict(zip(model.encoders, of_each.clamp(max=1), strict=True)) for of_each in (q, c))
    return TwoTasks(loss_c, loss_d, g[: len(theta)], g[len(theta) :], semantic, domain)


def two_losses(
    model: nn.Module, loss_fn: LossFunction, batch: MultimodalBatch
) -> tuple[Tensor, Tensor, list[Tensor], list[Tensor]]:
    """One forward pass: loss_c and loss_d, and by modality the logits that they are of.

    Returns:
        The two losses; of the modalities' own classifiers the logits at the labels' size; of the discriminators.

    Raises:
        InputError: for a label that a classifier, or a domain that a discriminator, does not know.
    """
    images, labels, domains = batch
    features = {name: encoder(images[name]) for name, encoder in model.encoders.items()}
    fused = _sized(model.fusion(list(features.values())), labels)
    own = [_sized(model.classifiers[name](feature), labels) for name, feature in features.items()]
    told = [_wide(model.discriminators[name](feature)) for name, feature in features.items()]
    _check_labels(labels, min(logits.shape[1] for logits in (fused, *own)))
    known = min(logits.shape[1] for logits in told)
    if domains.max() >= known:
        raise InputError(
            f"an image is of domain {int(domains.max())}, and a discriminator tells {known} domains apart; expected "
            f"numbers from 0 to {known - 1}: number the source domains so, or build the model for more"
        )

    loss_d = torch.stack([F.cross_entropy(logits, domains.long()) for logits in told]).sum()
    if (labels != IGNORED).any():
        loss_c = torch.stack([loss_fn(logits, labels) for logits in (fused, *own)]).sum()
    else:  # zero, not the mean over nothing
        loss_c = torch.zeros_like(loss_d)
    return loss_c, loss_d, own, told


def _check_labels(labels: Tensor, classes: int) -> None:
    low, high = (int(one) for one in labels.where(labels != IGNORED, 0).aminmax())
    if low < 0 or high >= classes:
        raise InputError(
            f"the labels reach from {low} to {high}, and a classifier tells {classes} classes apart; expected numbers "
            f"from 0 to {classes - 1}, or {IGNORED} for what does not count: map them so, or build the model for more"
        )


@torch.no_grad()
def probability_of_truth(logits: Tensor, labels: Tensor) -> Tensor:
    """The probability that logits N x K x ... give to the true class, averaged over the labelled pixels of an image.

    Returns:
        N values in [0, 1]; 0 for an image without a labelled pixel.
    """
    pixels = logits.movedim(1, -1).reshape(-1, logits.shape[1])  # much faster on a CPU than along dimension 1
    loss = F.cross_entropy(pixels, labels.long().reshape(-1), ignore_index=IGNORED, reduction="none")  # -log q
    counted = (labels != IGNORED).reshape(len(labels), -1)
    q = loss.neg().exp().view_as(counted).where(counted, 0)
    return q.sum(1) / counted.sum(1).clamp(min=1)


def _mean_truth(by_modality: Sequence[Tensor], labels: Tensor) -> Tensor:
    return torch.stack([probability_of_truth(logits, labels).mean() for logits in by_modality])


def gradient(loss: Tensor, theta: Sequence[nn.Parameter], *, retain_graph: bool = False) -> list[Tensor]:
    """The gradient of a loss, zero for a parameter that it does not depend on."""
    if not loss.requires_grad:
        return [torch.zeros_like(parameter) for parameter in theta]
    with outside_autocast(loss):
        return list(torch.autograd.grad(loss, theta, retain_graph=retain_graph, materialize_grads=True))


def _wide(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))  # half precision is too coarse for a mean


def _sized(logits: Tensor, labels: Tensor) -> Tensor:
    """Logits at the size of the labels; those of whole images (labels N) as they are."""
    return _wide(logits if labels.ndim == 1 else upsampled(logits, labels.shape[1:]))


def _cut(batch: MultimodalBatch, micro_batches: int) -> list[MultimodalBatch]:
    images, labels, domains = batch
    if not 1 <= micro_batches <= len(labels):
        raise InputError(
            f"micro_batches is {micro_batches} for a batch of {len(labels)} images; expected 1 to {len(labels)}"
        )
    cut = [dict(zip(images, parts, strict=True))
           for parts in zip(*(x.tensor_split(micro_batches) for x in images.values()), strict=True)]  # fmt: skip
    return list(zip(cut, labels.tensor_split(micro_batches), domains.tensor_split(micro_batches), strict=True))


def _shares(parts: Sequence[MultimodalBatch]) -> list[tuple[float, float]]:
    """Of each part the share that it holds of all labelled pixels and of all images, in all processes."""
    counts = torch.tensor([[int((labels != IGNORED).sum()), len(labels)] for _, labels, _ in parts])
    [total] = sum_over_processes([counts.sum(0).to(parts[0][1].device)])
    return [(c / max(1, total[0].item()), d / total[1].item()) for c, d in counts.tolist()]
