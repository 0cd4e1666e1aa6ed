"""Figure 4: what the networks see, side by side."""

from matplotlib.figure import Figure
from torch import nn

from dglab.data import Joined
from dglab.data.streams import arrival_order, arrivals, image_batches
from dglab.experiments.methods import AGG, MLDG, SIB
from dglab.models import logits_of
from dglab.report import figures
from dglab.testtime import ImageBank, SourceNormalization
from dglab.utils.sizes import together


def example_predictions(
    agg: nn.Module, mldg: nn.Module, stream: Joined, test_seed: int, device: str = "cpu", count: int = 3
) -> Figure:
    """Image, AGG, MLDG, MLDG+SIB and ground truth for the last arrivals of a target: nothing is picked.

    Args:
        agg, mldg: the trained networks.
        stream: the target's images.
        test_seed: of the order of arrival.
        device: where the networks are.
        count: how many of the last arrivals are shown; those before them fill the bank.
    """
    order = arrival_order(len(stream), test_seed)
    bank = ImageBank(mldg, resize=True)
    for images in image_batches(stream, 1, device, order[:-count]):
        bank.observe(images)
    predictors = {
        AGG.label: SourceNormalization(agg),
        MLDG.label: SourceNormalization(mldg),
        f"{MLDG.label} + {SIB.label}": bank,
    }
    columns = {name: [] for name in ("image", *predictors, "ground truth")}
    for image, label, _ in arrivals(stream, order[-count:]):
        columns["image"].append(image)
        columns["ground truth"].append(label)
        for name, predictor in predictors.items():
            logits = logits_of(predictor(together([image], device)))  # 1 x 19 x H x W
            columns[name].append(logits.argmax(1)[0].cpu())
    return figures.predictions(columns)
