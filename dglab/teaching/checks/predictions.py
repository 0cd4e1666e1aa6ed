"""What a student expects, written down before the result is shown, and held against it afterwards.

The file ``predictions.json`` beside the notebook keeps it, so that it is still there after a restart of the kernel.
"""

import json
import numbers
from pathlib import Path
from typing import Any

import pandas as pd

from dglab.utils.errors import InputError
from dglab.utils.files import written_whole

FILE = Path("predictions.json")  # number -> {"guess": {question: answer}, "seen": whether the result was shown}


def predict(number: str, **guesses: Any) -> None:
    """Record what you expect. It may be changed until :func:`compare` has shown the result.

    Args:
        number: of the exercise, ``"04.1"``.
        guesses: question=answer: numbers, words, or a list of words in an order; ``...`` is no answer yet.
    """
    record = _read()
    if record.get(number, {}).get("seen"):
        print(f"{number}: you have seen the result; your prediction stays {_words(record[number]['guess'])}.")
        return
    given = {question: guess for question, guess in guesses.items() if guess is not ...}
    if len(given) < len(guesses):
        missing = ", ".join(question for question in guesses if question not in given)
        print(f"{number}: write your guess in place of ... before you go on: {missing}")
    if not given:
        return
    for question, guess in given.items():
        if not isinstance(guess, (bool, int, float, str, list, tuple)):
            raise InputError(f"{number}, {question}: got a {type(guess).__name__}; predict a number, a word, or a list")
    record[number] = {"guess": given, "seen": False}
    _write(record)
    print(f"{number}: recorded {_words(given)}.")


def compare(number: str, **truths: Any) -> pd.DataFrame:
    """Your prediction beside what came out.

    Args:
        number: of the exercise.
        truths: question=result, with the names that ``predict`` used.

    Returns:
        One row a question: your guess, the result, and how far off the guess was where both are numbers.
    """
    record = _read()
    guesses = record.get(number, {}).get("guess", {})
    if guesses and not record[number]["seen"]:
        record[number]["seen"] = True
        _write(record)
    rows = {}
    for question, truth in truths.items():
        guess = guesses.get(question, "no prediction")
        both = all(isinstance(value, numbers.Real) and not isinstance(value, bool) for value in (guess, truth))
        if both:
            off = f"{guess - truth:+.3g}"
        else:
            off = "" if question not in guesses else "as predicted" if _same(guess, truth) else "otherwise"
        rows[question] = (guess, truth, off)
    return pd.DataFrame(rows.values(), rows.keys(), ["you", "result", "off by"], dtype=object)  # a count stays whole


def _same(guess: Any, truth: Any) -> bool:
    """Equal, whatever the case of words and the kind of list."""
    if isinstance(guess, (list, tuple)) and isinstance(truth, (list, tuple)):
        return [str(one).lower() for one in guess] == [str(one).lower() for one in truth]
    return str(guess).lower() == str(truth).lower()


def _words(guesses: dict[str, Any]) -> str:
    return ", ".join(f"{question} = {guess}" for question, guess in guesses.items())


def _read() -> dict[str, Any]:
    if not FILE.exists():
        return {}
    try:
        return json.loads(FILE.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{FILE.absolute()} is not JSON ({error}); delete it to begin anew") from error


def _write(record: dict[str, Any]) -> None:
    with written_whole(FILE) as beside:
        beside.write_text(json.dumps(record, indent=1), encoding="utf-8")
