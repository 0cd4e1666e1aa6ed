"""Image and label files, read strictly: what Pillow would bend into shape is refused here by name.

Pillow is generous. It opens 16-bit colour PNGs as 8-bit ones (only the high byte survives), it stretches 2-
and 4-bit greyscale to 0-255, and it turns a palette into colours on request. Harmless for a photograph, each
of these silently changes the class ids of a label. So bit depths are taken from the file itself, not from
Pillow's mode. And it shows a JPEG with damaged data as if nothing were amiss, grey or shifted from there on;
JPEGs are therefore decoded by simplejpeg, which refuses them, in four fifths of Pillow's time.

Nothing here needs torch, so that ``data_prep`` starts at once.
"""

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

VALID_TRAIN_IDS = np.zeros(256, bool)
VALID_TRAIN_IDS[:NUM_CLASSES] = True
VALID_TRAIN_IDS[IGNORED] = True

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SHOWN = 5  # so many files are named in one message; the rest are counted


@dataclass(frozen=True)
class Header:
    """What a file says of itself before its pixels are decoded: format, Pillow mode, bits, (W, H)."""

    format: str
    mode: str
    bits: int
    size: tuple[int, int]

    def __str__(self) -> str:
        return f"{self.bits}-bit {self.format} of mode {self.mode}, {self.size[0]} x {self.size[1]}"


def read_header(path: Path) -> Header:
    """Format, mode, bit depth and size, without decoding the pixels.

    Raises:
        InputError: if the file cannot be opened as an image.
    """
    try:
        with open(path, "rb") as file, Image.open(file) as image:
            file.seek(0)
            first = file.read(25)
            bits = first[24] if first.startswith(_PNG_SIGNATURE) else 8  # IHDR's bit depth
            return Header(image.format or "?", image.mode, bits, image.size)
    except Exception as error:  # Pillow raises nearly anything on damaged files
        raise InputError(f"{path}: cannot be read as an image ({error or type(error).__name__})") from error


def image_header(path: Path) -> Header:
    """The header of a photograph: 8-bit RGB or greyscale, JPEG or PNG.

    Raises:
        InputError: for 16 bits a channel, transparency, palettes, CMYK and other formats.
    """
    header = read_header(path)
    if header.format not in ("JPEG", "PNG") or header.mode not in ("RGB", "L") or header.bits > 8:
        raise InputError(f"{path}: is a {header}; an image must be an 8-bit RGB or greyscale JPEG or PNG; convert it")
    return header


def label_header(path: Path) -> Header:
    """The header of a label: a PNG with one channel of 8-bit ids, greyscale or palette indices.

    Raises:
        InputError: for colours, 16 bits, greyscale of fewer than 8 bits, and other formats.
    """
    header = read_header(path)
    # Palette indices of 1, 2 or 4 bits are read as they are; greyscale of that depth would be stretched.
    if header.format != "PNG" or not (header.mode == "P" or (header.mode == "L" and header.bits == 8)):
        raise InputError(
            f"{path}: is a {header}; a label must be a single-channel 8-bit PNG of class ids (mode L or P), "
            "not colours and not 16 bits; write the ids themselves"
        )
    return header


def read_image(path: Path) -> np.ndarray:
    """A photograph as H x W x 3 uint8, RGB; greyscale is repeated over the three channels.

    Rows and columns are as stored: an EXIF orientation is not applied, since the label knows nothing of it.

    Raises:
        InputError: if the file is no such image (see :func:`image_header`) or is damaged.
    """
    return _decode(path, image_header(path), "RGB")


def read_label(path: Path) -> np.ndarray:
    """The ids of a label file as H x W uint8, palette files as their indices; the values are not checked.

    Raises:
        InputError: if the file is no such label (see :func:`label_header`) or is damaged.
    """
    header = label_header(path)
    return _decode(path, header, header.mode)


def _decode(path: Path, header: Header, mode: str) -> np.ndarray:
    try:
        if header.format == "JPEG":
            return simplejpeg.decode_jpeg(path.read_bytes(), mode)
        with Image.open(path) as image:
            return np.array(image if mode == header.mode else image.convert(mode))  # writable, for torch
    except Exception as error:  # as in read_header
        raise InputError(f"{path}: is damaged or truncated ({error}); fetch or make it again") from error


def check_train_ids(label: np.ndarray, path: Path) -> None:
    """Check that a label, H x W uint8, holds nothing but trainIds 0-18 and 255.

    Raises:
        InputError: naming the file and the foreign values.
    """
    if (label + np.uint8(1)).max() > NUM_CLASSES:  # 255 becomes 0; a table of 256 answers would take 20 times as long
        foreign = np.flatnonzero((np.bincount(label.ravel(), minlength=256) > 0) & ~VALID_TRAIN_IDS)
        raise InputError(
            f"{path}: has the value(s) {brief(foreign.tolist())}; expected the Cityscapes trainIds 0-18, or "
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
