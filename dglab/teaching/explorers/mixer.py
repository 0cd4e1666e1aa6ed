"""The style mixer: one scene, painted in any blend of two domains' styles."""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from dglab.data.streets import STREETS, render
from dglab.data.streets.blend import blend
from dglab.evaluation import ConfusionMatrix
from dglab.models import logits_of
from dglab.teaching.explorers import drawing
from dglab.teaching.explorers.panel import Panel, choice, filled_in, names
from dglab.teaching.explorers.predictors import predictors_of
from dglab.testtime import SourceReference, Style, shift_by_layer, style_distance, styles_of
from dglab.testtime.style_layer import find_style_layer

SHARES = tuple(number / 10 for number in range(11))  # of the second style
SCENES = 12  # of each domain to choose from
KEPT = 128  # blends whose results are kept


class Blended(NamedTuple):
    """A scene in a blend, and what a network makes of it."""

    image: Tensor  # 3 x H x W
    label: Tensor  # H x W
    style: Style  # of its features in the network's first stage, 1 x C each
    predictions: dict[str, Tensor]  # method -> H x W
    miou: dict[str, float]
    shift: dict[str, float]  # by layer, in units of the source's deviation


def blended(
    model: nn.Module,
    scene: tuple[str, int],
    styles: tuple[str, str],
    share: float,
    size: tuple[int, int],
    reference: SourceReference | None = None,
) -> Blended:
    """Paint a scene in a blend and predict it.

    Args:
        model: a trained network.
        scene: letter of its domain, number in that domain's validation split.
        styles: letters of the two domains.
        share: of the second style.
        size: of the image (H, W).
        reference: of the network, for the guarded default.
    """
    style = blend(STREETS[styles[0]].style, STREETS[styles[1]].style, share)
    painted = render(STREETS[scene[0]], "val", scene[1], height=size[0], width=size[1], style=style)
    image = torch.from_numpy(np.ascontiguousarray(painted.image.transpose(2, 0, 1)))
    label = torch.from_numpy(painted.label)
    batch = image[None].to(next(model.parameters()).device).float() / 255  # 1 x 3 x H x W
    methods = predictors_of(model, reference)
    logits = {name: logits_of(method(batch)) for name, method in methods.items()}  # 1 x 19 x H x W
    predictions = {name: values.argmax(1)[0].to(torch.uint8).cpu() for name, values in logits.items()}
    miou = {name: 100 * ConfusionMatrix.of(prediction, label).miou() for name, prediction in predictions.items()}
    return Blended(
        image, label, styles_of(model, batch, find_style_layer(model, None)), predictions,
        miou, shift_by_layer(model, batch),
    )  # fmt: skip


def blend_sheet(found: Mapping[float, Blended], share: float, styles: tuple[str, str], overlay: str) -> str:
    """The scene at this share; over all shares so far the distances to both ends, and the mIoU.

    Args:
        found: share -> what came out, in any order; with ``share``, 0 and 1 among them.
        share: to show.
        styles: letters of the two domains.
        overlay: of :data:`~dglab.teaching.explorers.drawing.OVERLAYS`.
    """
    now, best = found[share], max(found[share].miou.values())
    ends = [float(style_distance(now.style, found[end].style)) for end in (0.0, 1.0)]
    maps = [
        drawing.picture(
            now.image, f"{100 - 100 * share:.0f} % style {styles[0]}, {100 * share:.0f} % style {styles[1]}"
        ),
        drawing.class_map(now.label, "ground truth, the same for every style"),
    ]
    for method, prediction in now.predictions.items():
        caption = f"{method}: {now.miou[method]:.1f} % mIoU"
        maps.append(drawing.class_map(prediction, caption, now.label, overlay, best=now.miou[method] == best))
    shares = sorted(found)
    to_ends = [
        drawing.Curve(f"to the scene in style {styles[end]}", shares,
                      [float(style_distance(found[s].style, found[float(end)].style)) for s in shares], end, True)
        for end in (0, 1)
    ]  # fmt: skip
    scores = [
        drawing.Curve(method, shares, [found[s].miou[method] for s in shares], look, True)
        for look, method in enumerate(now.miou)
    ]
    far = max(0.1, *(value for curve in to_ends for value in curve.y))
    top = 10 * (1 + max(value for curve in scores for value in curve.y) // 10)
    x_label = f"share of style {styles[1]}"
    to_both = f"to the scene in {styles[0]}: {ends[0]:.3f}; in {styles[1]}: {ends[1]:.3f}"
    return "".join((
        drawing.row(*maps),
        drawing.class_legend(now.label, *now.predictions.values(), overlay=overlay),
        drawing.words(f"Style distance (Eq. 10) {to_both}"),
        drawing.row(
            drawing.chart(to_ends, x_label, "style distance", (0, 1), (0, 1.05 * far), share),
            drawing.chart(scores, x_label, "mIoU of this image (%)", (0, 1), (0, top), share),
            drawing.shift_chart(now.shift, "of this image"),
        ),
    ))  # fmt: skip


def explore_styles(
    models: Mapping[str, nn.Module],
    size: tuple[int, int] = (96, 192),
    references: Mapping[str, SourceReference] | None = None,
) -> Panel:
    """A scene, two styles and a share between them: what changes, and for whom.

    Args:
        models: networks trained on streets, by name.
        size: of the images (H, W).
        references: of the networks; with them the guarded default is shown, too.
    """

    @lru_cache(KEPT)
    def kept(network: str, scene: tuple[str, int], styles: tuple[str, str], share: float) -> Blended:
        return blended(models[network], scene, styles, share, size, (references or {}).get(network))

    def draw(
        network: str, letter: str, number: int, first: str, second: str, share: float, overlay: str
    ) -> Iterator[str]:
        scene, styles = (letter, number), (first, second)
        found = {each: kept(network, scene, styles, each) for each in dict.fromkeys((share, 0.0, 1.0))}
        yield from filled_in(
            found,
            SHARES,
            lambda each: kept(network, scene, styles, each),
            lambda: blend_sheet(found, share, styles, overlay),
        )

    def refusal(first: str, second: str, **_: Any) -> str | None:
        return f"both styles are {first}: choose two, to have something between them" if first == second else None

    letters = list(STREETS)
    controls = {
        "network": names("trained with", list(models), next(iter(models))),
        "letter": names("scene from", letters, "C"),
        "number": choice("scene number", range(SCENES), 3),
        "first": names("first style", letters, "S"),
        "second": names("second style", letters, "C"),
        "share": choice("share of the second", SHARES, 0.5),
        "overlay": names("show", drawing.OVERLAYS, "classes"),
    }
    return Panel(draw, controls, refusal)
