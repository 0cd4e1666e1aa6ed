"""The gap on a slider: images change in colour alone, dose by dose; which statistics win?"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dglab.data import Domain
from dglab.data.shifts import SHIFTS, shifted
from dglab.data.streams import arrival_order
from dglab.evaluation import ConfusionMatrix
from dglab.models import logits_of
from dglab.teaching.explorers import drawing
from dglab.teaching.explorers.panel import Panel, choice, filled_in, names
from dglab.teaching.explorers.predictors import predictors_of
from dglab.testtime import SourceReference, TargetNormalization
from dglab.utils.sizes import together

DOSES = tuple(number / 10 for number in range(10))
IMAGES = 6  # of a domain
KEPT = 200  # doses whose results are kept


class Dosed(NamedTuple):
    """What a network makes of a few images at a dose."""

    image: Tensor  # the first of them, 3 x H x W
    label: Tensor  # its label
    predictions: dict[str, Tensor]  # of it, method -> H x W
    miou: dict[str, float]  # over all of them, in percent


def dosed(
    model: nn.Module, images: list[tuple[Tensor, Tensor]], shift: str, dose: float, reference: SourceReference | None
) -> Dosed:
    """Predict images under a shift.

    Args:
        model: a trained network.
        images: with labels; uint8.
        shift, dose: see :func:`dglab.data.shifts.shifted`.
        reference: of the network, for the guarded default.
    """
    changed = [shifted(image, shift, dose, seed=number) for number, (image, _) in enumerate(images)]
    batch = together(changed, next(model.parameters()).device)  # N x 3 x H x W
    logits = {
        name: torch.cat([logits_of(predictor(one)) for one in batch.split(1)])
        for name, predictor in predictors_of(model, reference).items()
    }
    logits[f"TN, M = {len(images)}"] = logits_of(TargetNormalization(model)(batch))
    classes = {name: values.argmax(1).to(torch.uint8).cpu() for name, values in logits.items()}  # N x H x W
    scores = {}
    for name, predicted in classes.items():
        matrix = ConfusionMatrix()
        for one, (_, label) in zip(predicted, images, strict=True):
            matrix.update(one, label)
        scores[name] = 100 * matrix.miou()
    first = {name: predicted[0].clone() for name, predicted in classes.items()}
    return Dosed(changed[0], images[0][1], first, scores)


def dose_sheet(found: Mapping[float, Dosed], dose: float, shift: str, overlay: str) -> str:
    """Who wins at this dose; one image; the curves over all doses so far."""
    now = found[dose]
    ranked = sorted(now.miou, key=now.miou.__getitem__, reverse=True)
    maps = [drawing.picture(now.image, f"{shift}, dose {dose:g}"), drawing.class_map(now.label, "ground truth")]
    for method, prediction in now.predictions.items():
        caption = f"{method}: {now.miou[method]:.1f} % mIoU of {IMAGES} images"
        maps.append(drawing.class_map(prediction, caption, now.label, overlay, best=method == ranked[0]))
    doses = sorted(found)
    curves = [
        drawing.Curve(method, doses, [found[each].miou[method] for each in doses], look, True)
        for look, method in enumerate(now.miou)
    ]
    top = 10 * (1 + max(value for curve in curves for value in curve.y) // 10)
    ahead = now.miou[ranked[0]] - now.miou[ranked[1]]
    best = f"{ranked[0]} is ahead with {now.miou[ranked[0]]:.1f} %"
    won = f"At dose {dose:g} {best}, {ahead:.1f} points before {ranked[1]}."
    x_label, y_label = f"dose of {shift}", f"mIoU of {IMAGES} images (%)"
    return "".join((
        drawing.words(won if ahead >= 0.05 else f"At dose {dose:g} {ranked[0]} and {ranked[1]} are equal."),
        drawing.row(*maps),
        drawing.class_legend(now.label, *now.predictions.values(), overlay=overlay),
        drawing.row(drawing.chart(curves, x_label, y_label, (0, DOSES[-1]), (0, top), dose)),
    ))  # fmt: skip


def explore_dose(
    models: Mapping[str, nn.Module],
    domains: Mapping[str, Domain],
    references: Mapping[str, SourceReference] | None = None,
    test_seed: int = 0,
) -> Panel:
    """A photometric shift and its dose: the gap on a slider.

    Args:
        models: trained networks by name.
        domains: by letter, sources as well as targets.
        references: of the networks; with them the guarded default takes part.
        test_seed: of the order of each domain's images, of which the first few are taken.
    """

    @lru_cache(len(domains))
    def images(letter: str) -> list[tuple[Tensor, Tensor]]:
        part = domains[letter].val
        return [part[index] for index in arrival_order(len(part), test_seed)[:IMAGES]]

    @lru_cache(KEPT)
    def kept(network: str, letter: str, shift: str, dose: float) -> Dosed:
        return dosed(models[network], images(letter), shift, dose, (references or {}).get(network))

    def draw(network: str, letter: str, shift: str, dose: float, overlay: str) -> Iterator[str]:
        found = {dose: kept(network, letter, shift, dose)}
        yield from filled_in(
            found,
            DOSES,
            lambda each: kept(network, letter, shift, each),
            lambda: dose_sheet(found, dose, shift, overlay),
        )

    letters = list(domains)
    controls = {
        "network": names("trained with", list(models), next(iter(models))),
        "letter": names("images of", letters, letters[-1]),
        "shift": names("shift", list(SHIFTS), "dark"),
        "dose": choice("dose", DOSES, 0.5),
        "overlay": names("show", drawing.OVERLAYS, "classes"),
    }
    return Panel(draw, controls)
