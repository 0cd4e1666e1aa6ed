"""The source reference of a network that dglab has trained: from the training images of its own sources."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from dglab.data import Domain
from dglab.testtime.reference import SourceReference

REFERENCE = "reference.safetensors"  # beside a checkpoint
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

    return SourceReference.measure(model, images(), [letter for letter, _ in chosen])


def evenly(length: int, most: int) -> list[int]:
    """Up to ``most`` indices of a data set, evenly spaced."""
    count = min(length, most)
    return [i * length // count for i in range(count)]


def reference_beside(checkpoint: Path, given: Path | None) -> SourceReference | None:
    """The reference that is named, or that lies beside a checkpoint; None if neither is there."""
    path = given if given is not None else checkpoint.parent / REFERENCE
    return SourceReference.load(path) if given is not None or path.exists() else None
