"""The guarded default: source BN where the target is ordinary for the source, target statistics where it is not."""

import warnings
from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from dglab.testtime.fast_moments import moments_of_each
from dglab.testtime.moments import Moments, check_finite, is_of_one_colour
from dglab.testtime.normalization import BatchStatistics
from dglab.testtime.override import normalizing_with
from dglab.testtime.predictor import Predictor
from dglab.testtime.reference import EPS, SourceReference, log_moments

# Chosen on the streets and CamVid by the worst case, see docs/guard.md.
K = 2.0  # squared distances up to so many times the source images' own are ordinary
MEMORY = 16  # images in the running mean of the distance
LOOKS, EVERY = 8, 24  # looks at the first 8 images of a stream; then, where the target is far, at every 24th call
SILENT = 1e-3  # of the median variance of a layer's channels: below it a channel is left out
PRIOR = 0.8  # share of source statistics without a reference: the default of public test-time libraries
_OF_STREAM = ("distance", "seen", "calls", "passed")  # what a guard knows of a stream, beside the last look


class GuardedNormalization(Predictor):
    """Use the target's statistics in so far as they are unusual for the source. It needs no label and no setting.

    A look at an image is a pass under source BN. With x the image's own moments in a layer (each channel's mean, and
    the logarithm of its variance), and center, within and between those of
    :meth:`SourceReference.measure <dglab.testtime.reference.SourceReference.measure>`,

        d = mean over layers, channels that are not silent, and both moments of (x - center)^2 / (between + within),
        D = running mean of d over the images looked at, exponential from 16 on; it starts with one of d = 1,
        w = home + (1 - home) max(0, 1 - (K / D)^2),
        mu = mu_source + w (mu_target - mu_source), and the same for sigma^2, in every layer.

    For source images d is 1 on average; single images may be far from that, the mean over a stream is not. ``home`` is
    the share of their own statistics at which the sources' images are segmented best, see
    :func:`dglab.testtime.of_sources.home_share`.

    Where w is 0, the look is the prediction: one pass. Where it is not, each of the first 8 images of a stream costs
    two passes, and then there is a look at every 24th call: 1.04 passes per call. Such a look counts for all images
    since the last one, at most 8, so that D can follow a stream that becomes ordinary again.

    Source: empirical Bayes: 1 - K / D would be the positive-part James-Stein weight (James and Stein, "Estimation with
    quadratic loss", 1961; Efron and Morris, JASA 1973); the square has a larger threshold and rises faster behind it.
    Its use for BatchNorm is ours. What else was tried: docs/guard.md.

    It protects a target that looks like the sources. A target that is unusual and yet well served by source BN gets
    worse, as under TN: KITTI, unseen, lost 2 to 5 points (docs/guard.md).

    Without a reference, a fixed share of source statistics is used, 0.8, with a warning.

    Args:
        model: any ``nn.Module`` with BatchNorm; a call leaves it unchanged.
        reference: measured on this model.

    Attributes:
        share: w, for the images of the last call.
        distances: of the last look, d of each layer, in the order in which they run.

    Raises:
        InputError: if the reference was measured on another network.
    """

    def __init__(self, model: nn.Module, reference: SourceReference | None = None) -> None:
        super().__init__(model)
        self.guard = None if reference is None else Guard(self.model, reference)
        self.statistics = BatchStatistics(PRIOR)
        self._used: float | None = None
        if reference is None:
            warn_of_no_reference()

    def __call__(self, images: Tensor) -> Any:
        """Images M x 3 x H x W, normalized together -> what the model returns for them.

        An image of a single colour (a covered lens, a black frame) tells nothing about its domain: a batch with one in
        it is predicted by source BN, with one warning.
        """
        self.check(images)
        if self.guard is None:
            return self.predict(images, self.statistics)
        output = None
        if self.guard.due(images):
            with self.naming_misfits(images):
                output = self.guard.look(images)
        share = self._used = self.guard.share_for(images)
        if output is not None and share == 0:
            return output
        self.statistics.prior = 1 - share
        return self.predict(images, self.statistics)

    def reset(self) -> None:
        """Forget the stream; to be called at a cut between scenes."""
        self._used = None
        if self.guard is not None:
            self.guard.reset()

    @property
    def share(self) -> float:
        """w of the last call, or of the next one before the first: 0 is source BN, 1 TN."""
        return 1 - PRIOR if self.guard is None else self.guard.share if self._used is None else self._used

    @property
    def distances(self) -> dict[str, float]:
        """Of the last look, d of each layer, in the order in which they run; empty without a reference."""
        return {} if self.guard is None else self.guard.distances


class Guard:
    """The distance D of a stream, and the share w of the target's statistics that follows from it.

    Args:
        model: the network.
        reference: measured on it.

    Attributes:
        distance: D.
        distances: of the last look, d of each layer.

    Raises:
        InputError: if the reference was measured on another network.
    """

    def __init__(self, model: nn.Module, reference: SourceReference) -> None:
        reference.check(model)
        self.model, self.reference = model, reference
        self._warned = False
        self.reset()

    def reset(self) -> None:
        """Forget the stream."""
        self.distance, self.seen = 1.0, 1  # starts with one ordinary image
        self.calls, self.passed = 0, 0  # images since the last look
        self.distances: dict[str, float] = {}

    @property
    def share(self) -> float:
        """w."""
        home = self.reference.home
        return home + (1 - home) * share_of_target(self.distance)

    @property
    def state(self) -> dict[str, float]:
        """D, w, and of the last look d of each layer: the columns of a drift log."""
        return {"distance": self.distance, "share": self.share, **self.distances}

    def state_dict(self) -> dict[str, Any]:
        """All that a restarted process needs to go on with the stream."""
        return {name: getattr(self, name) for name in _OF_STREAM} | {"distances": dict(self.distances)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the stream of :meth:`state_dict`."""
        for name in _OF_STREAM:
            setattr(self, name, state[name])
        self.distances = dict(state["distances"])

    def share_for(self, images: Tensor) -> float:
        """w for these images: 0, with one warning, where one of them has a single colour."""
        if not is_of_one_colour(images).any():
            return self.share
        if not self._warned:
            self._warned = True
            warnings.warn(
                "an image is of one colour, which says nothing of its domain; its batch is predicted by source BN",
                stacklevel=4,
            )
        return 0.0

    def due(self, images: Tensor) -> bool:
        """Whether to look at these images: always while w is 0, at the start of a stream, then at every 24th call."""
        self.calls += 1
        self.passed += len(images)
        return self.share_for(images) == 0 or self.seen <= LOOKS or self.calls % EVERY == 0

    def look(self, images: Tensor) -> Any:
        """Update D by these images, in a pass under source BN; returns what the model returns for them."""
        output, each = look_at(self.model, images)
        tell = ~is_of_one_colour(images)
        count = int(tell.sum())
        if self.known(each) and count:
            by_layer = {name: self.of_layer(name, moments)[tell].mean() for name, moments in self.known(each).items()}
            check_finite({name: (d,) for name, d in by_layer.items()})
            self.distances = {name: d.item() for name, d in by_layer.items()}
            stands_for = max(count, min(self.passed, MEMORY // 2))
            self.take(sum(self.distances.values()) / len(self.distances), stands_for)
            self.passed = 0
        return output

    def see(self, batches: Iterable[Tensor]) -> None:
        """Update D by several batches as a single look, in which all images have the same weight."""
        taken: list[tuple[dict[str, float], int]] = []
        for images in batches:
            before = self.seen, self.distance
            self.look(images)
            count = int((~is_of_one_colour(images)).sum())
            self.seen, self.distance = before
            if count and self.distances:
                taken.append((self.distances, count))
        total = sum(count for _, count in taken)
        if total:
            layers = [name for name in taken[0][0] if all(name in d for d, _ in taken)]  # small images may skip some
            self.distances = {name: sum(d[name] * count for d, count in taken) / total for name in layers}
            self.take(sum(self.distances.values()) / len(layers), total)

    def take(self, distance: float, count: int) -> None:
        """Update the running mean D.

        Args:
            distance: mean d of some images.
            count: how many images it counts for.
        """
        self.seen = min(self.seen + count, max(MEMORY, count))
        self.distance += count / self.seen * (distance - self.distance)

    def known(self, each: dict[str, Moments]) -> dict[str, Moments]:
        """Those layers of a look that have a reference: the others did not run when it was measured."""
        return {name: moments for name, moments in each.items() if name in self.reference.layers}

    def of_layer(self, name: str, each: Moments) -> Tensor:
        """d of each image in one layer, from its moments N x C: N values, 1 on average for images of the sources.

        A channel that is silent for nearly all source images (depthwise networks have many) is left out: its spread
        says nothing, and a few pixels in which it fires would count as a distance of thousands.
        """
        center, within, between = (part.to(each[0]) for part in self.reference.layers[name])  # 2 x C
        variance = (center[1].exp() - EPS).clamp_min(0)
        fires = variance >= SILENT * variance.median()
        return ((log_moments(each) - center).square() / (between + within))[:, :, fires].mean((1, 2))


def look_at(model: nn.Module, images: Tensor) -> tuple[Any, dict[str, Moments]]:
    """A pass under source BN: the model's output, and the images' own moments, N x C, of the layers that have any."""
    each: dict[str, Moments] = {}

    def look(name: str, x: Tensor, source: Moments | None) -> Moments | None:
        # one value per channel has no variance; and rows may be tokens, or some of the images
        if source is not None and x.numel() > len(x) * x.shape[1] and len(x) == len(images):
            each[name] = moments_of_each(x)
        return source

    with normalizing_with(model, look):
        return model(images), each


def share_of_target(distance: float) -> float:
    """max(0, 1 - (K / D)^2): the weight of the target's moments."""
    return max(0.0, 1 - (K / distance) ** 2) if distance > 0 else 0.0


def warn_of_no_reference() -> None:
    """Warn that a fixed prior is used instead of the guard."""
    warnings.warn(
        f"there is no source reference: {PRIOR} of the source's statistics and {1 - PRIOR:.1f} of the target's are "
        "taken, wherever the target lies; measure one from source images with SourceReference.measure",
        stacklevel=3,
    )
