"""Why the guard loses on KITTI: ``python -m tools.guard_causes RUNS --data ROOT``, after the test, to explain it.

On networks that KITTI was left out of: KITTI as it is; cut to CamVid's shape; brought to the sources' colours (each
channel's mean and deviation over images); both. And each source recording as it is, and cut to KITTI's shape. A row
each in ``docs/guard_causes.csv``: the guard's distance D of 16 images, and mIoU under source BN and TN (M = 4).
"""

import argparse
import csv
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from dglab.data import open_domains
from dglab.data.streams import arrival_order, image_batches
from dglab.evaluation import evaluate
from dglab.testtime import GuardedNormalization, SourceNormalization, TargetNormalization
from dglab.testtime.of_sources import evenly
from dglab.training.checkpoints import load_checkpoint
from dglab.utils.machine import keep_freed_memory
from tools.guard_study import finished_runs, reference_of

TABLE = Path(__file__).parents[1] / "docs" / "guard_causes.csv"
COLUMNS = ("train_method", "train_seed", "tested", "change", "distance", "source BN", "TN")
CAMVID, KITTI = 4 / 3, 621 / 187  # width over height


class Changed(Dataset):
    """A data set whose pairs (image, label) are changed."""

    def __init__(self, dataset: Dataset, change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> None:
        self.dataset, self.change = dataset, change

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.change(*self.dataset[index])


def cut(image: Tensor, label: Tensor, shape: float) -> tuple[Tensor, Tensor]:
    """The middle of an image, of this width over height."""
    height, width = label.shape
    h, w = (height, round(height * shape)) if width > shape * height else (round(width / shape), width)
    window = slice((height - h) // 2, (height + h) // 2), slice((width - w) // 2, (width + w) // 2)
    return image[..., window[0], window[1]], label[window]


def colours_of(datasets: list[Dataset]) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel, 3 x 1 x 1 in 0 to 255, over up to 32 images of each data set."""
    pixels = torch.cat(
        [data[i][0].flatten(1)[:, ::7] for data in datasets for i in evenly(len(data), 32)], dim=1
    ).double()  # 3 x pixels
    return pixels.mean(1)[:, None, None], pixels.std(1)[:, None, None]


def study(run: Path, root: str, done: set[tuple[str, ...]]) -> None:
    """Test one run in every way that has no row yet."""
    model, config = load_checkpoint(run / "last.safetensors")
    domains = open_domains(root, in_memory=True)
    reference = reference_of(run, model, domains, config.sources)
    theirs = colours_of([domains[letter].train for letter in config.sources])
    own = colours_of([domains["K"].train])

    def coloured(image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        moved = (image - own[0]) / own[1] * theirs[1] + theirs[0]
        return moved.round().clamp(0, 255).to(torch.uint8), label

    changes = {
        "none": lambda image, label: (image, label),
        "cut": lambda image, label: cut(image, label, CAMVID),
        "coloured": coloured,
        "cut, coloured": lambda image, label: cut(*coloured(image, label), CAMVID),
    }
    for_sources = {"none": changes["none"], "cut": lambda image, label: cut(image, label, KITTI)}
    for letter, domain in domains.items():
        few = Subset(domain.val, arrival_order(len(domain.val), 0)[:16])
        for name, change in (changes if letter == "K" else for_sources).items():
            if (config.method, str(config.seed), letter, name) in done:
                continue
            data = Changed(few, change)
            guard = GuardedNormalization(model, reference)
            guard.guard.see(image_batches(data, 1, "cpu"))
            scores = [
                100 * evaluate(way(model), data, batch_size=4, resize=True).miou()
                for way in (SourceNormalization, TargetNormalization)
            ]
            with open(TABLE, "a", newline="") as file:
                row = [config.method, config.seed, letter, name, *(f"{x:.3f}" for x in (guard.guard.distance, *scores))]
                csv.writer(file).writerow(row)


def main() -> None:
    """Read the arguments, and test what has no row yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path)
    parser.add_argument("--data", type=str)
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    if not TABLE.exists():
        TABLE.write_text(",".join(COLUMNS) + "\n")
    with open(TABLE, newline="") as file:
        done = {tuple(row[name] for name in COLUMNS[:4]) for row in csv.DictReader(file)}
    for run in finished_runs([options.runs]):
        study(run, options.data, done)


if __name__ == "__main__":
    main()
