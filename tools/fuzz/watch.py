"""Run something as the command line would, under a time limit, and see how it ended."""

import contextlib
import faulthandler
import io
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from dglab.utils.errors import InputError

LIMIT = 120  # seconds; what has not ended then hangs


class Hang(BaseException):
    """Not an Exception, so that no handler of the program takes it for its own."""


@dataclass
class Count:
    """What a fuzz has found; the lists say of each finding how to make it again."""

    tried: int = 0
    refused: int = 0
    wrong_labels: list[str] = field(default_factory=list)
    tracebacks: list[str] = field(default_factory=list)
    hangs: list[str] = field(default_factory=list)
    half_written: list[str] = field(default_factory=list)
    accepted: list[str] = field(default_factory=list)  # wrong command lines that did not end with 2

    @property
    def findings(self) -> list[str]:
        kinds = ("wrong_labels", "tracebacks", "hangs", "half_written", "accepted")
        return [f"{kind.replace('_', ' ')}: {case}" for kind in kinds for case in getattr(self, kind)]

    def __str__(self) -> str:
        return (
            f"{self.tried} tried, {self.refused} refused, {len(self.wrong_labels)} wrong labels read, "
            f"{len(self.tracebacks)} tracebacks, {len(self.hangs)} hangs over {LIMIT} s, "
            f"{len(self.half_written)} half-written files, {len(self.accepted)} wrong command lines accepted"
        )


@contextlib.contextmanager
def limited(seconds: int = LIMIT) -> Iterator[None]:
    """Raise :class:`Hang` when the time is over; where even that does not help, end the process with a traceback."""

    def over(*_: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(seconds)
    faulthandler.dump_traceback_later(seconds + 60, exit=True)
    try:
        yield
    finally:
        signal.alarm(0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)


def quietly(function: Callable[[], int]) -> int:
    """What a function returns; what it prints is not shown."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return function()


def run(function: Callable[[], int | None], case: str, count: Count, *, counted: bool = True) -> tuple[int | None, str]:
    """The exit code (2 for an InputError, None after a finding), and what was printed."""
    printed = io.StringIO()
    code: int | None = None
    count.tried += counted
    try:
        with limited(), contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                code = function() or 0
    except InputError as error:
        code = 2
        printed.write(str(error))
    except SystemExit as end:
        code = end.code or 0
    except Hang:
        count.hangs.append(case)
    except Exception:
        count.tracebacks.append(f"{case}\n{traceback.format_exc()}")
    if "Traceback (most recent call last)" in printed.getvalue():
        count.tracebacks.append(f"{case}\n{printed.getvalue()}")
    count.refused += counted and code == 2
    return code, printed.getvalue()
