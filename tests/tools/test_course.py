"""The versions of the lessons: who sees what, and that nbgrader takes, tests and grades its own."""

import copy
import os
import re
import shutil
from pathlib import Path

import nbformat
import pytest
from nbgrader.validator import Validator

from dglab.teaching.checks import EXERCISES
from tools import course

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
WITH_EXERCISES = [path for path in NOTEBOOKS if any(number.startswith(path.stem[:2]) for number in EXERCISES)]
# Grading takes half a minute of a core a lesson: by default one is graded, in full; DGLAB_GRADED=all has them all.
GRADED = [path for path in WITH_EXERCISES if os.environ.get("DGLAB_GRADED", "02_agg") in (path.stem, "all")]
lessons = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def text(notebook, *tags):
    return "\n".join(cell.source for cell in notebook.cells if not tags or course.tag(cell) in tags)


# --------------------------------------------------------------------------------------------------- who sees what


@lessons
def test_a_version_leaves_the_lesson_as_it_is(path):
    lesson = nbformat.read(path, 4)
    before = copy.deepcopy(lesson)
    for make in (course.for_students, course.with_solutions, course.for_instructors, course.for_nbgrader):
        nbformat.validate(make(lesson))
        assert lesson == before


@lessons
def test_students_get_questions_and_no_answers(path):
    lesson = nbformat.read(path, 4)
    students = course.for_students(lesson)
    assert text(students, "exercise", "prediction", "check") == text(lesson, "exercise", "prediction", "check")
    assert not text(students, "instructor") and "SOLUTION" not in text(students)
    answers = [cell for cell in students.cells if course.tag(cell) == "solution"]
    for cell in answers:
        stub = "# YOUR CODE HERE\nraise NotImplementedError()" if cell.cell_type == "code" else "YOUR ANSWER HERE"
        assert re.sub(r"\n +", "\n", cell.source).endswith(stub)
    assert len(answers) == sum(course.tag(cell) == "solution" for cell in lesson.cells)
    assert not any(cell.metadata.keys() & {"nbgrader", "jupyter"} for cell in students.cells)


@lessons
def test_the_lesson_itself_is_in_every_version_with_its_figures(path):
    lesson = nbformat.read(path, 4)
    own = [cell for cell in lesson.cells if course.tag(cell) is None]
    for make in (course.for_students, course.with_solutions, course.for_instructors):
        assert [cell for cell in make(lesson).cells if course.tag(cell) is None] == own


@lessons
def test_solutions_are_open_and_without_notes(path):
    lesson = nbformat.read(path, 4)
    version = course.with_solutions(lesson)
    assert text(version, "solution") == text(lesson, "solution") and not text(version, "instructor")
    assert not any("jupyter" in cell.metadata for cell in version.cells)


@pytest.mark.parametrize("path", WITH_EXERCISES, ids=lambda path: path.stem)
def test_instructors_read_minutes_and_mistakes(path):
    lesson = nbformat.read(path, 4)
    notes = [cell.source for cell in course.for_instructors(lesson).cells if course.tag(cell) == "instructor"]
    assert len(notes) == sum(course.tag(cell) == "solution" for cell in lesson.cells)
    for note in notes:
        number = re.match(r"\*\*For the teacher\*\* \((\d\d\.\d), \d+ minutes\)\. ", note).group(1)
        if number in EXERCISES:
            assert all(f"| {one.what} | {one.hint} |" in note for one in EXERCISES[number].mistakes)


@pytest.mark.parametrize("path", WITH_EXERCISES, ids=lambda path: path.stem)
def test_from_prediction_over_coding_to_an_open_question(path):
    """In this order, and the prediction is asked for before the result is there."""
    cells = nbformat.read(path, 4).cells
    number = path.stem[:2]
    predicted = [i for i, cell in enumerate(cells) if f'predict("{number}.1"' in cell.source]
    compared = [i for i, cell in enumerate(cells) if f'compare("{number}.1"' in cell.source]
    assert len(predicted) == len(compared) == 1 and predicted[0] + 1 < compared[0]
    asked = [cell["id"] for cell in cells if re.fullmatch(r"ask-\d\d-\d", cell["id"])]
    coding = [f"ask-{n.replace('.', '-')}" for n in EXERCISES if n.startswith(number)]
    assert asked[: len(coding)] == coding and len(asked) == len(coding) + 1  # and an open one
    assert 3 <= 1 + len(asked) <= 6


def test_links_lead_to_the_files_from_where_a_version_lies(tmp_path):
    root = NOTEBOOKS[0].parents[1]
    course.write(course.for_students(nbformat.read(NOTEBOOKS[1], 4)), tmp_path / "students" / "a.ipynb", root)
    links = re.findall(r"\]\((\.\.[^)]*)\)", text(nbformat.read(tmp_path / "students" / "a.ipynb", 4)))
    assert links and all((tmp_path / "students" / link).exists() for link in links)


# -------------------------------------------------------------------------------------------------------- nbgrader


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A course with one lesson."""
    folder = tmp_path_factory.mktemp("course")
    course.build(folder, [path for path in NOTEBOOKS if path.stem == "02_agg"])
    return folder


def solve(notebook, stem="02_agg"):
    """The solutions put in where a student writes them."""
    [master] = [path for path in NOTEBOOKS if path.stem == stem]
    answers = {cell["id"]: cell.source for cell in nbformat.read(master, 4).cells if course.tag(cell) == "solution"}
    for cell in notebook.cells:
        cell.source = answers.get(cell.metadata.nbgrader.grade_id, cell.source)


def never_ends(notebook):
    solve(notebook)
    cell = next(cell for cell in notebook.cells if cell.metadata.nbgrader.grade_id == "answer-02-2")
    cell.source = "def poly(step, steps, lr):\n    while True:\n        pass"


def cheat(notebook):
    """An empty answer, and other tests."""
    for cell in notebook.cells:
        if cell.metadata.nbgrader.grade_id.startswith("check"):
            cell.source = "assert True"
        if cell.metadata.nbgrader.grade_id == "answer-02-2":
            cell.source += "\n\n\ndef check(*arguments):\n    return type('Verdict', (), {'right': True})"


def test_the_release_hides_answers_and_tests(folder):
    source, released = (
        nbformat.read(folder / "nbgrader" / kind / "02_agg" / "02_agg.ipynb", 4) for kind in ("source", "release")
    )
    assert "BEGIN HIDDEN TESTS" in text(source) and "BEGIN SOLUTION" in text(source)
    assert "HIDDEN" not in text(released) and "SOLUTION" not in text(released)
    assert all(cell.metadata.nbgrader.schema_version == 3 for cell in released.cells)
    assert all(cell.metadata.nbgrader.checksum for cell in released.cells)
    assert [cell.source for cell in released.cells if "assert verdict.right" in cell.source]


def submit(root, stem, student, write=None):
    """The released assignment, as a student hands it in."""
    place = root / "submitted" / student / stem / f"{stem}.ipynb"
    place.parent.mkdir(parents=True)
    shutil.copy(root / "release" / stem / f"{stem}.ipynb", place)
    if write:
        notebook = nbformat.read(place, 4)
        write(notebook)
        nbformat.write(notebook, place)


def graded(root, stem, student):
    """The points that nbgrader gives to the code of a submission."""
    api = course.api(root)
    with course.own_programs():
        result = api.autograde(stem, student)
    assert result["success"], result
    with api.gradebook as gradebook:
        notebook = gradebook.find_submission_notebook(stem, stem, student)
        return {grade.name: grade.auto_score for grade in notebook.grades if grade.cell.cell_type == "code"}


@pytest.mark.long
def test_nbgrader_grades_what_is_endless_and_forged(folder):
    """An answer that never ends costs its own points alone; tests of one's own give none."""
    root = folder / "nbgrader"
    submit(root, "02_agg", "endless", never_ends)
    submit(root, "02_agg", "forged", cheat)
    checks = ["check-02-2", "check-02-3", "check-02-4"]
    assert graded(root, "02_agg", "endless") == dict(zip(checks, (0.0, 2.0, 2.0), strict=True))
    assert graded(root, "02_agg", "forged") == dict.fromkeys(checks, 0.0)


@pytest.mark.long
@pytest.mark.parametrize("path", GRADED, ids=lambda path: path.stem)
def test_nbgrader_grades_every_lesson(path, tmp_path, capsys):
    """All points for the solutions, none for empty answers, of every coding exercise; and what is solved is valid."""
    course.build(tmp_path, [path])
    root, stem = tmp_path / "nbgrader", path.stem
    submit(root, stem, "solved", lambda notebook: solve(notebook, stem))
    submit(root, stem, "empty")
    checks = [f"check-{number.replace('.', '-')}" for number in EXERCISES if number.startswith(stem[:2])]
    assert graded(root, stem, "solved") == dict.fromkeys(checks, 2.0)
    assert graded(root, stem, "empty") == dict.fromkeys(checks, 0.0)
    validator = Validator(config=course.api(root).config)
    assert validator.validate(str(root / "submitted" / "solved" / stem / f"{stem}.ipynb")) == {}
    assert "failed" in validator.validate(str(root / "submitted" / "empty" / stem / f"{stem}.ipynb"))
