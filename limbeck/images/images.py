"""Image files: any size and mode, upright, as 8-bit L or RGB; what can't be read is named in a sentence."""

import contextlib
import functools
import importlib
import io
import threading
import warnings
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from limbeck.errors import InputError
from limbeck.images.views import MAX_SIDE, WHITE

FORMATS = {  # Pillow's names of what is read, and the usual endings; Pillow knows others, some of which run programs
    "AVIF": (".avif", ".avifs"),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "HEIF": (".heic", ".heif", ".hif"),  # by the package pillow-heif
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "JPEG2000": (".jp2", ".j2k", ".jpf", ".jpx", ".j2c"),
    "MPO": (".mpo",),
    "PNG": (".png", ".apng"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "QOI": (".qoi",),
    "TGA": (".tga",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}
MAX_PIXELS = 89_478_485  # Pillow's limit, over which a file may be a decompression bomb
LARGE = 1 << 23  # pixels: eight threads with one each hold some 0.4 GB
_MARKED = 4096  # bytes at either end of a file
_ONE = threading.Lock()
_BOMB = f"over the limit of {MAX_PIXELS} pixels"
_ORIENTATION = 274  # the EXIF tag
_GREY_MODES = ("1", "L", "LA", "La", "I")  # and I;16, I;16B, ...


@dataclass(frozen=True)
class Header:
    """What a look at an image file tells."""

    height: int  # pixels, upright
    width: int
    mode: str  # Pillow's
    length: int  # bytes
    mark: int = 0  # CRC-32 of the file's first and last bytes, which no two photos share

    @property
    def grey(self) -> bool:
        return self.mode.split(";")[0] in _GREY_MODES


@functools.cache
def formats() -> tuple[str, ...]:
    """Return those of FORMATS that are read here, HEIF where pillow-heif is installed; MPO, which the reader of JPEG
    takes along, is none of its own."""
    Image.init()
    with contextlib.suppress(ImportError):
        importlib.import_module("pillow_heif").register_heif_opener()
    return tuple(name for name in FORMATS if name in Image.OPEN)


@functools.cache
def extensions() -> frozenset[str]:
    """Return what the files may end in that are read here."""
    return frozenset(ending for name in (*formats(), "MPO") for ending in FORMATS[name])


@contextlib.contextmanager
def one_large(pixels: int) -> Iterator[None]:
    """Let threads hold decoded images of this many pixels: small ones together, of large ones one at a time, so that
    memory grows with the largest image and not with the number of threads."""
    with _ONE if pixels > LARGE else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def decoding(name: str) -> Iterator[None]:
    """Turn whatever a decoder raises into an InputError that names the image."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, EOFError and more
        raise InputError(
            f"{name} can't be decoded: {_reason(error)}; list all broken files with `limbeck data`, then remove them"
        ) from error


def open_image(data: bytes, channels: int, white: int = WHITE) -> Image.Image:
    """Return the image in mode L (1 channel) or RGB (3), upright; its pixels may be decoded only when used.

    Alpha is dropped, as torchvision and timm drop it; 16 bits are scaled to 8, `white` becoming 255; of several frames
    the first counts.
    Raises what decoders raise, and ValueError for too many pixels.
    """
    image = Image.open(io.BytesIO(data), formats=formats())
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(_BOMB)
    return to_channels(ImageOps.exif_transpose(image) if _orientation(image) != 1 else image, channels, white)


def to_channels(image: Image.Image, channels: int, white: int = WHITE) -> Image.Image:
    """Return the image in mode L (1 channel) or RGB (3); ValueError where its pixels have no known range."""
    mode = "L" if channels == 1 else "RGB"
    if image.mode == mode:
        return image
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range, save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        image = _eight_bits(image, white)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert(mode)


def _eight_bits(image: Image.Image, white: int) -> Image.Image:
    """Return 16-bit grey as mode L: `white` and above become 255, the others in proportion, rounded to nearest."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(f"pixels from {values.min()} to {values.max()} don't fit 16 bits, save it with 8 or 16 bits")
    return Image.fromarray(np.minimum((255 * values + white // 2) // white, 255).astype(np.uint8))


def headers(paths: list[Path]) -> Iterator[Header | str]:
    """Yield each file's header, or why it can't be used. Reads headers in threads; the pixels stay undecoded,
    except where a file does not end as its format says: that one is decoded, as it may be cut off."""
    with bombs_raise(), ThreadPoolExecutor(8) as pool:
        yield from pool.map(_header, paths)


def _header(path: Path) -> Header | str:
    try:
        with path.open("rb") as file:
            return look(file)
    except Exception as error:  # as in `decoding`
        return _reason(error)


def look(file: BinaryIO) -> Header:
    """Return the header of an image file, decoding the file where its end is missing; raises as decoders do."""
    length = file.seek(0, io.SEEK_END)
    if not length:
        raise ValueError("empty")
    file.seek(0)
    image = Image.open(file, formats=formats())
    height, width = image.height, image.width
    if _orientation(image) >= 5:
        height, width = width, height
    if max(height, width) > MAX_SIDE:
        raise ValueError(f"a side over {MAX_SIDE} pixels")
    header = Header(height, width, image.mode, length, _mark(file, length))
    if not _ends_well(file, image.format, length):
        file.seek(0)
        with one_large(height * width):
            Image.open(file, formats=formats()).load()
    return header


def _mark(file: BinaryIO, length: int) -> int:
    file.seek(0)
    mark = zlib.crc32(file.read(_MARKED))
    file.seek(max(0, length - _MARKED))
    return zlib.crc32(file.read(_MARKED), mark)


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 for another number, as Pillow has it. Pillow turns TIFF itself."""
    if image.format == "TIFF" or "exif" not in image.info:
        return 1
    found = image.getexif().get(_ORIENTATION, 1)
    return found if found in range(1, 9) else 1


def _ends_well(file: BinaryIO, kind: str | None, length: int) -> bool:
    """Whether the file ends as a whole JPEG, PNG or WebP does; False for other formats."""
    file.seek(max(0, length - 12))
    tail = file.read()
    match kind:
        case "JPEG" | "MPO":
            return tail.rstrip(b"\0").endswith(b"\xff\xd9")
        case "PNG":
            return tail[4:8] == b"IEND"
        case "WEBP":
            file.seek(4)
            return int.from_bytes(file.read(4), "little") + 8 <= length
        case _:
            return False


@contextlib.contextmanager
def bombs_raise() -> Iterator[None]:
    """Make Pillow's warning of a decompression bomb an error, in all threads."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def _reason(error: Exception) -> str:
    match error:
        case Image.DecompressionBombWarning() | Image.DecompressionBombError():
            return _BOMB
        case UnidentifiedImageError():
            return "not an image"
        case OSError() if "truncated" in str(error).lower():
            return "truncated"
        case OSError() if error.strerror:
            return error.strerror.lower()
        case _:
            return str(error) or type(error).__name__
