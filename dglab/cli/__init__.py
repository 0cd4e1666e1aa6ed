"""The command line. Exit codes: 0 done, 2 wrong use or bad input (one message, no traceback), 1 our fault.

Every command imports what it needs when it is called: ``dglab --help`` costs no second, and what one command needs
beyond the library itself (the lessons' packages, say) the others do without.
"""

import os
import sys
import warnings

import typer

from dglab.cli.benches import bench
from dglab.cli.checking import check
from dglab.cli.reproducing import reproduce
from dglab.cli.show import doctor, presets
from dglab.cli.testing import evaluate, predict
from dglab.cli.training import TrainCommand, train
from dglab.utils.errors import InputError
from dglab.utils.machine import keep_freed_memory

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Domain generalization in semantic segmentation: train, test, reproduce.",
)
app.command(cls=TrainCommand)(train)
for command in (evaluate, predict, reproduce, check, bench, presets, doctor):
    app.command()(command)


def main() -> None:
    """Run the command line."""
    keep_freed_memory()
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"  # without the line of code it is from
    try:
        app()
    except InputError as error:
        process = os.environ.get("RANK", "0")  # under torchrun
        typer.echo(f"error{'' if process == '0' else f' in process {process}'}: {error}", err=True)
        sys.exit(2)
