"""Exercises that answer: ``check("03.2", my_function)`` says right, or not yet and where to look.

The inputs are random and the references are the library's, outside the notebook: no cell that is edited passes by
that. Predictions are recorded before a result is shown, and compared with it afterwards.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dglab.teaching.checks import (
    lesson00,
    lesson01,
    lesson02,
    lesson03,
    lesson04,
    lesson05,
    lesson06,
    lesson07,
    lesson08,
    lesson09,
)
from dglab.teaching.checks.exercise import Exercise, Mistake, judge
from dglab.teaching.checks.predictions import compare, predict
from dglab.utils.errors import InputError

__all__ = ["EXERCISES", "Exercise", "Mistake", "Verdict", "check", "compare", "predict"]

EXERCISES: dict[str, Exercise] = {
    **lesson00.EXERCISES, **lesson01.EXERCISES, **lesson02.EXERCISES, **lesson03.EXERCISES, **lesson04.EXERCISES,
    **lesson05.EXERCISES, **lesson06.EXERCISES, **lesson07.EXERCISES, **lesson08.EXERCISES, **lesson09.EXERCISES,
}  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """What a check found. Shown by a notebook in one line.

    Args:
        number: of the exercise, ``"03.2"``.
        right: whether the function does what was asked.
        hint: where to look if not.
    """

    number: str
    right: bool
    hint: str = ""

    def __repr__(self) -> str:
        return f"✓ {self.number}: right." if self.right else f"✗ {self.number}: not yet. {self.hint}"


def check(number: str, function: Callable[..., Any], seed: int = 0) -> Verdict:
    """Try a student's function on random inputs, against the plain reference, for five seconds of work at most.

    Args:
        number: of the exercise, ``"03.2"``.
        function: what the student wrote: the function (or class) itself.
        seed: of the random inputs; graders use others than students see.

    Raises:
        InputError: for a number without a check, or something that cannot be called.
    """
    if number not in EXERCISES:
        lesson = str(number).partition(".")[0]
        known = [n for n in EXERCISES if n.startswith(lesson + ".")] or list(EXERCISES)
        raise InputError(f"exercise {number!r} has no check; those with one are {', '.join(known)}")
    if not callable(function):
        name = EXERCISES[number].name
        raise InputError(
            f"check({number!r}, ...) got a {type(function).__name__}; hand over the function itself, without calling "
            f"it: check({number!r}, {name})"
        )
    hint = judge(EXERCISES[number], function, seed)
    return Verdict(number, hint is None, hint or "")
