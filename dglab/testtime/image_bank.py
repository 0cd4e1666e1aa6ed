"""The Image Bank: images that arrive one at a time are normalized together with like ones from the past.

QIB takes the most recent ones, SIB the most similar in style (Eq. 10).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from dglab.errors import InputError
from dglab.seeds import derive_seed
from dglab.testtime.normalization import (
    BatchStatistics,
    Predictor,
    Statistics,
    check_finite,
    check_prior,
    lend_moments,
    moments_of,
    normalizing_with,
)
from dglab.testtime.style import Style, find_style_layer, style_distance, styles_of


@dataclass(frozen=True)
class Entry:
    """An image in the bank: its pixels 3 x H x W, its style, its arrival number, its domain if it was given."""

    image: Tensor
    style: Style
    arrival: int
    domain: Any = None


class Query(NamedTuple):
    """What a policy may look at: the candidates oldest first, their style distances, the current image's domain."""

    entries: Sequence[Entry]
    distances: Sequence[float]
    domain: Any
    generator: torch.Generator


# A policy puts the candidates into the order of its preference; the first M are taken.
def most_similar(query: Query) -> list[int]:
    """SIB: the nearest in style first; Python's sort is stable, so ties go to the older."""
    return sorted(range(len(query.entries)), key=lambda i: query.distances[i])


def most_recent(query: Query) -> list[int]:
    """QIB: a queue without selection, the latest first."""
    return list(reversed(range(len(query.entries))))


def at_random(query: Query) -> list[int]:
    """A control: as many images as SIB takes, but any."""
    return torch.randperm(len(query.entries), generator=query.generator).tolist()


def same_domain(query: Query) -> list[int]:
    """A control that knows what it should not: the nearest in style among the images of the current one's domain."""
    return [i for i in most_similar(query) if query.entries[i].domain == query.domain]


POLICIES: dict[str, Callable[[Query], list[int]]] = {
    "style": most_similar,
    "queue": most_recent,
    "random": at_random,
    "oracle": same_domain,
}
TAIL_TOLERANCE = 1e-5  # of the largest output, a tenth of what the bank promises
AT_A_TIME = 32  # images whose styles are computed together; a whole bank may not fit a memory
REMOVALS = ("fifo", "random")
STATISTICS = ("joint",)
COLD_STARTS = ("self", "source")


def _first_row(rows: Any) -> Any:
    return rows[:1] if is_rows(rows) else rows


def is_rows(value: Any) -> bool:
    """Whether a part of a model's output has a row for each image."""
    return isinstance(value, Tensor) and value.ndim >= 1


@contextmanager
def first_only_after(model: nn.Module, layer: str) -> Iterator[None]:
    """Inside, only the first image of a batch goes on from a BatchNorm layer, normalized by the whole batch's moments.

    After the last BatchNorm layer the images of a batch no longer act on each other, so head and upsampling need not
    be computed for the neighbours. To be entered after ``normalizing_with``; an empty name changes nothing.
    """

    def before_forward(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        lend_moments(module, moments_of(inputs[0]))
        return (inputs[0][:1],)

    handle = model.get_submodule(layer).register_forward_pre_hook(before_forward) if layer else None
    try:
        yield
    finally:
        if handle is not None:
            handle.remove()


def find_tail(model: nn.Module, images: Tensor, statistics: Statistics) -> str:
    """The last BatchNorm layer that runs, if cutting the batch there leaves the first image's output as it is.

    Tried once on real images: where it fails or changes the output, as it may where later layers mix in earlier
    features, the answer is an empty name and nothing is cut.
    """
    calls: list[str] = []

    def listen(name: str, x: Tensor, source: Any) -> Any:
        calls.append(name)
        return statistics(name, x, source)

    with normalizing_with(model, listen):
        whole = tree_map(_first_row, model(images))
    if calls.count(calls[-1]) > 1 or getattr(statistics, "prior", 0.0):
        return ""
    try:
        with normalizing_with(model, statistics), first_only_after(model, calls[-1]):
            cut = tree_map(_first_row, model(images))
    except RuntimeError:  # shapes no longer fit: this network cannot be cut here
        return ""
    pairs = [(w, c) for w, c in zip(tree_leaves(whole), tree_leaves(cut), strict=True) if is_rows(w)]
    same = all((w.double() - c.double()).abs().max() <= TAIL_TOLERANCE * w.double().abs().max() for w, c in pairs)
    return calls[-1] if same else ""


class ImageBank(Predictor):
    """Predict images as they arrive, each normalized together with M images from a bank of the last Q.

    For each image in turn: compare its style with those in the bank, choose M of them, normalize the M + 1 images
    together (every BatchNorm layer by their joint statistics), return the current image's prediction, and only then
    store it. The first image has an empty bank and later ones take as many as there are.

    Args:
        model: any ``nn.Module`` with BatchNorm; it comes back from each call as it was.
        style_layer: module path, stage number, or None for the first stage; see :func:`find_style_layer`.
        neighbors: M, 1 or more.
        capacity: Q, 1 or more.
        policy: ``"style"`` (SIB), ``"queue"`` (QIB); as controls ``"random"``, and ``"oracle"``, which is given the
            domain of each image and chooses by style within it.
        removal: which image leaves a full bank: ``"fifo"`` the oldest, ``"random"`` any.
        statistics: ``"joint"``, the statistics of all M + 1 images in one pass, as in the paper.
        cold_start: how an image without any neighbour is normalized: ``"self"`` alone, ``"source"`` by source BN.
        prior: share of source statistics, 0 to 1, as in :class:`TargetNormalization`.
        min_gap: images that arrived within the last ``min_gap`` are not chosen (neighbours in a video are copies).
        seed: of the random policy and the random removal.

    Attributes:
        selected: arrival numbers (from 0) of the last image's neighbours, nearest in style first.
        distances: their distances (Eq. 10).

    Raises:
        InputError: for a value out of its range; the message lists what is allowed.
    """

    def __init__(
        self,
        model: nn.Module,
        style_layer: str | int | None = None,
        neighbors: int = 4,
        capacity: int = 128,
        policy: str = "style",
        removal: str = "fifo",
        statistics: str = "joint",
        cold_start: str = "self",
        prior: float = 0.0,
        min_gap: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(model)
        for what, value, allowed in (
            ("policy", policy, tuple(POLICIES)),
            ("removal", removal, REMOVALS),
            ("statistics", statistics, STATISTICS),
            ("cold_start", cold_start, COLD_STARTS),
        ):
            if value not in allowed:
                raise InputError(f"{what} is {value!r}; expected one of {', '.join(allowed)}")
        for what, value, least in (
            ("neighbors", neighbors, 1),
            ("capacity", capacity, 1),
            ("min_gap", min_gap, 0),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(f"{what} is {value!r}; expected an integer of {least} or more")
        self.options = dict(
            style_layer=style_layer, neighbors=neighbors, capacity=capacity, policy=policy, removal=removal,
            statistics=statistics, cold_start=cold_start, prior=check_prior(prior), min_gap=min_gap, seed=seed,
        )  # fmt: skip
        self.style_layer = find_style_layer(self.model, style_layer)
        self.neighbors, self.capacity, self.policy, self.removal = neighbors, capacity, policy, removal
        self.cold_start, self.min_gap, self.seed = cold_start, min_gap, seed
        self.batch_statistics = BatchStatistics(prior)
        self._tail: str | None = None  # not looked for yet
        self._streams: dict[str, ImageBank] = {}
        self.reset()

    def reset(self) -> None:
        """Empty the bank and start counting arrivals from 0 again; its named streams are banks of their own."""
        self.entries: list[Entry] = []  # oldest first
        self.arrivals = 0
        self.selected: list[int] = []
        self.distances: list[float] = []
        self._generator = torch.Generator().manual_seed(derive_seed("bank", self.seed))

    def __len__(self) -> int:
        """The number of images in the bank."""
        return len(self.entries)

    def __call__(self, images: Tensor, domain: Any = None) -> Any:
        """Predict images that arrive in the order of the batch.

        Args:
            images: N x 3 x H x W.
            domain: for the oracle, the domain of each image: N values, or one for all.

        Returns:
            What the model returns, for these N images.

        Raises:
            InputError: before anything is predicted or stored, for images that :meth:`check` refuses, of another
                size than the bank's, or without the domains that the oracle needs.
        """
        self.check(images)
        self._check_size(images)
        outputs = [self._arrive(image, d) for image, d in zip(images, self._domains(domain, len(images)), strict=True)]
        return tree_map(lambda *rows: torch.cat(rows) if is_rows(rows[0]) else rows[-1], *outputs)

    def observe(self, images: Tensor, domain: Any = None) -> None:
        """Let images arrive without predicting them: to fill a bank from a past stream. Arguments as for a call."""
        self.check(images)
        self._check_size(images)
        domains = self._domains(domain, len(images))
        for start in range(0, len(images), AT_A_TIME):
            some = images[start : start + AT_A_TIME]
            styles = styles_of(self.model, some, self.style_layer)  # N x C means, N x C deviations
            check_finite({self.style_layer: styles})
            for image, mean, deviation, name in zip(some, *styles, domains[start:], strict=False):
                self._store(image, Style(mean, deviation), name)

    def _arrive(self, image: Tensor, domain: Any) -> Any:
        style = self._style(image)
        neighbors, distances = self._select(style, domain)
        output = self._predict(image, neighbors)
        self._store(image, style, domain)
        self.selected, self.distances = [entry.arrival for entry in neighbors], distances
        return output

    def _style(self, image: Tensor) -> Style:
        mean, deviation = styles_of(self.model, image[None], self.style_layer)  # 1 x C each
        check_finite({self.style_layer: (mean, deviation)})
        return Style(mean[0], deviation[0])

    def _select(self, style: Style, domain: Any) -> tuple[list[Entry], list[float]]:
        """The M neighbours by the policy, nearest in style first, and their distances."""
        candidates = [entry for entry in self.entries if self.arrivals - entry.arrival > self.min_gap]
        if not candidates:
            return [], []
        bank = Style(*(torch.stack(parts) for parts in zip(*(entry.style for entry in candidates), strict=True)))
        distances = style_distance(style, bank).tolist()
        chosen = POLICIES[self.policy](Query(candidates, distances, domain, self._generator))[: self.neighbors]
        chosen.sort(key=lambda i: (distances[i], i))
        return [candidates[i] for i in chosen], [distances[i] for i in chosen]

    def _predict(self, image: Tensor, neighbors: list[Entry]) -> Any:
        """The current image's output, normalized by the joint statistics of it and its neighbours (Eq. 8-9)."""
        together = torch.stack([image, *(entry.image for entry in neighbors)])  # (M + 1) x 3 x H x W
        alone_by_source = not neighbors and self.cold_start == "source"
        statistics = (lambda name, x, source: source) if alone_by_source else self.batch_statistics
        if neighbors and self._tail is None:
            self._tail = find_tail(self.model, together, statistics)
        with normalizing_with(self.model, statistics), first_only_after(self.model, self._tail if neighbors else ""):
            output = self.model(together)
        return tree_map(_first_row, output)

    def _store(self, image: Tensor, style: Style, domain: Any) -> None:
        if len(self.entries) == self.capacity:
            random = self.removal == "random"
            self.entries.pop(int(torch.randint(self.capacity, (), generator=self._generator)) if random else 0)
        self.entries.append(Entry(image.detach().clone(), style, self.arrivals, domain))
        self.arrivals += 1

    def _check_size(self, images: Tensor) -> None:
        if self.entries and self.entries[0].image.shape != images.shape[1:]:
            raise InputError(
                f"the images are {tuple(images.shape[1:])}, those in the bank {tuple(self.entries[0].image.shape)}; "
                "joint statistics need one size: resize the images, or keep a bank for each size with stream(name)"
            )

    def _domains(self, domain: Any, count: int) -> list[Any]:
        domains = list(domain) if isinstance(domain, (list, tuple)) else [domain] * count
        if len(domains) != count:
            raise InputError(f"got {len(domains)} domains for {count} images; pass one for each, or one for all")
        if self.policy == "oracle" and None in domains:
            raise InputError("the oracle policy needs the domain of each image: bank(images, domain=[...])")
        return domains

    def stream(self, name: str) -> "ImageBank":
        """An independent bank on the same model with the same settings; the same one for the same name."""
        if name not in self._streams:
            bank = ImageBank(self.model, **{**self.options, "seed": derive_seed("stream", self.seed, name)})
            self._streams[name] = bank
        return self._streams[name]

    def state_dict(self) -> dict[str, Any]:
        """All that a restarted service needs to go on with the same predictions: tensors, numbers, plain values."""
        return {
            "arrivals": self.arrivals,
            "entries": [{"image": e.image, "mean": e.style.mean, "deviation": e.style.deviation,
                         "arrival": e.arrival, "domain": e.domain} for e in self.entries],
            "generator": self._generator.get_state(),
            "streams": {name: bank.state_dict() for name, bank in self._streams.items()},
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict` of a bank with the same model and settings.

        Raises:
            InputError: if the state holds more images than this bank's capacity, or values that are not finite.
        """
        if len(state["entries"]) > self.capacity:
            raise InputError(f"the state holds {len(state['entries'])} images, this bank's capacity is {self.capacity}")
        for e in state["entries"]:
            if not all(math.isfinite(float(e[key].sum())) for key in ("image", "mean", "deviation")):
                raise InputError(f"the state's image of arrival {e['arrival']} holds values that are not finite")
        device = next(self.model.parameters()).device
        self.reset()
        self.entries = [
            Entry(
                e["image"].to(device), Style(e["mean"].to(device), e["deviation"].to(device)), e["arrival"], e["domain"]
            )
            for e in state["entries"]
        ]
        self.arrivals = state["arrivals"]
        self._generator.set_state(state["generator"].cpu())
        for name, nested in state["streams"].items():
            self.stream(name).load_state_dict(nested)
