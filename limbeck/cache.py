"""What is built once and kept: simulators and libraries, in folders that only this user can write. Standard library
only."""

import contextlib
import os
import shutil
import stat
import tempfile
import time
from pathlib import Path

from limbeck.errors import InputError

BUILDING = ".build-"  # begins the name of a folder in which something is being built
_DAY = 86400.0  # seconds
_KEPT = 32  # files in a folder, of some megabytes


def folder(what: str) -> Path:
    """Return a folder for `what` ("simulators") that only this user can write; InputError where there is none."""
    for place in (Path.home() / ".cache" / "limbeck" / what, _shared() / what):
        with contextlib.suppress(OSError):
            place.mkdir(parents=True, exist_ok=True, mode=0o700)
            place.chmod(0o700)
            if is_own(place) and os.access(place, os.W_OK):
                return place
    raise InputError(f"no folder for {what}: neither the home's .cache/limbeck nor the temporary folder is yours")


def _shared() -> Path:
    place = Path(tempfile.gettempdir()) / f"limbeck-{os.getuid()}"
    place.mkdir(mode=0o700, exist_ok=True)
    return place if is_own(place) else Path(os.devnull)


def is_own(path: Path) -> bool:
    """Return whether the path is there, is no link, and only this user can write it."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return found.st_uid == os.getuid() and not stat.S_ISLNK(found.st_mode) and not found.st_mode & 0o022


def used(path: Path) -> None:
    """Note that a file of such a folder was used, and remove those that were used least lately."""
    os.utime(path)
    place = path.parent
    with contextlib.suppress(OSError):
        known = sorted((path for path in place.iterdir() if path.is_file()), key=lambda path: path.stat().st_mtime)
        for old in known[:-_KEPT]:
            old.unlink()
        for left in place.glob(f"{BUILDING}*"):  # of a process that was killed
            if time.time() - left.stat().st_mtime > _DAY:
                shutil.rmtree(left)
