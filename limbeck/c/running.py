"""A written net on this machine: compiled by its C compiler, kept in the cache, called through ctypes."""

import ctypes
import hashlib
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from limbeck import cache
from limbeck.c.write import Written
from limbeck.errors import InputError
from limbeck.integer.program import Program

Scores = Callable[[NDArray[np.uint8]], NDArray[np.int64]]
COMPILERS = ("gcc", "clang", "cc")
OPTIONS = ("-std=c99", "-O3", "-march=native", "-shared", "-fPIC")


def compiler() -> str | None:
    """Return this machine's C compiler; None where it has none."""
    return next((found for name in COMPILERS if (found := shutil.which(name))), None)


def build(written: Written) -> Path:
    """Return the net as a shared library, compiled once. InputError where there is no compiler, or it fails."""
    found = compiler()
    if found is None:
        raise InputError("a C file is run by compiling it, and there is no C compiler; apt-get install gcc")
    library = cache.folder("libraries") / f"{_digest(written, found)}.so"
    if not cache.is_own(library):
        with tempfile.TemporaryDirectory(prefix=cache.BUILDING, dir=library.parent) as temporary:
            folder = Path(temporary)
            (folder / f"{written.name}.c").write_text(written.source, encoding="utf-8")
            (folder / f"{written.name}.h").write_text(written.header, encoding="utf-8")
            made = folder / "net.so"
            compiled(found, [*OPTIONS, str(folder / f"{written.name}.c"), "-o", str(made)])
            made.chmod(0o700)
            made.replace(library)
    cache.used(library)
    return library


def compiled(command: str, arguments: list[str]) -> None:
    """Run a compiler; InputError with the first line of what it says where it fails."""
    done = subprocess.run([command, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        first = next(iter((done.stderr or done.stdout).splitlines()), f"exit code {done.returncode}")
        raise InputError(f"{command} can't compile the net: {first}")


def opened(program: Program, written: Written) -> Scores:
    """Return a function from uint8 images [N, channels, height, width] to scores [N, classes], by the compiled net."""
    run = ctypes.CDLL(str(build(written)))[f"{written.name}_run"]
    run.argtypes, run.restype = [ctypes.c_void_p, ctypes.c_void_p], ctypes.c_int
    classes = len(program.classes)

    def scores(images: NDArray[np.uint8]) -> NDArray[np.int64]:
        pixels = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
        found = np.zeros((len(images), classes), np.int32)
        for image, row in zip(pixels, found, strict=True):
            run(image.ctypes.data, row.ctypes.data)
        return found.astype(np.int64)

    return scores


def _digest(written: Written, found: str) -> str:
    """Name a library by its text, its compiler and the processor that it is compiled for."""
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
    whole = hashlib.sha256()
    for text in (written.source, written.header, version, repr(OPTIONS), platform.machine(), _features()):
        whole.update(f"{len(text)} {text}".encode())
    return whole.hexdigest()


def _features() -> str:
    """Return what the processor can do, as Linux has it; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line for line in lines if line.startswith(("flags", "Features", "isa"))), "")
