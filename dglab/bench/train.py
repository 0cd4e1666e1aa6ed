"""``dglab bench train``: what a step of MLDG costs beside one of AGG."""

from typing import Any

from dglab.bench.measure import measure, random_images
from dglab.models import build_model
from dglab.training import agg_backward, cross_entropy, mldg_backward, split_backward


def bench_train(model_name: str, size: tuple[int, int], device: str, *, per_domain: int = 3) -> list[dict[str, Any]]:
    """One step of AGG, split and MLDG (order 1 and 2) on the same images from four domains."""
    model = build_model(model_name, seed=0).to(device).train()
    images, labels = random_images(4 * per_domain, size, device)
    whole, half = (images, labels), 2 * per_domain
    first, second = (images[:half], labels[:half]), (images[half:], labels[half:])
    return measure(
        {
            "AGG": lambda: agg_backward(model, cross_entropy, whole),
            "split": lambda: split_backward(model, cross_entropy, first, second),
            "MLDG, order 1": lambda: mldg_backward(model, cross_entropy, first, second, 0.01),
            "MLDG, order 2": lambda: mldg_backward(model, cross_entropy, first, second, 0.01, order=2),
        },
        device=device,
    )
