"""Advice before target statistics are used: how unusual a target is for the source, and what follows from that."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from html import escape

import torch
from torch import Tensor, nn

from dglab.models.batchnorm import batchnorm_layers
from dglab.testtime.guarded import PRIOR, Guard, K, look_at
from dglab.testtime.moments import Moments, check_finite, is_of_one_colour, pooled
from dglab.testtime.predictor import Predictor
from dglab.testtime.reference import SourceReference
from dglab.utils.errors import InputError

FEWEST = 4  # images: two in each half
LITTLE, MUCH = 0.05, 0.8  # shares of the target's statistics up to which the advice is source BN, from which TN


@dataclass(frozen=True)
class LayerShift:
    """How far a target is from the source in one BatchNorm layer: one row of the reasons."""

    layer: str
    shift: float  # |mu_target - mu_source| / sigma_source, averaged over channels
    distance: float | None  # d of the guard, averaged over images: 1 is ordinary; None without a reference


@dataclass(frozen=True)
class Advice:
    """What to do with a target.

    Attributes:
        recommendation: ``"source"`` (source BN), ``"target"`` (TN), ``"blend"``, or ``"undecided"``.
        prior: the share of source statistics, for ``TargetNormalization(model, prior=...)``; 1 is source BN.
        distance: d of the guard, all images and layers together; None without a reference.
        words: the reasons in words.
        reasons: one row per layer, in the order in which they run.
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

    def to_html(self) -> str:
        """A self-contained page: the recommendation, its reasons, and the curves over layers and images."""
        distances = [row.distance for row in self.reasons if row.distance is not None]
        curves = [("distance by layer, in the order in which they run", distances), ("distance by image", self.drift)]
        cells = "".join(
            f"<tr><td>{escape(row.layer)}</td><td>{row.shift:.3f}</td>"
            f"<td>{'' if row.distance is None else f'{row.distance:.2f}'}</td></tr>"
            for row in self.reasons
        )
        return (
            "<!doctype html><meta charset='utf-8'><title>Advice on target statistics</title>"
            "<style>body{font:16px sans-serif;max-width:50em;margin:2em auto}td,th{padding:0 1em}</style>"
            f"<h1>{escape(self.recommendation)}</h1><p>Share of source statistics: {self.prior:.2f}</p><ul>"
            + "".join(f"<li>{escape(words)}</li>" for words in self.words)
            + "</ul>"
            + "".join(f"<h2>{title}</h2>{_curve(values)}" for title, values in curves if values)
            + f"<table><tr><th>layer</th><th>shift of means</th><th>distance</th></tr>{cells}</table>"
        )


def _curve(values: list[float], width: int = 640, height: int = 160) -> str:
    """Values as a line in SVG, from 0 up, with a dashed line at K, up to which distances are ordinary."""
    top = 1.1 * max(*values, K, 1e-9)
    step = width / max(len(values) - 1, 1)
    points = " ".join(f"{i * step:.1f},{height * (1 - value / top):.1f}" for i, value in enumerate(values))
    end = height * (1 - K / top)
    return (
        f"<svg viewBox='-40 -5 {width + 50} {height + 10}' role='img' font-size='12'>"
        f"<path d='M0 0V{height}H{width}' fill='none' stroke='#888'/>"
        f"<path d='M0 {end:.1f}H{width}' stroke='#888' stroke-dasharray='4'/>"
        f"<text x='-30' y='{end:.1f}'>{K:g}</text><text x='-30' y='10'>{top:.2g}</text>"
        f"<polyline points='{points}' fill='none' stroke='#06c' stroke-width='2'/></svg>"
    )


def advise(model: nn.Module, images: Tensor | Iterable[Tensor], reference: SourceReference | None = None) -> Advice:
    """Compare a target with the source reference, in passes under source BN, and say which statistics to use.

    Distance and share are those of :class:`~dglab.testtime.guarded.GuardedNormalization`, over all images. The advice
    is undecided without a reference, for fewer than four images, and where the images with even and with odd numbers
    would lead to different advice.

    Args:
        model: any ``nn.Module`` with BatchNorm; it is left unchanged.
        images: of the target, N x 3 x H x W, or an iterable of such batches; some dozens, from different moments.
        reference: measured on this model.

    Raises:
        InputError: for no image, a reference of another network, or statistics that are not finite.
    """
    checker = Predictor(model)
    guard = None if reference is None else Guard(checker.model, reference)
    looks: list[dict[str, Moments]] = []
    flat = 0
    for batch in [images] if isinstance(images, Tensor) else images:
        checker.check(batch)
        tell = ~is_of_one_colour(batch)
        flat += int((~tell).sum())
        if tell.any():
            with checker.naming_misfits(batch):
                looks.append(look_at(checker.model, batch[tell])[1])
    names = [name for name in looks[0] if all(name in look for look in looks)] if looks else []  # small images may skip
    names = names if guard is None else list(guard.known(dict.fromkeys(names)))
    if not names:
        raise InputError(
            "advise got no image that tells of its domain, or a model without source statistics; pass images of the "
            "target, not of one colour"
        )
    each = {name: tuple(torch.cat([look[name][i] for look in looks]) for i in (0, 1)) for name in names}
    check_finite(each)
    layers = batchnorm_layers(checker.model)
    shifts = {name: _shift(pooled(moments), layers[name]) for name, moments in each.items()}
    words = [f"{flat} image(s) of one colour tell nothing and were left out"] if flat else []
    return _without_reference(shifts, words) if guard is None else _by_guard(guard, each, shifts, words)


def _without_reference(shifts: dict[str, float], words: list[str]) -> Advice:
    words += [
        "there is no source reference: a shift of the moments alone does not tell what is ordinary for the source",
        f"measure one from source images; until then keep {PRIOR} of the source's statistics, or all of them",
    ]
    return Advice(
        "undecided", PRIOR, None, words, [LayerShift(name, shift, None) for name, shift in shifts.items()], []
    )


def _by_guard(guard: Guard, each: dict[str, Moments], shifts: dict[str, float], words: list[str]) -> Advice:
    by_name = {name: guard.of_layer(name, moments) for name, moments in each.items()}
    check_finite({name: (of_images,) for name, of_images in by_name.items()})
    d = torch.stack(list(by_name.values())).double()  # layers x images
    drift = d.mean(0)
    count = len(drift)

    def judged(some: Tensor) -> tuple[str, float, float]:
        guard.reset()
        guard.take(some.mean().item(), len(some))
        verdict = "source" if guard.share <= LITTLE else "target" if guard.share >= MUCH else "blend"
        return verdict, guard.share, guard.distance

    halves = [judged(drift[start::2])[0] for start in (0, 1) if count > start]
    verdict, share, distance = judged(drift)
    words.append(f"{count} image(s) lie {distance:.2f} times as far from the source's moments as its own images do")
    words.append(f"up to {K:g} times is ordinary; {share:.2f} of the target's statistics would be taken")
    if guard.reference.home:
        words.append(f"{guard.reference.home:.2f} of their own statistics is what even the sources' images want")
    if count < FEWEST:
        words.append(f"{count} image(s) are too few to decide; pass {FEWEST} or more")
        verdict = "undecided"
    elif len({*halves, verdict}) > 1:
        words.append(f"the images do not agree: every other one alone would advise {' and '.join(halves)}")
        verdict = "undecided"
    if verdict in ("blend", "target") and distance > K:
        words.append("out of the ordinary is not yet better off: compare on a few labelled images first")
    by_layer = dict(zip(each, d.mean(1).tolist(), strict=True))
    farthest = max(by_layer, key=by_layer.get)
    words.append(f"the layer farthest out is {farthest}, {by_layer[farthest]:.2f} times")
    rows = [LayerShift(name, shifts[name], by_layer[name]) for name in each]
    return Advice(verdict, 1 - share, distance, words, rows, drift.tolist())


def _shift(target: Moments, layer: nn.Module) -> float:
    mean, variance = layer.running_mean.to(target[0]), layer.running_var.to(target[0])
    return ((target[0] - mean).abs() / (variance + 1e-5).sqrt()).mean().item()
