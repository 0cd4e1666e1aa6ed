"""Files: what cannot be read is refused by name and never waited for, and a folder belongs to one process at a time."""

import multiprocessing
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from dglab.utils import files
from dglab.utils.errors import InputError
from dglab.utils.files import (
    beside,
    listed,
    locked,
    parse_json,
    read_bytes,
    read_json,
    read_text,
    subfolders,
    written_whole,
)


def test_only_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # to open it would be to wait for a writer
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").touch()
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    (tmp_path / "round").symlink_to(tmp_path / "round")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        kinds = {"pipe": "a named pipe", "folder": "a folder", "empty": "empty", "nowhere": "No such file",
                 "round": "symbolic links", "missing": "No such file", "socket": "a socket"}  # fmt: skip
        for name, word in kinds.items():
            with pytest.raises(InputError, match=f"{name}: cannot be read.*{word}"):
                read_bytes(tmp_path / name)
    with pytest.raises(InputError, match="a device"):
        read_bytes("/dev/zero")


@pytest.mark.skipif(not Path("/proc/kmsg").exists(), reason="of Linux alone")
def test_files_of_the_system_that_never_end_are_not_read() -> None:
    for path in ("/proc/kmsg", "/proc/self/mem"):
        with pytest.raises(InputError, match="cannot be read"):
            read_bytes(path)


def test_a_file_that_no_memory_holds_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with open(tmp_path / "large", "wb") as file:
        file.truncate(1 << 42)  # 4 TiB of nothing, which take no room
    with pytest.raises(InputError, match="more than this machine's memory"):
        read_bytes(tmp_path / "large")


def test_no_right_to_read_is_named(tmp_path: Path, monkeypatch) -> None:
    """Root may read anything, so the system's answer is played."""

    def denied(path, *_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "a").write_text("x")
    monkeypatch.setattr("builtins.open", denied)
    with pytest.raises(InputError, match="a: cannot be read .Permission denied"):
        read_bytes(tmp_path / "a")
    monkeypatch.setattr(files.os, "listdir", denied)
    for look in (listed, subfolders):
        with pytest.raises(InputError, match="Permission denied"):
            look(tmp_path)


def test_names_and_texts_that_are_not_utf_8(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.png")).touch()
    with pytest.raises(InputError, match=r"not UTF-8.*caf\\xe9.png"):
        listed(tmp_path)
    (tmp_path / "text").write_bytes(b"caf\xe9")
    with pytest.raises(InputError, match="text: is not UTF-8 text"):
        read_text(tmp_path / "text")
    for deep in ("[" * 100_000, '{"a":' * 100_000):
        (tmp_path / "deep").write_text(deep)
        with pytest.raises(InputError, match="deep: is not JSON"):
            read_json(tmp_path / "deep")
        with pytest.raises(ValueError):
            parse_json(deep)


@pytest.mark.parametrize("name", ["x" * 251 + ".png", "ü" * 125 + ".png", "a.png", "𝄞" * 63])
def test_names_as_long_as_a_disk_takes_them(tmp_path: Path, name: str) -> None:
    with written_whole(tmp_path / name) as half:
        half.write_bytes(b"whole")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert len({beside(tmp_path / f"{name[:200]}{i}", "part") for i in range(9)}) == 9


def hold(folder: Path, inside, leave) -> None:
    with locked(folder):
        inside.set()
        leave.wait()


def test_a_folder_belongs_to_one_process_at_a_time(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    inside, leave = spawn.Event(), spawn.Event()
    other = spawn.Process(target=hold, args=(tmp_path, inside, leave))
    other.start()
    assert inside.wait(60)
    with pytest.raises(InputError, match="another process is at work in"), locked(tmp_path):
        pass
    leave.set()
    other.join()
    with locked(tmp_path), pytest.raises(InputError, match="another process"), locked(tmp_path):
        pass
    with pytest.raises(ZeroDivisionError), locked(tmp_path):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_a_killed_process_holds_nobody_up(tmp_path: Path) -> None:
    script = """
import os, pathlib, sys
from dglab.utils.files import locked
with locked(pathlib.Path(sys.argv[1])):
    os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", script, tmp_path]).returncode == -9
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    with locked(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_locks_is_told_of(tmp_path: Path, monkeypatch) -> None:
    import fcntl

    def unknown(*_) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unknown)
    with pytest.warns(UserWarning, match="cannot be locked .Operation not supported"), locked(tmp_path):
        pass
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with pytest.warns(UserWarning, match="cannot be locked"), locked(tmp_path):
        pass
