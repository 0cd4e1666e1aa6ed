"""Store the outputs of executed lessons in the notebooks, so that they can be read without running them.

``python -m tools.store_lessons`` takes them from ``results/quick/notebooks``, where ``dglab reproduce`` has left
them. The sources' parameters stay at their defaults; only outputs and execution counts are copied.
"""

import nbformat

from dglab.experiments.lessons import find_lessons
from dglab.experiments.runner import results_root
from dglab.utils.errors import InputError
from dglab.utils.files import written_whole


def store_outputs(source: nbformat.NotebookNode, executed: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The source notebook with the outputs of its execution, cell by cell.

    Raises:
        InputError: if the two do not consist of the same code, the cell with the injected parameters aside.
    """
    ran = [cell for cell in executed.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    if [cell.source for cell in ran] != [cell.source for cell in source.cells]:
        raise InputError("the executed lesson has other cells than its source; run dglab reproduce again")
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


def main() -> None:
    """Store the outputs of all lessons."""
    for path in find_lessons():
        executed = results_root() / "quick" / "notebooks" / path.name
        if not executed.exists():
            raise InputError(f"{executed} is missing; run dglab reproduce --preset quick first")
        notebook = store_outputs(nbformat.read(path, 4), nbformat.read(executed, 4))
        with written_whole(path) as beside:
            nbformat.write(notebook, beside)
        print(f"{path.name}: {path.stat().st_size / 2**20:.2f} MiB")


if __name__ == "__main__":
    main()
