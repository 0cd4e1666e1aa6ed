"""Deferring Ctrl-C while something is replaced or restored, which must not be left half done.

Python raises KeyboardInterrupt between any two steps of the main thread: also between the end of a ``with`` block and
the first line that puts things back.
"""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import wraps
from types import FrameType
from typing import Any, ParamSpec, TypeVar

Arguments, Value = ParamSpec("Arguments"), TypeVar("Value")


class DeferredInterrupts:
    """Within the block, Ctrl-C is deferred until its end.

    It is the signal's handler that waits, whosever it is; where none of Python's is installed, nothing is done. Python
    runs handlers in the main thread alone, so that in others there is nothing to hold back.
    """

    def __enter__(self) -> Any:
        self._came = False
        main = threading.current_thread() is threading.main_thread()
        self._before = signal.getsignal(signal.SIGINT) if main else None
        if callable(self._before):
            signal.signal(signal.SIGINT, self._handle)

    def __exit__(self, *error: Any) -> bool | None:
        if callable(self._before) and signal.getsignal(signal.SIGINT) == self._handle:
            signal.signal(signal.SIGINT, self._before)
        self.deliver()

    def deliver(self) -> None:
        """What has come goes to the handler of before."""
        if self._came:
            self._came = False
            self._before(signal.SIGINT, sys._getframe())

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._waits(frame):
            self._came = True
        else:
            self._before(number, frame)

    def _waits(self, frame: FrameType | None) -> bool:
        return True


class _DeferredAtTheEnds(DeferredInterrupts):
    """Defers Ctrl-C while a context manager is entered and left, but not in between.

    The handler stays in place between, and looks where it was called: only so is there no gap before ``__exit__``.
    """

    def __init__(self, manager: AbstractContextManager) -> None:
        self._manager = manager

    def __enter__(self) -> Any:
        super().__enter__()
        try:
            value = self._manager.__enter__()
        except BaseException:
            super().__exit__()
            raise
        try:
            self.deliver()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return value

    def __exit__(self, *error: Any) -> bool | None:
        try:
            return self._manager.__exit__(*error)
        finally:
            super().__exit__()

    def _waits(self, frame: FrameType | None) -> bool:
        """Whether this manager is being entered or left: not another one within its block, which delivers to this."""
        own = (_DeferredAtTheEnds.__enter__.__code__, _DeferredAtTheEnds.__exit__.__code__)
        while frame is not None and not (frame.f_code in own and frame.f_locals["self"] is self):
            frame = frame.f_back
        return frame is not None


def interrupt_safe_contextmanager(
    function: Callable[Arguments, Iterator[Value]],
) -> Callable[Arguments, AbstractContextManager[Value]]:
    """Like :func:`contextlib.contextmanager`, but a KeyboardInterrupt comes only before the block is entered, inside
    it, or after it has been left: not while the generator itself runs, exchanging things or putting them back.
    """
    manager = contextmanager(function)

    @wraps(function)
    def make(*args: Arguments.args, **options: Arguments.kwargs) -> AbstractContextManager[Value]:
        return _DeferredAtTheEnds(manager(*args, **options))

    return make


def deliver() -> None:
    """Raise a deferred Ctrl-C now, for example during a long wait."""
    if threading.current_thread() is threading.main_thread():
        holder = getattr(signal.getsignal(signal.SIGINT), "__self__", None)
        if isinstance(holder, DeferredInterrupts):
            holder.deliver()
