"""Lesson 04: TN with a prior (Eq. 8-9), the moments of a whole data set (AdaBN), and the shift of a layer."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn

from dglab.teaching.checks.exercise import Exercise, Mistake
from dglab.teaching.checks.inputs import between, whole
from dglab.testtime import TargetNormalization, shift_by_layer
from dglab.testtime.moments import Moments, moments_of

CHANNELS = 5


def layer(generator: Generator) -> nn.BatchNorm2d:
    found = nn.BatchNorm2d(CHANNELS).double().eval()
    with torch.no_grad():
        for tensor, low, high in (
            (found.weight, 0.5, 1.5), (found.bias, -1, 1), (found.running_mean, -1, 1), (found.running_var, 0.5, 3)
        ):  # fmt: skip
            tensor.copy_(between(low, high, (CHANNELS,), generator))
    return found


def features(count: int, generator: Generator) -> Tensor:
    """N x C x 4 x 3; images differ in their means, channels in mean and deviation."""
    scale, shift = between(0.5, 2, (1, CHANNELS, 1, 1), generator), between(-2, 2, (count, CHANNELS, 1, 1), generator)
    return scale * torch.randn(count, CHANNELS, 4, 3, generator=generator, dtype=torch.float64) + shift


def normalized(of: nn.BatchNorm2d, x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    return nn.functional.batch_norm(x, mean, variance, of.weight, of.bias, eps=of.eps)


def prior_inputs(generator: Generator) -> tuple[nn.BatchNorm2d, Tensor, float]:
    return layer(generator), features(3, generator), between(0.1, 0.4, (), generator).item()


def with_prior(of: nn.BatchNorm2d, x: Tensor, prior: float) -> Tensor:
    return TargetNormalization(of, prior=prior)(x)


def deviations_blended(of: nn.BatchNorm2d, x: Tensor, prior: float) -> Tensor:
    mean, variance = moments_of(x)
    deviation = torch.lerp(variance.sqrt(), of.running_var.sqrt(), prior)
    return normalized(of, x, torch.lerp(mean, of.running_mean, prior), deviation**2)


def unbiased(of: nn.BatchNorm2d, x: Tensor, prior: float) -> Tensor:
    variance, mean = torch.var_mean(x, (0, 2, 3))
    blended = (torch.lerp(a, b, prior) for a, b in ((mean, of.running_mean), (variance, of.running_var)))
    return normalized(of, x, *blended)


def outputs_blended(of: nn.BatchNorm2d, x: Tensor, prior: float) -> Tensor:
    return torch.lerp(with_prior(of, x, 0.0), of(x), prior).detach()


def mean_alone(of: nn.BatchNorm2d, x: Tensor, prior: float) -> Tensor:
    mean, variance = moments_of(x)
    return normalized(of, x, torch.lerp(mean, of.running_mean, prior), variance)


def unequal_batches(generator: Generator) -> tuple[list[Tensor]]:
    return ([features(whole(2, 3, generator) + number, generator) for number in range(3)],)


def separate(batches: Sequence[Tensor]) -> Moments:
    """Mean and variance of each batch, batches x C."""
    return tuple(torch.stack(parts) for parts in zip(*map(moments_of, batches), strict=True))


def weights(batches: Sequence[Tensor]) -> Tensor:
    counts = torch.tensor([float(len(x)) for x in batches], dtype=torch.float64)
    return (counts / counts.sum())[:, None]


def between_forgotten(batches: Sequence[Tensor]) -> Moments:
    means, variances = separate(batches)
    return (weights(batches) * means).sum(0), (weights(batches) * variances).sum(0)


def unweighted(batches: Sequence[Tensor], between_too: bool) -> Moments:
    means, variances = separate(batches)
    return means.mean(0), variances.mean(0) + (means.var(0, correction=0) if between_too else 0)


def shift_inputs(generator: Generator) -> tuple[nn.BatchNorm2d, Tensor]:
    return layer(generator), features(3, generator)


def off(of: nn.BatchNorm2d, x: Tensor) -> Tensor:
    return moments_of(x)[0] - of.running_mean


EXERCISES = {
    "04.2": Exercise(
        name="with_prior",
        returns="a tensor of the size of x",
        inputs=prior_inputs,
        answer=with_prior,
        mistakes=(
            Mistake("has prior and 1 - prior the wrong way round",
                    "With prior = 1 it must be source BN. Is it?",
                    lambda of, x, prior: with_prior(of, x, 1 - prior)),
            Mistake("ignores the prior",
                    "That is TN, whatever the prior.",
                    lambda of, x, prior: with_prior(of, x, 0.0)),
            Mistake("blends the deviations instead of the variances",
                    "The mean is blended right. Of the second statistic, is it sigma or sigma squared that is kept?",
                    deviations_blended),
            Mistake("takes the unbiased variance",
                    "A little too small. By what does Eq. 9 divide?",
                    unbiased),
            Mistake("blends the outputs of TN and source BN",
                    "Right at prior 0 and at 1, not between: blend the statistics, not what comes out of them.",
                    outputs_blended),
            Mistake("blends the mean alone",
                    "The mean is blended, the variance is still the batch's own.",
                    mean_alone),
            Mistake("forgets the layer's scale and shift",
                    "Normalized right; a BatchNorm layer does one thing more.",
                    lambda of, x, prior: (with_prior(of, x, prior) - of.bias.view(1, -1, 1, 1))
                    / of.weight.view(1, -1, 1, 1)),
        ),
        hint="Try prior = 0 (TN) and prior = 1 (`layer(x)`) first: which of the two is off?",
    ),
    "04.3": Exercise(
        name="moments_of_all",
        returns="the mean and the biased variance of each channel over all images, two tensors of C",
        inputs=unequal_batches,
        answer=lambda batches: moments_of(torch.cat(batches)),
        mistakes=(
            Mistake("averages the variances and forgets the spread of the means",
                    "The mean is right, the variance too small: batches differ from one another, too.",
                    between_forgotten),
            Mistake("lets every batch weigh the same",
                    "Nearly. Your batches weigh the same, however many images they hold.",
                    lambda batches: unweighted(batches, True)),
            Mistake("averages means and variances as they are",
                    "Two things are missing: batches hold unlike numbers of images, and their means differ.",
                    lambda batches: unweighted(batches, False)),
            Mistake("takes the last batch",
                    "These are the statistics of the last batch.",
                    lambda batches: moments_of(batches[-1])),
            Mistake("takes the unbiased variance",
                    "The variance is a little too large: biased was asked for.",
                    lambda batches: torch.var_mean(torch.cat(batches), (0, 2, 3))[::-1]),
        ),
        hint="Try two batches of one image and one pixel each: their values are all you need.",
    ),
    "04.4": Exercise(
        name="shift",
        returns="one number",
        inputs=shift_inputs,
        answer=lambda of, x: shift_by_layer(of, x)[""],
        mistakes=(
            Mistake("divides by the variance",
                    "In units of the source's *deviation*.",
                    lambda of, x: (off(of, x).abs() / of.running_var).mean()),
            Mistake("forgets the absolute value",
                    "Channels that moved up and channels that moved down cancel in yours.",
                    lambda of, x: (off(of, x) / of.running_var.sqrt()).mean()),
            Mistake("divides by the batch's own deviation",
                    "In units of the *source's* deviation: which of the two is that?",
                    lambda of, x: (off(of, x).abs() / moments_of(x)[1].sqrt()).mean()),
            Mistake("does not divide",
                    "A shift of 0.1 is much where values spread by 0.1, and nothing where they spread by 10.",
                    lambda of, x: off(of, x).abs().mean()),
            Mistake("returns one number for each channel",
                    "One number for the layer was asked for.",
                    lambda of, x: off(of, x).abs() / of.running_var.sqrt()),
        ),
        hint="Take a layer with running mean 0 and variance 1: then it is the mean of |mean of x| over channels.",
        tolerance=1e-4,  # with eps in the root or without
    ),
}  # fmt: skip
