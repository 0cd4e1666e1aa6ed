"""The test batch size M: what TN predicts with more and more images, and how far their statistics are off."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from dglab.classes import CLASS_NAMES, IGNORED
from dglab.data import Joined
from dglab.data.streams import arrival_order
from dglab.evaluation import ConfusionMatrix
from dglab.models import logits_of
from dglab.report import figures
from dglab.report.figures import base
from dglab.teaching.explorers.panel import Panel, choice
from dglab.testtime import SourceNormalization, TargetNormalization, shift_by_layer
from dglab.utils.sizes import together

SIZES = (1, 2, 4, 8, 16, 32)  # M
KEPT = 64  # choices whose results are kept


class Look(NamedTuple):
    """One image, predicted by source BN and by TN together with the M - 1 images that arrive after it."""

    image: Tensor  # 3 x H x W
    label: Tensor  # H x W
    source: Tensor  # predictions, H x W
    target: Tensor
    iou: dict[str, np.ndarray]  # 19 values, nan where a class is absent
    shift: dict[str, float]  # by layer, in units of the source's deviation


def look(model: nn.Module, stream: Joined, order: Sequence[int], arrival: int, m: int) -> Look:
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
    iou = {"source BN": _iou(source, label), f"TN, M = {m}": _iou(target, label)}
    return Look(image, label, source, target, iou, shift_by_layer(model, batch))


def _iou(prediction: Tensor, label: Tensor) -> np.ndarray:
    matrix = ConfusionMatrix()
    matrix.update(prediction, label)
    return 100 * np.asarray(matrix.iou())


def wrong(prediction: Tensor, label: Tensor) -> Tensor:
    """The map of errors, H x W: 1 wrong, 0 right, and 0.5 where no label says."""
    return torch.where(label == IGNORED, 0.5, (prediction != label).double())


def look_figure(found: Look) -> Figure:
    """Image, prediction, errors; IoU by class; shift by layer."""
    (_, of_source), (name, of_target) = found.iou.items()
    fig, axes = figures.figure(2, 3, (13, 6.5))
    figures.show(axes[0][0], found.image, "the image")
    figures.show(axes[0][1], found.target, f"{name}: {np.nanmean(of_target):.1f} of mIoU", label=True)
    axes[0][2].imshow(wrong(found.target, found.label).numpy(), cmap="cividis", vmin=0, vmax=1, interpolation="nearest")
    axes[0][2].set_title("errors (bright), unlabelled (grey)", fontsize=11)
    axes[0][2].set_axis_off()
    figures.show(axes[1][0], found.source, f"source BN: {np.nanmean(of_source):.1f} of mIoU", label=True)
    there = np.flatnonzero(~np.isnan(of_source) | ~np.isnan(of_target))
    for values, color, marker, text in (
        (of_source, base.BLUE, "o", "source BN"),
        (of_target, base.VERMILION, "s", name),
    ):
        axes[1][1].plot(values[there], np.arange(len(there)), marker, color=color, label=text)
    axes[1][1].set_yticks(np.arange(len(there)), [CLASS_NAMES[i] for i in there], fontsize=9)
    axes[1][1].set(xlabel="IoU (%)", xlim=(-3, 103))
    axes[1][1].legend(fontsize=9)
    axes[1][2].plot(list(found.shift.values()), "o-", color=base.GREEN)
    axes[1][2].set(xlabel="BatchNorm layer", ylabel="shift of the mean (source deviations)", ylim=(0, None))
    return fig


def explore_batch_size(models: Mapping[str, nn.Module], stream: Joined, test_seed: int = 0) -> Any:
    """Sliders for the image and M from 1 to 32, and a choice of the trained network.

    Args:
        models: trained networks by name.
        stream: the target's images.
        test_seed: of their order.
    """
    order = arrival_order(len(stream), test_seed)

    @lru_cache(KEPT)
    def kept(network: str, arrival: int, m: int) -> Look:
        return look(models[network], stream, order, arrival, m)

    def refusal(network: str, arrival: int, m: int) -> str | None:
        return f"M = {m} needs {m} images; the stream has {len(stream)}" if m > len(stream) else None

    panel = Panel(
        lambda **values: look_figure(kept(**values)),
        {
            "network": choice("trained with", list(models), next(iter(models))),
            "arrival": choice("arrival", range(len(stream)), 0),
            "m": choice("batch size M", SIZES, 4),
        },
        refusal,
    )
    return panel.widget
