"""Checks of what GMP is given: model, batch, confidences, gradients."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

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
    if len(names[0]) < (1 if alone else 2):
        raise InputError(
            f"the model has {f'only one modality, {names[0][0]}' if names[0] else 'no modality'}, and nothing to "
            "balance; expected two or more, or the variant joint, which trains a single one"
        )
    owner: dict[nn.Parameter, str] = {}
    for name, encoder in model.encoders.items():
        for parameter in encoder.parameters():
            if owner.setdefault(parameter, name) != name:
                raise InputError(
                    f"the encoders of {owner[parameter]} and {name} share parameters; expected an encoder of its own "
                    "for each modality, because each gets a step of its own"
                )


def check_batch(model: nn.Module, batch: object) -> None:
    """Refuse a batch that lacks a modality, labels or a second domain.

    Raises:
        InputError: naming what was got and what the model needs.
    """
    if not (isinstance(batch, Sequence) and len(batch) == 3 and isinstance(batch[0], Mapping)):
        raise InputError("the batch has another form; expected ({modality: images}, labels, domains)")
    images, labels, domains = batch
    if set(images) != set(model.encoders):
        raise InputError(
            f"the batch has the modalities {', '.join(images) or 'none'}, the model {', '.join(model.encoders)}; "
            "training needs all of them in every batch (at test time one may be missing)"
        )
    sizes = {**{name: len(x) for name, x in images.items()}, "labels": len(labels), "domains": len(domains)}
    if len(set(sizes.values())) > 1 or not len(labels):
        each = ", ".join(f"{count} of {name}" for name, count in sizes.items())
        raise InputError(f"the batch holds {each}; expected one of each for every image")
    if domains.is_floating_point() or domains.min() < 0:
        raise InputError(f"the domains begin with {domains.flatten()[:4].tolist()}; expected whole numbers from 0")
    if len(domains.unique()) < 2:
        raise InputError(
            "all images of the batch are of one domain, from which no discriminator can learn; expected images of two "
            "source domains or more"
        )


def check_alphas(alpha_k: float, alpha_p: float) -> None:
    """Refuse an alpha outside [0, 1]."""
    for name, value in (("alpha_k", alpha_k), ("alpha_p", alpha_p)):
        if not 0 <= value <= 1:
            raise InputError(f"{name} is {value}; expected a number from 0 (no modulation) to 1")


def check_confidences(semantic: Mapping[str, Tensor], domain: Mapping[str, Tensor]) -> None:
    """Refuse confidences that are no probabilities, or not those of the same samples by two modalities or more."""
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
    for kind, by_modality in (("semantic", semantic), ("domain", domain)):
        for name, values in by_modality.items():
            if values.numel() == 0 or not ((values >= 0) & (values <= 1)).all():
                raise InputError(
                    f"the {kind} confidences of {name} begin with {values.flatten()[:4].tolist()}; expected "
                    "probabilities in [0, 1], one or more"
                )
        sizes = {name: values.numel() for name, values in by_modality.items()}
        if len(set(sizes.values())) > 1:
            each = ", ".join(f"{count} of {name}" for name, count in sizes.items())
            raise InputError(f"there are {kind} confidences {each}; expected those of the same samples for each")


def check_gradients(g_c: Tensor | Sequence[Tensor], g_d: Tensor | Sequence[Tensor], gamma: float) -> None:
    """Refuse gradients that are not of one encoder, or a gamma that is no ratio."""
    shapes = [tuple(g.shape) if isinstance(g, Tensor) else [tuple(one.shape) for one in g] for g in (g_c, g_d)]
    if shapes[0] != shapes[1]:
        raise InputError(
            f"the gradients have the shapes {shapes[0]} and {shapes[1]}; expected the same, as of one encoder"
        )
    if not gamma >= 0:
        raise InputError(f"gamma is {gamma}; expected a ratio of 0 or more")
