"""Figure 4: the predictions of several networks side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from torch import nn

from dglab.data import Joined
from dglab.data.streams import arrival_order, arrivals, image_batches
from dglab.experiments.methods import AGG, MLDG, SIB
from dglab.experiments.trial import main_tasks
from dglab.models import logits_of
from dglab.report import figures
from dglab.testtime import ImageBank, SourceNormalization
from dglab.utils.files import written_whole
from dglab.utils.sizes import together

if TYPE_CHECKING:
    from dglab.experiments.runner import Lab


def draw_examples(lab: Lab) -> None:
    """Write Figure 4 as ``figures/figure4_predictions.png``; on the user's own data one picture for each target.

    The networks are those of the preset's first training seed; which images are shown does not depend on results.
    """
    seed = lab.preset.train_seeds[0]
    for task in main_tasks(lab):
        suffix = "" if lab.of_paper else f"_{task.target}"
        agg, mldg = (lab.trained(lab.training(task.sources, seed, **method.settings)) for method in (AGG, MLDG))
        stream = lab.target_set(task.targets)
        figure = example_predictions(agg, mldg, stream, lab.preset.test_seeds[0], lab.device)
        with written_whole(lab.out / "figures" / f"figure4_predictions{suffix}.png") as beside:
            figure.savefig(beside, format="png", dpi=110)


def example_predictions(
    agg: nn.Module, mldg: nn.Module, stream: Joined, test_seed: int, device: str = "cpu", count: int = 3
) -> Figure:
    """Image, AGG, MLDG, MLDG+SIB and ground truth for the last arrivals of a target; none is chosen by hand.

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
    ours = f"{MLDG.label} + {SIB.label}"
    predictors = {
        AGG.label: SourceNormalization(agg),
        MLDG.label: SourceNormalization(mldg),
        ours: bank,
    }
    columns = {name: [] for name in ("image", *predictors, "ground truth")}
    for image, label, _ in arrivals(stream, order[-count:]):
        columns["image"].append(image)
        columns["ground truth"].append(label)
        for name, predictor in predictors.items():
            logits = logits_of(predictor(together([image], device)))  # 1 x 19 x H x W
            columns[name].append(logits.argmax(1)[0].cpu())
    return figures.predictions(columns, compared=(AGG.label, ours))
