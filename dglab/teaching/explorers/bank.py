"""The image bank at work: a mixed stream arrives, to be played, stopped and stepped through."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import ipywidgets
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor, nn

from dglab.data import Joined
from dglab.data.streams import arrival_order
from dglab.evaluation import ConfusionMatrix
from dglab.models import logits_of
from dglab.report import figures
from dglab.report.figures import base
from dglab.teaching.explorers.panel import Panel, choice
from dglab.testtime import ImageBank, SourceNormalization, TargetNormalization
from dglab.utils.sizes import together

MILLISECONDS = 600  # between two arrivals at the slowest
PLAYERS = 2  # settings whose arrivals are kept


class Moment(NamedTuple):
    """What is to be seen after an arrival."""

    image: Tensor  # 3 x H x W
    label: Tensor  # H x W
    domain: str
    queue: list[str]  # domain of each image in the bank as the image arrives, oldest first
    neighbors: list[int]  # numbers of arrival, nearest first
    distances: list[float]
    predictions: dict[str, Tensor]  # method -> H x W
    miou: dict[str, float]  # of all arrivals so far
    accuracy: float  # percent of neighbours from the image's own domain, so far; nan before the first


class Player:
    """Arrivals of a stream, computed once each, in order, and kept.

    Args:
        model: a trained network.
        stream: images of one domain or several.
        order: of arrival.
        options: of the :class:`~dglab.testtime.ImageBank`.
    """

    def __init__(self, model: nn.Module, stream: Joined, order: Sequence[int], **options: Any) -> None:
        self.stream, self.order = stream, list(order)
        self.bank = ImageBank(model, resize=True, **options)
        self.device = next(model.parameters()).device
        name = {"style": "SIB", "queue": "QIB"}.get(self.bank.options["policy"], self.bank.options["policy"])
        self.methods = {
            "source BN": SourceNormalization(model), "TN, M = 1": TargetNormalization(model), name: self.bank
        }  # fmt: skip
        self.matrices = {method: ConfusionMatrix() for method in self.methods}
        self.chosen: list[bool] = []  # of each neighbour so far, whether it was of the right domain
        self.moments: list[Moment] = []

    def at(self, arrival: int) -> Moment:
        """The moment of an arrival; those before it are computed first, for a bank has a past."""
        while len(self.moments) <= arrival:
            self.moments.append(self._arrive(len(self.moments)))
        return self.moments[arrival]

    def _arrive(self, arrival: int) -> Moment:
        capacity = self.bank.options["capacity"]
        queue = [self.domain(i) for i in range(max(0, arrival - capacity), arrival)]
        image, label = self.stream[self.order[arrival]]
        batch, predictions = together([image], self.device), {}  # 1 x 3 x H x W
        for method, predictor in self.methods.items():
            told = {"domain": self.domain(arrival)} if predictor is self.bank else {}
            predictions[method] = logits_of(predictor(batch, **told)).argmax(1)[0].byte().cpu()
            self.matrices[method].update(predictions[method], label)
        neighbors = list(self.bank.selected)
        self.chosen += [self.domain(number) == self.domain(arrival) for number in neighbors]
        return Moment(
            image, label, self.domain(arrival), queue, neighbors, list(self.bank.distances), predictions,
            {method: 100 * matrix.miou() for method, matrix in self.matrices.items()},
            100 * float(np.mean(self.chosen)) if self.chosen else float("nan"),
        )  # fmt: skip

    def domain(self, arrival: int) -> str:
        """The true domain of an arrival, which no method is told but the oracle."""
        return self.stream.domain_of(self.order[arrival])


def moment_figure(player: Player, arrival: int) -> Figure:
    """The image and its predictions; its neighbours; the queue as a strip of domains; the curves so far."""
    now, past = player.at(arrival), player.moments[: arrival + 1]
    columns = max(5, len(now.neighbors))
    fig, axes = figures.figure(3, columns, (2.9 * columns, 7.2))
    for axis in axes.flat:
        axis.set_axis_off()
    figures.show(axes[0][0], now.image, f"arrival {arrival}, domain {now.domain}")
    figures.show(axes[0][1], now.label, "ground truth", label=True)
    for axis, (method, prediction) in zip(axes[0][2:], now.predictions.items(), strict=False):
        figures.show(axis, prediction, f"{method}: {now.miou[method]:.1f} so far", label=True)
    for axis, number, distance in zip(axes[1], now.neighbors, now.distances, strict=False):
        picture = player.stream[player.order[number]][0]
        figures.show(axis, picture, f"neighbour: {player.domain(number)}, distance {distance:.2f}")
    grid = axes[2][0].get_gridspec()
    _strip(fig.add_subplot(grid[2, :2]), now.queue, sorted({player.domain(i) for i in range(len(player.order))}))
    curves = fig.add_subplot(grid[2, 2:])
    looks = zip(now.miou, (base.BLUE, base.GREEN, base.VERMILION), ("-", "--", "-."), strict=True)
    for method, color, line in looks:
        curves.plot([moment.miou[method] for moment in past], line, color=color, label=f"mIoU, {method}")
    curves.plot([moment.accuracy for moment in past], ":", color=base.BLACK, label="right domain (%)")
    curves.set(xlabel="arrival", ylabel="percent, so far", ylim=(0, 100))
    curves.legend(fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


def _strip(axis: Any, queue: Sequence[str], domains: Sequence[str]) -> None:
    """The bank, oldest on the left, a letter and a colour for each image's domain."""
    colors = {domain: base.domain_look(number)["color"] for number, domain in enumerate(domains)}
    for place, domain in enumerate(queue):
        axis.bar(place, 1, width=1, color=colors[domain], edgecolor="white")
    axis.set(title=f"the bank holds {len(queue)}, oldest first", yticks=[], xlim=(-0.5, max(15, len(queue)) - 0.5))
    axis.legend(handles=[Patch(color=colors[d], label=d) for d in domains], fontsize=9, loc="upper right")


def explore_arrivals(
    models: Mapping[str, nn.Module],
    stream: Joined,
    queue_sizes: tuple[int, ...],
    style_layers: tuple,
    test_seed: int = 0,
) -> Any:
    """A mixed stream with play, pause, step and speed; M, Q, layer, policy and removal as controls.

    Args:
        models: trained networks by name.
        stream: the images of the targets.
        queue_sizes: Q to choose from.
        style_layers: to choose from.
        test_seed: of the order of arrival.
    """
    order = arrival_order(len(stream), test_seed)

    @lru_cache(PLAYERS)
    def player(network: str, **options: Any) -> Player:
        return Player(models[network], stream, order, **options)

    def draw(arrival: int, network: str, **options: Any) -> Figure:
        return moment_figure(player(network, **options), arrival)

    def refusal(neighbors: int, capacity: int, **_: Any) -> str | None:
        return f"M = {neighbors} neighbours cannot come from a bank of Q = {capacity}" if neighbors > capacity else None

    step = ipywidgets.BoundedIntText(0, min=0, max=len(stream) - 1, description="arrival")
    play = ipywidgets.Play(min=0, max=len(stream) - 1, interval=MILLISECONDS, description="play")
    speed = ipywidgets.FloatLogSlider(1, base=2, min=0, max=3, step=1, description="speed", readout_format=".0f")
    ipywidgets.jslink((play, "value"), (step, "value"))
    speed.observe(lambda change: setattr(play, "interval", round(MILLISECONDS / change["new"])), "value")
    controls = {
        "arrival": step,
        "network": choice("trained with", list(models), next(iter(models))),
        "neighbors": choice("neighbours M", (1, 2, 4, 6), 4),
        "capacity": choice("queue Q", queue_sizes, queue_sizes[-1]),
        "style_layer": choice("style layer", style_layers, style_layers[0]),
        "policy": choice("policy", ("style", "queue", "random", "oracle"), "style"),
        "removal": choice("removal", ("fifo", "random"), "fifo"),
    }
    return ipywidgets.VBox([ipywidgets.HBox([play, speed]), Panel(draw, controls, refusal).widget])
