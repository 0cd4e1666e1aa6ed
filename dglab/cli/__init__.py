"""The command line.

Exit codes: 0 done, 2 wrong use or bad input (one message, no traceback), 1 a bug; ``verify`` also has 3, a result is
outside of its interval.

Every command imports what it needs when it is called: ``dglab --help`` takes less than a second, and the packages of
one command (the lessons', for example) are not needed by the others.
"""

import os
import sys
import warnings
from typing import NoReturn

import typer

from dglab.cli.advising import advise
from dglab.cli.benches import bench
from dglab.cli.checking import check
from dglab.cli.options import check_arguments
from dglab.cli.reproducing import reproduce
from dglab.cli.show import doctor, presets
from dglab.cli.testing import evaluate, predict
from dglab.cli.training import TrainCommand, train
from dglab.cli.verifying import verify
from dglab.utils.errors import InputError
from dglab.utils.extras import extras_named
from dglab.utils.machine import keep_freed_memory

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Domain generalization in semantic segmentation: train, test, reproduce.",
)
app.command(cls=TrainCommand)(train)
for command in (evaluate, predict, advise, reproduce, verify, check, bench, presets, doctor):
    app.command()(command)


def main() -> None:
    """Run the command line."""
    keep_freed_memory()
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"  # without the source line
    try:
        check_arguments(sys.argv[1:])
        with extras_named(f"dglab {' '.join(sys.argv[1:2])}"):  # the command's name
            app()
    except InputError as error:
        _refuse(str(error))
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        reason = (str(error) or type(error).__name__).splitlines()[0]
        _refuse(
            f"there is not enough memory ({reason}); choose a smaller crop, fewer images at a time, or a larger machine"
        )


def _refuse(message: str) -> NoReturn:
    process = os.environ.get("RANK", "0")  # under torchrun
    typer.echo(f"error{'' if process == '0' else f' in process {process}'}: {message}", err=True)
    sys.exit(2)


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python, numpy, Pillow or torch means so; torch has no class for it on the CPU."""
    kinds = ("MemoryError", "OutOfMemoryError")
    return any(kind.__name__ in kinds for kind in type(error).__mro__) or "can't allocate memory" in str(error)
