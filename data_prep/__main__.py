"""``python -m data_prep NAME --source DIR --out ROOT [...]`` and ``python -m data_prep list``.

Exit codes: 0 done, 2 wrong use or bad input (one message, no traceback), 1 our fault.
"""

import argparse
import errno
import sys
import warnings
from pathlib import Path

from data_prep import MODULES, report
from data_prep.convert import convert
from dglab.utils.errors import InputError

# errors of the operating system that the user can correct; any other is a bug and keeps its traceback
_USERS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ELOOP,
          errno.ENAMETOOLONG)  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"  # without the source line
    options = _parser().parse_args(arguments)  # exits with 2 on wrong use
    try:
        return _list(options) if options.name == "list" else _convert(options)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in _USERS:
            raise
        print(f"error: {error}; correct this and run the same command again to continue", file=sys.stderr)
        return 2
    except MemoryError as error:
        print(f"error: there is not enough memory ({error}); give --max-side, or use a larger machine", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; run the same command again to continue", file=sys.stderr)
        return 130  # as shells report SIGINT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m data_prep",
        description="Bring a public data set into the prepared layout of dglab. Killed, it can be run again.",
        allow_abbrev=False,
    )
    parser.add_argument("name", choices=["list", *MODULES], help="data set, or list to describe all of them")
    parser.add_argument("--source", type=_path, help="the data set's own folder, as it was unpacked")
    parser.add_argument("--out", type=_path, help="prepared root; every domain becomes a folder in it")
    parser.add_argument("--mapping", help="label mapping by name (see list); the first is the default")
    parser.add_argument("--limit", type=_positive, help="at most so many pairs per domain and split, evenly spread")
    parser.add_argument("--max-side", type=_positive, help="reduce larger images to this longer side, in pixels")
    parser.add_argument("--lossless", action="store_true", help="keep large PNGs of train, which become JPEGs else")
    parser.add_argument("--check", action="store_true", help="read and report everything, write nothing")
    return parser


def _path(text: str) -> Path:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a name in UTF-8") from None
    if not text:
        raise argparse.ArgumentTypeError("got nothing, expected a folder; write . for the present one")
    return Path(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number from 1")
    return int(text)


def _list(options: argparse.Namespace) -> int:
    given = [key for key, value in vars(options).items() if key != "name" and value not in (None, False)]
    if given:
        flags = ", ".join("--" + key.replace("_", "-") for key in given)
        raise InputError(f"{flags} does not belong to list, which describes all data sets; leave it out")
    print("\n\n".join(report.describe(module.DATASET) for module in MODULES.values()))
    return 0


def _convert(options: argparse.Namespace) -> int:
    for key in ("source", "out"):
        if getattr(options, key) is None:
            raise InputError(f"--{key} is missing; write python -m data_prep {options.name} --source DIR --out ROOT")
    reports = convert(
        MODULES[options.name].DATASET,
        options.source,
        options.out,
        mapping=options.mapping,
        limit=options.limit,
        max_side=options.max_side,
        lossless=options.lossless,
        check=options.check,
    )
    print(report.summary(reports))
    sys.stdout.flush()  # so that the errors below come last, also in a log file
    for line in [*report.warnings(reports), *report.refusals(reports)]:
        print(line, file=sys.stderr)
    refused = sum(len(r.refused) for r in reports)
    if not refused:
        return 0
    kept = "nothing was written" if options.check else f"all are listed in {options.out}/<domain>/refused.csv"
    print(f"error: {refused} pair(s) refused; {kept}; correct the source and run again", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
