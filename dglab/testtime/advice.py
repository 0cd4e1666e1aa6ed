"""Advice before target statistics are used: how far a target is out of the ordinary, and what follows from it."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from dglab.testtime.guarded import (
    K,
    PRIOR,
    GuardedStatistics,
    guarded_statistics,
    is_of_one_colour,
    pooled_distance,
    share_of_target,
)
from dglab.testtime.moments import Moments, moments_of_each, pooled
from dglab.testtime.predictor import Predictor
from dglab.testtime.reference import SourceReference
from dglab.utils.errors import InputError

FEWEST = 4  # images: two in each half
LITTLE, MUCH = 0.1, 0.9  # shares of the target's statistics that are as good as none, and as all


@dataclass(frozen=True)
class LayerShift:
    """One row of the reasons: a BatchNorm layer."""

    layer: str
    shift: float  # |mu_target - mu_source| / sigma_source, averaged over channels
    distance: float | None  # d of the guard: 1 is ordinary for the sources; None without a reference


@dataclass(frozen=True)
class Advice:
    """What to do with a target.

    Attributes:
        recommendation: ``"source"`` (source BN), ``"target"`` (TN), ``"blend"``, or ``"undecided"``.
        prior: the share of source statistics, for ``TargetNormalization(model, prior=...)``; 1 is source BN.
        distance: d of the guard, all images and layers together; None without a reference.
        words: the reasons in words.
        reasons: a row a layer, in the order in which they run.
        drift: d of each image by itself, in order; empty without a reference.
    """

    recommendation: str
    prior: float
    distance: float | None
    words: list[str]
    reasons: list[LayerShift]
    drift: list[float]

    def to_json(self) -> str:
        """The same as a JSON object."""
        return json.dumps(asdict(self), indent=1)


def advise(model: nn.Module, images: Tensor | Iterable[Tensor], reference: SourceReference | None = None) -> Advice:
    """Compare a target with what is ordinary for the source, in passes under source BN.

    The distance d is that of :class:`~dglab.testtime.guarded.GuardedNormalization`, of all images as one look at the
    target, and so is the share. The advice is undecided without a reference, for fewer than four images, and where the
    even and the odd images would lead to different advice.

    Args:
        model: any ``nn.Module`` with BatchNorm; it comes back as it was.
        images: of the target, N x 3 x H x W, or an iterable of such batches. Some dozens, not from one moment.
        reference: measured on this model.

    Raises:
        InputError: for no image, or a reference of another network.
    """
    checker = Predictor(model)
    guard = None if reference is None else guarded_statistics(checker.model, reference)
    seen: dict[str, list[Moments]] = {}  # of each layer, those of each batch
    sources: dict[str, Moments] = {}
    flat = 0

    def look(name: str, x: Tensor, source: Moments | None) -> Moments | None:
        if source is not None and x.numel() > x.shape[1]:
            seen.setdefault(name, []).append(moments_of_each(x))
            sources[name] = source
        return source

    for batch in [images] if isinstance(images, Tensor) else images:
        checker.check(batch)
        colourful = batch[~is_of_one_colour(batch)]
        flat += len(batch) - len(colourful)
        if len(colourful):
            checker.predict(colourful, look)
    if not seen:
        raise InputError(
            "advise got no image that tells of its domain, or a model without source statistics; pass images of the "
            "target, not of one colour"
        )
    each = {name: tuple(torch.cat(parts) for parts in zip(*batches, strict=True)) for name, batches in seen.items()}
    return _judged(each, sources, guard, flat)


def _judged(
    each: dict[str, Moments], sources: dict[str, Moments], guard: GuardedStatistics | None, flat: int
) -> Advice:
    count = len(next(iter(each.values()))[0])
    shifts = {name: _shift(pooled(moments), sources[name]) for name, moments in each.items()}
    words = [f"{flat} image(s) of one colour tell nothing and were left out"] if flat else []
    if guard is None:
        words += [
            "there is no source reference: a shift of the moments alone does not tell what is ordinary for the source",
            f"measure one from source images; until then keep {PRIOR} of the source's statistics, or source BN",
        ]
        rows = [LayerShift(name, shift, None) for name, shift in shifts.items()]
        return Advice("undecided", PRIOR, None, words, rows, [])

    def of(images: slice) -> dict[str, Tensor]:
        return {name: guard.distance(name, tuple(part[images] for part in m)) for name, m in each.items()}

    distances = of(slice(None))
    whole = _distance(distances)
    halves = [_verdict(_share(of(slice(start, None, 2)))) for start in (0, 1)] if count >= 2 else []
    verdict, share = _verdict(_share(distances)), _share(distances)
    words.append(f"{count} image(s) lie {whole:.2f} times as far from the source's moments as its own images do")
    words.append(
        f"up to {K:g} is ordinary: source BN is kept"
        if share == 0
        else f"beyond {K:g} it is out of the ordinary: {share:.2f} of the target's statistics are taken"
    )
    if count < FEWEST:
        words.append(f"{count} image(s) are too few to decide; pass {FEWEST} or more")
        verdict = "undecided"
    elif len({*halves, verdict}) > 1:
        words.append(f"the images do not agree: of every other one the advice would be {' and '.join(halves)}")
        verdict = "undecided"
    farthest = max(distances, key=lambda name: distances[name].item())
    words.append(f"the layer farthest out is {farthest} ({distances[farthest].item():.2f})")
    rows = [LayerShift(name, shifts[name], distances[name].item()) for name in each]
    drift = [_distance(of(slice(i, i + 1))) for i in range(count)]
    return Advice(verdict, 1 - share, whole, words, rows, drift)


def _shift(target: Moments, source: Moments) -> float:
    mean, variance = (part.to(target[0]) for part in source)
    return ((target[0] - mean).abs() / (variance + 1e-5).sqrt()).mean().item()


def _distance(distances: dict[str, Tensor]) -> float:
    return pooled_distance(list(distances.values())).item()


def _share(distances: dict[str, Tensor]) -> float:
    return share_of_target(pooled_distance(list(distances.values()))).item()


def _verdict(share: float) -> str:
    return "source" if share <= LITTLE else "target" if share >= MUCH else "blend"
