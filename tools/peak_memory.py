"""Peak memory of predicting a stream of large images with a full bank: ``python -m tools.peak_memory``.

A network of random weights, one process; images of 256 levels, as files are. Figures stand in docs/test_time.md.
"""

import argparse
import resource

import torch

from dglab.models import build_model
from dglab.testtime import ImageBank
from dglab.utils.machine import keep_freed_memory


def main() -> None:
    """Fill a bank, predict a few more images, and print the peak before and after."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="thin-fpn")
    parser.add_argument("--statistics", default="joint")
    parser.add_argument("--side", type=int, default=769)
    parser.add_argument("--capacity", type=int, default=512)
    parser.add_argument("--images", type=int, default=8, help="predicted once the bank is full")
    options = parser.parse_args()
    keep_freed_memory()  # as the command line does
    bank = ImageBank(build_model(options.backbone, seed=0).eval(), capacity=options.capacity,
                     statistics=options.statistics)  # fmt: skip
    generator, size = torch.Generator().manual_seed(0), (1, 3, options.side, options.side)
    with torch.inference_mode():
        for number in range(1, options.capacity + options.images + 1):
            image = torch.randint(0, 256, size, dtype=torch.uint8, generator=generator).float() / 255
            if number <= options.capacity:
                bank.observe(image)
            else:
                bank(image)
            if number in (options.capacity, options.capacity + options.images):
                print(f"{number} images: {peak_gib():.2f} GiB at the peak, the bank {bank.nbytes / 2**30:.2f} GiB")


def peak_gib() -> float:
    """What this process has held at the most, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # Linux counts in KiB


if __name__ == "__main__":
    main()
