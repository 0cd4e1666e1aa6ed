"""Lesson 03: both orders on bowls, two inner steps (Eq. 3-6), and the interval of two tests of the same networks."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import scipy
import torch
from torch import Generator, Tensor, nn

from dglab.analysis.intervals import paired_difference
from dglab.teaching.checks.exercise import Exercise, Mistake
from dglab.teaching.checks.inputs import batch, between, network, whole
from dglab.teaching.toy import Plane, the_loss
from dglab.training import cross_entropy, mldg_backward

Bowl = tuple[Tensor, Tensor]  # its centre, 2, and its matrix A, 2 x 2


def bowls(generator: Generator) -> tuple[Tensor, Bowl, Bowl, float]:
    def bowl() -> Bowl:
        root = between(-1, 1, (2, 2), generator)
        return between(-1, 1, (2,), generator), root @ root.T + 0.2 * torch.eye(2, dtype=torch.float64)

    return between(-1, 1, (2,), generator), bowl(), bowl(), between(0.1, 0.5, (), generator).item()


def by_library(theta: Tensor, ds: Bowl, dg: Bowl, eta: float, order: int = 2) -> Tensor:
    plane = Plane((0.0, 0.0)).double()
    with torch.no_grad():
        plane.theta.copy_(theta)
    batches = [(torch.vstack(bowl), torch.zeros(1)) for bowl in (ds, dg)]
    mldg_backward(plane, the_loss, *batches, eta, order=order)
    return plane.theta.grad


def with_factor(theta: Tensor, ds: Bowl, dg: Bowl, eta: float, sign: float, of_dg: bool, both: bool) -> Tensor:
    """The second order with a wrong factor: I + sign eta A, of the wrong bowl, or on both gradients."""
    g_ds = ds[1] @ (theta - ds[0])
    g_dg = dg[1] @ (theta - eta * g_ds - dg[0])
    factor = torch.eye(2, dtype=torch.float64) + sign * eta * (dg if of_dg else ds)[1]
    return factor @ g_dg + (factor @ g_ds if both else g_ds)


def steps_inputs(generator: Generator) -> tuple[nn.Module, tuple, tuple, float, float]:
    eta, alpha = between(0.05, 0.2, (2,), generator).tolist()
    return network(generator), batch(2, generator), batch(2, generator), eta, alpha + 0.5


def gradient(model: nn.Module, theta: dict[str, Tensor], data: tuple[Tensor, Tensor]) -> list[Tensor]:
    """Of the mean loss at theta."""
    at = {name: value.detach().requires_grad_() for name, value in theta.items()}
    loss = cross_entropy(torch.func.functional_call(model, at, data[0]), data[1])
    return list(torch.autograd.grad(loss, list(at.values())))


def moved(theta: dict[str, Tensor], grad: Sequence[Tensor], eta: float) -> dict[str, Tensor]:
    return {name: value - eta * g for (name, value), g in zip(theta.items(), grad, strict=True)}


def two_steps(
    model: nn.Module, ds: tuple, dg: tuple, eta: float, alpha: float,
    *, again: bool = False, look_at: int = 2, alpha_at: int = 0,
) -> list[Tensor]:  # fmt: skip
    """The exercise, and what its mistakes make of it: where each gradient is taken."""
    points = [dict(model.named_parameters())]
    for step in range(2):
        points.append(moved(points[step], gradient(model, points[0 if again else step], ds), eta))
    g_dg, g_ds = gradient(model, points[look_at], dg), gradient(model, points[alpha_at], ds)
    return [a + alpha * b for a, b in zip(g_dg, g_ds, strict=True)]


def scores(generator: Generator) -> tuple[list[float], list[float]]:
    count = whole(3, 6, generator)
    hardness = between(15, 25, (count,), generator)  # of a network, in both tests
    return tuple((hardness + between(0, 2, (count,), generator)).tolist() for _ in range(2))


def interval(tn: Sequence[float], bn: Sequence[float]) -> tuple[float, float]:
    difference = paired_difference(pd.Series(tn), pd.Series(bn))
    return difference.low, difference.high


def around(ours: Sequence[float], theirs: Sequence[float], half: float) -> tuple[float, float]:
    middle = float(np.mean(ours) - np.mean(theirs))
    return middle - half, middle + half


def spread(ours: Sequence[float], theirs: Sequence[float], ddof: int = 1) -> float:
    return float(np.std(np.subtract(ours, theirs), ddof=ddof))


def t_of(ours: Sequence[float]) -> float:
    return float(scipy.stats.t.ppf(0.975, len(ours) - 1))


EXERCISES = {
    "03.2": Exercise(
        name="second_order",
        returns="a gradient of 2 numbers",
        inputs=bowls,
        answer=by_library,
        mistakes=(
            Mistake("leaves out the factor (first order)",
                    "This is the first order. How does theta' change when theta does?",
                    lambda *inputs: by_library(*inputs, order=1)),
            Mistake("applies the factor to both gradients",
                    "The gradient of L_ds is taken at theta itself: does the chain rule touch it?",
                    lambda *inputs: with_factor(*inputs, -1, False, True)),
            Mistake("has the sign of the factor wrong",
                    "The inner step goes down the gradient. Which sign does that give the factor?",
                    lambda *inputs: with_factor(*inputs, 1, False, False)),
            Mistake("takes the curvature of meta-test",
                    "Whose gradient is in the inner step, and so whose curvature in the factor?",
                    lambda *inputs: with_factor(*inputs, -1, True, False)),
            Mistake("takes the gradient of meta-test at theta",
                    "With eta = 0 yours is right. Where is the gradient of L_dg to be taken?",
                    lambda theta, ds, dg, eta: (torch.eye(2, dtype=torch.float64) - eta * ds[1])
                    @ (dg[1] @ (theta - dg[0])) + ds[1] @ (theta - ds[0])),
        ),
        hint="Set eta = 0: then it must be the sum of both gradients. Is it?",
    ),
    "03.3": Exercise(
        name="two_inner_steps",
        returns="a gradient for each of the model's parameters, in their order",
        inputs=steps_inputs,
        answer=two_steps,
        mistakes=(
            Mistake("takes both inner steps along the gradient at theta",
                    "The second inner step goes along the same arrow as the first. Where does it start?",
                    lambda *inputs: two_steps(*inputs, again=True)),
            Mistake("stops after one inner step",
                    "That is one inner step.",
                    lambda *inputs: two_steps(*inputs, look_at=1)),
            Mistake("takes the gradient of L_ds at the last point",
                    "Eq. 6 weighs L_ds by alpha. At which parameters?",
                    lambda *inputs: two_steps(*inputs, alpha_at=2)),
            Mistake("takes the gradient of L_ds after one step",
                    "Eq. 6 weighs L_ds by alpha. At which parameters?",
                    lambda *inputs: two_steps(*inputs, alpha_at=1)),
            Mistake("forgets alpha",
                    "Right for alpha = 1.",
                    lambda model, ds, dg, eta, alpha: two_steps(model, ds, dg, eta, 1.0)),
            Mistake("takes the gradient of L_dg at theta",
                    "Nothing of the look ahead is left in yours: at which point is L_dg asked?",
                    lambda *inputs: two_steps(*inputs, look_at=0)),
        ),
        hint="With eta = 0 it must be the gradient of L_dg + alpha L_ds. Is it?",
    ),
    "03.4": Exercise(
        name="paired_interval",
        returns="two numbers, the lower and the upper end",
        inputs=scores,
        answer=interval,
        mistakes=(
            Mistake("treats the two lists as independent",
                    "Too wide: what do two scores of the same network have in common?",
                    lambda a, b: around(a, b, t_of(a) * float(
                        np.sqrt((np.var(a, ddof=1) + np.var(b, ddof=1)) / len(a))))),
            Mistake("takes 1.96 for the quantile",
                    "Too narrow. With so few trainings the deviation itself is uncertain: which distribution knows it?",
                    lambda a, b: around(a, b, 1.96 * spread(a, b) / len(a) ** 0.5)),
            Mistake("takes the exact normal quantile",
                    "Too narrow. With so few trainings the deviation itself is uncertain: which distribution knows it?",
                    lambda a, b: around(a, b, float(scipy.stats.norm.ppf(0.975)) * spread(a, b) / len(a) ** 0.5)),
            Mistake("divides the variance by n instead of n - 1",
                    "A little too narrow. By what is the sum of squares divided?",
                    lambda a, b: around(a, b, t_of(a) * spread(a, b, 0) / len(a) ** 0.5)),
            Mistake("forgets the root of n",
                    "That is where single differences lie, not their mean.",
                    lambda a, b: around(a, b, t_of(a) * spread(a, b))),
            Mistake("has the difference the other way round",
                    "The sign: which list is taken from which?",
                    lambda a, b: interval(b, a)),
            Mistake("leaves 10 % outside instead of 5 %",
                    "Too narrow: how much is to lie outside on *each* side?",
                    lambda a, b: around(a, b, float(scipy.stats.t.ppf(0.95, len(a) - 1))
                                        * spread(a, b) / len(a) ** 0.5)),
        ),
        hint="Is the middle of yours the mean of the differences? If so, look at the width.",
    ),
}  # fmt: skip
