"""``dglab bench testtime``: what target statistics cost beside plain inference."""

from typing import Any

import torch
from torch import Tensor, nn

from dglab.bench.measure import measure, random_images
from dglab.models import build_model
from dglab.testtime import ImageBank, SourceNormalization, TargetNormalization


def bench_testtime(model_name: str, size: tuple[int, int], device: str) -> list[dict[str, Any]]:
    """One image under plain inference, source BN, TN and SIB (M = 4, a full bank). The paper: SIB 2.83 times plain."""
    model: nn.Module = build_model(model_name, seed=0).to(device).eval()
    images, _ = random_images(8, size, device)
    image = images[:1]
    source, target = SourceNormalization(model), TargetNormalization(model)
    bank = ImageBank(model, neighbors=4, capacity=8)
    bank.observe(images)

    def plain() -> Tensor:
        with torch.no_grad():
            return model(image)

    return measure(
        {
            "plain": plain,
            "source BN": lambda: source(image),
            "TN, M = 1": lambda: target(image),
            "SIB, M = 4, joint": lambda: bank(image),
        },
        device=device,
    )
