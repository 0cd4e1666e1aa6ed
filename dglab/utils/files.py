"""Reading files with errors that name them, and atomic writing: to a temporary file, then renamed."""

import hashlib
import json
import os
import stat
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dglab.utils.errors import InputError
from dglab.utils.machine import memory_bytes

_KINDS = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a named pipe"), (stat.S_ISSOCK, "a socket"))
_LONGEST = 40  # characters of a file's name in that of the file beside it: a name has 255 bytes, a character up to 4
_LOCK = ".lock"


# ---------------------------------------------------------------------------------------------------- reading


@contextmanager
def reading(path: Path | str) -> Iterator[None]:
    """Within the block, an OSError (no such file, no permission, a broken link) becomes an InputError."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{shown(path)}: cannot be read ({error.strerror or error}); expected a file or folder that you may read: "
            "see that it is there, and its permissions"
        ) from error


def check_file(path: Path | str, *, empty: bool = False) -> int:
    """Refuse what cannot be read as a file: a folder, a pipe (opening it would block), a file larger than memory.

    Args:
        path: of the file.
        empty: whether it may be empty. Files of ``/proc`` say that they are, and some never end.

    Returns:
        Its size in bytes.

    Raises:
        InputError: naming the file and what it is.
    """
    with reading(path):
        status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        kind = next((kind for fits, kind in _KINDS if fits(status.st_mode)), "a device")
        raise InputError(f"{shown(path)}: cannot be read: it is {kind}; expected a file")
    if not (status.st_size or empty):
        raise InputError(f"{shown(path)}: cannot be read: it is empty; fetch or make it again")
    most = memory_bytes()
    if most is not None and status.st_size > most:
        raise InputError(
            f"{shown(path)}: cannot be read: it has {status.st_size} bytes, more than this machine's memory"
        )
    return status.st_size


def read_bytes(path: Path | str, *, empty: bool = False) -> bytes:
    """The content of a file; see :func:`check_file`."""
    if not check_file(path, empty=empty):
        return b""
    with reading(path), open(path, "rb") as file:
        return file.read()


def read_text(path: Path | str, *, empty: bool = False) -> str:
    """The content of a file of UTF-8."""
    content = read_bytes(path, empty=empty)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{shown(path)}: is not UTF-8 text ({error}); correct or remove it") from error


def read_json(path: Path | str) -> Any:
    """The content of a file of JSON."""
    text = read_text(path)
    try:
        return parse_json(text)
    except ValueError as error:
        raise InputError(f"{shown(path)}: is not JSON ({error}); correct or remove it") from error


def parse_json(text: str) -> Any:
    """Parse JSON; text nested too deeply for Python raises a ValueError, like other invalid JSON."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def refuse_inside(out: Path, root: Path) -> None:
    """Refuse to write into a data root, whose folders are its domains.

    Raises:
        InputError: naming both.
    """
    if os.path.realpath(root) in (os.path.realpath(out), *map(str, Path(os.path.realpath(out)).parents)):
        raise InputError(
            f"{shown(out)} lies in the data root {shown(root)}, where it would be taken for a domain; choose a folder "
            "elsewhere"
        )


def listed(folder: Path) -> list[Path]:
    """The files and folders in a folder, without hidden ones.

    Raises:
        InputError: for a folder that cannot be read, and for a name that is not UTF-8.
    """
    with reading(folder):
        names = [name for name in os.listdir(folder) if not name.startswith(".")]
    for name in names:
        check_utf8(name, f"in {shown(folder)}, the name {shown(name)}; rename it")
    return [folder / name for name in names]


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, also by links, without hidden ones. Raises as :func:`listed`."""
    found = listed(folder)
    with reading(folder):  # a folder may be readable but not searchable
        return [path for path in found if path.is_dir()]


def check_utf8(text: str, what: str) -> None:
    """Refuse a name that is not valid UTF-8, which no text file or table could contain."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(f"a name is not UTF-8: {what}") from None


def shown(path: Path | str) -> str:
    """A path for a message; bytes that are not UTF-8 as \\xff."""
    return os.fsencode(path).decode(errors="backslashreplace")


def digest(content: bytes) -> str:
    """A digest of some content: 16 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()[:16]


# ---------------------------------------------------------------------------------------------------- writing


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Within the block, an OSError (no folder, no permission, full disk) becomes an InputError that names ``path``."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"cannot write {shown(path)} ({error.strerror or error}); make it writable and see that the disk has room, "
            "or choose another place"
        ) from error


def beside(path: Path, ending: str) -> Path:
    """The temporary path of a file before it is renamed: hidden, in the same folder, and never too long a name."""
    name = path.name if len(path.name) <= _LONGEST else f"{path.name[:_LONGEST]}.{digest(os.fsencode(path.name))}"
    return path.with_name(f".{name}.{ending}")


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary path to write to, renamed to ``path`` on success: a partly written file never has that name.

    Raises:
        InputError: if the disk refuses, see :func:`writing`.
    """
    half = beside(path, f"{os.getpid()}.part")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield half
            with open(half, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(half, path)
        finally:
            half.unlink(missing_ok=True)


def check_writable(path: Path, *, folder: bool) -> None:
    """Refuse, before work starts, an output that cannot be written: a folder, or a file with the folders above it.

    Raises:
        InputError: naming what is in the way.
    """
    if not folder and os.path.isdir(path):
        raise InputError(f"cannot write {shown(path)}: it is a folder; name a file")
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:  # the name is too long
        raise InputError(f"cannot write {shown(path)} ({error.strerror}); choose another place") from None
    above = [path, *path.absolute().parents] if folder else path.absolute().parents
    nearest = next(place for place in above if os.path.lexists(place))
    try:
        with tempfile.TemporaryFile(dir=nearest):  # permissions are not enough: /proc has them
            pass
    except OSError:
        raise InputError(
            f"cannot write {shown(path)}: {shown(nearest)} is not a folder that you may write to; choose another place"
        ) from None


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Within the block, a folder is locked: no other process can enter. The lock ends with its process in any case.

    Where the file system knows no locks, a warning says so.

    Raises:
        InputError: if another process is, or the folder cannot be written to.
    """
    path = folder / _LOCK
    with writing(path):
        file = _lock(path)
    try:
        yield
    finally:
        if file is not None:
            with writing(path):
                path.unlink(missing_ok=True)  # before the lock is given up, see _lock
            os.close(file)


def _lock(path: Path) -> int | None:
    """The descriptor that holds the lock; None if there can be none."""
    try:
        import fcntl
    except ImportError:  # on Windows
        fcntl = None
    while True:
        # without O_TRUNC and without waiting, whatever lies there
        file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NONBLOCK", 0), 0o666)
        try:
            if fcntl is None:
                raise OSError("there is no fcntl")
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            raise InputError(
                f"another process is at work in {shown(path.parent)}; wait for its end, or choose another folder"
            ) from None
        except OSError as error:
            os.close(file)
            warnings.warn(
                f"{shown(path.parent)} cannot be locked ({error.strerror or error}); see to it yourself that no other "
                "process works in it",
                stacklevel=4,
            )
            return None
        if _is_same(path, file):
            return file
        os.close(file)


def _is_same(path: Path, file: int) -> bool:
    """Whether an open lock file still exists under its path: its last owner removes it, and then it locks nothing."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False
