"""Lesson 02: the schedule, the mean over labelled pixels, and the same mean in parts (Eq. 2)."""

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from dglab.classes import IGNORED, NUM_CLASSES
from dglab.teaching.checks.exercise import Exercise, Mistake
from dglab.teaching.checks.inputs import batch, between, labels, network, whole
from dglab.training import agg_backward, cross_entropy


def schedule_inputs(generator: Generator) -> tuple[int, int, float]:
    steps = whole(20, 100, generator)
    return whole(2, steps - 2, generator), steps, between(0.01, 0.2, (), generator).item()


def poly(step: int, steps: int, lr: float) -> float:
    """The rate that torch's own schedule has reached."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr)
    schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer, steps, power=0.9)
    for _ in range(step):
        optimizer.step()
        schedule.step()
    return schedule.get_last_lr()[0]


def logits_and_labels(generator: Generator) -> tuple[Tensor, Tensor]:
    return between(-4, 4, (3, NUM_CLASSES, 6, 8), generator), labels(3, 6, 8, generator)


def of_pixels(logits: Tensor, label_maps: Tensor, dim: int = 1) -> Tensor:
    """-log softmax at the label, N x H x W; at ignored pixels that of class 0."""
    known = label_maps.where(label_maps != IGNORED, 0)
    return -logits.log_softmax(dim).gather(1, known[:, None])[:, 0]


def mean_of_images(logits: Tensor, label_maps: Tensor) -> Tensor:
    return torch.stack([cross_entropy(*one) for one in zip(logits.split(1), label_maps.split(1), strict=True)]).mean()


def parts_inputs(generator: Generator) -> tuple[nn.Module, Tensor, Tensor, int]:
    return network(generator), *batch(4, generator), 2


def gradient(model: nn.Module, images: Tensor, label_maps: Tensor) -> list[Tensor]:
    agg_backward(model, cross_entropy, (images, label_maps))
    return [parameter.grad for parameter in model.parameters()]


def of_parts(model: nn.Module, images: Tensor, label_maps: Tensor, parts: int) -> list[list[Tensor]]:
    pieces = zip(images.tensor_split(parts), label_maps.tensor_split(parts), strict=True)
    return [gradient(model, *piece) for piece in pieces]


def added(gradients: list[list[Tensor]], factor: float = 1.0) -> list[Tensor]:
    return [factor * torch.stack(same).sum(0) for same in zip(*gradients, strict=True)]


EXERCISES = {
    "02.2": Exercise(
        name="poly",
        returns="one number, the learning rate",
        inputs=schedule_inputs,
        answer=poly,
        mistakes=(
            Mistake("leaves out the power",
                    "Yours falls in a straight line.",
                    lambda step, steps, lr: lr * (1 - step / steps)),
            Mistake("takes the power of step / steps alone",
                    "What is raised to the power 0.9: the share that is done, or the one that is left?",
                    lambda step, steps, lr: lr * (1 - (step / steps) ** 0.9)),
            Mistake("counts from 1",
                    "Step 0 is to have the full rate. Does yours?",
                    lambda step, steps, lr: lr * (1 - (step + 1) / steps) ** 0.9),
            Mistake("returns the factor without the initial rate",
                    "The factor is right. At step 0 the rate is to be lr.",
                    lambda step, steps, lr: (1 - step / steps) ** 0.9),
        ),
        hint="Work out step 0, the middle and the last step by hand and compare.",
    ),
    "02.3": Exercise(
        name="mean_loss",
        returns="one number",
        inputs=logits_and_labels,
        answer=lambda logits, maps: F.cross_entropy(logits, maps, ignore_index=IGNORED),
        mistakes=(
            Mistake("divides by all pixels, ignored ones included",
                    "Too small: by how many pixels do you divide?",
                    lambda logits, maps: F.cross_entropy(logits, maps, ignore_index=IGNORED, reduction="sum")
                    / maps.numel()),
            Mistake("averages the losses of single images",
                    "Every image weighs the same in yours, every labelled pixel is to.",
                    mean_of_images),
            Mistake("takes ignored pixels for class 0",
                    "Ignored pixels take part in yours. As which class?",
                    lambda logits, maps: of_pixels(logits, maps).mean()),
            Mistake("forgets the minus",
                    "A loss that falls below zero?",
                    lambda logits, maps: -cross_entropy(logits, maps)),
            Mistake("takes the softmax over the rows of the image instead of the classes",
                    "Over which dimension do the probabilities of a pixel add up to 1?",
                    lambda logits, maps: of_pixels(logits, maps, 2)[maps != IGNORED].mean()),
            Mistake("adds the pixels instead of averaging",
                    "That is the sum; the mean was asked for.",
                    lambda logits, maps: F.cross_entropy(logits, maps, ignore_index=IGNORED, reduction="sum")),
        ),
        hint="Try one image of two pixels, one of them ignored, and work it out by hand.",
    ),
    "02.4": Exercise(
        name="gradient_in_parts",
        returns="a gradient for each of the model's parameters, in their order",
        inputs=parts_inputs,
        answer=lambda model, images, maps, parts: gradient(model, images, maps),
        mistakes=(
            Mistake("averages the parts' means",
                    "Nearly. Two parts with unlike numbers of labelled pixels weigh the same in yours.",
                    lambda *inputs: added(of_parts(*inputs), 1 / inputs[-1])),
            Mistake("adds the parts' means",
                    "Too long. The mean of all pixels is not the sum of the parts' means.",
                    lambda *inputs: added(of_parts(*inputs))),
            Mistake("keeps the last part's gradient alone",
                    "This is the gradient of the last part. What became of the others?",
                    lambda *inputs: of_parts(*inputs)[-1]),
        ),
        hint="With parts = 1 it must be the gradient of the loss of the lesson. Is it?",
    ),
}  # fmt: skip
