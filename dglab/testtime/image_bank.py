"""The Image Bank: images that arrive one at a time are normalized together with like ones from the past.

QIB takes the most recent ones, SIB the most similar in style (Eq. 10).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from dglab.models.batchnorm import batchnorm_layers
from dglab.testtime.normalization import (
    BatchStatistics,
    Moments,
    Predictor,
    Statistics,
    blend,
    check_finite,
    check_prior,
    merged,
    moments_of,
    normalizing_with,
    pooled,
    source_statistics,
)
from dglab.testtime.style import Style, find_style_layer, styles_of
from dglab.testtime.style_index import StyleIndex
from dglab.utils.errors import InputError
from dglab.utils.seeds import derive_seed
from dglab.utils.sizes import resized


class Query(NamedTuple):
    """What a policy may look at when an image arrives: its style and domain, and what the bank holds."""

    style: Style  # C
    domain: Any
    count: int  # M
    candidates: Tensor  # slots, oldest first
    domains: Sequence[Any]  # by slot
    index: StyleIndex
    generator: torch.Generator


# A policy chooses up to M slots from the candidates.
def most_similar(query: Query) -> list[int]:
    """SIB: the nearest in style; ties go to the older."""
    return query.index.nearest(Style(*(part[None] for part in query.style)), query.candidates, query.count)[0][0]


def most_recent(query: Query) -> list[int]:
    """QIB: a queue without selection, the latest."""
    return query.candidates[-query.count :].tolist()


def at_random(query: Query) -> list[int]:
    """A control: as many images as SIB takes, but any."""
    return query.candidates[torch.randperm(len(query.candidates), generator=query.generator)[: query.count]].tolist()


def same_domain(query: Query) -> list[int]:
    """A control that knows what it should not: the nearest in style among the images of the current one's domain."""
    same = [slot for slot in query.candidates.tolist() if query.domains[slot] == query.domain]
    return most_similar(query._replace(candidates=query.candidates.new_tensor(same)))


POLICIES: dict[str, Callable[[Query], list[int]]] = {
    "style": most_similar,
    "queue": most_recent,
    "random": at_random,
    "oracle": same_domain,
}
TAIL_TOLERANCE = 1e-5  # of the largest output, a tenth of what the bank promises
AT_A_TIME = 32  # images whose styles are computed together; a whole bank may not fit a memory
OTHER_LAYERS = (
    "the network ran other BatchNorm layers than for the images in the bank, so that their moments do not belong "
    "together; use statistics='joint', or start with an empty bank"
)
REMOVALS = ("fifo", "random")
STATISTICS = ("joint", "cached")
COLD_STARTS = ("self", "source")


class CachedStatistics:
    """One image's pass by moments pooled over itself and its neighbours' kept ones (``statistics="cached"``).

    Total variance: mean of variances + variance of means, over the M + 1 images. The image's own moments, of the
    features that this pass produces, are collected for the bank.

    Args:
        neighbors: the neighbours' moments M x 2 x K, all layers' channels side by side in the order of the calls.
        alone: the statistics to use where there is no neighbour.
        prior: share of source statistics.
    """

    def __init__(self, neighbors: Tensor | None, alone: Statistics, prior: float) -> None:
        self.alone, self.prior = alone, prior
        self.calls: list[str] = []
        self._own: list[Tensor] = []
        self._at = 0
        if neighbors is not None:
            self._kept = torch.stack(pooled((neighbors[:, 0], neighbors[:, 1])))  # 2 x K
            self._share = 1 / (len(neighbors) + 1)
        else:
            self._kept = None

    def __call__(self, name: str, x: Tensor, source: Moments | None) -> Moments | None:
        own = moments_of(x)
        self.calls.append(name)
        self._own.append(torch.stack(own))  # 2 x C
        if self._kept is None:
            return self.alone(name, x, source)
        kept = self._kept[:, self._at : self._at + x.shape[1]]  # 2 x C
        if kept.shape[1] != x.shape[1]:
            raise InputError(OTHER_LAYERS)
        self._at += x.shape[1]
        return blend(merged((kept[0], kept[1]), own, self._share), source, self.prior)

    @property
    def own(self) -> Tensor:
        """The image's moments in all layers, 2 x K."""
        return torch.cat(self._own, dim=1)


def first_row(output: Any, count: int) -> Any:
    """A model's output for ``count`` images, cut down to the first of them."""
    return tree_map(lambda part: part[:1] if is_rows(part, count) else part, output)


def is_rows(value: Any, count: int) -> bool:
    """Whether a part of a model's output has a row for each of ``count`` images: class prototypes have not."""
    return isinstance(value, Tensor) and value.ndim >= 1 and len(value) == count


@contextmanager
def first_only_after(model: nn.Module, layer: str) -> Iterator[None]:
    """Inside, only the first image of a batch goes on from a BatchNorm layer, normalized by the whole batch's moments.

    After the last BatchNorm layer the images of a batch no longer act on each other, so head and upsampling need not
    be computed for the neighbours. To be entered after ``normalizing_with``, whose hook then sees the whole batch;
    an empty name changes nothing.
    """

    def before_forward(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
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
        whole = first_row(model(images), len(images))
    if calls.count(calls[-1]) > 1:
        return ""
    try:
        with normalizing_with(model, statistics), first_only_after(model, calls[-1]):
            cut = first_row(model(images), len(images))
        pairs = [(w, c) for w, c in zip(tree_leaves(whole), tree_leaves(cut), strict=True) if is_rows(w, 1)]
        same = all((w.double() - c.double()).abs().max() <= TAIL_TOLERANCE * w.double().abs().max() for w, c in pairs)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:  # shapes no longer fit: this network cannot be cut here
        return ""
    return calls[-1] if same else ""


class ImageBank(Predictor):
    """Predict images as they arrive, each normalized together with M images from a bank of the last Q.

    For each image in turn: compare its style with those in the bank, choose M of them, normalize the M + 1 images
    together (every BatchNorm layer by their joint statistics), return the current image's prediction, and only then
    store it. The first image has an empty bank and later ones take as many as there are.

    Expect harm, as of any target statistics, where the target looks like the sources, and no gain over
    :class:`TargetNormalization` where all images of a stream look alike: there is nothing to select.

    Args:
        model: any ``nn.Module`` with BatchNorm; it comes back from each call as it was. Of a model under
            ``torch.compile`` the module that it wraps is run.
        style_layer: module path, stage number, or None for the first stage; see :func:`find_style_layer`.
        neighbors: M, 1 or more.
        capacity: Q, 1 or more.
        policy: ``"style"`` (SIB), ``"queue"`` (QIB); as controls ``"random"``, and ``"oracle"``, which is given the
            domain of each image and chooses by style within it.
        removal: which image leaves a full bank: ``"fifo"`` the oldest, ``"random"`` any.
        statistics: ``"joint"``, the statistics of all M + 1 images in one pass of M + 1 images, as in the paper;
            ``"cached"``, ours: each image's own moments are kept from when it was seen and pooled, one pass of one
            image. It approximates joint, for the neighbours' features were normalized by what *their* neighbours
            were, and it keeps no images.
        cold_start: how an image without any neighbour is normalized: ``"self"`` alone, ``"source"`` by source BN.
        prior: share of source statistics, 0 to 1, as in :class:`TargetNormalization`.
        min_gap: images that arrived within the last ``min_gap`` are not chosen (neighbours in a video are copies).
        seed: of the random policy and the random removal.
        resize: joint only: bring neighbours of another size to the current image's.
        preprocess: ``images -> float images as the model wants them``, for example scaling of uint8 ones to [0, 1];
            images, uint8 too, are then stored as they were given.

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
        resize: bool = False,
        preprocess: Callable[[Tensor], Tensor] | None = None,
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
            resize=resize, preprocess=preprocess,
        )  # fmt: skip
        self.style_layer = find_style_layer(self.model, style_layer)
        self.neighbors, self.capacity, self.policy, self.removal = neighbors, capacity, policy, removal
        self.cached, self.prior, self.min_gap, self.seed = statistics == "cached", prior, min_gap, seed
        self.resize, self.preprocess = resize, preprocess
        self.batch_statistics = BatchStatistics(prior)
        self.alone = source_statistics if cold_start == "source" else self.batch_statistics
        # where a layer has no running statistics it takes the batch's, which must then be one image, not many arrivals
        single = any(layer.running_mean is None for layer in batchnorm_layers(self.model).values())
        self._at_a_time = 1 if single else AT_A_TIME
        self._tail: str | None = None  # not looked for yet
        self._streams: dict[str, ImageBank] = {}
        self.reset()

    def reset(self) -> None:
        """Empty the bank and start counting arrivals from 0 again; its named streams are banks of their own."""
        self.arrivals = 0
        self.selected: list[int] = []
        self.distances: list[float] = []
        # A slot is a place in the bank; what belongs to one image lies in the same slot of all of these.
        self._arrival = torch.empty(0, dtype=torch.long)  # by slot in use
        self._domains: list[Any] = []
        self._images: list[Tensor] = []  # joint: 3 x H x W each
        self._moments: Tensor | None = None  # cached: Q x 2 x K
        self._calls: list[str] | None = None  # cached: the layers that K runs over
        self._index: StyleIndex | None = None  # allocated when the first style tells the number of channels
        self._generator = torch.Generator().manual_seed(derive_seed("bank", self.seed))

    def __len__(self) -> int:
        """The number of images in the bank."""
        return len(self._domains)

    @property
    def stored(self) -> list[int]:
        """The arrival numbers of the images in the bank, oldest first."""
        return sorted(self._arrival.tolist())

    @property
    def nbytes(self) -> int:
        """Bytes that the images in the bank take; moments and styles lie in buffers for all Q from the first on."""
        tensors = [*self._images, *([] if self._moments is None else [self._moments])]
        return sum(t.nbytes for t in tensors) + (self._index.nbytes if self._index else 0)

    @property
    def nbytes_when_full(self) -> int:
        """Bytes of a bank of Q images like those that are in it."""
        images = sum(t.nbytes for t in self._images)
        return self.nbytes + (images * (self.capacity - len(self)) // len(self) if images else 0)

    def __call__(self, images: Tensor, domain: Any = None) -> Any:
        """Predict images that arrive in the order of the batch.

        Args:
            images: N x 3 x H x W.
            domain: for the oracle, the domain of each image: N values, or one for all.

        Returns:
            What the model returns, for these N images.

        Raises:
            InputError: before anything is predicted or stored, for images that :meth:`check` refuses, of another
                size than the bank's (joint, without ``resize``), or without the domains that the oracle needs.
        """
        outputs = self._arrive(images, domain, self._predicted)
        return tree_map(lambda *rows: torch.cat(rows) if is_rows(rows[0], 1) else rows[-1], *outputs)

    def observe(self, images: Tensor, domain: Any = None) -> None:
        """Let images arrive without predicting them: to fill a bank from a past stream. Arguments as for a call."""
        # what joint keeps does not depend on a prediction, what cached keeps comes out of one
        self._arrive(images, domain, self._predicted if self.cached else self._passed_by)

    def _arrive(self, images: Tensor, domain: Any, meet: Callable[[Tensor, Tensor, Style, Any], Any]) -> list[Any]:
        """Let each image ``meet`` the bank in turn; what came of it."""
        self._check_given(images)
        domains = self._domains_of(domain, len(images))
        outcomes = []
        # what a bank made inside of torch.inference_mode() keeps could not be written to outside of it
        with torch.inference_mode(False), torch.no_grad():
            for start in range(0, len(images), self._at_a_time):
                some = images[start : start + self._at_a_time]
                ready = self._ready(some)
                with self.naming_channels(ready):
                    styles = styles_of(self.model, ready, self.style_layer)  # N x C means, N x C deviations
                check_finite({self.style_layer: styles})
                for image, given, mean, deviation, name in zip(ready, some, *styles, domains[start:], strict=False):
                    outcomes.append(meet(image, given, Style(mean, deviation), name))
        return outcomes

    def _passed_by(self, image: Tensor, given: Tensor, style: Style, domain: Any) -> None:
        self._store(style, domain, image=given)

    def _predicted(self, image: Tensor, given: Tensor, style: Style, domain: Any) -> Any:
        slots, distances = self._select(style, domain)
        if self.cached:
            output, moments = self._predict_cached(image, slots)
            kept = {"moments": moments}
        else:
            output, kept = self._predict_joint(image, slots), {"image": given}
        selected = self._arrival[slots].tolist()
        self._store(style, domain, **kept)
        self.selected, self.distances = selected, distances
        return output

    def _select(self, style: Style, domain: Any) -> tuple[list[int], list[float]]:
        """The slots of the M neighbours by the policy, nearest in style first, and their distances."""
        oldest_first = self._arrival.argsort()
        candidates = oldest_first[self.arrivals - self._arrival[oldest_first] > self.min_gap]
        if not len(candidates):
            return [], []
        query = Query(style, domain, self.neighbors, candidates, self._domains, self._index, self._generator)
        chosen = torch.tensor(POLICIES[self.policy](query), dtype=torch.long)
        chosen = chosen[self._arrival[chosen].argsort()]  # oldest first, which the stable sort keeps among equals
        distances = self._index.distances(style, chosen)
        order = distances.argsort(stable=True)
        return chosen[order].tolist(), distances[order].tolist()

    def _predict_joint(self, image: Tensor, slots: list[int]) -> Any:
        """The current image's output, normalized by the joint statistics of it and its neighbours (Eq. 8-9)."""
        neighbors = [resized(self._ready(self._images[slot][None]), image.shape[-2:]) for slot in slots]
        together = torch.cat([image[None], *neighbors])  # (M + 1) x 3 x H x W
        statistics = self.batch_statistics if slots else self.alone
        if slots and self._tail is None:
            self._tail = find_tail(self.model, together, statistics)
        with normalizing_with(self.model, statistics), first_only_after(self.model, self._tail if slots else ""):
            output = self.model(together)
        return first_row(output, len(together))

    def _predict_cached(self, image: Tensor, slots: list[int]) -> tuple[Any, Tensor]:
        """The current image's output, normalized by pooled moments, and its own moments 2 x K."""
        statistics = CachedStatistics(self._moments[slots] if slots else None, self.alone, self.prior)
        with normalizing_with(self.model, statistics):
            output = self.model(image[None])
        if self._calls not in (None, statistics.calls):
            raise InputError(OTHER_LAYERS)
        self._calls = statistics.calls
        check_finite({"of one of its layers": (statistics.own,)})
        return output, statistics.own

    def _store(self, style: Style, domain: Any, *, image: Tensor | None = None, moments: Tensor | None = None) -> None:
        slot = self._slot_for_next()
        if self._index is None:
            self._index = StyleIndex(self.capacity, len(style.mean), style.mean.device)
        self._index.put(torch.tensor([slot]), Style(*(part[None] for part in style)))
        if moments is not None:
            if self._moments is None:
                self._moments = moments.new_empty(self.capacity, *moments.shape)  # Q x 2 x K
            self._moments[slot] = moments
        if slot == len(self):  # a bank that is still filling
            self._arrival = torch.cat([self._arrival, torch.zeros(1, dtype=torch.long)])
            self._domains.append(None)
            self._images += [] if image is None else [image]
        if image is not None:
            self._images[slot] = image.detach().clone()
        self._arrival[slot], self._domains[slot] = self.arrivals, domain
        self.arrivals += 1

    def _slot_for_next(self) -> int:
        if len(self) < self.capacity:
            return len(self)
        if self.removal == "random":
            return int(torch.randint(self.capacity, (), generator=self._generator))
        return int(self._arrival.argmin())

    def _ready(self, images: Tensor) -> Tensor:
        """Images as the model takes them."""
        return images if self.preprocess is None else self.preprocess(images)

    def _check_given(self, images: Tensor) -> None:
        """Refuse what :meth:`check` refuses, and for joint statistics what does not go with the stored images."""
        if self.preprocess is None:
            if isinstance(images, Tensor) and images.dtype == torch.uint8:
                raise InputError(
                    "images are uint8; pass floats as the model wants them, or give the bank a preprocess callable "
                    "that makes them, for example preprocess=lambda images: images / 255"
                )
            self.check(images)
        else:
            if not isinstance(images, Tensor) or images.ndim != 4 or len(images) == 0:
                got = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
                raise InputError(f"images are {got}; expected a tensor N x C x H x W with at least one image")
            for start in range(0, len(images), AT_A_TIME):
                self.check(self._ready(images[start : start + AT_A_TIME]))
        if not self._images:
            return
        stored = self._images[0]
        if stored.shape[0] != images.shape[1]:
            raise InputError(
                f"the images have {images.shape[1]} channels, those in the bank {stored.shape[0]}; pass one kind"
            )
        if stored.dtype != images.dtype:
            raise InputError(f"the images are {images.dtype}, those in the bank {stored.dtype}; pass one kind")
        if stored.shape != images.shape[1:] and not self.resize:
            raise InputError(
                f"the images are {tuple(images.shape[1:])}, those in the bank {tuple(stored.shape)}; joint statistics "
                "need one size: pass resize=True, use statistics='cached', or keep a bank for each size with "
                "stream(name)"
            )

    def _domains_of(self, domain: Any, count: int) -> list[Any]:
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
        used = len(self)
        return {
            "arrivals": self.arrivals,
            "arrival": self._arrival.clone(),
            "domains": list(self._domains),
            "styles": [ring[:used].clone() for ring in self._index.styles] if self._index else [],
            "center": self._index.center if self._index else None,
            "images": list(self._images),
            "moments": None if self._moments is None else self._moments[:used].clone(),
            "calls": self._calls,
            "generator": self._generator.get_state(),
            "streams": {name: bank.state_dict() for name, bank in self._streams.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict` of a bank with the same model and settings.

        Raises:
            InputError: if the state holds more images than this bank's capacity, values that are not finite, or
                what the other kind of statistics keeps.
        """
        used = len(state["domains"])
        if used > self.capacity:
            raise InputError(f"the state holds {used} images, this bank's capacity is {self.capacity}")
        if used and self.cached != (state["moments"] is not None):
            kind = "cached" if self.cached else "joint"
            raise InputError(f"the state is of a bank with other statistics than this one's, {kind!r}")
        tensors = [*state["styles"], *state["images"], *([] if state["moments"] is None else [state["moments"]])]
        if not all(torch.isfinite(tensor).all() for tensor in tensors):
            raise InputError("the state holds values that are not finite; start with an empty bank")
        device = next((p.device for p in self.model.parameters()), torch.device("cpu"))
        self.reset()
        self.arrivals, self._arrival = state["arrivals"], state["arrival"].cpu().clone()
        self._domains, self._calls = list(state["domains"]), state["calls"]
        self._images = [image.to(device) for image in state["images"]]
        if used:
            styles = Style(*(part.to(device) for part in state["styles"]))  # used x C each
            self._index = StyleIndex(self.capacity, styles.mean.shape[1], device)
            self._index.center = state["center"].to(device)
            self._index.put(torch.arange(used), styles)
        if state["moments"] is not None:
            kept = state["moments"].to(device)  # used x 2 x K
            self._moments = kept.new_empty(self.capacity, *kept.shape[1:])
            self._moments[:used] = kept
        self._generator.set_state(state["generator"].cpu())
        for name, nested in state["streams"].items():
            self.stream(name).load_state_dict(nested)
