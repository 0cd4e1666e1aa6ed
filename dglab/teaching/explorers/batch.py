"""The test batch size M: what TN predicts with more and more images, and how far their statistics are off."""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn

from dglab.data import Joined
from dglab.data.streams import arrival_order
from dglab.evaluation import ConfusionMatrix
from dglab.models import logits_of
from dglab.teaching.explorers import drawing
from dglab.teaching.explorers.panel import Panel, choice, names
from dglab.testtime import SourceNormalization, TargetNormalization, shift_by_layer
from dglab.utils.sizes import together

SIZES = (1, 2, 4, 8, 16, 32)  # M
KEPT = 64  # choices whose results are kept
SHORT = (  # the classes, as they fit below an axis
    "road", "walk", "bldg", "wall", "fence", "pole", "light", "sign", "veg.", "terr.", "sky", "pers.", "rider", "car",
    "truck", "bus", "train", "moto", "bike",
)  # fmt: skip


class Comparison(NamedTuple):
    """One image, predicted by source BN and by TN together with the M - 1 images that arrive after it."""

    image: Tensor  # 3 x H x W
    label: Tensor  # H x W
    source: Tensor  # predictions, H x W
    target: Tensor
    iou: dict[str, np.ndarray]  # 19 values, nan where a class is absent
    shift: dict[str, float]  # by layer, in units of the source's deviation


def compare(model: nn.Module, stream: Joined, order: Sequence[int], arrival: int, m: int) -> Comparison:
    """What TN makes of an image with M - 1 others.

    Args:
        model: a trained network.
        stream: the target's images.
        order: of arrival.
        arrival: place of the image in that order.
        m: M; the images after the last one are the first ones again.
    """
    members = [order[(arrival + i) % len(order)] for i in range(m)]
    batch = together([stream[i][0] for i in members], next(model.parameters()).device)  # M x 3 x H x W
    image, label = stream[members[0]]
    source = logits_of(SourceNormalization(model)(batch[:1])).argmax(1)[0].cpu()
    target = logits_of(TargetNormalization(model)(batch))[:1].argmax(1)[0].cpu()
    by_method = {"source BN": source, f"TN, M = {m}": target}
    iou = {name: 100 * ConfusionMatrix.of(prediction, label).iou() for name, prediction in by_method.items()}
    return Comparison(image, label, source, target, iou, shift_by_layer(model, batch))


def comparison_sheet(found: Comparison, overlay: str) -> str:
    """Image, label, predictions; IoU by class; shift by layer."""
    (_, of_source), (name, of_target) = found.iou.items()
    scores = (float(np.nanmean(of_source)), float(np.nanmean(of_target)))
    captions = [f"{method}: {score:.1f} % mIoU" for method, score in zip(("source BN", name), scores, strict=True)]
    maps = (
        drawing.picture(found.image, "the image"),
        drawing.class_map(found.label, "ground truth"),
        drawing.class_map(found.source, captions[0], found.label, overlay, best=scores[0] > scores[1]),
        drawing.class_map(found.target, captions[1], found.label, overlay, best=scores[1] > scores[0]),
    )
    there = np.flatnonzero(~np.isnan(of_source) | ~np.isnan(of_target))
    places = range(len(there))
    points = [
        drawing.Curve(text, places, values[there], look, dots=True, joined=False)
        for look, (text, values) in enumerate(found.iou.items())
    ]
    by_class = drawing.chart(
        points,
        "", "IoU (%)", (-0.5, len(there) - 0.5), (0, 100),
        ticks=[(place, SHORT[int(i)]) for place, i in zip(places, there, strict=True)],
    )  # fmt: skip
    by_layer = drawing.shift_chart(found.shift, "of this batch")
    key = drawing.class_legend(found.label, found.source, found.target, overlay=overlay)
    return drawing.row(*maps) + key + drawing.row(by_class, by_layer)


def explore_batch_size(models: Mapping[str, nn.Module], stream: Joined, test_seed: int = 0) -> Panel:
    """Sliders for the image and M from 1 to 32, and a choice of the trained network.

    Args:
        models: trained networks by name.
        stream: the target's images.
        test_seed: of their order.
    """
    order = arrival_order(len(stream), test_seed)

    @lru_cache(KEPT)
    def kept(network: str, arrival: int, m: int) -> Comparison:
        return compare(models[network], stream, order, arrival, m)

    def refusal(m: int, **_: Any) -> str | None:
        return f"M = {m} needs {m} images; the stream has {len(stream)}" if m > len(stream) else None

    def draw(overlay: str, **values: Any) -> Iterator[str]:
        yield comparison_sheet(kept(**values), overlay)

    return Panel(
        draw,
        {
            "network": names("trained with", list(models), next(iter(models))),
            "arrival": choice("arrival", range(len(stream)), 0),
            "m": choice("batch size M", SIZES, 4),
            "overlay": names("show", drawing.OVERLAYS, "classes"),
        },
        refusal,
    )
