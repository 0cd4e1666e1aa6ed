"""Checks of what GMP is given: model, batch, confidences, gradients, and the step of a variant."""

from collections.abc import Collection, Mapping, Sequence
from numbers import Real

import torch
from torch import Tensor, nn

from dglab.models.multimodal import MultimodalNetwork
from dglab.utils.errors import InputError

BY_MODALITY = ("encoders", "classifiers", "discriminators")  # parts of a model


def check_model(model: nn.Module, *, alone: bool = False) -> None:
    """Refuse a model without the parts that GMP needs.

    Args:
        alone: let a single modality pass, of which nothing is to be balanced.

    Raises:
        InputError: naming what is missing.
    """
    kinds = {**dict.fromkeys(BY_MODALITY, nn.ModuleDict), "fusion": nn.Module}
    for part, kind in kinds.items():
        found = getattr(model, part, None)
        if not isinstance(found, kind):
            has = f"has no {part}" if found is None else f"has {part} that are a {type(found).__name__}"
            raise InputError(
                f"the model, a {type(model).__name__}, {has}; expected encoders, classifiers and discriminators, each "
                "an nn.ModuleDict by modality, and fusion, a module on the list of features, as in "
                "dglab.models.multimodal.MultimodalNetwork"
            )
    names = [list(getattr(model, part).keys()) for part in BY_MODALITY]
    if not set(names[0]) == set(names[1]) == set(names[2]):
        each = "; ".join(f"{part} of {', '.join(own)}" for part, own in zip(BY_MODALITY, names, strict=True))
        raise InputError(f"the model has {each}; expected one of each kind for every modality")
    check_several(names[0], alone=alone)
    owner: dict[nn.Parameter, str] = {}
    for name, encoder in model.encoders.items():
        for parameter in encoder.parameters():
            if owner.setdefault(parameter, name) != name:
                raise InputError(
                    f"the encoders of {owner[parameter]} and {name} share parameters; expected an encoder of its own "
                    "for each modality, because each gets a step of its own"
                )


def check_several(modalities: Collection[str], *, alone: bool) -> None:
    """Refuse a single modality, of which nothing is to be balanced, unless ``alone`` lets it pass."""
    if len(modalities) < (1 if alone else 2):
        found = f"only one modality, {', '.join(modalities)}," if modalities else "no modality"
        raise InputError(
            f"there is {found} and nothing to balance; expected two or more, or the variant joint, which trains a "
            "single one"
        )


def check_batch(model: nn.Module, batch: object) -> None:
    """Refuse a batch that lacks a modality, labels or a second domain.

    Raises:
        InputError: naming what was got and what the model needs.
    """
    if not (isinstance(batch, Sequence) and len(batch) == 3 and isinstance(batch[0], Mapping)):
        raise InputError("the batch has another form; expected ({modality: images}, labels, domains)")
    images, labels, domains = batch
    there = [name for name, pictures in images.items() if pictures is not None]
    if set(there) != set(model.encoders):
        raise InputError(
            f"the batch has the modalities {', '.join(there) or 'none'}, the model {', '.join(model.encoders)}; "
            "training needs all of them in every batch (at test time one may be missing)"
        )
    parts = {**{f"images of {name}": pictures for name, pictures in images.items()},
             "labels": labels, "domains": domains}  # fmt: skip
    for name, part in parts.items():
        if not isinstance(part, Tensor) or part.ndim == 0:
            kind = "tensor of no dimension" if isinstance(part, Tensor) else type(part).__name__
            raise InputError(f"the {name} are a {kind}; expected a tensor with one entry for every image")
    if len({len(part) for part in parts.values()}) > 1 or not len(labels):
        each = ", ".join(f"{len(part)} {name}" for name, part in parts.items())
        raise InputError(f"the batch holds {each}; expected one of each for every image")
    if isinstance(model, MultimodalNetwork):
        model.by_modality(images)  # knows its channels
    _check_domains(domains)


def _check_domains(domains: Tensor) -> None:
    whole = not (domains.is_floating_point() or domains.is_complex() or domains.dtype == torch.bool)
    if domains.ndim != 1 or not whole or domains.min() < 0:
        raise InputError(
            f"the domains have the shape {tuple(domains.shape)} and begin with {domains.flatten()[:4].tolist()}; "
            "expected whole numbers from 0, one for each image"
        )
    if len(domains.unique()) < 2:
        raise InputError(
            "all images of the batch are of one domain, from which no discriminator can learn; expected images of two "
            "source domains or more"
        )


def check_alphas(alpha_k: float, alpha_p: float) -> None:
    """Refuse an alpha outside [0, 1]."""
    for name, value in (("alpha_k", alpha_k), ("alpha_p", alpha_p)):
        if not (isinstance(value, Real) and 0 <= value <= 1):
            raise InputError(f"{name} is {value!r}; expected a number from 0 (no modulation) to 1")


def check_confidences(semantic: Mapping[str, Tensor], domain: Mapping[str, Tensor]) -> None:
    """Refuse confidences that are no probabilities, or not those of the same samples by two modalities or more."""
    kinds = {"semantic": semantic, "domain": domain}
    for kind, by_modality in kinds.items():
        if not isinstance(by_modality, Mapping):
            raise InputError(
                f"the {kind} confidences are a {type(by_modality).__name__}; expected {{modality: tensor of B "
                "probabilities}"
            )
    if len(semantic) < 2:
        raise InputError(
            f"the confidences are of {', '.join(semantic) or 'no modality'}; expected two modalities or more, for each "
            "is measured against the others"
        )
    if set(semantic) != set(domain):
        raise InputError(
            f"the semantic confidences are of {', '.join(semantic)}, the domain confidences of {', '.join(domain)}; "
            "expected the same modalities"
        )
    every = {f"{kind} confidences of {name}": values for kind, of in kinds.items() for name, values in of.items()}
    for name, values in every.items():
        if not isinstance(values, Tensor):
            raise InputError(f"the {name} are a {type(values).__name__}; expected a tensor of B probabilities")
        if values.numel() == 0 or not ((values >= 0) & (values <= 1)).all():
            raise InputError(
                f"the {name} begin with {values.flatten()[:4].tolist()}; expected probabilities in [0, 1], one or more"
            )
    if len({values.numel() for values in every.values()}) > 1:
        each = ", ".join(f"{values.numel()} {name}" for name, values in every.items())
        raise InputError(f"there are {each}; expected those of the same samples for each")


def check_gradients(g_c: Tensor | Sequence[Tensor], g_d: Tensor | Sequence[Tensor], gamma: float) -> None:
    """Refuse gradients that are not of one encoder or not finite, or a gamma that is no ratio."""
    shapes = [shapes_of(g) for g in (g_c, g_d)]
    parts = [one for g in (g_c, g_d) for one in (g if isinstance(g, list | tuple) else [g])]
    if shapes[0] != shapes[1] or not all(isinstance(one, Tensor) for one in parts):
        raise InputError(
            f"the gradients have the shapes {shapes[0]} and {shapes[1]}; expected the same, as of one encoder: two "
            "tensors, or two lists of tensors"
        )
    if not (isinstance(gamma, Real) and gamma >= 0):
        raise InputError(f"gamma is {gamma!r}; expected a ratio of 0 or more")
    if not all_finite(parts):
        raise InputError(
            "the gradients hold nan or inf; expected finite numbers: look at the loss that they are of, and project "
            "nothing before they are"
        )


def check_step(name: str, step: object, parameters: Sequence[nn.Parameter]) -> None:
    """Refuse what a variant of one's own returns, unless it fits the encoder of the modality ``name``."""
    expected = [tuple(parameter.shape) for parameter in parameters]
    if not isinstance(step, list | tuple) or shapes_of(step) != expected:
        raise InputError(
            f"for the encoder of {name} the variant returned {shapes_of(step)}; expected its step, a list of "
            f"{len(expected)} tensors of the shapes {expected}, as g_c has them"
        )


def all_finite(tensors: Sequence[Tensor]) -> bool:
    """Whether no tensor holds nan or inf."""
    return not len(tensors) or bool(torch.stack([one.isfinite().all() for one in tensors]).all())


def shapes_of(found: object) -> object:
    """For a message: the shape of a tensor, those of a list of tensors, and of anything else what it is."""
    if isinstance(found, list | tuple):
        return [shapes_of(one) for one in found]
    return tuple(found.shape) if isinstance(found, Tensor) else f"a {type(found).__name__}"
