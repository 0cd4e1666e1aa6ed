"""What the lessons show of the library is the library as it is: stored outputs do not fall behind it."""

import ast
from pathlib import Path

import nbformat
import pytest

LESSONS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


def shown_sources(path):
    """(the expression ``source(...)``, the imports before it, the Markdown stored under it) of a lesson's cells."""
    imports = []
    for cell in nbformat.read(path, 4).cells:
        if cell.cell_type == "code":
            statements = ast.parse(cell.source).body
            imports += [s for s in statements if isinstance(s, (ast.Import, ast.ImportFrom))]
            last = ast.unparse(statements[-1]) if statements else ""
            if last.startswith("source("):
                yield last, list(imports), cell.outputs[0].data["text/markdown"]


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_the_lines_that_a_lesson_shows_are_those_of_the_library(path):
    for expression, imports, stored in shown_sources(path):
        names = {}
        exec(compile(ast.Module(imports, []), str(path), "exec"), names)
        assert eval(expression, names).data == stored, f"{path.name} shows other lines; run make lessons"


def test_lessons_show_the_methods():
    shown = "".join(stored for path in LESSONS for _, _, stored in shown_sources(path))
    for name in (
        "agg_backward",
        "mldg_backward",
        "inner_step",
        "__call__",
        "most_similar",
        "style_distance",
        "predict",
    ):
        assert f"def {name}(" in shown
    assert "class TargetNormalization" in shown


def test_the_first_lesson_lists_every_lesson():
    table = nbformat.read(LESSONS[0], 4).cells[1].source
    assert all(path.stem == "00_start_here" or f"({path.name})" in table for path in LESSONS)


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_opens_with_recorded_results_and_short_cells(path):
    cells = nbformat.read(path, 4).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    (parameters,) = [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]
    assert parameters.source.startswith('preset = "quick"') and cells.index(parameters) <= 3
    assert all(len(cell.source.splitlines()) <= 20 for cell in code)
    assert all(output.output_type != "error" for cell in code for output in cell.outputs)
