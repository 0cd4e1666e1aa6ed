"""Figure 4: what the networks see, side by side."""

from matplotlib.figure import Figure

from dglab.evaluation import arrival_order, batches_in_order
from dglab.experiments.lab import Lab
from dglab.experiments.studies import VARIANTS
from dglab.models import logits_of
from dglab.report import figures
from dglab.tasks import Task
from dglab.testtime import ImageBank, SourceNormalization


def example_predictions(lab: Lab, task: Task, count: int = 3) -> Figure:
    """Image, AGG, MLDG, MLDG+SIB and ground truth for the last ``count`` arrivals of a task's target stream.

    The networks are those of the preset's first training seed; which images are shown depends on nothing else.
    """
    stream = lab.target_set(task.targets)
    order = arrival_order(len(stream), lab.preset.test_seeds[0])
    seed = lab.preset.train_seeds[0]
    agg, mldg = (lab.trained(lab.training(task.sources, seed, **VARIANTS[name])) for name in ("AGG", "MLDG"))
    bank = ImageBank(mldg, resize=True)
    for images, _, _ in batches_in_order(stream, order[:-count], 1, lab.device):
        bank.observe(images)
    predictors = {"AGG": SourceNormalization(agg), "MLDG": SourceNormalization(mldg), "MLDG + SIB": bank}
    columns = {name: [] for name in ("image", *predictors, "ground truth")}
    for images, labels, _ in batches_in_order(stream, order[-count:], 1, lab.device):
        columns["image"].append(images[0].cpu())
        columns["ground truth"].append(labels[0])
        for name, predictor in predictors.items():
            columns[name].append(logits_of(predictor(images)).argmax(1)[0].cpu())
    return figures.predictions(columns)
