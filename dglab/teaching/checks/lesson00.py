"""Lesson 00: mIoU by hand, and BatchNorm's running statistics."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn

from dglab.evaluation import ConfusionMatrix
from dglab.teaching.checks.exercise import Exercise, Mistake
from dglab.teaching.checks.inputs import between, whole

CLASSES, H, W = 7, 8, 10  # of the 19 classes the first seven may occur
CHANNELS = 3


def maps(generator: Generator) -> tuple[Tensor, Tensor]:
    """A prediction and a label: two thirds agree, some pixels are ignored, and class 6 is predicted alone."""
    label = torch.randint(0, CLASSES - 1, (H, W), generator=generator)
    other = torch.randint(0, CLASSES, (H, W), generator=generator)
    prediction = torch.where(torch.rand(H, W, generator=generator) < 0.66, label, other)
    prediction[0, 0] = CLASSES - 1
    label[-2:] = 255
    return prediction, label


def by_class(prediction: Tensor, label: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of the pixels that are labelled: hits, labelled and predicted pixels of each of the 19 classes."""
    known = label != 255
    p, t = prediction[known], label[known]
    hits = torch.bincount(t[p == t], minlength=19).double()
    return hits, torch.bincount(t, minlength=19).double(), torch.bincount(p, minlength=19).double()


def with_ignored(prediction: Tensor, label: Tensor) -> Tensor:
    hits, labelled, _ = by_class(prediction, label)
    union = labelled + torch.bincount(prediction.flatten(), minlength=19) - hits
    return (hits[union > 0] / union[union > 0]).mean()


def with_absent(prediction: Tensor, label: Tensor) -> Tensor:
    hits, labelled, predicted = by_class(prediction, label)
    return (hits / (labelled + predicted - hits).clamp(min=1)).mean()


def of_labels(prediction: Tensor, label: Tensor, *, recall: bool) -> Tensor:
    hits, labelled, predicted = by_class(prediction, label)
    below = labelled if recall else labelled + predicted - hits
    return (hits[labelled > 0] / below[labelled > 0]).mean()


def batches(generator: Generator) -> tuple[list[Tensor], float]:
    """Batches M x C x 2 x 3 of unlike size, and a momentum that is not one half."""
    count = whole(3, 5, generator)
    sizes = [whole(1, 4, generator) for _ in range(count)]
    scale, shift = between(0.5, 3, (count,), generator), between(-2, 2, (count, CHANNELS, 1, 1), generator)
    found = [
        scale[i] * torch.randn(m, CHANNELS, 2, 3, generator=generator, dtype=torch.float64) + shift[i]
        for i, m in enumerate(sizes)
    ]
    return found, float(between(0.1, 0.4, (), generator))


def by_torch(given: Sequence[Tensor], momentum: float) -> tuple[Tensor, Tensor]:
    layer = nn.BatchNorm2d(CHANNELS, momentum=momentum).double().train()
    with torch.no_grad():
        for x in given:
            layer(x)
    return layer.running_mean.clone(), layer.running_var.clone()


def moved(given: Sequence[Tensor], momentum: float, start: float = 1.0, power: float = 1.0, correction: int = 1):
    """Running statistics, with what can go wrong in them."""
    mean, variance = 0.0, start
    for x in given:
        own = x.transpose(0, 1).flatten(1)
        mean = (1 - momentum) * mean + momentum * own.mean(1)
        variance = (1 - momentum) * variance + momentum * own.var(1, correction=correction) ** power
    return mean, variance


def alike(given: Sequence[Tensor], momentum: float) -> tuple[Tensor, Tensor]:
    own = [x.transpose(0, 1).flatten(1) for x in given]
    return torch.stack([x.mean(1) for x in own]).mean(0), torch.stack([x.var(1) for x in own]).mean(0)


EXERCISES = {
    "00.2": Exercise(
        name="mean_iou",
        returns="one number between 0 and 1",
        inputs=maps,
        answer=lambda prediction, label: ConfusionMatrix.of(prediction, label).miou(),
        mistakes=(
            Mistake("counts what is predicted at ignored pixels",
                    "Too small. What is predicted where the label is 255: is it a false positive?",
                    with_ignored),
            Mistake("takes classes that occur nowhere for zeros",
                    "Far too small. Over which classes is the mean taken?",
                    with_absent),
            Mistake("divides by the labelled pixels (recall)",
                    "Which pixels beside those labelled with the class belong to the union?",
                    lambda *inputs: of_labels(*inputs, recall=True)),
            Mistake("leaves out a class that is predicted but never labelled",
                    "A class that is predicted and nowhere labelled: what is its IoU, and does it count?",
                    lambda *inputs: of_labels(*inputs, recall=False)),
            Mistake("returns the share of right pixels",
                    "That is pixel accuracy: the road decides it. Give every class the same weight.",
                    lambda prediction, label: (prediction == label)[label != 255].double().mean()),
        ),
        hint="Try it on the two by three pixels above: 2/3, 1/2 and 1.",
        tolerance=1e-5,
    ),
    "00.3": Exercise(
        name="running_statistics",
        returns="two tensors of C numbers, mean and variance",
        inputs=batches,
        answer=by_torch,
        mistakes=(
            Mistake("takes the biased variance",
                    "The mean is right. Which variance do the running statistics collect, see the cells above?",
                    lambda given, momentum: moved(given, momentum, correction=0)),
            Mistake("has the momentum the wrong way round",
                    "Yours hardly remembers: with momentum 0.1, how much of the old value stays?",
                    lambda given, momentum: moved(given, 1 - momentum)),
            Mistake("averages all batches alike",
                    "Does a batch that was seen long ago weigh as much as the last one?",
                    alike),
            Mistake("starts the variance at 0",
                    "The mean is right. Where does a new layer's running variance begin?",
                    lambda given, momentum: moved(given, momentum, start=0.0)),
            Mistake("collects the deviation",
                    "The mean is right. Is it the variance that moves, or its root?",
                    lambda given, momentum: moved(given, momentum, power=0.5)),
        ),
        hint="Take a single batch and momentum 1: what must come out?",
    ),
}  # fmt: skip
