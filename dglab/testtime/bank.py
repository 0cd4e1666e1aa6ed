"""The Image Bank (section 3.4): each image that arrives is normalized together with similar past images.

QIB takes the most recent ones, SIB the most similar in style (Eq. 10). :class:`dglab.testtime.plain.PlainBank` is the
same on plain lists. This one works with any model, searches fast, and can save its state: ``memory`` holds up to Q past
images, ``policies`` choose among them, ``joint`` and ``cached`` define what is kept of an image and how an image is
predicted together with its neighbours.
"""

import copy
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dglab.models.batchnorm import batchnorm_layers
from dglab.testtime.bank_checks import AT_A_TIME, check_given, check_names, check_numbers, domains_of
from dglab.testtime.bank_state import restored_from, state_of
from dglab.testtime.cached import CachedStatistics
from dglab.testtime.guarded import Guard
from dglab.testtime.joint import JointStatistics
from dglab.testtime.layers import source_of
from dglab.testtime.memory import Memory
from dglab.testtime.moments import check_finite
from dglab.testtime.normalization import BatchStatistics, source_statistics
from dglab.testtime.outputs import Rows
from dglab.testtime.policies import POLICIES, Neighbors
from dglab.testtime.predictor import Predictor, check_prior
from dglab.testtime.reference import SourceReference
from dglab.testtime.sharing import one_at_a_time
from dglab.testtime.style import Style, styles_of
from dglab.testtime.style_layer import find_style_layer
from dglab.utils.errors import InputError
from dglab.utils.interrupts import DeferredInterrupts, interrupt_safe_contextmanager
from dglab.utils.seeds import derive_seed


class Arrival(NamedTuple):
    """An image that arrives."""

    image: Tensor  # 1 x 3 x H x W, the model's input
    given: Tensor  # 3 x H x W, as the caller passed it, before ``preprocess``
    style: Style  # C
    domain: Any


class ImageBank(Predictor):
    """Predict images as they arrive, each normalized together with M images from a bank of up to Q past ones.

    For each image in turn: compare its style with those in the bank, choose M of them, normalize the M + 1 images
    together (every BatchNorm layer by their joint statistics), return the current image's prediction, and only then
    store the image. The first image finds an empty bank; while the bank holds fewer than M images, all are taken.

    As with any target statistics, expect harm where the target looks like the sources, and no gain over
    :class:`TargetNormalization` where all images of a stream look alike: there is nothing to select.

    Args:
        model: any ``nn.Module`` with BatchNorm; a call leaves it unchanged. Of a model under ``torch.compile`` the
            original module is run. Predictors in several threads take turns on one model; a bank has a state, so that
            each thread needs one of its own: :meth:`stream`.
        style_layer: module path, stage number, or None for the first stage; see :func:`find_style_layer`.
        neighbors: M, 1 or more.
        capacity: Q, 1 or more.
        policy: ``"style"`` (SIB), ``"queue"`` (QIB); as controls ``"random"``, and ``"oracle"``, which is given the
            domain of each image and chooses by style within it.
        removal: which image leaves a full bank: ``"fifo"`` the oldest, ``"random"`` one drawn at random.
        statistics: ``"joint"``, the statistics of all M + 1 images in one forward pass of M + 1 images, as in the
            paper; ``"cached"``, ours: the moments of each image are kept from its own pass and pooled, a forward pass
            of one image. This approximates joint, because the features of a neighbour were normalized together with
            *its* neighbours, and it keeps no images.
        cold_start: how an image without any neighbour is normalized: ``"self"`` by its own statistics, ``"source"`` by
            source BN.
        prior: share of source statistics, 0 to 1, as in :class:`TargetNormalization`.
        min_gap: the last ``min_gap`` images are not chosen (consecutive frames of a video are nearly copies), 0 or
            more.
        seed: of the random policy and the random removal.
        resize: joint only: resize neighbours of another size to the current image's.
        guard: a source reference, measured on this model: the share of the pooled statistics is then not 1 - ``prior``
            but w of :class:`~dglab.testtime.guarded.GuardedNormalization`, from looks at the images as they arrive.
        preprocess: ``images -> float images as the model expects them``, for example scaling of uint8 images to
            [0, 1]; images are then stored as they were given, before it.

    Attributes:
        selected: arrival numbers (from 0) of the last image's neighbours, nearest in style first.
        distances: their distances (Eq. 10).

    Raises:
        InputError: for a value out of its range (the message lists what is allowed), or a model without BatchNorm.
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
        guard: SourceReference | None = None,
    ) -> None:
        super().__init__(model)
        check_names(policy=policy, removal=removal, statistics=statistics, cold_start=cold_start)
        check_numbers(neighbors=(neighbors, 1), capacity=(capacity, 1), min_gap=(min_gap, 0))
        self.options = dict(
            style_layer=style_layer, neighbors=neighbors, capacity=capacity, policy=policy, removal=removal,
            statistics=statistics, cold_start=cold_start, prior=check_prior(prior), min_gap=min_gap, seed=seed,
            resize=resize, preprocess=preprocess, guard=guard,
        )  # fmt: skip
        if guard is not None and prior:
            raise InputError(f"both a prior of {prior} and a guard are given; the guard decides on the share itself")
        self.style_layer = find_style_layer(self.model, style_layer)
        self.neighbors, self.capacity, self.min_gap = neighbors, capacity, min_gap
        self.policy = POLICIES[policy]
        # a layer without running statistics uses the batch's in the style pass: then a batch must be one image
        with one_at_a_time(self.model):  # another thread may be overriding the statistics
            single = any(source_of(layer) is None for layer in batchnorm_layers(self.model).values())
        self._at_a_time = 1 if single else AT_A_TIME
        self.streams: dict[str, ImageBank] = {}
        self._rows = Rows(self.model)
        self.reset()

    def __call__(self, images: Tensor, domain: Any = None) -> Any:
        """Predict images that arrive in the order of the batch.

        Args:
            images: N x 3 x H x W.
            domain: for the oracle, the domain of each image: N values, or one for all.

        Returns:
            What the model returns for these N images: parts with one row per image have N rows, other parts are those
            of the last image.

        Raises:
            InputError: before anything is predicted or stored, for images that :meth:`check` refuses, of another
                size than the bank's (joint, without ``resize``), or without the domains that the oracle needs; before
                an image is stored, for an output that cannot be split into rows.
        """
        outputs = []
        with _writable():
            for arrival in self._arrivals(images, domain):  # one image at a time
                with self._undone_on_failure():
                    neighbors = self._choose(arrival)  # SIB: by Eq. 10
                    output, kept = self._predict(arrival, neighbors)  # Eq. 8-9, of M + 1 images
                    if len(images) > 1:
                        self._rows.along(output, arrival.image)  # may raise, so before the image is stored
                    self._store(arrival, kept, neighbors)  # last: an image must not choose itself
                outputs.append(output)
            return self._rows.joined(outputs, arrival.image)

    def _choose(self, arrival: Arrival) -> Neighbors:
        """M of the images in the bank, by the policy; all of them if they are fewer."""
        candidates = self.memory.candidates(self.min_gap)
        return self.policy(self.memory, arrival.style, arrival.domain, candidates, self.neighbors)

    def _predict(self, arrival: Arrival, neighbors: Neighbors) -> tuple[Any, Tensor]:
        """The image's output, normalized together with its neighbours, and what to keep of the image in the bank."""
        if self.guard is not None:
            self.blend.prior = self._guarded_prior(arrival.image)
        kept = [self.memory.kept[slot] for slot in neighbors.slots]
        return self.statistics.predict(arrival.image, arrival.given, kept)

    def _store(self, arrival: Arrival, kept: Tensor, neighbors: Neighbors) -> None:
        with DeferredInterrupts():
            selected = self.memory.arrived[neighbors.slots].tolist()
            self.memory.store(arrival.style, arrival.domain, kept)
            self.statistics.stored()
            self.selected, self.distances = selected, neighbors.distances

    @interrupt_safe_contextmanager
    def _undone_on_failure(self) -> Iterator[None]:
        """Context manager: if an image cannot be predicted, the bank's random state and its guard are restored."""
        arrivals, drawn, guard = self.arrivals, self.memory.generator.get_state(), copy.copy(self.guard)
        try:
            yield
        except BaseException:
            if self.arrivals == arrivals:
                self.memory.generator.set_state(drawn)
                self.guard = guard
            raise

    def observe(self, images: Tensor, domain: Any = None) -> None:
        """Store images without predicting them: to fill a bank from a past stream. Arguments as for a call."""
        if isinstance(self.statistics, CachedStatistics):  # what it keeps is computed by the prediction
            self(images, domain)
            return
        with _writable():
            for arrival in self._arrivals(images, domain):
                keep = self.statistics.keep(arrival.given)
                with DeferredInterrupts():
                    self.memory.store(arrival.style, arrival.domain, keep)

    def reset(self) -> None:
        """Empty the bank and count arrivals from 0 again; its named streams are independent and stay as they are."""
        options = self.options
        guard = None if options["guard"] is None else Guard(self.model, options["guard"])
        blend = BatchStatistics(options["prior"])
        alone = source_statistics if options["cold_start"] == "source" else blend
        statistics: JointStatistics | CachedStatistics = (
            JointStatistics(self.model, self._rows, alone, blend, self.ready, options["resize"])
            if options["statistics"] == "joint"
            else CachedStatistics(self.model, alone, blend)
        )
        memory = Memory(self.capacity, options["removal"], options["seed"])
        with DeferredInterrupts():
            self.guard, self.blend = guard, blend
            self.statistics, self.memory = statistics, memory
            self.selected: list[int] = []
            self.distances: list[float] = []

    def _guarded_prior(self, image: Tensor) -> float:
        """The share of source statistics for an image that arrives; the guard looks at the image if it is due."""
        if self.guard.due(image):
            self.guard.look(image)
        return 1 - self.guard.share_for(image)

    def _arrivals(self, images: Tensor, domain: Any) -> Iterator[Arrival]:
        """The images one by one, each with its style; styles are computed in batches."""
        check_given(self, images)
        domains = domains_of(self, domain, len(images))
        for start in range(0, len(images), self._at_a_time):
            given = images[start : start + self._at_a_time]
            ready = self.ready(given)
            with self.naming_misfits(ready):
                styles = styles_of(self.model, ready, self.style_layer)  # N x C means, N x C deviations
            check_finite({self.style_layer: styles})
            for i, (mean, deviation) in enumerate(zip(*styles, strict=True)):
                yield Arrival(ready[i : i + 1], given[i], Style(mean, deviation), domains[start + i])

    def ready(self, images: Tensor) -> Tensor:
        """Images as the model expects them: after ``preprocess``, if there is one."""
        preprocess = self.options["preprocess"]
        return images if preprocess is None else preprocess(images)

    def __len__(self) -> int:
        """The number of images in the bank."""
        return len(self.memory)

    @property
    def arrivals(self) -> int:
        """How many images have arrived."""
        return self.memory.arrivals

    @property
    def stored(self) -> list[int]:
        """The arrival numbers of the images in the bank, oldest first."""
        return sorted(self.memory.arrived.tolist())

    @property
    def nbytes(self) -> int:
        """Bytes of the stored images (or their moments) and of the style buffers, which are allocated for all Q."""
        return sum(t.nbytes for t in self.memory.kept) + (self.memory.styles.nbytes if self.memory.styles else 0)

    @property
    def nbytes_when_full(self) -> int:
        """Bytes of this bank once it holds Q images like the present ones."""
        kept = sum(t.nbytes for t in self.memory.kept)
        return self.nbytes + (kept * (self.capacity - len(self)) // len(self) if kept else 0)

    def stream(self, name: str) -> "ImageBank":
        """An independent bank on the same model with the same settings; one name always gives the same bank.

        Threads with a stream each take turns on the model, and each predicts as if it were alone.
        """
        if name not in self.streams:
            seed = derive_seed("stream", self.options["seed"], name)
            new = ImageBank(self.model, **{**self.options, "seed": seed})
            self.streams.setdefault(name, new)  # keeps the bank of a thread that was faster
        return self.streams[name]

    def state_dict(self) -> dict[str, Any]:
        """All that a restarted process needs for the same further predictions, as tensors, numbers and plain values."""
        return state_of(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that :meth:`state_dict` of a bank with the same model and settings has returned.

        Raises:
            InputError: if it is no such state, holds more images than this bank's capacity or values that are not
                finite, or was saved with other ``statistics`` or another style layer, or with a guard where this has
                none or the reverse. The bank and its streams are then unchanged.
        """
        known = set(self.streams)
        try:
            with _writable():
                restored = list(restored_from(self, state))
        except BaseException:
            for name in set(self.streams) - known:
                del self.streams[name]
            raise
        with DeferredInterrupts():
            for name in known - set(state["streams"]):
                self.streams[name].reset()  # it had none when the state was saved
            for bank, memory, calls, guard in restored:
                bank.reset()
                bank.memory = memory
                if guard is not None:
                    bank.guard.load_state_dict(guard)
                if calls is not None:
                    bank.statistics.calls = calls


@interrupt_safe_contextmanager
def _writable() -> Iterator[None]:
    """Within the block, no gradients; new tensors can be modified later, even if the caller is in inference mode."""
    with torch.inference_mode(False), torch.no_grad():
        yield
