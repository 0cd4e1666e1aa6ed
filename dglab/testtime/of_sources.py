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
IMAGES = 32  # of each source: the standard error of their mean is then a sixth of the images' spread


def source_reference(
    model: nn.Module, domains: Mapping[str, Domain], sources: Iterable[str], device: torch.device | str = "cpu"
) -> SourceReference:
    """Measure the reference of a run's sources, from up to 32 whole training images of each, evenly spaced.

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
    """The share of their own statistics at which the sources' labelled training images are segmented best, 0 to 1.

    Networks whose BatchNorm saw one domain at a time in training (MLDG's, for example) may do worse under source BN
    than under TN on their own sources; this cannot be seen from a target's moments, but from source labels. Of the
    shares in :data:`HOME_SHARES`, the one with the largest gain of mIoU on average over the sources, among those by
    which no source loses; 0 is always among them.

    Args:
        model, domains, sources, device: as in :func:`source_reference`.
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
    """The reference in the file ``given``, or the one beside a checkpoint; None if there is neither.

    Raises:
        InputError: for a file that is missing, no reference, or damaged.
    """
    path = given if given is not None else checkpoint.parent / REFERENCE
    return SourceReference.load(path) if given is not None or path.exists() else None
