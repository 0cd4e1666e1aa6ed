"""Build a course from the lessons: for students, with solutions, for instructors, and for nbgrader.

``python tools/course.py [FOLDER]`` (``make course``) writes into a folder, ``course`` unless another is named. The
notebooks in ``notebooks`` are the masters. What becomes of a cell, its tag says:

=========== ================================================================================================
exercise    a question, or what its code needs: in all versions
prediction  recorded before a result is shown, and compared afterwards: in all versions but nbgrader's
solution    an answer: emptied for students; for nbgrader what is graded
check       tries an answer: for nbgrader a test with points, and with hidden ones on other random inputs
instructor  minutes and remarks: for instructors alone, with the known mistakes and their hints
further     what else to try: in all versions but nbgrader's
=========== ================================================================================================

Solutions are emptied, and the release is made, by nbgrader itself, so that both versions follow its rules. What it
is given is the exercises of a lesson without the lesson: a submission is graded in seconds.
"""

import copy
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import nbformat
import typer
from nbformat import NotebookNode
from nbgrader.apps import NbGraderAPI
from nbgrader.preprocessors import ClearSolutions
from traitlets.config import Config

from dglab.teaching.checks import EXERCISES
from dglab.teaching.execution import find_lessons
from dglab.utils.errors import InputError
from dglab.utils.files import written_whole

POINTS = {"check": 2, "open": 3}
HIDDEN_SEEDS = (1, 2)  # of the random inputs; students see those of 0
SETTINGS = """# nbgrader reads this file in the folder where it is started
c = get_config()  # noqa: F821
c.CourseDirectory.course_id = "dglab"
c.ExecutePreprocessor.timeout = c.ExecutePreprocessor.startup_timeout = 900  # seconds: a machine may be busy
"""
TEST = """from dglab.teaching.checks import check  # here again: no cell above decides what it is

verdict = check("{number}", {name})
assert verdict.right, verdict
### BEGIN HIDDEN TESTS
for seed in {seeds}:
    assert check("{number}", {name}, seed).right
### END HIDDEN TESTS"""


def tag(cell: NotebookNode) -> str | None:
    """The tag that says what a cell is for, if it has one of ours."""
    ours = ("exercise", "prediction", "solution", "check", "instructor", "further")
    return next((name for name in cell.metadata.get("tags", []) if name in ours), None)


def number_of(cell: NotebookNode) -> str:
    """The exercise that a solution, a check or a note belongs to: ``check-03-2`` is of 03.2."""
    return "{}.{}".format(*cell["id"].split("-")[1:])


def with_solutions(lesson: NotebookNode) -> NotebookNode:
    """All cells but the instructor's, the solutions unfolded."""
    version = copy.deepcopy(lesson)
    version.cells = [unfolded(cell) for cell in version.cells if tag(cell) != "instructor"]
    return version


def for_students(lesson: NotebookNode) -> NotebookNode:
    """With empty solutions. Figures and tables of the lesson stay as they are stored, to compare one's own with."""
    version = emptied(marked(with_solutions(lesson)))
    for cell in version.cells:
        cell.metadata.pop("nbgrader", None)
        if cell.cell_type == "code" and tag(cell):
            cell.outputs, cell.execution_count = [], None
    return version


def for_instructors(lesson: NotebookNode) -> NotebookNode:
    """All cells unfolded; beneath each coding exercise what a class writes, and what it is told."""
    version = copy.deepcopy(lesson)
    version.cells = [unfolded(cell) for cell in version.cells]
    for cell in version.cells:
        if tag(cell) == "instructor" and number_of(cell) in EXERCISES:
            cell.source += "\n\n" + mistakes(number_of(cell))
    return version


def mistakes(number: str) -> str:
    """A table of the known mistakes of an exercise."""
    rows = [f"| {one.what} | {one.hint} |" for one in EXERCISES[number].mistakes]
    rows.append(f"| anything else | {EXERCISES[number].hint.replace('|', chr(92) + '|')} |")
    return "\n".join(["| what students do | the hint that they get |", "|---|---|", *rows])


def for_nbgrader(lesson: NotebookNode) -> NotebookNode:
    """The exercises alone, with nbgrader's metadata: what nbgrader calls the source of an assignment."""
    version = marked(with_solutions(lesson))
    version.cells = [cell for cell in version.cells if tag(cell) in ("exercise", "solution", "check")]
    for cell in version.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        if tag(cell) == "check":
            number = number_of(cell)
            cell.source = TEST.format(number=number, name=EXERCISES[number].name, seeds=HIDDEN_SEEDS)
    version.metadata.pop("widgets", None)
    return version


def marked(lesson: NotebookNode) -> NotebookNode:
    """With nbgrader's metadata (schema 3): what is to be answered, what is graded, what is locked."""
    for cell in lesson.cells:
        kind = tag(cell)
        if kind in ("exercise", "solution", "check"):
            graded = kind == "check" or (kind == "solution" and cell.cell_type == "markdown")
            cell.metadata["nbgrader"] = {
                "schema_version": 3, "grade_id": cell["id"], "grade": graded, "solution": kind == "solution",
                "locked": kind != "solution", "task": False,
            }  # fmt: skip
            if graded:
                cell.metadata["nbgrader"]["points"] = POINTS["check" if kind == "check" else "open"]
    return lesson


def emptied(lesson: NotebookNode) -> NotebookNode:
    """Without the answers, as nbgrader takes them out."""
    return ClearSolutions().preprocess(lesson, {})[0]


def unfolded(cell: NotebookNode) -> NotebookNode:
    """JupyterLab shows the cell open."""
    cell.metadata.pop("jupyter", None)
    return cell


def write(version: NotebookNode, path: Path, root: Path) -> None:
    """Write a version of a lesson; its links to the library's files lead there from where it lies."""
    up = os.path.relpath(root, path.parent).replace(os.sep, "/")
    for cell in version.cells:
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"\]\(\.\./", f"]({up}/", cell.source)
    nbformat.validate(version)
    with written_whole(path) as beside:
        nbformat.write(version, beside)


@contextmanager
def own_programs() -> Iterator[None]:
    """Within the block, the programs beside this Python are found: nbgrader starts alembic by its name."""
    before = os.environ.get("PATH", os.defpath)
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), before])
    try:
        yield
    finally:
        os.environ["PATH"] = before


def release(folder: Path, assignment: str) -> None:
    """Let nbgrader make the students' version of an assignment.

    Raises:
        InputError: with what nbgrader has to say.
    """
    with own_programs():
        result = api(folder).generate_assignment(assignment)
    if not result["success"]:
        raise InputError(f"nbgrader refuses {assignment}:\n{result.get('error') or result.get('log')}")


def api(folder: Path) -> NbGraderAPI:
    """nbgrader in a course's folder."""
    config = Config()
    config.CourseDirectory.root, config.CourseDirectory.course_id = str(folder.absolute()), "dglab"
    config.ExecutePreprocessor.timeout = config.ExecutePreprocessor.startup_timeout = 900
    return NbGraderAPI(config=config)


def build(folder: Path, lessons: list[Path]) -> None:
    """All versions of these lessons."""
    versions = {"students": for_students, "solutions": with_solutions, "instructors": for_instructors}
    for path in lessons:
        lesson, root = nbformat.read(path, 4), path.parents[1]
        for name, make in versions.items():
            write(make(lesson), folder / name / path.name, root)
        if any(tag(cell) == "check" for cell in lesson.cells):
            nbgrader = folder / "nbgrader"
            write(for_nbgrader(lesson), nbgrader / "source" / path.stem / path.name, root)
            (nbgrader / "nbgrader_config.py").write_text(SETTINGS, encoding="utf-8")
            release(nbgrader, path.stem)


def main(folder: Annotated[Path, typer.Argument(help="to write into")] = Path("course")) -> None:
    """Build the course into a folder."""
    lessons = find_lessons()
    build(Path(folder), lessons)
    print(f"{len(lessons)} lessons in {folder}: students, solutions, instructors, nbgrader")


if __name__ == "__main__":
    typer.run(main)
