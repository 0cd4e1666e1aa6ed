"""Wrong command lines, run through the doors of ``dglab`` and ``data_prep``: exit code 2, a message, nothing left."""

import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from watch import Count, run

from data_prep import MODULES
from data_prep.__main__ import main as data_prep
from dglab.cli import main as dglab

DIGITS = "9" * 5000
NUMBERS = ("", "x", "1x", "--", "0x10", "1e3", "½", "-", DIGITS)  # for whole numbers
FLOATS = ("", "x", "nan", "inf", "-inf", "-1", "1e308", "1e999", "0,5")
SIZES = ("", "x", "3", "3x", "x3", "2x2", "-5x5", "5x5x5", "900000x900000", f"{DIGITS}x9", "1.5x9")
NAMES = ("", "x", "agg ", "AGG", "../agg", "agg,mldg", "ä", "a\nb")
TASKS = (
    "", "x", "G", "->", "G->", "->C", "G->C->S", "G->G", "G+G->C", "G->C+C", "Q->C", "G->Q", "G C", "G,S->C", "g->c",
    "G+->C", "*->C", "G->C" * 2000,
)  # fmt: skip
SPLITS = ("", "x", "2:1", "0:2", "2:0", "1:1:1", "1", ":", f"{DIGITS}:1", "-1:3", "random ", "HALF")
DEVICES = ("", "x", "tpu", "cpu:x", "cuda:99", "mps:7", "CPU")
BANK = {
    "neighbors": (*NUMBERS, "0", "-1", "129"),
    "capacity": (*NUMBERS, "0", "-5", "1" + "0" * 15),
    "style-layer": ("", "x", "0", "5", "-1", "encoder..x", DIGITS),
    "statistics": ("", "x", "JOINT"),
}
Options = dict[str, tuple[str, ...]]  # option -> values that it cannot have; "" stands for an argument


class Places(NamedTuple):
    """Paths that are wrong: for what is read, for a folder that is written, and for a file that is."""

    no_input: tuple[str, ...]
    no_output: tuple[str, ...]
    no_file: tuple[str, ...]


class Commands:
    """Draws wrong command lines.

    Args:
        folder: for the files that they name.
        checkpoint: of a network trained on G.

    Attributes:
        commands: by name, what runs it, a command line of it, and what is wrong for each of its options.
    """

    def __init__(self, folder: Path, checkpoint: Path) -> None:
        self.out, self.folder = folder / "out", folder
        places, out = make_places(folder), str(self.out)
        options_of_run = ["--preset", "tiny", "--device", "cpu", "--out", out]
        tiny = ["train", "--method", "agg", "--task", "G->C", *options_of_run]
        mldg = ["train", "--method", "mldg", "--task", "G+S->C", *options_of_run]
        sib = ["--method", "sib", "--device", "cpu"]
        evaluate = ["evaluate", "--checkpoint", str(checkpoint), "--task", "G->C", *sib]
        predict = ["predict", "--checkpoint", str(checkpoint), "--images", str(folder / "images"), *sib, "--out", out]
        reproduce = ["reproduce", "--preset", "tiny", "--device", "cpu", "--out", out]
        self.commands: dict[str, tuple[Callable, list[str], Options]] = {
            "train": (dglab, tiny, of_train(places)),
            "mldg": (
                dglab, mldg,
                {"order": (*NUMBERS, "0", "3", "-1"), "inner-lr": FLOATS, "alpha": FLOATS, "split": SPLITS},
            ),
            "evaluate": (dglab, evaluate, of_evaluate(places)),
            "predict": (dglab, predict, of_predict(places)),
            "bench": (
                dglab, ["bench", "train", "--device", "cpu"],
                {"size": SIZES, "model": NAMES, "device": DEVICES, "json": places.no_file, "speed": ("9",)},
            ),
            "check": (dglab, ["check"], {"": places.no_input, "fix": ("x",)}),
            "reproduce": (
                dglab, reproduce,
                {"preset": NAMES, "data": places.no_input, "only": NAMES, "out": places.no_output, "device": DEVICES},
            ),
            "none": (dglab, [], {"": ("fly", "", "-x", "--speed", "train train"), "version": ("9",)}),
        }  # fmt: skip
        for name in MODULES:
            conversion = [name, "--source", str(folder / "folder"), "--out", out]
            self.commands[name] = (data_prep, conversion, of_conversion(places))
        self.commands["list"] = (data_prep, ["list"], {"source": ("x",), "out": ("x",), "limit": ("3",), "": ("x",)})

    def case(self, draw: random.Random, count: Count) -> None:
        """One wrong command line: one option or several with a value that it cannot have."""
        main, base, options = self.commands[draw.choice(list(self.commands))]
        arguments = list(base)
        for option in draw.sample(sorted(options), min(draw.choice((1, 1, 1, 2, 3)), len(options))):
            value = draw.choice(options[option])
            flag = f"--{option}"
            if not option:
                arguments.append(value)
            elif flag in arguments and draw.random() < 0.9:
                arguments[arguments.index(flag) + 1] = value
            else:
                arguments += [f"{flag}={value}"] if draw.random() < 0.3 else [flag, value]
        case = " ".join(repr(argument[:60]) for argument in arguments)
        before = self._there()
        code, printed = run(lambda: self._call(main, arguments), case, count)
        if code not in (2, None):
            count.accepted.append(f"{case}: exit code {code}\n{printed[-2000:]}")
        elif code == 2 and not any(word in printed for word in ("error: ", "Usage: ", "Error")):
            count.accepted.append(f"{case}: no message\n{printed}")
        count.half_written += [f"{case}: {path}" for path in self._there() - before]

    def _call(self, main: Callable, arguments: list[str]) -> int | None:
        before, sys.argv = sys.argv, ["program", *arguments]
        try:
            return main(arguments) if main is data_prep else main()
        finally:
            sys.argv = before

    def _there(self) -> set[Path]:
        return set(self.folder.rglob("*"))


def make_places(folder: Path) -> Places:
    """Put things into a folder that are not what a command expects: a pipe, links, an empty file, no picture."""
    folder.mkdir(parents=True, exist_ok=True)
    os.mkfifo(folder / "pipe")
    (folder / "link").symlink_to("nothing")
    (folder / "loop").symlink_to("loop")
    (folder / "file").write_text("no such thing\n")
    (folder / "empty").touch()
    (folder / "folder").mkdir()
    pipe, link, loop, file, empty = (str(folder / name) for name in ("pipe", "link", "loop", "file", "empty"))
    below, not_utf8 = str(folder / "file" / "below"), os.fsdecode(b"caf\xe9")
    return Places(
        ("", pipe, link, loop, file, empty, str(folder / "folder"), "/proc", "/proc/kmsg", "/proc/self/mem",
         "/dev/zero", "/nowhere", "x" * 300, "x/" * 3000, not_utf8),
        ("", pipe, file, empty, below, "/proc/new", "/dev/null/new", "x" * 300, not_utf8),
        ("", str(folder / "folder"), below, "/proc/new/file", os.fsdecode(b"\xff")),
    )  # fmt: skip


def of_train(places: Places) -> Options:
    """What is wrong for an option of ``dglab train --method agg``."""
    return {
        "method": NAMES,
        "task": TASKS,
        "out": places.no_output,
        "data": places.no_input,
        "preset": NAMES,
        "device": DEVICES,
        "backbone": NAMES,
        "weights": (*places.no_input, "imagenet"),
        "steps": (*NUMBERS, "0", "-1", "1" + "0" * 20),
        "batch-per-domain": (*NUMBERS, "0", "-1", "10000000000"),
        "crop": SIZES,
        "seed": NUMBERS,
        "lr": FLOATS,
        "order": ("2", *NUMBERS),
        "inner-lr": ("0.1", *FLOATS),
        "alpha": ("1", *FLOATS),
        "split": ("half", "1:1", "", "x"),
        "precision": ("", "16", "bf", "64"),
        "micro-batches": (*NUMBERS, "0", "-1", "7"),
        "batchnorm": ("", "x", "global"),
        "workers": (*NUMBERS, "-1", "1000000"),
        "speed": ("9",),
        "compile": ("x",),
    }


def of_test(places: Places) -> Options:
    """What is wrong for an option that ``dglab evaluate`` and ``dglab predict`` have in common."""
    return {
        "checkpoint": places.no_input,
        "method": (*NAMES, "mldg"),
        "device": DEVICES,
        "batch-size": ("2", *NUMBERS),
        "speed": ("9",),
        **BANK,
    }


def of_evaluate(places: Places) -> Options:
    """What is wrong for an option of ``dglab evaluate``."""
    own = {"task": (*TASKS, "S->C"), "data": places.no_input, "seed": NUMBERS, "scores": NAMES, "json": places.no_file}
    return of_test(places) | own


def of_predict(places: Places) -> Options:
    """What is wrong for an option of ``dglab predict``."""
    methods = (*NAMES, "bn-reestimated", "oracle", "random")
    return of_test(places) | {"images": places.no_input, "out": places.no_output, "method": methods}


def of_conversion(places: Places) -> Options:
    """What is wrong for an option of ``python -m data_prep NAME``."""
    return {
        "source": places.no_input,
        "out": places.no_output,
        "mapping": ("", "x", "BASE"),
        "speed": ("9",),
        "limit": (*NUMBERS, "0", "-1"),
        "max-side": (*NUMBERS, "0", "-1"),
    }
