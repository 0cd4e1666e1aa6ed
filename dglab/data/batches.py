"""Multi-domain batches, B x D x C x H x W: B images from each of the D source domains (Eq. 1)."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from dglab.data.augmentation import augment
from dglab.utils.errors import InputError
from dglab.utils.seeds import derive_seed


class MultiDomainBatches(Dataset):
    """The batch of every training step, by its number.

    Batch t is a function of the seed and t alone: it comes out the same in any number of loader workers and after any
    interruption. Each domain is walked through in an order of its own, shuffled afresh in every pass.

    Args:
        domains: D data sets of (image uint8 3 x H x W, label uint8 H x W), each with a ``letter``.
        per_domain: B.
        steps: the number of batches.
        transform: the augmentation, to one size for all; one for all domains, or one for each by letter.
        seed: of order and augmentation.
        part: (r, N) draws the r-th of N equal parts of every batch, its rows r B/N to (r + 1) B/N - 1; the parts
            together are the batch, bit for bit. For N processes that train together.

    Raises:
        InputError: for no domain, an empty one, a B below 1, or one that N does not divide.
    """

    def __init__(
        self,
        domains: Sequence[Dataset],
        per_domain: int,
        steps: int,
        transform: v2.Transform | Mapping[str, v2.Transform],
        seed: int,
        part: tuple[int, int] = (0, 1),
    ) -> None:
        if not domains:
            raise InputError("a batch needs at least one source domain, got none")
        for domain in domains:
            if len(domain) == 0:
                raise InputError(f"the domain {domain.letter} has no training image; add images or leave it out")
        if per_domain < 1:
            raise InputError(f"the batch size per domain is {per_domain}; expected 1 or more")
        number, parts = part
        if per_domain % parts:
            raise InputError(
                f"the batch size per domain is {per_domain}; expected a multiple of {parts}, the number of processes"
            )
        self.domains, self.per_domain, self.steps = list(domains), per_domain, steps
        by_letter = transform if isinstance(transform, Mapping) else {d.letter: transform for d in self.domains}
        self.transforms, self.seed = by_letter, seed
        self.rows = range(number * per_domain // parts, (number + 1) * per_domain // parts)  # of the batch

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        """Images B x D x 3 x H x W and labels B x D x H x W, both uint8; B/N instead of B for one of N parts."""
        rows = self._rows(step)
        images = torch.stack([torch.stack([image for image, _ in row]) for row in rows])  # B x D x 3 x H x W
        labels = torch.stack([torch.stack([label for _, label in row]) for row in rows])  # B x D x H x W
        return images, labels

    def images_of(self, step: int) -> list[str]:
        """Which images a step draws, in all parts of its batch: B x D names, files where the images are files."""
        positions = range(step * self.per_domain, (step + 1) * self.per_domain)
        return [_name(domain, self._index(domain, position)) for position in positions for domain in self.domains]

    def _index(self, domain: Dataset, position: int) -> int:
        """The ``position``-th image drawn from a domain since the start of training."""
        passes, place = divmod(position, len(domain))
        return _shuffled(len(domain), self.seed, domain.letter, passes)[place]

    def _rows(self, step: int) -> list[list[Any]]:
        """The augmented scenes of a batch: B rows of D."""
        if not 0 <= step < self.steps:
            raise IndexError(step)
        with torch.random.fork_rng(devices=[]):
            return [[self._draw(domain, step * self.per_domain + b) for domain in self.domains] for b in self.rows]

    def _draw(self, domain: Dataset, position: int) -> Any:
        index = self._index(domain, position)
        torch.default_generator.manual_seed(derive_seed("augmentation", self.seed, domain.letter, position))
        return self._augment(self.transforms[domain.letter], *domain[index])

    def _augment(self, transform: v2.Transform, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        return augment(transform, image, label)


def _name(domain: Dataset, index: int) -> str:
    source = getattr(domain, "dataset", domain)  # behind what keeps it in memory
    for names in (getattr(source, "images", None), getattr(source, "stems", None)):
        if names is not None:
            return str(names[index])
    return f"{domain.letter} {index}"


@functools.lru_cache(maxsize=64)
def _shuffled(length: int, seed: int, letter: str, passes: int) -> list[int]:
    return np.random.default_rng(derive_seed("order", seed, letter, passes)).permutation(length).tolist()


def flatten(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """B x D x 3 x H x W and B x D x H x W -> (B D) x 3 x H x W and (B D) x H x W."""
    images, labels = batch
    return images.flatten(0, 1), labels.flatten(0, 1)
