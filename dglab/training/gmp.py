"""GMP: each modality's encoder takes a step that is balanced between modalities (IGDM) and between tasks (CAGP).

Source: Li, Shen, Li, Xu, Khan, "Balancing Multimodal Domain Generalization via Gradient Modulation and Projection",
arXiv 2603.14175. An encoder m serves two tasks: classification, with the gradient g_c, and domain invariance, with the
gradient g_d of its discriminator behind a gradient reversal.

At hand were the abstract, a public summary of the method and two of the tables. What these leave open is ours:

* each of three or more modalities is measured against the mean of the others (the ratios' normalizers); with three or
  more modalities, too, the task that is ahead in an encoder follows from its two ratios, Gamma = rho / sigma;
* at a ratio of exactly 1 nothing happens;
* the losses of a task are added without weights;
* fusion, classifiers and discriminators are neither modulated nor projected;
* the discriminators' loss is in every row of a comparison: in joint training (the base), in that of one modality alone
  and in OGM-GE, too, so that rows differ in the treatment of gradients alone. Whether the published base has it is not
  known to us;
* the strength of the gradient reversal grows by the schedule of Ganin et al., see
  :class:`dglab.models.multimodal.GradientReversal`;
* a projection in a fixed direction, and PCGrad, act on modulated gradients;
* what :func:`unified` and :func:`ogm_ge` say of themselves.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from dglab.training.distributed import world_size
from dglab.training.gmp_checks import (
    all_finite,
    check_alphas,
    check_batch,
    check_confidences,
    check_gradients,
    check_model,
    check_step,
)
from dglab.training.losses import Losses, LossFunction
from dglab.training.mean_loss import set_gradient, trainable
from dglab.training.surgery import by_torchjd, find_aggregator
from dglab.training.two_tasks import MultimodalBatch, two_tasks
from dglab.utils.errors import InputError

Gradient = list[Tensor]  # of an encoder, one for each of its parameters
OneOrMore = TypeVar("OneOrMore", Tensor, Gradient)


class Coefficients(NamedTuple):
    """How one modality stands beside the others, and what follows.

    Attributes:
        rho: its semantic confidence over the others'; above 1 it is ahead in classification.
        sigma: the others' domain confidence over its own; above 1 it is ahead in domain invariance.
        k, p: what scales its encoder's g_c and g_d, in (0, 1].
    """

    rho: float
    sigma: float
    k: float
    p: float

    @property
    def gamma(self) -> float:
        """Gamma = rho / sigma: above 1 classification is the task that is ahead in this encoder, below 1 invariance."""
        return _ratio(self.rho, self.sigma)


Variant = Callable[[Gradient, Gradient, Coefficients], Gradient]  # (g_c, g_d, coefficients) -> the encoder's step


def modulation_coefficients(
    semantic: Mapping[str, Tensor], domain: Mapping[str, Tensor], alpha_k: float, alpha_p: float
) -> dict[str, Coefficients]:
    """IGDM: a modality that is ahead of the others in a task learns that task more slowly.

    rho = sum_i q_i / mean over the other modalities of the same sum, and k = 1 - tanh(alpha_k rho) where rho > 1,
    else 1; sigma = the others' mean sum_i c_i / its own, and p = 1 - tanh(alpha_p sigma) where sigma > 1, else 1.
    (So k drops from 1 to 1 - tanh(alpha_k), not by degrees, as soon as a modality is ahead.) Ours: 0 / 0 is 1.

    Args:
        semantic: by modality, q of each sample, the probability of its true class by the modality's classifier; B
            values in [0, 1].
        domain: by modality, c of each sample, the probability of its true domain by the modality's discriminator.
        alpha_k, alpha_p: how strongly to hold back, 0 (not at all) to 1.

    Raises:
        InputError: for a single modality, other modalities or samples in ``domain``, no tensors, values or alphas
            outside [0, 1].
    """
    check_confidences(semantic, domain)
    check_alphas(alpha_k, alpha_p)
    q, c = ({name: values.double().sum().item() for name, values in by.items()} for by in (semantic, domain))
    coefficients = {}
    for name in q:
        rho = _ratio(q[name], _mean_of_others(q, name))
        sigma = _ratio(_mean_of_others(c, name), c[name])
        k = _one_minus_tanh(alpha_k, rho) if rho > 1 else 1.0
        p = _one_minus_tanh(alpha_p, sigma) if sigma > 1 else 1.0
        coefficients[name] = Coefficients(rho, sigma, k, p)
    return coefficients


def project_conflict(g_c: OneOrMore, g_d: OneOrMore, gamma: float) -> tuple[OneOrMore, OneOrMore]:
    """CAGP: where the two tasks conflict, the one that is ahead gives way.

    Where the inner product of g_c and g_d is negative and gamma > 1, g_c is projected onto the plane orthogonal to g_d;
    where gamma < 1, g_d onto the plane orthogonal to g_c. Otherwise both come back as they are.

    Args:
        g_c, g_d: tensors of one shape, or lists of them, each list taken as one vector.
        gamma: rho / sigma, 0 or more.

    Raises:
        InputError: for other shapes, nan or inf in a gradient, or a gamma that is negative or no number.
    """
    check_gradients(g_c, g_d, gamma)
    if isinstance(g_c, Tensor):
        [g_c], [g_d] = project_conflict([g_c], [g_d], gamma)
        return g_c, g_d
    conflict = _dot(g_c, g_d) < 0
    if conflict and gamma > 1:
        g_c = _orthogonal(g_c, g_d)
    elif conflict and gamma < 1:
        g_d = _orthogonal(g_d, g_c)
    return g_c, g_d


def gmp_backward(
    model: nn.Module,
    loss_fn: LossFunction,
    batch: MultimodalBatch,
    *,
    alpha_k: float,
    alpha_p: float,
    variant: str | Variant = "gmp",
    micro_batches: int = 1,
) -> Losses:
    """The gradient of GMP into ``.grad`` of every trainable parameter, replacing what was there.

    One forward pass, two gradients (``joint``, which is the plain step, takes their sum at once). Encoders get what the
    variant makes of them; fusion, classifiers and discriminators get the plain sum of both.

    Args:
        model: with ``encoders``, ``classifiers`` and ``discriminators``, each an ``nn.ModuleDict`` by modality, and
            ``fusion``, a module on the list of features, as :class:`dglab.models.multimodal.MultimodalNetwork` has
            them. The discriminators hold the gradient reversal; the classifiers decide whether they train the encoder.
            Run in the mode it is in; no parameter moves; BatchNorm's running statistics move once for each micro-batch.
        loss_fn: (logits, labels) -> scalar.
        batch: ({modality: images N x C x H x W}, labels N x H x W (0-18, 255) or N, domains N from 0).
        alpha_k, alpha_p: of IGDM, 0 to 1; a variant without modulation does not look at them.
        variant: a key of :data:`VARIANTS`; ``"torchjd:NAME"``, an aggregator of TorchJD (see
            :mod:`dglab.training.surgery`); or a function that makes an encoder's step of its g_c, its g_d and its
            :class:`Coefficients`, called for one modality after the other in the model's order. One of your own may
            also record what it is given.
        micro_batches: as in :func:`dglab.training.agg.agg_backward`; process groups, too.

    Returns:
        ``ds`` the classification losses added, ``dg`` the discriminators', ``total`` their sum.

    Raises:
        InputError: for a model or batch without what it needs, a single modality (but for ``joint``) or domain, an
            unknown variant, a step of a variant that does not fit the encoder, alphas outside [0, 1].
    """
    step = find_variant(variant)
    check_alphas(alpha_k, alpha_p)
    check_model(model, alone=step is joint)
    check_batch(model, batch)
    tasks, theta = two_tasks(model, loss_fn, batch, micro_batches, apart=step is not joint), trainable(model)
    losses = Losses(tasks.loss_c.item(), tasks.loss_d.item(), (tasks.loss_c + tasks.loss_d).item())
    if step is joint:
        set_gradient(theta, tasks.g_c)  # of both losses added: the plain step
        return losses

    g_c, g_d = (dict(zip(theta, g, strict=True)) for g in (tasks.g_c, tasks.g_d))
    grad = {parameter: g_c[parameter] + g_d[parameter] for parameter in theta}
    if math.isfinite(losses.total) and all_finite(list(grad.values())):  # else the trainer refuses it
        coefficients = modulation_coefficients(tasks.semantic, tasks.domain, alpha_k, alpha_p)
        for name, encoder in model.encoders.items():
            own = trainable(encoder)
            balanced = step([g_c[p] for p in own], [g_d[p] for p in own], coefficients[name])
            check_step(name, balanced, own)
            grad.update(zip(own, balanced, strict=True))
    set_gradient(theta, list(grad.values()))
    return losses


# ------------------------------------------------------------------------- an encoder's step, by variant


def gmp(g_c: Gradient, g_d: Gradient, of: Coefficients) -> Gradient:
    """IGDM, then CAGP: the method."""
    return _sum(*project_conflict(_scaled(of.k, g_c), _scaled(of.p, g_d), of.gamma))


def joint(g_c: Gradient, g_d: Gradient, of: Coefficients) -> Gradient:
    """Neither: the gradient of both losses added, as of any joint training."""
    return _sum(g_c, g_d)


def igdm(g_c: Gradient, g_d: Gradient, of: Coefficients) -> Gradient:
    """IGDM alone."""
    return _sum(_scaled(of.k, g_c), _scaled(of.p, g_d))


def cagp(g_c: Gradient, g_d: Gradient, of: Coefficients) -> Gradient:
    """CAGP alone."""
    return _sum(*project_conflict(g_c, g_d, of.gamma))


def unified(g_c: Gradient, g_d: Gradient, of: Coefficients) -> Gradient:
    """GMP with one coefficient for both tasks; ours: k for both, the coefficient that methods which balance by accuracy
    use."""
    return _sum(*project_conflict(_scaled(of.k, g_c), _scaled(of.k, g_d), of.gamma))


def fixed_c(g_c: Gradient, g_d: Gradient, of: Coefficients) -> Gradient:
    """GMP, but in a conflict it is always classification that gives way."""
    return _sum(*project_conflict(_scaled(of.k, g_c), _scaled(of.p, g_d), math.inf))


def fixed_d(g_c: Gradient, g_d: Gradient, of: Coefficients) -> Gradient:
    """GMP, but in a conflict it is always domain invariance that gives way."""
    return _sum(*project_conflict(_scaled(of.k, g_c), _scaled(of.p, g_d), 0.0))


def ogm_ge(g_c: Gradient, g_d: Gradient, of: Coefficients) -> Gradient:
    """OGM-GE: k on the whole step, and Gaussian noise as large as each tensor's gradient to make up for the stride.

    Source: Peng et al., CVPR 2022, and their public code, where the noise has the deviation of the gradient before it
    is scaled. Ours: their ratio is of a split fused classifier, this one of the modalities' own; they touch
    convolutions alone, this every parameter of the encoder.
    """
    step = _sum(g_c, g_d)
    return [of.k * g + g.std(correction=0) * torch.randn_like(g) for g in step]


VARIANTS: dict[str, Variant] = {
    "gmp": gmp,
    "joint": joint,
    "igdm": igdm,
    "cagp": cagp,
    "unified": unified,
    "fixed_c": fixed_c,
    "fixed_d": fixed_d,
    "ogm_ge": ogm_ge,
}


def find_variant(variant: str | Variant) -> Variant:
    """A variant by name; a function is one itself.

    Raises:
        InputError: for no name, an unknown one, TorchJD where it is not installed, or OGM-GE on several processes,
            which would each add a noise of its own.
    """
    if callable(variant):
        return variant
    if isinstance(variant, str) and variant.startswith("torchjd:"):
        return by_torchjd(find_aggregator(variant.removeprefix("torchjd:")))
    if not isinstance(variant, str) or variant not in VARIANTS:
        raise InputError(
            f"unknown variant of GMP {variant!r}; expected one of {', '.join(VARIANTS)}, torchjd:PCGrad, or a function "
            "of (g_c, g_d, coefficients)"
        )
    if variant == "ogm_ge" and world_size() > 1:
        raise InputError("ogm_ge draws noise, another in each process; train it in one process")
    return VARIANTS[variant]


# ------------------------------------------------------------------------------------------------ arithmetic


def _ratio(a: float, b: float) -> float:
    """a / b of numbers of 0 or more; equal ones, two zeros or two infinities too, have the ratio 1."""
    return 1.0 if a == b else math.inf if b == 0 else a / b


def _mean_of_others(sums: Mapping[str, float], name: str) -> float:
    return sum(value for other, value in sums.items() if other != name) / (len(sums) - 1)


def _one_minus_tanh(alpha: float, ratio: float) -> float:
    """1 - tanh(alpha ratio), written so that it does not round to 0 where a modality is far ahead, or infinitely."""
    return 2 / (1 + math.exp(2 * min(alpha * min(ratio, 1e300), 300.0)))


def _scaled(factor: float, g: Gradient) -> Gradient:
    return [factor * one for one in g]


def _sum(g_c: Gradient, g_d: Gradient) -> Gradient:
    return [a + b for a, b in zip(g_c, g_d, strict=True)]


def _dot(a: Gradient, b: Gradient) -> float:
    return float(sum((x * y).sum() for x, y in zip(a, b, strict=True)))


def _orthogonal(g: Gradient, to: Gradient) -> Gradient:
    """g without its part along another vector; without change if that is too short to be squared."""
    squared = _dot(to, to)
    along = _dot(g, to) / squared if squared > 0 else 0.0
    return [a - along * b for a, b in zip(g, to, strict=True)]
