"""What an exercise is made of, and how a student's answer to it is judged.

A check calls the student's function on random inputs, in double precision so that rounding cannot hide a mistake, and
compares with the plain reference. Where they differ, it asks what a *known* mistake would have given for the same
inputs: if that is what the student's function returned, the hint is the one for this mistake.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn

from dglab.teaching.checks.calls import NotFinished, call
from dglab.utils.seeds import derive_seed

TRIALS = 3  # random inputs that a check tries
SECONDS = 4.0  # that a student's function may work for all of them


@dataclass(frozen=True)
class Mistake:
    """A wrong answer that a class is known to give.

    Args:
        what: what the student does, for the teacher.
        hint: what the student reads: where to look, and not what to write.
        answer: what comes out of it for the exercise's inputs.
    """

    what: str
    hint: str
    answer: Callable[..., Any]


@dataclass(frozen=True)
class Exercise:
    """A coding exercise.

    Args:
        name: the function (or class) that the student writes.
        returns: what it returns, in words.
        inputs: random arguments for it, in double precision.
        answer: the reference: what the right function returns for them.
        mistakes: known wrong answers.
        hint: for all others.
        use: how the student's function is used on the inputs, where calling it is not enough.
        measure: what of an answer is compared, where several answers are right.
        tolerance: largest difference allowed, as a share of the largest number of the right answer.
    """

    name: str
    returns: str
    inputs: Callable[[Generator], tuple]
    answer: Callable[..., Any]
    mistakes: tuple[Mistake, ...]
    hint: str
    use: Callable[..., Any] = lambda function, *inputs: function(*inputs)
    measure: Callable[[Any], Any] = lambda answer: answer
    tolerance: float = 1e-6


def judge(exercise: Exercise, function: Callable[..., Any], seed: int = 0) -> str | None:
    """A hint for the student, or None where the function is right.

    Args:
        exercise: what was asked.
        function: the student's answer to it.
        seed: of the random inputs.
    """
    generator = torch.Generator().manual_seed(derive_seed("check", exercise.name, seed))
    trials = [exercise.inputs(generator) for _ in range(TRIALS)]
    copies = copy.deepcopy(trials)
    try:
        answers = call(lambda: [exercise.use(function, *inputs) for inputs in copies], SECONDS)
    except NotFinished as failure:
        return str(failure)
    for inputs, after, answer in zip(trials, copies, answers, strict=True):
        hint = _hint(exercise, inputs, answer)
        if hint is None and _state(inputs) != _state(after):
            hint = "The result is right, but the function changes what it was given. Leave its arguments as they were."
        if hint is not None:
            return hint
    return None


def _hint(exercise: Exercise, inputs: tuple, answer: Any) -> str | None:
    """What is wrong with the answer to one random input, if anything is."""
    try:
        measured = exercise.measure(answer)
        got = numbers(measured)
    except (TypeError, ValueError, IndexError):
        return f"It returned {described(answer)}; expected {exercise.returns}."
    expected = numbers(exercise.measure(exercise.answer(*copy.deepcopy(inputs))))
    if close(got, expected, exercise.tolerance):
        return None
    for mistake in exercise.mistakes:
        if close(got, numbers(exercise.measure(mistake.answer(*copy.deepcopy(inputs)))), exercise.tolerance):
            return mistake.hint
    if [part.shape for part in got] != [part.shape for part in expected]:
        return f"It returned {described(answer)}; expected {exercise.returns}."
    if not all(torch.isfinite(part).all() for part in got):
        return "It returned values that are not finite (nan or infinity). Where is something divided by zero?"
    return exercise.hint


def numbers(answer: Any) -> list[Tensor]:
    """The numbers of an answer, whether they come as tensors, arrays, numbers, or lists of these.

    Raises:
        TypeError: for what holds no numbers.
    """
    if isinstance(answer, Tensor):
        return [answer.detach().cpu().double()]
    if isinstance(answer, (bool, int, float, np.ndarray, np.generic)):
        return [torch.as_tensor(answer).double()]
    if isinstance(answer, (list, tuple)):
        parts = [part for one in answer for part in numbers(one)]
        return [torch.stack(parts)] if parts and all(part.ndim == 0 for part in parts) else parts
    raise TypeError(f"no numbers in {type(answer).__name__}")


def close(got: Sequence[Tensor], expected: Sequence[Tensor], tolerance: float) -> bool:
    """Whether all numbers agree up to a share of the largest one."""
    if [part.shape for part in got] != [part.shape for part in expected]:
        return False
    largest = max((part.abs().max().item() for part in expected if part.numel()), default=0.0)
    return all(
        bool(((a - b).abs() <= tolerance * max(largest, 1e-3)).all()) for a, b in zip(got, expected, strict=True)
    )


def described(answer: Any) -> str:
    """What kind of thing an answer is, in words."""
    if isinstance(answer, (Tensor, np.ndarray)):
        return f"a tensor of {' x '.join(map(str, answer.shape)) or 'one number'}"
    if isinstance(answer, (list, tuple)):
        more = ", ..." if len(answer) > 2 else ""
        return f"a {type(answer).__name__} of {len(answer)} ({', '.join(map(described, answer[:2]))}{more})"
    return "nothing (is there a return?)" if answer is None else f"a {type(answer).__name__}"


def _state(inputs: Any) -> list[Any]:
    """All that a function could change in what it is given, in a form that can be compared."""
    if isinstance(inputs, nn.Module):
        hooks = [(m.training, len(m._forward_hooks), len(m._forward_pre_hooks)) for m in inputs.modules()]
        return [hooks, *(value.tolist() for value in inputs.state_dict().values())]
    if isinstance(inputs, (Tensor, np.ndarray)):
        return inputs.tolist()
    if isinstance(inputs, (list, tuple)):
        return [_state(one) for one in inputs]
    return inputs
