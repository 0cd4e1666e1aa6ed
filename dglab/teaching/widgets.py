"""A figure that follows its controls, and the losses of a run while it trains.

And two still pictures, of what :mod:`dglab.teaching.explorers` show: TN for one image, the bank for one arrival.
"""

import io
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import ipywidgets
import pandas as pd
from matplotlib.figure import Figure
from torch import Tensor, nn

from dglab.data import Joined
from dglab.data.streams import image_batches
from dglab.evaluation import ConfusionMatrix
from dglab.models import logits_of
from dglab.report import figures
from dglab.testtime import ImageBank, SourceNormalization, TargetNormalization
from dglab.training.log import Line
from dglab.utils.sizes import together


def redraw(draw: Callable[..., Figure], controls: Mapping[str, ipywidgets.Widget]) -> ipywidgets.Widget:
    """Controls above a figure that follows them.

    Args:
        draw: takes the controls' values by name and returns a figure.
        controls: name -> widget with a ``value``.
    """
    screen = _screen()

    def update(_: Any = None) -> None:
        screen.value = _png(draw(**{name: widget.value for name, widget in controls.items()}))

    for widget in controls.values():
        widget.observe(update, "value")
    update()
    return ipywidgets.VBox([ipywidgets.HBox(list(controls.values()), layout={"flex_flow": "row wrap"}), screen])


def live_losses(steps: int, every: float = 2.0) -> tuple[ipywidgets.Widget, Callable[[Line], None]]:
    """A picture of the losses that follows a training in this notebook.

    ::

        screen, on_log = live_losses(config.steps)
        display(screen)
        train(config, lab.domains, folder, on_log=on_log)

    Args:
        steps: of the run.
        every: seconds between two pictures, for each takes a tenth of one; the last step is always drawn.

    Returns:
        The widget, and what :func:`dglab.training.train` is to call after each step.
    """
    screen, lines, drawn = _screen(), [], -math.inf

    def on_log(line: Line) -> None:
        nonlocal drawn
        lines.append(line)
        if time.monotonic() - drawn >= every or line["step"] + 1 == steps:
            screen.value = _png(figures.training_curve(pd.DataFrame(lines).astype(float), steps=steps))
            drawn = time.monotonic()

    return screen, on_log


def _screen() -> ipywidgets.Image:
    return ipywidgets.Image(format="png", layout={"max_width": "100%"})


def _png(fig: Figure) -> bytes:
    picture = io.BytesIO()
    fig.savefig(picture, format="png", dpi=80)
    return picture.getvalue()


def _score(prediction: Tensor, label: Tensor) -> str:
    return f"mIoU of this image {100 * ConfusionMatrix.of(prediction, label).miou():.1f}"


def tn_figure(model: nn.Module, stream: Joined, order: list[int], image: int, batch_size: int) -> Figure:
    """One image under source BN and under TN together with the M - 1 images that arrive after it.

    Args:
        model: a trained network.
        stream: the target's images.
        order: of arrival.
        image: place of the image in that order.
        batch_size: M.
    """
    members = [order[(image + i) % len(order)] for i in range(batch_size)]
    picture, label = stream[members[0]]
    batch = together([stream[i][0] for i in members], next(model.parameters()).device)  # M x 3 x H x W
    source = logits_of(SourceNormalization(model)(batch[:1])).argmax(1)[0].cpu()
    target = logits_of(TargetNormalization(model)(batch)).argmax(1)[0].cpu()
    fig, axes = figures.figure(2, 2, (11, 6.2))
    figures.show(axes[0][0], picture, f"image {members[0]}, normalized with {batch_size - 1} others")
    figures.show(axes[0][1], label, "ground truth", label=True)
    figures.show(axes[1][0], source, f"source BN: {_score(source, label)}", label=True)
    figures.show(axes[1][1], target, f"TN, M = {batch_size}: {_score(target, label)}", label=True)
    figures.class_legend(fig)
    return fig


def bank_figure(
    model: nn.Module,
    stream: Joined,
    order: list[int],
    arrival: int,
    neighbors: int,
    capacity: int,
    style_layer: str | int,
) -> Figure:
    """What the bank does for one arrival: whom it chooses, and what that changes.

    Args:
        model: a trained network.
        stream: a target stream, of one domain or several.
        order: of arrival.
        arrival: how many images have arrived before; the last ``capacity`` of them are in the bank.
        neighbors: M.
        capacity: Q.
        style_layer: stage or module path.
    """
    bank = ImageBank(model, style_layer, neighbors=neighbors, capacity=capacity, resize=True)
    past = order[max(0, arrival - capacity) : arrival]
    device = next(model.parameters()).device
    for images in image_batches(stream, capacity, device, past):
        bank.observe(images)
    picture, label = stream[order[arrival]]
    image = together([picture], device)  # 1 x 3 x H x W
    source = logits_of(SourceNormalization(model)(image)).argmax(1)[0].cpu()
    joint = logits_of(bank(image)).argmax(1)[0].cpu()
    columns = max(4, neighbors)
    fig, axes = figures.figure(2, columns, (3.1 * columns, 4.8))
    for axis in axes.flat:
        axis.set_axis_off()
    figures.show(axes[0][0], picture, f"arrival {arrival}, domain {stream.domain_of(order[arrival])}")
    figures.show(axes[0][1], label, "ground truth", label=True)
    figures.show(axes[0][2], source, f"source BN:\n{_score(source, label)}", label=True)
    figures.show(axes[0][3], joint, f"SIB:\n{_score(joint, label)}", label=True)
    for axis, number, distance in zip(axes[1], bank.selected, bank.distances, strict=False):
        chosen = past[number]
        figures.show(axis, stream[chosen][0], f"chosen: domain {stream.domain_of(chosen)}, distance {distance:.2f}")
    figures.class_legend(fig, columns=10)
    return fig
