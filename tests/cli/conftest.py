"""The command line as people use it, and as they misuse it: exit codes, messages, and what is left on disk."""

import sys

import numpy as np
import pytest
from PIL import Image

from dglab import cli


def run_command(*arguments):
    """The exit code of ``dglab ...``, through the same door as the installed command."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as caught:
        patch.setattr(sys, "argv", ["dglab", *map(str, arguments)])
        cli.main()
    return caught.value.code


@pytest.fixture(scope="session")
def call():
    """Runs ``dglab ...`` and returns its exit code."""
    return run_command


def random_picture(seed, size=(32, 48), channels=(3,)):
    return np.random.default_rng(seed).integers(0, 256, (*size, *channels), np.uint8)


@pytest.fixture(scope="session")
def picture():
    """Makes random pictures: a seed, a size, the channels."""
    return random_picture


@pytest.fixture
def dglab(capsys):
    """Run a command that must succeed; what it prints."""

    def run(*arguments):
        capsys.readouterr()
        code = run_command(*arguments)
        output = capsys.readouterr()
        assert code in (0, None), output.err
        return output.out

    return run


@pytest.fixture
def refused(capsys):
    """Run a command that is wrong use: exit code 2, all the words on stderr, nothing on stdout, no traceback."""

    def run(arguments, *words):
        capsys.readouterr()
        assert run_command(*arguments) == 2
        output = capsys.readouterr()
        assert output.out == "" and "Traceback" not in output.err
        assert output.err.count("error: ") == 1
        for word in words:
            assert str(word) in output.err
        return output.err

    return run


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    options = ("--method", "mldg", "--task", "G+S->C", "--preset", "tiny", "--device", "cpu")
    assert run_command("train", *options, "--out", folder) == 0
    return folder / "last.safetensors"


@pytest.fixture
def images(tmp_path):
    """Three images whose natural order is not the alphabet's."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in (1, 2, 10):
        Image.fromarray(random_picture(number) // number).save(folder / f"img{number}.png")
    return folder


@pytest.fixture
def root(tmp_path):
    """A prepared root of three domains A, B, D."""
    for number, name in enumerate(("a", "b", "d")):
        for split in ("train", "val"):
            for kind in ("images", "labels"):
                (tmp_path / "root" / name / split / kind).mkdir(parents=True)
            for stem in "xy":
                place = tmp_path / "root" / name / split
                Image.fromarray(random_picture(number, (32, 64))).save(place / "images" / f"{stem}.png")
                Image.fromarray(random_picture(number, (32, 64), ()) % 19).save(place / "labels" / f"{stem}.png")
    return tmp_path / "root"
