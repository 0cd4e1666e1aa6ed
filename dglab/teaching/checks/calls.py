"""A student's function, called: what it raises becomes a sentence, and what does not come back is interrupted."""

import signal
import sysconfig
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = str(Path(__file__).parents[2])  # the library's own files
PATIENCE = 5  # times the limit, for work that waits for a processor
FOREIGN = (HERE, *(sysconfig.get_path(name) for name in ("stdlib", "platlib", "purelib")))


class NotFinished(Exception):
    """The function gave no answer; the message says why, to the student."""


def call(function: Callable[[], Any], seconds: float) -> Any:
    """What the function returns.

    Args:
        function: someone else's code, which may do anything.
        seconds: that it may take.

    Raises:
        NotFinished: if it raises, exits, or takes longer.
    """
    try:
        with interrupted_after(seconds):
            return function()
    except TimeoutError:
        reason = f"It did not come back within {seconds:.0f} seconds, so it was stopped. Does a loop never end?"
    except NotImplementedError:
        reason = "Nothing is written yet: replace the line that raises NotImplementedError."
    except (Exception, SystemExit) as error:
        reason = f"It raised {type(error).__name__}: {error or 'no message'}{place_of(error)}."
    raise NotFinished(reason)


def place_of(error: BaseException) -> str:
    """The line of the student's own code that an error passed through last, as the end of a sentence."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(FOREIGN)]
    if not own:
        return ""
    line = f": `{own[-1].line}`" if own[-1].line else ""
    return f" (line {own[-1].lineno} of the cell{line})"


@contextmanager
def interrupted_after(seconds: float) -> Iterator[None]:
    """Within the block, work that takes longer is interrupted as Ctrl-C does it.

    Longer is: seconds of this process's own work. A machine that is busy with something else, or stands still for a
    moment, is no endless loop; so, where less has been worked, it may take five times as long.

    Signals reach the main thread alone, where notebooks run their cells; in any other thread nothing is interrupted.

    Raises:
        TimeoutError: after the interruption.
    """
    main = threading.main_thread()
    if threading.current_thread() is not main:
        yield
        return
    finished, expired = threading.Event(), threading.Event()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever starts us may have it ignored
    begun = time.process_time()

    def watch() -> None:
        for _ in range(PATIENCE):
            if finished.wait(seconds):
                return
            if time.process_time() - begun >= seconds:
                break
        expired.set()
        if hasattr(signal, "pthread_kill"):
            signal.pthread_kill(main.ident, signal.SIGINT)  # wakes a thread that sleeps, too
        else:
            signal.raise_signal(signal.SIGINT)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        try:
            yield
        finally:
            finished.set()
            watcher.join()  # either it never interrupts, or the interruption arrives here
    except KeyboardInterrupt:
        if expired.is_set():
            raise TimeoutError from None
        raise
    finally:
        signal.signal(signal.SIGINT, before or signal.SIG_DFL)
