"""Strict reading of image and label files: what Pillow would silently convert is refused here.

Pillow opens 16-bit colour PNGs as 8-bit ones (only the high byte remains), stretches 2- and 4-bit greyscale to 0-255,
and converts a palette to colours on request. Harmless for a photograph, each of these silently changes the class ids of
a label. So bit depths are taken from the file itself, not from Pillow's mode.

**Damage.** Pillow does not verify the checksums of a PNG's pixels, so that one changed bit can silently turn a third of
a label into other classes. The checksums are therefore verified first: those of all chunks, in a thousandth of the
decoding time, and for a label also that of its rows, which takes as long as decoding it, a millisecond. (torchvision's
decoder verifies them, too, but has crashed on some damaged files.) A JPEG has no checksums. Pillow decodes a damaged
one without an error, grey or shifted from the damage on; so JPEGs are decoded by simplejpeg, in four fifths of
Pillow's time, which refuses truncated files and most other damage, but not all: zeros in the middle often decode. The
digests in ``domain.json`` reveal those (``dglab check``).

Nothing here needs torch, so that ``data_prep`` starts fast.
"""

import io
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image

from dglab.classes import IGNORED, NUM_CLASSES
from dglab.utils.errors import InputError
from dglab.utils.files import check_file, read_bytes, shown

VALID_TRAIN_IDS = np.zeros(256, bool)
VALID_TRAIN_IDS[:NUM_CLASSES] = True
VALID_TRAIN_IDS[IGNORED] = True

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PIECE = 1 << 20  # bytes of rows inflated at a time
_ORIENTATION = 0x0112  # the tag of EXIF
_UPRIGHT = {  # by EXIF's orientation, 1 being upright already
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SHOWN = 5  # so many files are named in one message; the rest are counted


@dataclass(frozen=True)
class Header:
    """The header of a file, read without decoding pixels: format, Pillow mode, bits, (W, H), EXIF orientation."""

    format: str
    mode: str
    bits: int
    size: tuple[int, int]
    orientation: int = 1  # 1 to 8; 1 is upright

    def __str__(self) -> str:
        return f"{self.bits}-bit {self.format} of mode {self.mode}, {self.size[0]} x {self.size[1]}"


def read_header(path: Path, content: bytes | None = None) -> Header:
    """Format, mode, bit depth, size and orientation, without decoding the pixels.

    Args:
        path: of the file.
        content: of the file, where it is read already.

    Raises:
        InputError: if the file cannot be opened as an image.
    """
    if content is None:
        check_file(path)
    try:
        with open(path, "rb") if content is None else io.BytesIO(content) as file, Image.open(file) as image:
            file.seek(0)
            first = file.read(25)
            bits = first[24] if first.startswith(_PNG_SIGNATURE) else 8  # IHDR's bit depth
            return Header(image.format or "?", image.mode, bits, image.size, _orientation(image))
    except Exception as error:  # Pillow raises nearly anything on damaged files
        raise InputError(f"{shown(path)}: cannot be read as an image ({error or type(error).__name__})") from error


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none, or none that can be read."""
    if "exif" not in image.info:
        return 1
    tags = Image.Exif()
    try:
        tags.load(image.info["exif"])
        found = tags.get(_ORIENTATION)
    except Exception:  # as above; the pixels are what they are
        return 1
    return found if found in _UPRIGHT else 1


def image_header(path: Path, content: bytes | None = None) -> Header:
    """The header of a photograph: 8-bit RGB or greyscale, JPEG or PNG.

    Raises:
        InputError: for 16 bits a channel, transparency, palettes, CMYK and other formats.
    """
    header = read_header(path, content)
    if header.format not in ("JPEG", "PNG") or header.mode not in ("RGB", "L") or header.bits > 8:
        raise InputError(
            f"{shown(path)}: is a {header}; an image must be an 8-bit RGB or greyscale JPEG or PNG; convert it"
        )
    return header


def label_header(path: Path, content: bytes | None = None) -> Header:
    """The header of a label: a PNG with one channel of 8-bit ids, greyscale or palette indices.

    Raises:
        InputError: for colours, 16 bits, greyscale of fewer than 8 bits, and other formats.
    """
    header = read_header(path, content)
    # Palette indices of 1, 2 or 4 bits are read as they are; greyscale of that depth would be stretched.
    if header.format != "PNG" or not (header.mode == "P" or (header.mode == "L" and header.bits == 8)):
        raise InputError(
            f"{shown(path)}: is a {header}; a label must be a single-channel 8-bit PNG of class ids (mode L or P), "
            "not colours and not 16 bits; write the ids themselves"
        )
    return header


def read_image(path: Path, *, thorough: bool = False) -> np.ndarray:
    """A photograph as H x W x 3 uint8, RGB; greyscale is repeated over the three channels.

    Rows and columns are as stored: an EXIF orientation is not applied, since the label knows nothing of it.

    Args:
        path: of the file.
        thorough: of a PNG look at the checksum of all rows, too, for half of the time again: a chunk that is missing
            has left no other trace, nor have rows that are missing (a header may claim millions). Meant for the one
            reading before many others.

    Raises:
        InputError: if the file is no such image (see :func:`image_header`) or is damaged.
    """
    content = read_bytes(path)
    return _decode(path, content, image_header(path, content), "RGB", rows=thorough)


def read_upright(path: Path, *, thorough: bool = False) -> tuple[np.ndarray, bool]:
    """A photograph as one looks at it, H x W x 3 uint8, and whether its EXIF orientation had to turn or mirror it.

    Args:
        path: of the file.
        thorough: as of :func:`read_image`.

    Raises:
        InputError: as :func:`read_image`.
    """
    content = read_bytes(path)
    header = image_header(path, content)
    image = _decode(path, content, header, "RGB", rows=thorough)
    if header.orientation == 1:
        return image, False
    return np.array(Image.fromarray(image).transpose(_UPRIGHT[header.orientation])), True


def read_label(path: Path) -> np.ndarray:
    """The ids of a label file as H x W uint8, palette files as their indices; the values are not checked.

    Raises:
        InputError: if the file is no such label (see :func:`label_header`) or is damaged.
    """
    content = read_bytes(path)
    header = label_header(path, content)
    return _decode(path, content, header, header.mode, rows=True)


def _decode(path: Path, content: bytes, header: Header, mode: str, *, rows: bool) -> np.ndarray:
    try:
        if header.format == "JPEG":
            return simplejpeg.decode_jpeg(content, mode)
        check_png(content, rows=rows)
        with Image.open(io.BytesIO(content)) as image:
            return np.array(image if mode == header.mode else image.convert(mode))  # writable, as torch wants it
    except Exception as error:  # as in read_header
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> InputError:
    """The error for a file with a valid header whose pixels cannot be decoded."""
    return InputError(f"{shown(path)}: is damaged or truncated ({error}); fetch or make it again")


def check_png(content: bytes, *, rows: bool) -> None:
    """Verify the checksums of a PNG, which Pillow does not: it would silently return wrong pixels.

    Args:
        content: of the file.
        rows: also inflate the pixels, and look at their number and at the checksum of all rows: these tell of a missing
            chunk, too, and of a header that is not theirs.

    Raises:
        ValueError, zlib.error: saying what is wrong.
    """
    view, position, name = memoryview(content), len(_PNG_SIGNATURE), b""
    stream, inflated, expected = zlib.decompressobj(), 0, _rows_size(content[16:29])
    while name != b"IEND":
        start = position + 8
        if start > len(content):
            raise ValueError("it ends before its IEND chunk")
        length, name = struct.unpack(">I4s", view[position:start])
        end = start + length
        if view[end : end + 4] != zlib.crc32(view[position + 4 : end]).to_bytes(4, "big"):
            raise ValueError(f"the checksum of its {name.decode('latin-1')!r} chunk is wrong")
        data = view[start:end] if rows and name == b"IDAT" else b""
        while data and inflated <= expected:
            inflated += len(stream.decompress(data, _PIECE))
            data = stream.unconsumed_tail
        position = end + 4
    if rows and inflated > expected:
        raise ValueError("it holds more pixels than its header says")
    if rows and (inflated < expected or not stream.eof):  # zlib gets there only past the checksum
        raise ValueError("rows of pixels are missing")


def _rows_size(header: bytes) -> int:
    """How many bytes the rows of a PNG inflate to, by its IHDR: every row begins with the number of its filter."""
    width, height, bits, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    bits *= {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]  # channels
    sizes = [(width, height)]
    if interlaced:  # Adam7: seven images in one, each with an offset and a step of rows and columns
        passes = ((0, 8, 0, 8), (4, 8, 0, 8), (0, 4, 4, 8), (2, 4, 0, 4), (0, 2, 2, 4), (1, 2, 0, 2), (0, 1, 1, 2))
        sizes = [(len(range(x, width, dx)), len(range(y, height, dy))) for x, dx, y, dy in passes]
    return sum(h * (1 + (w * bits + 7) // 8) for w, h in sizes if w and h)


def check_train_ids(label: np.ndarray, path: Path) -> None:
    """Check that a label, H x W uint8, contains only trainIds 0-18 and 255.

    Raises:
        InputError: naming the file and the foreign values.
    """
    if (label + np.uint8(1)).max() > NUM_CLASSES:  # 255 becomes 0; a lookup table would take 20 times as long
        foreign = np.flatnonzero((np.bincount(label.ravel(), minlength=256) > 0) & ~VALID_TRAIN_IDS)
        raise InputError(
            f"{shown(path)}: has the value(s) {brief(foreign.tolist())}; expected the Cityscapes trainIds 0-18, or "
            "255 for ignored pixels; convert other ids first (see python -m data_prep list)"
        )


def encode_jpeg(image: np.ndarray) -> bytes:
    """A photograph, H x W x 3 uint8, as a JPEG of quality 95 with full colour resolution."""
    return simplejpeg.encode_jpeg(image, quality=95, colorsubsampling="444")


def encode_label(label: np.ndarray) -> bytes:
    """A label, H x W uint8, as a greyscale PNG whose rows are not filtered, which Pillow cannot be asked for.

    Filters help compressing photographs; of a label's long runs they make steps, and cost time in reading.
    """
    height, width = label.shape
    rows = np.pad(label, ((0, 0), (1, 0)))  # every row begins with the number of its filter: 0, none
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)  # 8 bits, greyscale, not interlaced
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 3)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def brief(items: Sequence[object]) -> str:
    """The first few items and the number of the others, for messages."""
    rest = len(items) - _SHOWN
    return ", ".join(str(item) for item in items[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
