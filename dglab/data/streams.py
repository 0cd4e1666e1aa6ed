"""Streams: test images in their order of arrival, each with its label and the domain that it comes from."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from dglab.utils.errors import InputError
from dglab.utils.seeds import derive_seed
from dglab.utils.sizes import together


class Arrival(NamedTuple):
    """One image of a stream: uint8 3 x H x W, its label uint8 H x W, and the letter of its domain, where known."""

    image: Tensor
    label: Tensor
    domain: str | None


class Batch(NamedTuple):
    """M successive arrivals: floats in [0, 1] M x 3 x H x W, each one's label and domain."""

    images: Tensor
    labels: list[Tensor]
    domains: list[str | None]


class Joined(Dataset):
    """Several domains as one data set that knows the domain of each image: the mixed target of ``G+S+I->C+M``."""

    def __init__(self, parts: list[Dataset]) -> None:
        self._items = [(part, i) for part in parts for i in range(len(part))]
        self.letter = "+".join(part.letter for part in parts)

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        part, i = self._items[index]
        return part[i]

    def domain_of(self, index: int) -> str:
        """The letter of an image's domain."""
        return self._items[index][0].letter


def arrival_order(length: int, test_seed: int | None) -> list[int]:
    """The order in which a test set arrives: that of the data set (None), or shuffled by a seed."""
    if test_seed is None:
        return list(range(length))
    return np.random.default_rng(derive_seed("arrival", test_seed)).permutation(length).tolist()


def arrivals(dataset: Dataset, order: Sequence[int]) -> Iterator[Arrival]:
    """The images of a data set as they arrive.

    Args:
        dataset: of (image 3 x H x W, uint8 or float in [0, 1]; label uint8 H x W); a domain's, :class:`Joined`, or any
            other.
        order: of the indices, see :func:`arrival_order`.

    Raises:
        InputError: if a label differs in size from its image.
    """
    for index in order:
        image, label = dataset[index]
        if image.shape[-2:] != label.shape:
            raise InputError(
                f"image {index} is {tuple(image.shape)} and its label {tuple(label.shape)}; expected 3 x H x W and "
                "H x W of one size"
            )
        domain = dataset.domain_of(index) if hasattr(dataset, "domain_of") else getattr(dataset, "letter", None)
        yield Arrival(image, label, domain)


def in_batches(
    stream: Iterator[Arrival], batch_size: int, device: torch.device | str = "cpu", *, resize: bool = False
) -> Iterator[Batch]:
    """Test batches of M successive arrivals; the last one may be smaller.

    Args:
        stream: as :func:`arrivals` gives it.
        batch_size: M.
        device: where the images go.
        resize: bring images of unlike sizes in a batch to the first one's.

    Raises:
        InputError: if, without ``resize``, the images of one batch differ in size.
    """
    batch: list[Arrival] = []
    for arrival in stream:
        batch.append(arrival)
        if len(batch) == batch_size:
            yield _stacked(batch, device, resize)
            batch = []
    if batch:
        yield _stacked(batch, device, resize)


def _stacked(batch: Sequence[Arrival], device: torch.device | str, resize: bool) -> Batch:
    images, labels, domains = map(list, zip(*batch, strict=True))
    if len({image.shape for image in images}) > 1 and not resize:
        raise InputError(
            f"a test batch holds images of sizes {sorted({tuple(i.shape[-2:]) for i in images})}; "
            "normalizing images together needs one size: pass resize=True, or use batch size 1"
        )
    return Batch(together(images, device), labels, domains)


def image_batches(
    dataset: Dataset,
    most: int,
    device: torch.device | str,
    order: Sequence[int] | None = None,
    *,
    resize: bool = False,
) -> Iterator[Tensor]:
    """The images of a data set, without labels, in batches of up to ``most`` successive ones of one size.

    Args:
        dataset: of (image uint8 3 x H x W, anything).
        most: images in a batch.
        device: where they go.
        order: of the indices; None takes the data set's own.
        resize: bring those of another size to the first one's, rather than begin another batch.
    """
    batch: list[Tensor] = []
    for index in order if order is not None else range(len(dataset)):
        image = dataset[index][0]
        if batch and (len(batch) == most or (image.shape != batch[0].shape and not resize)):
            yield together(batch, device)
            batch = []
        batch.append(image)
    if batch:
        yield together(batch, device)
