"""``dglab bench testtime``: what target statistics cost beside plain inference."""

from typing import Any

import torch
from torch import Tensor, nn

from dglab import paper
from dglab.bench.measure import measure, random_images
from dglab.models import build_model
from dglab.testtime import ImageBank, SourceNormalization, Style, TargetNormalization
from dglab.testtime.style_index import StyleIndex

NEIGHBORS, CAPACITY = 4, 128  # the paper's M and Q
STYLES = 100_000


def bench_testtime(model_name: str, size: tuple[int, int], device: str, *, rounds: int = 20) -> list[dict[str, Any]]:
    """One image under plain inference, source BN, TN and SIB with M = 4; and the search among many styles.

    Returns:
        Records as of :func:`dglab.bench.measure.measure`; those of SIB also with ``bank_mib``, what a bank of 128 such
        images holds (joint keeps them as uint8, cached their moments), and ``paper_ratio``, the paper's seconds of
        SIB over those of plain inference.
    """
    model: nn.Module = build_model(model_name, seed=0).to(device).eval()
    floats, _ = random_images(NEIGHBORS + 1, size, device)
    images = (255 * floats).round().to(torch.uint8)
    image = scaled(images[:1])
    source, target = SourceNormalization(model), TargetNormalization(model)
    banks = {
        statistics: ImageBank(model, neighbors=NEIGHBORS, capacity=CAPACITY, statistics=statistics, preprocess=scaled)
        for statistics in ("joint", "cached")
    }
    for bank in banks.values():
        bank.observe(images)
    index, query = many_styles(device)
    everything = torch.arange(STYLES)

    def plain() -> Tensor:
        with torch.no_grad():
            return model(image)

    records = measure(
        {
            "plain": plain,
            "source BN": lambda: source(image),
            "TN, M = 1": lambda: target(image),
            "SIB, M = 4, joint": lambda: banks["joint"](images[:1]),
            "SIB, M = 4, cached": lambda: banks["cached"](images[:1]),
            f"search {STYLES:,} styles": lambda: index.nearest(query, everything, NEIGHBORS),
        },
        device=device,
        rounds=rounds,
    )
    published = paper.table("inference_time").set_index("method")["seconds_per_image"]
    for record, bank in zip(records[3:5], banks.values(), strict=True):
        ratio = float(published["SIB"] / published["plain (source BN)"])
        record |= {"bank_mib": bank.nbytes_when_full / 2**20, "paper_ratio": ratio}
    return records


def scaled(images: Tensor) -> Tensor:
    """uint8 images as floats in [0, 1]."""
    return images.float() / 255


def many_styles(device: str, channels: int = 256) -> tuple[StyleIndex, Style]:
    """An index of 100,000 styles drawn around one, and one more to search for (1 x C)."""
    generator = torch.Generator().manual_seed(0)
    mean, spread = torch.rand(2, channels, generator=generator)
    means = mean + 0.3 * torch.randn(STYLES + 1, channels, generator=generator) * spread
    deviations = (spread + 0.1) * (0.2 * torch.randn(STYLES + 1, channels, generator=generator)).exp()
    styles = Style(means.to(device), deviations.to(device))
    index = StyleIndex(STYLES, channels, device)
    index.put(torch.arange(STYLES), Style(*(part[:-1] for part in styles)))
    return index, Style(*(part[-1:] for part in styles))
