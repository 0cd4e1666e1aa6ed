"""Fuzz readers, converters and commands with mutated files and wrong command lines, for as long as one likes.

::

    python tools/fuzz --seconds 1800 --seed 7
    python tools/fuzz --inputs 500 --commands 250

Exit code 1 if anything was found: a wrong label read, a traceback, a hang, a half-written file, a wrong command line
accepted, or an input that takes more than 8 GiB of memory. The same seed draws the same cases.
"""

import argparse
import random
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]

from commands import Commands  # noqa: E402
from files import Files  # noqa: E402
from watch import Count  # noqa: E402

MEMORY = 8 * 2**30  # bytes beyond what is held at first; an input that takes more ends in a traceback, not the fuzz


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, help="fuzz for so long, two files to a command line")
    parser.add_argument("--inputs", type=int, default=500, help="mutated files, without --seconds")
    parser.add_argument("--commands", type=int, default=250, help="wrong command lines, without --seconds")
    options = parser.parse_args()
    limit_memory()
    folder = Path(tempfile.mkdtemp(prefix="fuzz"))
    try:
        files, lines = fuzz(folder, options)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"mutated files: {files}\ncommand lines: {lines}")
    for finding in (*files.findings, *lines.findings):
        print(f"\n{finding}")
    return 1 if files.findings or lines.findings else 0


def limit_memory() -> None:
    """Let an input that fills the memory fail by itself, before the system ends the process and with it the fuzz."""
    status = Path("/proc/self/statm")
    if status.exists():
        held = int(status.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))


def fuzz(folder: Path, options: argparse.Namespace) -> tuple[Count, Count]:
    """Mutated files and wrong command lines, in turn."""
    of_files, of_lines = Count(), Count()
    inputs = Files(folder, options.seed)
    commands = Commands(folder / "commands", folder / "originals" / "load" / "last.safetensors")
    shutil.copytree(folder / "originals" / "load" / "images", folder / "commands" / "images")
    draws = {kind: random.Random(f"{kind} {options.seed}") for kind in ("files", "lines")}
    end = time.monotonic() + (options.seconds or 0)
    while time.monotonic() < end if options.seconds else of_files.tried < options.inputs:
        for _ in range(2):
            inputs.case(draws["files"], of_files)
        if options.seconds or of_lines.tried < options.commands:
            commands.case(draws["lines"], of_lines)
    while not options.seconds and of_lines.tried < options.commands:
        commands.case(draws["lines"], of_lines)
    return of_files, of_lines


if __name__ == "__main__":
    sys.exit(main())
