"""IDX files, MNIST's format: 2 zero bytes, type, number of axes, each axis as big-endian u32, the values."""

import gzip
import math
import zlib
from io import BufferedReader
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import InputError

MAX_BYTES = 2**31  # of one file, unpacked: MNIST has 47 million
_FREE, _MOST_RATIO = 2**26, 100  # bytes that any file may hold; more only where they were packed to a hundredth at best
_PIECE = 2**24  # bytes read at once


def find_idx(folder: Path, stem: str) -> Path | None:
    """Return the file `stem` names in `folder`: train-images-idx3-ubyte, or with a dot before idx, or gzipped."""
    names = (stem + end for stem in (stem, stem.replace("-idx", ".idx")) for end in ("", ".gz"))
    return next((folder / name for name in names if (folder / name).is_file()), None)


def read_idx(path: Path, axes: int) -> NDArray[np.uint8]:
    """Return the uint8 array of `axes` axes; InputError where the file is not exactly one.

    The header is checked against the limit and the file's length before the values are read.
    """
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            head = file.read(4 + 4 * axes)
            if len(head) < 4 + 4 * axes or head[:4] != bytes([0, 0, 8, axes]):
                raise InputError(f"{path} is not an IDX file of unsigned bytes with {axes} axes")
            shape = tuple(int(v) for v in np.frombuffer(head, ">u4", axes, 4))
            length = math.prod(shape)
            if length > MAX_BYTES:
                raise InputError(f"{path} claims to hold {length} bytes; the limit is {MAX_BYTES}")
            packed = path.stat().st_size
            if length > max(_FREE, _MOST_RATIO * packed):
                raise InputError(f"{path} claims to hold {length} bytes in {packed}; no images compress that well")
            values = bytearray(length)
            taken = _fill(file, memoryview(values))
            more = bool(file.read(1))
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} can't be read: {error}") from error
    if taken != length or more:
        raise InputError(f"{path} should hold {length} values and holds {'more' if more else taken}; fetch it again")
    return np.frombuffer(values, np.uint8).reshape(shape)


def _fill(file: gzip.GzipFile | BufferedReader, values: memoryview) -> int:
    """Read into all of `values`; return how many bytes there were."""
    done = 0
    while done < len(values) and (piece := file.read(min(_PIECE, len(values) - done))):
        values[done : done + len(piece)] = piece
        done += len(piece)
    return done


def read_idx_pair(images: Path, labels: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return uint8 images [N, H, W] and labels [N]; InputError where they are not of one number."""
    pixels, own = read_idx(images, 3), read_idx(labels, 1)
    if len(pixels) != len(own):
        raise InputError(f"{images} holds {len(pixels)} images and {labels} {len(own)} labels")
    if not pixels.size:
        raise InputError(f"{images} holds no images")
    return pixels, own
