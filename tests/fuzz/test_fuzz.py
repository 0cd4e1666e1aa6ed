"""A seeded fuzz of a minute: mutated files and wrong command lines. ``python tools/fuzz`` goes on for longer."""

import argparse
import runpy
from pathlib import Path

import pytest

FUZZ = Path(__file__).parents[2] / "tools" / "fuzz"


@pytest.mark.long
def test_mutated_files_and_wrong_command_lines(tmp_path):
    """No wrong label, traceback, hang or half-written file; a wrong command line ends with 2."""
    fuzz = runpy.run_path(str(FUZZ / "__main__.py"))["fuzz"]
    options = argparse.Namespace(seed=1, seconds=None, inputs=300, commands=100)
    files, lines = fuzz(tmp_path, options)
    assert files.tried == 300 and lines.tried == 100
    assert files.refused > 150  # the mutations matter
    assert [*files.findings, *lines.findings] == []
