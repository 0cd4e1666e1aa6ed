"""Files written whole or not at all: beside, then renamed; what the disk refuses is named."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dglab.utils.errors import InputError


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Inside, what the disk refuses (no folder, no right, no room) becomes an InputError that names ``path``."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"cannot write {path} ({error.strerror or error}); make it writable and see that the disk has room, or "
            "choose another place"
        ) from error


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A path to write to; on success it becomes ``path`` in one step, so that no half-written file bears the name.

    Raises:
        InputError: if the disk refuses, see :func:`writing`.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield beside
            with open(beside, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)


def check_writable(path: Path, *, folder: bool) -> None:
    """Refuse, before work starts, an output that cannot be written: a folder, or a file with the folders above it.

    Raises:
        InputError: naming what is in the way.
    """
    if not folder and os.path.isdir(path):
        raise InputError(f"cannot write {path}: it is a folder; name a file")
    above = [path, *path.absolute().parents] if folder else path.absolute().parents
    nearest = next(place for place in above if os.path.lexists(place))
    if not (os.path.isdir(nearest) and os.access(nearest, os.W_OK)):
        raise InputError(f"cannot write {path}: {nearest} is no folder that you may write to; choose another place")
