"""Images and labels: what is damaged is refused, whatever Pillow makes of it; and which way up a photograph is."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from data_prep.synthia import read_classes
from dglab.data.streets import STREETS, render
from dglab.utils.errors import InputError
from dglab.utils.images import encode_label, read_header, read_image, read_label, read_upright

H, W = 24, 40
RNG = np.random.default_rng(0)
LABEL = np.repeat(RNG.integers(0, 19, (H, W // 8), np.uint8), 8, axis=1)
PAINT = RNG.integers(0, 256, (H, W, 3), np.uint8)


def png(pixels: np.ndarray, palette: bool = False) -> bytes:
    image = Image.fromarray(pixels)
    if palette:
        image.putpalette(RNG.integers(0, 256, 768).tolist())
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def rows_of(pixels: np.ndarray) -> bytes:
    return b"".join(b"\0" + row.tobytes() for row in pixels)


def written(*idat: bytes, bits: int = 8, colour: int = 0) -> bytes:
    """A PNG whose chunks are sound, whatever is in them."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", W, H, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunk(b"IDAT", part) for part in idat) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["ours", "Pillow's", "palette", "image", "image, read for training"])
def test_no_changed_byte_of_a_png_is_read(tmp_path: Path, kind: str) -> None:
    """Each bit of 1,000 bytes or of all: refused, or, outside of what the pixels depend on, the same pixels."""
    contents = {"ours": encode_label(LABEL), "Pillow's": png(LABEL), "palette": png(LABEL, palette=True)}
    content, expected = contents.get(kind, png(PAINT)), LABEL if kind in contents else PAINT
    path, refused, tries = tmp_path / "a.png", 0, 0
    for position in np.linspace(0, len(content) - 1, min(len(content), 1000)).astype(int):
        changed = bytearray(content)
        changed[position] ^= 1 << (position % 8)
        path.write_bytes(changed)
        tries += 1
        try:
            read = read_label(path) if kind in contents else read_image(path, thorough="training" not in kind)
        except InputError as error:
            assert str(path) in str(error)
            refused += 1
        else:
            np.testing.assert_array_equal(read, expected)
    assert refused == tries  # no byte is free of a checksum


def test_pillow_alone_reads_other_classes(tmp_path: Path) -> None:
    """Why the checksums are looked at: there is a bit in a label that changes a third of it, and Pillow is silent."""
    label = render(STREETS["G"], "train", 0, height=180, width=240).label
    path, content, silent = tmp_path / "a.png", png(label), 0
    for position in range(50, len(content) - 20, 5):
        changed = bytearray(content)
        changed[position] ^= 4
        path.write_bytes(changed)
        try:
            with Image.open(path) as image:
                silent += (np.asarray(image) != label).any()
        except (OSError, SyntaxError, ValueError):  # Pillow's own refusals
            pass
        with pytest.raises(InputError, match="a.png"):
            read_label(path)
    assert silent


def test_the_checksum_of_all_rows_is_looked_at(tmp_path: Path) -> None:
    stream = zlib.compress(rows_of(LABEL))
    wrong = stream[:-1] + bytes([stream[-1] ^ 1])
    path = tmp_path / "a.png"
    for idat, word in (((wrong,), "incorrect data check"), ((stream[:-4],), "rows of pixels are missing")):
        path.write_bytes(written(*idat))
        with pytest.raises(InputError, match=word):
            read_label(path)
        with pytest.raises(InputError, match=word):
            read_image(path, thorough=True)
    path.write_bytes(written(stream[:9], b"", stream[9:]))  # in several chunks, as large files are
    np.testing.assert_array_equal(read_label(path), LABEL)


def test_a_missing_or_exchanged_chunk_of_pixels_is_found(tmp_path: Path) -> None:
    stream = zlib.compress(rows_of(RNG.integers(0, 19, (H, W), np.uint8)), 0)  # stored, so that any part can be read
    parts = [stream[i : i + 100] for i in range(0, len(stream), 100)]
    for chosen in (parts[:3] + parts[4:], parts[:3] + [parts[4], parts[3]] + parts[5:]):
        (tmp_path / "a.png").write_bytes(written(*chosen))
        with pytest.raises(InputError, match="damaged or truncated"):
            read_label(tmp_path / "a.png")


def test_more_pixels_than_the_header_says_are_not_inflated(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(written(zlib.compress(bytes(200_000_000), 9)))
    with pytest.raises(InputError, match="more pixels than its header says"):
        read_label(tmp_path / "a.png")


def test_a_damaged_16_bit_label_is_refused(tmp_path: Path) -> None:
    stream = zlib.compress(rows_of(np.full((H, W * 3), 7, ">u2")))
    path = tmp_path / "a.png"
    path.write_bytes(written(stream, bits=16, colour=2))
    assert (read_classes(path) == 7).all()
    for position in range(len(written(stream, bits=16, colour=2))):
        changed = bytearray(written(stream, bits=16, colour=2))
        changed[position] ^= 1
        path.write_bytes(changed)
        with pytest.raises(InputError, match="a.png"):
            read_classes(path)


def interlaced(pixels: np.ndarray) -> bytes:
    """Adam7 by its definition, a greyscale PNG whose rows are not filtered."""
    place = np.array([[1, 6, 4, 6, 2, 6, 4, 6], [7] * 8, [5, 6] * 4, [7] * 8,
                      [3, 6, 4, 6, 3, 6, 4, 6], [7] * 8, [5, 6] * 4, [7] * 8])  # fmt: skip
    height, width = pixels.shape
    of_pass = np.tile(place, (height // 8 + 1, width // 8 + 1))[:height, :width]
    rows = b""
    for number in range(1, 8):
        for row, chosen in zip(pixels, of_pass == number, strict=True):
            rows += b"\0" + row[chosen].tobytes() if chosen.any() else b""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 1))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(24, 40), (1, 1), (3, 2), (5, 9), (9, 5), (8, 1), (2, 8)])
def test_interlaced_labels_are_read(tmp_path: Path, size: tuple[int, int]) -> None:
    label = RNG.integers(0, 19, size, np.uint8)
    (tmp_path / "a.png").write_bytes(interlaced(label))
    np.testing.assert_array_equal(read_label(tmp_path / "a.png"), label)


def test_a_header_that_is_not_of_these_pixels_is_refused(tmp_path: Path) -> None:
    """With sound checksums: fewer bits, fewer rows, more columns, which Pillow would make something of."""
    content = png(LABEL, palette=True)
    for width, height, bits in ((W, H, 4), (W, H, 2), (W, H - 1, 8), (W, H + 1, 8), (W - 1, H, 8), (2 * W, H // 2, 8)):
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 3, 0, 0, 0))
        (tmp_path / "a.png").write_bytes(content[:8] + header + content[33:])
        with pytest.raises(InputError, match="a.png"):
            read_label(tmp_path / "a.png")


def test_1_bit_palette_labels_are_read(tmp_path: Path) -> None:
    image = Image.fromarray(LABEL % 2).convert("P")
    image.putdata((LABEL % 2).ravel().tolist())
    image.putpalette([0, 0, 0, 255, 255, 255])
    image.save(tmp_path / "a.png", bits=1)
    assert read_header(tmp_path / "a.png").bits == 1
    np.testing.assert_array_equal(read_label(tmp_path / "a.png"), LABEL % 2)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_turned_as_pillow_turns_it(tmp_path: Path, suffix: str, orientation: int) -> None:
    path, exif = tmp_path / f"a.{suffix}", Image.Exif()
    exif[0x0112] = orientation
    smooth = np.mgrid[:H, :W][0][..., None].repeat(3, 2).astype(np.uint8) * 4
    smooth[:4, :8] = 255
    Image.fromarray(smooth).save(path, exif=exif)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image)).astype(int)
        stored = np.asarray(image).astype(int)
    upright, turned = read_upright(path)
    assert turned == (orientation > 1)
    assert upright.shape == expected.shape and np.abs(upright - expected).max() <= 1
    assert np.abs(read_image(path) - stored).max() <= 1
    assert read_header(path).orientation == orientation


def test_an_orientation_that_is_none_is_no_fault(tmp_path: Path) -> None:
    for exif in (b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0", b"garbage"):
        Image.fromarray(PAINT).save(tmp_path / "a.jpg", exif=exif)
        assert read_header(tmp_path / "a.jpg").orientation == 1
        assert not read_upright(tmp_path / "a.jpg")[1]
