"""Store the outputs of the lessons in the notebooks, so that they can be read without running them.

``python tools/store_lessons.py [LESSON ...]`` runs each lesson as a reader's "Run all" does, with its own settings and
the results that ship with the package, and stores what comes out.
"""

import sys
import tempfile
from contextlib import chdir
from pathlib import Path

import nbformat
import papermill

from dglab.teaching.execution import QUIET, find_lessons, quiet_kernels
from dglab.utils.errors import InputError
from dglab.utils.files import written_whole
from dglab.utils.machine import usable_cpus


def store_outputs(source: nbformat.NotebookNode, executed: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The source notebook with the outputs of its execution, cell by cell.

    Raises:
        InputError: if the two do not consist of the same code, the cell with the injected parameters aside.
    """
    ran = [cell for cell in executed.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    if [cell.source for cell in ran] != [cell.source for cell in source.cells]:
        raise InputError("the executed lesson has other cells than its source; run this again")
    for count, (cell, twin) in enumerate(zip(source.cells, ran, strict=True), 1):
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = twin.outputs, count
            for output in cell.outputs:
                output.pop("execution_count", None)
                if output.output_type == "execute_result":
                    output.execution_count = count
    if "widgets" in executed.metadata:
        source.metadata.widgets = executed.metadata.widgets
    return source


def refusals(executed: nbformat.NotebookNode) -> list[str]:
    """What checks of exercises said against the lesson's own solutions: on a busy machine one may run out of time."""
    outputs = [output for cell in executed.cells for output in cell.get("outputs", [])]
    said = [output.get("data", {}).get("text/plain", "") for output in outputs]
    return [text for text in said if text.startswith("✗")]


def execute(path: Path) -> nbformat.NotebookNode:
    """A lesson, run where nobody has computed anything yet."""
    with tempfile.TemporaryDirectory() as empty, quiet_kernels(usable_cpus()), chdir(path.parent):
        target = Path(empty) / path.name
        papermill.execute_notebook(
            path, target, parameters={"results": empty}, progress_bar=False, extra_arguments=QUIET
        )
        return nbformat.read(target, 4)


def main(*names: str) -> None:
    """Store the outputs of all lessons, or of those of these names (``04_tn``).

    Raises:
        InputError: for a name that no lesson has; for a solution that is refused, and then the lesson stays as it was.
    """
    lessons = find_lessons()
    if unknown := set(names) - {path.stem for path in lessons}:
        known = ", ".join(path.stem for path in lessons)
        raise InputError(f"got {', '.join(sorted(unknown))}; the lessons are {known}")
    for path in lessons:
        if not names or path.stem in names:
            executed = execute(path)
            if refused := refusals(executed):
                raise InputError(f"{path.name}: {refused[0]} Run this again, with nothing beside it")
            notebook = store_outputs(nbformat.read(path, 4), executed)
            with written_whole(path) as beside:
                nbformat.write(notebook, beside)
            print(f"{path.name}: {path.stat().st_size / 2**20:.2f} MiB")


if __name__ == "__main__":
    main(*sys.argv[1:])
