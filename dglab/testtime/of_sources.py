"""The source reference of a network that dglab has trained: from the training images of its own sources."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Subset

from dglab.data import Domain
from dglab.evaluation import evaluate
from dglab.testtime.normalization import TargetNormalization
from dglab.testtime.reference import SourceReference

REFERENCE = "reference.safetensors"  # beside a checkpoint
LABELLED = 12  # of each source, for the share at home
HOME_SHARES = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5)
IMAGES = 32  # of each source: their mean is then known to a sixth of the images' spread


def source_reference(
    model: nn.Module, domains: Mapping[str, Domain], sources: Iterable[str], device: torch.device | str = "cpu"
) -> SourceReference:
    """Measure what is ordinary for a run's sources, from up to 32 whole training images of each, evenly spaced.

    Args:
        model: the trained network.
        domains: by letter.
        sources: the letters of the run's sources.
        device: where the model is.
    """
    chosen = [(letter, index) for letter in sources for index in evenly(len(domains[letter].train), IMAGES)]

    def images() -> Iterator[Tensor]:  # one at a time: their sizes may differ
        for letter, index in chosen:
            yield domains[letter].train[index][0][None].to(device).float() / 255

    reference = SourceReference.measure(model, images(), [letter for letter, _ in chosen])
    return dataclasses.replace(reference, home=home_share(model, domains, sources, device))


def home_share(
    model: nn.Module, domains: Mapping[str, Domain], sources: Iterable[str], device: torch.device | str = "cpu"
) -> float:
    """The share of their own statistics at which the sources' labelled training images are segmented best.

    Networks whose BatchNorm saw one domain at a time in training (MLDG's, say) may be worse under source BN than under
    TN on their own sources; the target's moments cannot tell that, source labels can. Of the shares tried, that with
    the largest mean gain of mIoU over the sources, among those that no source loses by; 0 is always one.
    """
    gains = []
    for letter in sources:
        train = domains[letter].train
        few = Subset(train, evenly(len(train), LABELLED))
        scores = [
            evaluate(TargetNormalization(model, prior=1 - share), few, device=device).miou() for share in HOME_SHARES
        ]
        gains.append([score - scores[0] for score in scores])
    by_share = list(zip(*gains, strict=True))
    best = max((i for i, gain in enumerate(by_share) if min(gain) >= 0), key=lambda i: sum(by_share[i]))
    return HOME_SHARES[best]


def evenly(length: int, most: int) -> list[int]:
    """Up to ``most`` indices of a data set, evenly spaced."""
    count = min(length, most)
    return [i * length // count for i in range(count)]


def reference_beside(checkpoint: Path, given: Path | None) -> SourceReference | None:
    """The reference that is named, or that lies beside a checkpoint; None if neither is there."""
    path = given if given is not None else checkpoint.parent / REFERENCE
    return SourceReference.load(path) if given is not None or path.exists() else None
