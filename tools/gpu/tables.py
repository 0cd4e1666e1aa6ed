"""Small tables that grow by rows and are whole at any moment."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dglab.utils.files import written_whole


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table; none if it is not there."""
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def add_rows(path: Path, columns: Sequence[str], new: Sequence[Mapping[str, Any]], key: Sequence[str]) -> None:
    """Write rows, in place of those that have the same key.

    Args:
        path: of the table; it may not be there yet.
        columns: of the table; a row may lack some, which stay empty.
        new: the rows.
        key: columns by which a row is known.
    """
    rows = {tuple(row[name] for name in key): row for row in read_rows(path)}
    rows |= {tuple(str(row[name]) for name in key): row for row in new}
    with written_whole(path) as beside, open(beside, "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, columns, lineterminator="\n")
        table.writeheader()
        table.writerows(rows.values())
