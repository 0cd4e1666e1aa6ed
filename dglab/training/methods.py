"""The training methods by name: AGG, MLDG, the controls that could explain their difference, and GMP."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from dglab.data.batches import flatten
from dglab.data.multimodal import flatten_modalities
from dglab.training.agg import agg_backward, by_domain_backward, split_backward
from dglab.training.config import TrainingConfig
from dglab.training.distributed import rank
from dglab.training.gmp import gmp_backward
from dglab.training.losses import Batch, Losses, LossFunction, MultiDomainBatch
from dglab.training.mean_loss import trainable
from dglab.training.mldg import mldg_backward
from dglab.training.projected import projected_backward
from dglab.training.two_tasks import MultimodalBatch
from dglab.utils.errors import InputError

Method = Callable[
    [nn.Module, LossFunction, MultiDomainBatch | MultimodalBatch, TrainingConfig, torch.Generator], Losses
]
# (model, loss_fn, batch B x D x ..., settings, randomness of the split) -> losses; the gradient lands in .grad


def split_sizes(split: str, count: int, generator: torch.Generator) -> tuple[int, int]:
    """How many of ``count`` domains are meta-train and how many meta-test.

    Args:
        split: ``"half"`` (2:2 of four as in the paper, 2:1 of three), ``"n:m"``, or ``"random"``: n is drawn in each
            step, as in the authors' code.
        count: number of source domains, 2 or more.
        generator: for the random split.

    Raises:
        InputError: for fewer than two domains, or parts that do not add up to them.
    """
    if count < 2:
        raise InputError(f"MLDG and its controls split the source domains and need two or more, got {count}")
    if split == "half":
        return count - count // 2, count // 2
    if split == "random":
        first = int(torch.randint(1, count, (), generator=generator))
        return first, count - first
    parts = split.split(":")
    if len(parts) == 2 and all(part.isdecimal() and len(part) < 10 for part in parts):
        first, second = map(int, parts)
        if first >= 1 and second >= 1 and first + second == count:
            return first, second
    raise InputError(
        f"the split is {split!r}; expected 'half', 'random', or n:m with n and m of 1 or more that add up to the "
        f"{count} source domains"
    )


def split_domains(batch: MultiDomainBatch, split: str, generator: torch.Generator) -> tuple[Batch, Batch]:
    """Meta-train and meta-test: the D domains of a batch B x D x ..., divided at random, no domain in both."""
    images, labels = batch
    first, _ = split_sizes(split, images.shape[1], generator)
    order = torch.randperm(images.shape[1], generator=generator)
    return tuple(flatten((images[:, part], labels[:, part])) for part in (order[:first], order[first:]))


def split_images(batch: MultiDomainBatch, split: str, generator: torch.Generator) -> tuple[Batch, Batch]:
    """Two parts of the same sizes as those of :func:`split_domains`, but of images drawn from all domains.

    Each of several processes draws its own order: with one image of each domain per process, one order for all would
    split the domains after all.
    """
    first, _ = split_sizes(split, batch[0].shape[1], generator)
    images, labels = flatten(batch)
    order = [torch.randperm(len(images), generator=generator) for _ in range(rank() + 1)][-1]
    cut = first * batch[0].shape[0]
    return tuple((images[part], labels[part]) for part in (order[:cut], order[cut:]))


def domains_of(batch: MultiDomainBatch) -> list[Batch]:
    """A batch B x D x ... as D batches of one domain each."""
    images, labels = batch
    return list(zip(images.unbind(1), labels.unbind(1), strict=True))


def passes_of(batch: MultiDomainBatch, domains_per_pass: int, generator: torch.Generator) -> list[Batch]:
    """A batch B x D x ... as passes of :data:`PASS` images from K domains each, the domains drawn at random.

    K ranges from 1 (each domain normalized by itself, as under TN) to D; the number of images in a pass and in a step
    is always the same.

    Args:
        batch: images B x D x 3 x H x W, labels B x D x H x W.
        domains_per_pass: K.
        generator: draws which domains share a pass.

    Raises:
        InputError: unless K divides D and :data:`PASS`, and B is a multiple of PASS / K.
    """
    images, labels = batch
    rows, count = images.shape[:2]
    check_passes(domains_per_pass, count, rows)
    order = torch.randperm(count, generator=generator)
    groups = order.split(domains_per_pass)  # D / K groups of K domains
    rows_of_pass = torch.arange(rows).split(PASS // domains_per_pass)
    parts = [(row, group) for group in groups for row in rows_of_pass]
    return [flatten((images[row][:, group], labels[row][:, group])) for row, group in parts]


def check_passes(domains_per_pass: int, count: int, rows: int) -> None:
    """Refuse passes that cannot be filled.

    Args:
        domains_per_pass: K.
        count: number of source domains.
        rows: images of each domain in a step.
    """
    if PASS % domains_per_pass or count % domains_per_pass or rows * domains_per_pass % PASS:
        raise InputError(
            f"domains_per_pass is {domains_per_pass}, with {rows} image(s) of each of {count} source domain(s) in a "
            f"step; expected a number that divides {count} and {PASS}, the images of a pass, and a multiple of "
            f"{PASS} / domains_per_pass images a domain (--batch-per-domain)"
        )


def agg(
    model: nn.Module, loss_fn: LossFunction, batch: MultiDomainBatch, config: TrainingConfig, generator: torch.Generator
) -> Losses:
    """AGG (Eq. 1-2); with ``domains_per_pass``, each forward pass holds images of K domains only."""
    if config.domains_per_pass:
        passes = passes_of(batch, config.domains_per_pass, generator)
        return by_domain_backward(model, loss_fn, passes)  # one mean loss, pass by pass
    return agg_backward(model, loss_fn, flatten(batch), micro_batches=config.micro_batches)


def agg2(
    model: nn.Module, loss_fn: LossFunction, batch: MultiDomainBatch, config: TrainingConfig, _: torch.Generator
) -> Losses:
    """AGG with twice the loss: at the same learning rate, a step as long as MLDG's."""
    return agg_backward(model, loss_fn, flatten(batch), weight=2.0, micro_batches=config.micro_batches)


def by_domain(
    model: nn.Module, loss_fn: LossFunction, batch: MultiDomainBatch, config: TrainingConfig, _: torch.Generator
) -> Losses:
    """AGG with one forward pass per domain: what MLDG's domain split alone does to BatchNorm."""
    return by_domain_backward(model, loss_fn, domains_of(batch), micro_batches=config.micro_batches)


def by_domain2(
    model: nn.Module, loss_fn: LossFunction, batch: MultiDomainBatch, config: TrainingConfig, _: torch.Generator
) -> Losses:
    """The same with twice the loss: at the same learning rate, a step as long as MLDG's."""
    return by_domain_backward(model, loss_fn, domains_of(batch), weight=2.0, micro_batches=config.micro_batches)


def split(
    model: nn.Module, loss_fn: LossFunction, batch: MultiDomainBatch, config: TrainingConfig, generator: torch.Generator
) -> Losses:
    """Two passes over random halves that mix all domains, no inner step: MLDG's step length and batch sizes alone."""
    first, second = split_images(batch, config.split, generator)
    return split_backward(model, loss_fn, first, second, micro_batches=config.micro_batches)


def mldg(
    model: nn.Module, loss_fn: LossFunction, batch: MultiDomainBatch, config: TrainingConfig, generator: torch.Generator
) -> Losses:
    """MLDG (Eq. 3-6, Algorithm 1); ``inner_lr=0`` is the control without an inner step."""
    meta_train, meta_test = split_domains(batch, config.split, generator)
    return mldg_backward(
        model,
        loss_fn,
        meta_train,
        meta_test,
        config.inner_lr,
        config.alpha,
        config.order,
        config.running_stats,
        micro_batches=config.micro_batches,
    )


def mldg_mean(
    model: nn.Module, loss_fn: LossFunction, batch: MultiDomainBatch, config: TrainingConfig, generator: torch.Generator
) -> Losses:
    """MLDG with half of each loss in the outer step, which is then as long as AGG's. The inner step is MLDG's."""
    losses = mldg(model, loss_fn, batch, config, generator)
    for parameter in trainable(model):
        parameter.grad *= 0.5
    return losses._replace(total=losses.total / 2)


def projected(
    model: nn.Module, loss_fn: LossFunction, batch: MultiDomainBatch, config: TrainingConfig, generator: torch.Generator
) -> Losses:
    """MLDG's domain split, with GMP's projection in place of the inner step."""
    meta_train, meta_test = split_domains(batch, config.split, generator)
    return projected_backward(model, loss_fn, meta_train, meta_test, micro_batches=config.micro_batches)


def gmp(
    model: nn.Module, loss_fn: LossFunction, batch: MultimodalBatch, config: TrainingConfig, _: torch.Generator
) -> Losses:
    """GMP, or one of its variants."""
    return gmp_backward(
        model,
        loss_fn,
        flatten_modalities(batch),
        alpha_k=config.alpha_k,
        alpha_p=config.alpha_p,
        variant=config.variant,
        micro_batches=config.micro_batches,
    )


METHODS: dict[str, Method] = {
    "agg": agg,
    "agg2": agg2,
    "by_domain": by_domain,
    "by_domain2": by_domain2,
    "split": split,
    "mldg": mldg,
    "mldg_mean": mldg_mean,
    "projected": projected,
    "gmp": gmp,
}
PASS = 4  # images in a BatchNorm batch, where the number of its domains is chosen
_OF_MLDG = ("order", "inner_lr", "alpha", "split")
_OF_GMP = ("variant", "modalities", "alpha_k", "alpha_p")
# the settings that only some methods read, by method
OPTIONS = {name: () for name in METHODS} | {
    "agg": ("domains_per_pass",),
    "split": ("split",),
    "mldg": _OF_MLDG,
    "mldg_mean": _OF_MLDG,
    "projected": ("split",),
    "gmp": _OF_GMP,
}


ALL_OPTIONS = tuple(dict.fromkeys(name for names in OPTIONS.values() for name in names))


def second_order(config: TrainingConfig) -> bool:
    """Whether a run needs second derivatives."""
    return "order" in OPTIONS[config.method] and config.order == 2


def modalities_of(config: TrainingConfig) -> tuple[str, ...]:
    """The modalities that a run trains on; empty if its method trains on images alone."""
    return config.modalities if "modalities" in OPTIONS.get(config.method, ()) else ()


def to_device(batch: tuple[Any, ...], device: torch.device) -> MultiDomainBatch | MultimodalBatch:
    """A uint8 batch as the methods expect it: images float32 in [0, 1], labels int64, on ``device``."""
    images, labels, *domains = batch

    def as_float(pictures: Tensor) -> Tensor:
        return pictures.to(device, non_blocking=True).float() / 255

    images = {name: as_float(x) for name, x in images.items()} if isinstance(images, dict) else as_float(images)
    return images, *(part.to(device, non_blocking=True).long() for part in (labels, *domains))
