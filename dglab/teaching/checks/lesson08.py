"""Lesson 08: a signal without labels, a rank correlation, and target statistics in the first stage alone."""

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy
import torch
from torch import Generator, Tensor, nn

from dglab.classes import NUM_CLASSES
from dglab.teaching.checks.exercise import Exercise, Mistake
from dglab.teaching.checks.inputs import batch, between, network, whole
from dglab.testtime.moments import Moments, moments_of
from dglab.testtime.override import Statistics, normalizing_with


def some_logits(generator: Generator) -> tuple[Tensor]:
    return (between(-4, 4, (2, NUM_CLASSES, 5, 7), generator),)


def entropies(logits: Tensor, dim: int = 1) -> Tensor:
    """N x H x W in nats."""
    return torch.special.entr(logits.softmax(dim)).sum(dim)


def signal_and_gain(generator: Generator) -> tuple[list[float], list[float]]:
    """Without ties; related, but not in a straight line."""
    count = whole(9, 14, generator)
    x = between(-2, 2, (count,), generator)
    return x.exp().tolist(), (x + 1.5 * between(-1, 1, (count,), generator)).tolist()


def places(values: list[float]) -> np.ndarray:
    """argsort once: where the ranked values come from, which is easily taken for the ranks."""
    return np.argsort(values)


def pearson(x: Any, y: Any) -> float:
    return float(np.corrcoef(x, y)[0, 1])


def stage_inputs(generator: Generator) -> tuple[nn.Module, Tensor]:
    return network(generator), batch(2, generator)[0]


def predict(statistics: Callable[..., Any], model: nn.Module, images: Tensor) -> Tensor:
    with normalizing_with(model, statistics):
        return model(images)


def early(name: str) -> bool:
    return name.startswith(("stem", "layer1"))


@torch.no_grad()
def by_modes(model: nn.Module, images: Tensor) -> Tensor:
    """The reference: BatchNorm in training mode, in the first layers alone."""
    for name, module in model.named_modules():
        module.training = isinstance(module, nn.BatchNorm2d) and early(name)
    return model(images)


def chosen_by(statistics: Statistics) -> Callable[[nn.Module, Tensor], Tensor]:
    return lambda model, images: predict(statistics, model, images)


def unbiased(x: Tensor) -> Moments:
    variance, mean = torch.var_mean(x, (0, 2, 3))
    return mean, variance


def deviation(x: Tensor) -> Moments:
    mean, variance = moments_of(x)
    return mean, variance.sqrt()


EXERCISES = {
    "08.2": Exercise(
        name="mean_entropy",
        returns="one number",
        inputs=some_logits,
        answer=lambda logits: entropies(logits).mean(),
        mistakes=(
            Mistake("takes the logarithm to base 2",
                    "Yours is in bits; nats were asked for.",
                    lambda logits: entropies(logits).mean() / np.log(2)),
            Mistake("takes the softmax over the rows of the image",
                    "Over which dimension do the probabilities of a pixel add up to 1?",
                    lambda logits: entropies(logits, 2).mean()),
            Mistake("takes the mean over the classes, too",
                    "19 times too small: the entropy of a pixel is a sum over classes.",
                    lambda logits: entropies(logits).mean() / NUM_CLASSES),
            Mistake("adds the pixels instead of averaging",
                    "The mean over pixels was asked for; a larger image is not more unsure.",
                    lambda logits: entropies(logits).sum()),
            Mistake("forgets the minus",
                    "An entropy is not negative.",
                    lambda logits: -entropies(logits).mean()),
        ),
        hint="Equal logits give ln 19 = 2.944. Do they?",
    ),
    "08.3": Exercise(
        name="rank_correlation",
        returns="one number from -1 to 1",
        inputs=signal_and_gain,
        answer=lambda x, y: float(scipy.stats.spearmanr(x, y).statistic),
        mistakes=(
            Mistake("correlates the values (Pearson)",
                    "That is the correlation of the values, which a single far-off one can decide.",
                    pearson),
            Mistake("takes argsort for ranks",
                    "argsort says where each value comes *from*. What is the rank of the first value?",
                    lambda x, y: pearson(places(x), places(y))),
            Mistake("ranks one list downwards",
                    "The sign is wrong.",
                    lambda x, y: -float(scipy.stats.spearmanr(x, y).statistic)),
            Mistake("takes the covariance of the ranks",
                    "More than 1? A covariance grows with the number of values.",
                    lambda x, y: float(np.cov(scipy.stats.rankdata(x), scipy.stats.rankdata(y))[0, 1])),
        ),
        hint="Any rising relation gives 1, any falling one -1: try x and x**3.",
    ),
    "08.4": Exercise(
        name="early_only",
        returns="a pair (mean, biased variance), C each",
        inputs=stage_inputs,
        answer=by_modes,
        use=predict,
        mistakes=(
            Mistake("has the layers the wrong way round",
                    "The first layers keep the source's in yours, and the others do not.",
                    chosen_by(lambda name, x, source: source if early(name) else moments_of(x))),
            Mistake("uses target statistics everywhere",
                    "That is TN in every layer.",
                    chosen_by(lambda name, x, source: moments_of(x))),
            Mistake("uses source statistics everywhere",
                    "That is source BN in every layer: how are the layers called?",
                    chosen_by(lambda name, x, source: source)),
            Mistake("takes the unbiased variance",
                    "Nearly. By what does Eq. 9 divide?",
                    chosen_by(lambda name, x, source: unbiased(x) if early(name) else source)),
            Mistake("returns the deviation for the variance",
                    "The second of the pair is the variance.",
                    chosen_by(lambda name, x, source: deviation(x) if early(name) else source)),
            Mistake("leaves out the stem",
                    "layer1 is right; which BatchNorm layer comes before it?",
                    chosen_by(lambda name, x, source: moments_of(x) if name.startswith("layer1") else source)),
        ),
        hint="Print the names that arrive: for which of them is which pair to be returned?",
    ),
}  # fmt: skip
