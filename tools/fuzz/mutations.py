"""What can happen to a file: on a disk, in a transfer, by another program, or by somebody who wants it to."""

import os
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

JUNK = (b"", b"\0", b"\xff" * 64, b"no such thing\n", b"[" * 50_000, b'{"a":' * 50_000, b"<html>404</html>", b"1e999",
        b"null", b"{}", b"[]", b'"\xff"', b"9" * 5000, b"NaN")  # fmt: skip
WORDS = (b"-1", b"1e400", b"1" + b"0" * 400, b"1000000000", b"null", b"[]", b"{}", b'"x"', b"true", b"NaN", b"0.5",
         b"\xff")  # fmt: skip


def mutate(path: Path, draw: random.Random) -> str:
    """Change a file in one of many ways; says how."""
    kinds = [_bytes] * 6 + [_place] * 3 + [_junk]
    if path.suffix == ".png":
        kinds += [_chunks] * 4
    if path.suffix in (".json", ".jsonl"):
        kinds += [_words] * 6
    return draw.choice(kinds)(path, draw)


def _bytes(path: Path, draw: random.Random) -> str:
    """Bits, bytes and runs of them changed, lost, doubled or put in; the file cut short or made longer."""
    content = bytearray(path.read_bytes())
    at, length = draw.randrange(len(content)), draw.choice((1, 1, 2, 8, 64, 512))
    how = draw.choice(("flip", "set", "zero", "lose", "double", "insert", "cut", "grow"))
    if how == "flip":
        content[at] ^= 1 << draw.randrange(8)
    elif how == "set":
        content[at] = draw.randrange(256)
    elif how == "zero":
        content[at : at + length] = bytes(len(content[at : at + length]))
    elif how == "lose":
        del content[at : at + length]
    elif how == "double":
        content[at:at] = content[at : at + length]
    elif how == "insert":
        content[at:at] = draw.randbytes(length)
    elif how == "cut":
        del content[at:]
    else:
        content += draw.randbytes(length)
    path.write_bytes(content)
    return f"{how} at {at}, {length}"


def _junk(path: Path, draw: random.Random) -> str:
    content = draw.choice(JUNK)
    path.write_bytes(content)
    return f"holds {content[:20]!r}"


def _words(path: Path, draw: random.Random) -> str:
    """A number or text in JSON becomes another thing."""
    parts = path.read_bytes().split(b":")
    at = draw.randrange(len(parts))
    word = draw.choice(WORDS)
    value, comma, rest = parts[at].partition(b",")
    parts[at] = word + comma + rest
    path.write_bytes(b":".join(parts))
    return f"{value[:20]!r} becomes {word[:20]!r}"


def _chunks(path: Path, draw: random.Random) -> str:
    """Chunks of a PNG lost, doubled, exchanged or changed, their checksums right."""
    content = path.read_bytes()
    chunks, position = [], 8
    while position < len(content):
        (length,) = struct.unpack(">I", content[position : position + 4])
        chunks.append([content[position + 4 : position + 8], content[position + 8 : position + 8 + length]])
        position += 12 + length
    how, at = draw.choice(("lose", "double", "exchange", "change", "header")), draw.randrange(len(chunks))
    if how == "lose":
        del chunks[at]
    elif how == "double":
        chunks.insert(at, chunks[at])
    elif how == "exchange":
        other = draw.randrange(len(chunks))
        chunks[at], chunks[other] = chunks[other], chunks[at]
    else:
        at = 0 if how == "header" else at
        data = bytearray(chunks[at][1] or b"\0")
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        chunks[at] = [chunks[at][0], bytes(data)]
    path.write_bytes(
        content[:8]
        + b"".join(
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
            for name, data in chunks
        )
    )
    return f"{how} chunk {at}"


def _place(path: Path, draw: random.Random) -> str:
    """Something else in its place, or the file under another name."""
    kinds: dict[str, Callable[[], object]] = {
        "a folder": path.mkdir,
        "a pipe": lambda: os.mkfifo(path),
        "a link to nothing": lambda: path.symlink_to("nothing"),
        "a link to itself": lambda: path.symlink_to(path.name),
        "a device": lambda: path.symlink_to("/dev/zero"),
        "a file without an end": lambda: path.symlink_to("/proc/kmsg"),
        "nothing": lambda: None,
        "4 TiB": lambda: _sparse(path),
    }
    names = {
        "not UTF-8": os.fsdecode(b"caf\xe9") + path.suffix,
        "long": "x" * (255 - len(path.suffix)) + path.suffix,
        "other suffix": path.stem + ".gif",
        "lines": f"{path.stem}\n\t'\"{path.suffix}",
        "doubled": f"{path.stem}.copy{path.suffix}",
    }
    kind = draw.choice((*kinds, *names))
    if kind in names:
        content = path.read_bytes()
        if kind != "doubled":
            path.unlink()
        path.with_name(names[kind]).write_bytes(content)
    else:
        path.unlink()
        kinds[kind]()
    return f"{kind} in its place"


def _sparse(path: Path) -> None:
    """A file larger than any memory, which takes no room on the disk."""
    with open(path, "wb") as file:
        file.truncate(1 << 42)
