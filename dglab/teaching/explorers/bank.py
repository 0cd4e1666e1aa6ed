"""The image bank at work: a mixed stream arrives, to be played, stopped and stepped through."""

import html
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import ipywidgets
import numpy as np
import torch
from torch import Tensor, nn

from dglab.data import Joined
from dglab.data.streams import arrival_order
from dglab.evaluation import ConfusionMatrix
from dglab.models import logits_of
from dglab.report.figures import base
from dglab.teaching.explorers import drawing
from dglab.teaching.explorers.panel import Panel, choice, names
from dglab.teaching.explorers.predictors import predictors_of
from dglab.testtime import ImageBank, SourceReference
from dglab.utils.sizes import together

MILLISECONDS = 600  # between two arrivals at the slowest
PLAYERS = 2  # settings whose arrivals are kept
PATIENCE = 0.4  # seconds after which what has been computed so far is shown
BANKS = {"style": "SIB", "queue": "QIB", "random": "random bank", "oracle": "oracle bank"}  # by policy


class Alone(NamedTuple):
    """An arrival, and what is predicted for it by methods that keep no images."""

    image: Tensor  # 3 x H x W
    label: Tensor  # H x W
    domain: str
    predictions: dict[str, Tensor]  # method -> H x W


class Moment(NamedTuple):
    """What is to be seen after an arrival."""

    alone: Alone
    queue: list[str]  # domain of each image in the bank as the image arrives, oldest first
    neighbors: list[int]  # numbers of arrival, nearest first, by the policy that is shown
    distances: list[float]
    predictions: dict[str, Tensor]  # method -> H x W, those of `alone` first
    miou: dict[str, float]  # of all arrivals so far
    accuracy: dict[str, float]  # bank -> percent of neighbours from the own domain so far; nan before the first


class Arrivals:
    """A stream as it arrives at a network, predicted without a bank; computed once each, in order, and kept.

    Args:
        model: a trained network.
        stream: images of one domain or several.
        order: of arrival.
        reference: of the network, for the guarded default.
    """

    def __init__(
        self, model: nn.Module, stream: Joined, order: Sequence[int], reference: SourceReference | None = None
    ) -> None:
        self.model, self.stream, self.order = model, stream, list(order)
        self.methods = predictors_of(model, reference)
        self._seen: list[Alone] = []

    def at(self, arrival: int) -> Alone:
        """One arrival; those before it are predicted first, for the guarded default remembers."""
        while len(self._seen) <= arrival:
            place = self.order[len(self._seen)]
            image, label = self.stream[place]
            predictions = {name: self.predict(method, image) for name, method in self.methods.items()}
            self._seen.append(Alone(image, label, self.stream.domain_of(place), predictions))
        return self._seen[arrival]

    def predict(self, predictor: Any, image: Tensor, **told: Any) -> Tensor:
        """The classes of one image, uint8 H x W."""
        batch = together([image], next(self.model.parameters()).device)  # 1 x 3 x H x W
        return logits_of(predictor(batch, **told)).argmax(1)[0].to(torch.uint8).cpu()

    def domain(self, arrival: int) -> str:
        """The true domain of an arrival, which no method is told but the oracle."""
        return self.stream.domain_of(self.order[arrival])


class Player:
    """What banks make of a stream, arrival by arrival; computed once each, in order, and kept.

    Args:
        arrivals: the stream.
        policy: of the bank whose neighbours are shown; QIB and SIB always run.
        options: of the :class:`~dglab.testtime.ImageBank`.
    """

    def __init__(self, arrivals: Arrivals, policy: str = "style", **options: Any) -> None:
        self.arrivals = arrivals
        self.banks = {
            BANKS[each]: ImageBank(arrivals.model, resize=True, policy=each, **options)
            for each in dict.fromkeys(("queue", "style", policy))
        }
        self.capacity = self.banks["SIB"].options["capacity"]
        if self.banks["QIB"].options["removal"] == "fifo":  # then it never looks further back than M images
            least = {**options, "capacity": min(self.capacity, self.banks["QIB"].options["neighbors"])}
            self.banks["QIB"] = ImageBank(arrivals.model, resize=True, policy="queue", **least)
        self.shown = self.banks[BANKS[policy]]
        self.matrices = {method: ConfusionMatrix() for method in (*arrivals.methods, *self.banks)}
        self.chosen: dict[str, list[bool]] = {name: [] for name in self.banks}  # whether each was of the right domain
        self.moments: list[Moment] = []

    def at(self, arrival: int) -> Moment:
        """The moment of an arrival; those before it are computed first, for a bank has a past."""
        while len(self.moments) <= arrival:
            self.moments.append(self._arrive(len(self.moments)))
            if len(self.moments) == len(self.arrivals.order):
                for bank in self.banks.values():  # nothing comes any more: what is shown stands in the moments
                    bank.reset()
        return self.moments[arrival]

    def _arrive(self, arrival: int) -> Moment:
        queue = [self.arrivals.domain(i) for i in range(max(0, arrival - self.capacity), arrival)]
        now = self.arrivals.at(arrival)
        predictions = dict(now.predictions)
        for name, bank in self.banks.items():
            predictions[name] = self.arrivals.predict(bank, now.image, domain=now.domain)
            self.chosen[name] += [self.arrivals.domain(number) == now.domain for number in bank.selected]
        for method, prediction in predictions.items():
            self.matrices[method].update(prediction, now.label)
        return Moment(
            now, queue, list(self.shown.selected), list(self.shown.distances), predictions,
            {method: 100 * matrix.miou() for method, matrix in self.matrices.items()},
            {name: 100 * float(np.mean(right)) if right else float("nan") for name, right in self.chosen.items()},
        )  # fmt: skip


def moment_sheet(player: Player, arrival: int, overlay: str = "classes") -> str:
    """The image and its predictions; its neighbours; the queue, a lane for each domain; the curves so far."""
    now, past = player.at(arrival), player.moments[: arrival + 1]
    label, best = now.alone.label, max(now.miou.values())
    maps = [
        drawing.picture(now.alone.image, f"arrival {arrival}, from domain {now.alone.domain}"),
        drawing.class_map(label, "ground truth"),
    ]
    for method, prediction in now.predictions.items():
        here = 100 * ConfusionMatrix.of(prediction, label).miou()
        caption = f"{method}: {here:.1f} here, {now.miou[method]:.1f} % mIoU so far"
        maps.append(drawing.class_map(prediction, caption, label, overlay, best=now.miou[method] == best))
    neighbors = [
        drawing.picture(player.arrivals.at(number).image, _neighbor(player, place, number, distance), small=True)
        for place, (number, distance) in enumerate(zip(now.neighbors, now.distances, strict=True), 1)
    ]
    said = "Its neighbours, nearest first" if neighbors else "The bank is empty: the image is normalized alone"
    domains = sorted({player.arrivals.domain(i) for i in range(len(player.arrivals.order))})
    end = max(10, len(past) - 1)
    looks = dict(zip(now.miou, range(6), strict=False))
    numbers = range(len(past))
    scores = [drawing.Curve(m, numbers, [moment.miou[m] for moment in past], looks[m]) for m in now.miou]
    right = [drawing.Curve(b, numbers, [moment.accuracy[b] for moment in past], looks[b]) for b in now.accuracy]
    top = 10 * (1 + max(value for moment in past for value in moment.miou.values()) // 10)
    return "".join((
        drawing.row(*maps),
        drawing.class_legend(label, *now.predictions.values(), overlay=overlay),
        drawing.words(said),
        drawing.row(*neighbors),
        drawing.row(
            drawing.chart(scores, "arrival", "mIoU so far (%)", (0, end), (0, top)),
            drawing.chart(right, "arrival", "right domain so far (%)", (0, end), (0, 100)),
            _lanes(now.queue, domains, player.capacity),
        ),
    ))  # fmt: skip


def _neighbor(player: Player, place: int, number: int, distance: float) -> str:
    far = "" if np.isnan(distance) else f", distance {distance:.3f}"
    return f"{place}. arrival {number}, domain {player.arrivals.domain(number)}{far}"


def _lanes(queue: Sequence[str], domains: Sequence[str], capacity: int) -> str:
    """The bank, oldest on the left: a lane and a colour for each domain, so that no eye needs the colour."""
    height, left, width = 26, 34, 470
    step = width / max(12, len(queue))
    wide = max(step - 1, 1)
    parts = []
    for lane, domain in enumerate(domains):
        y = 6 + lane * (height + 6)
        color = base.domain_look(lane)["color"]
        parts.append(f'<text x="0" y="{y + 18}" font-size="15">{html.escape(domain)}</text>')
        parts.append(f'<rect x="{left}" y="{y}" width="{width}" height="{height}" fill="#f3f4f6"/>')
        parts += [
            f'<rect x="{left + step * place:.1f}" y="{y}" width="{wide:.1f}" height="{height}" fill="{color}"/>'
            for place, each in enumerate(queue)
            if each == domain
        ]
    tall = 12 + len(domains) * (height + 6)
    counts = ", ".join(f"{queue.count(domain)} of {domain}" for domain in domains)
    said = f"the bank holds {len(queue)} of at most {capacity} images, oldest on the left: {counts}"
    drawn = f'<svg viewBox="0 0 520 {tall}" role="img" aria-label="{html.escape(said)}">{"".join(parts)}</svg>'
    return f'<figure class="dglab-chart">{drawn}<figcaption>{html.escape(said)}</figcaption></figure>'


def explore_arrivals(
    models: Mapping[str, nn.Module],
    stream: Joined,
    queue_sizes: tuple[int, ...],
    style_layers: tuple,
    test_seed: int = 0,
    references: Mapping[str, SourceReference] | None = None,
) -> Panel:
    """A mixed stream with play, pause, step and speed; M, Q, layer, policy and removal as controls.

    Args:
        models: trained networks by name.
        stream: the images of the targets.
        queue_sizes: Q to choose from.
        style_layers: to choose from.
        test_seed: of the order of arrival.
        references: of the networks; with them the guarded default stands beside the banks.
    """
    order = arrival_order(len(stream), test_seed)
    arrivals = {
        name: Arrivals(model, stream, order, (references or {}).get(name)) for name, model in models.items()
    }  # fmt: skip

    @lru_cache(PLAYERS)
    def player(network: str, **options: Any) -> Player:
        return Player(arrivals[network], **options)

    def draw(arrival: int, network: str, overlay: str, **options: Any) -> Iterator[str]:
        """A bank has a past: with other settings the stream is played again from its start."""
        playing, since = player(network, **options), time.monotonic()
        while len(playing.moments) < arrival:
            playing.at(len(playing.moments))
            if time.monotonic() - since > PATIENCE:
                reached = len(playing.moments) - 1
                progress = f"Playing again from the start: arrival {reached} of {arrival}"
                yield drawing.words(progress) + moment_sheet(playing, reached, overlay)
                since = time.monotonic()
        yield moment_sheet(playing, arrival, overlay)

    def refusal(neighbors: int, capacity: int, **_: Any) -> str | None:
        return f"M = {neighbors} neighbours cannot come from a bank of Q = {capacity}" if neighbors > capacity else None

    last = len(stream) - 1
    step = ipywidgets.BoundedIntText(0, min=0, max=last, description="arrival", layout={"width": "11em"})
    play = ipywidgets.Play(min=0, max=last, interval=MILLISECONDS, description="play", repeat=True)
    speed = ipywidgets.SelectionSlider(
        options=[("1 x", 1), ("2 x", 2), ("4 x", 4), ("full", MILLISECONDS)], value=1, description="speed"
    )
    ipywidgets.jslink((play, "value"), (step, "value"))
    speed.observe(lambda change: setattr(play, "interval", max(50, MILLISECONDS // change["new"])), "value")
    controls = {
        "arrival": step,
        "network": names("trained with", list(models), next(iter(models))),
        "neighbors": choice("neighbours M", (1, 2, 4, 6), 4),
        "capacity": choice("queue Q", queue_sizes, queue_sizes[-1]),
        "style_layer": choice("style layer", style_layers, style_layers[0]),
        "policy": names("policy", ("style", "queue", "random", "oracle"), "style"),
        "removal": names("removal", ("fifo", "random"), "fifo"),
        "overlay": names("show", drawing.OVERLAYS, "classes"),
    }
    return Panel(draw, controls, refusal, above=(play, speed))
