"""Domains: the embedded streets or anybody's prepared folders, and the batches drawn from them."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from torch.utils.data import Dataset

from dglab.data.prepared import open_root
from dglab.data.streets import STREETS, StreetsDataset


class InMemory(Dataset):
    """A data set whose items are kept once read; for sets that fit, as streets and CamVid do."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset, self.letter, self.stems = dataset, dataset.letter, dataset.stems
        self._items: dict[int, tuple[Tensor, Tensor]] = {}

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if index not in self._items:
            self._items[index] = self.dataset[index]
        return self._items[index]


class Joined(Dataset):
    """Several domains as one stream, with the domain of each image: the mixed target of ``G+S+I->C+M``."""

    def __init__(self, parts: list[Dataset]) -> None:
        self._items = [(part, i) for part in parts for i in range(len(part))]
        self.letter = "+".join(part.letter for part in parts)

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        part, i = self._items[index]
        return part[i]

    def domain_of(self, index: int) -> str:
        """The letter of the domain that an image comes from."""
        return self._items[index][0].letter


@dataclass(frozen=True)
class Domain:
    """One domain: its letter, its name, its training and validation images."""

    letter: str
    name: str
    train: Dataset
    val: Dataset


def streets_domains(height: int, width: int, train_images: int, val_images: int) -> dict[str, Domain]:
    """The five embedded domains G, S, I, M, C, drawn on demand.

    Args:
        height, width: of the images, pixels.
        train_images, val_images: how many in each domain.
    """

    def part(letter: str, split: str, length: int) -> Dataset:
        return InMemory(StreetsDataset(letter, split, length, height=height, width=width))

    return {
        letter: Domain(letter, street.name, part(letter, "train", train_images), part(letter, "val", val_images))
        for letter, street in STREETS.items()
    }


def prepared_domains(root: Path | str, *, in_memory: bool) -> dict[str, Domain]:
    """The domains of a prepared root, by letter; see :mod:`dglab.data.prepared`."""
    keep = InMemory if in_memory else lambda dataset: dataset
    return {
        letter: Domain(letter, domain.name, keep(domain.train), keep(domain.val))
        for letter, domain in open_root(root).items()
    }
