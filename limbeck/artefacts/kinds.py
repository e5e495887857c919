"""One answer to "what lies at this path?", and one to "may a verb write there?". Standard library at import."""

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Literal

from limbeck.errors import InputError
from limbeck.runs import (
    DESIGN,
    ENVIRONMENT,
    EVALUATION,
    LABELS,
    LOCK,
    MODEL,
    OLD_MANIFEST,
    OPEN_SEAL,
    RECIPE,
    STATE,
    changed,
    read_sealed,
)

Kind = Literal[
    "nothing", "dead link", "special file", "empty folder", "folder", "data folder", "file",
    "run", "label store", "Design", "Program", "ONNX file", "ExecuTorch file", "C file", "C header", "page", "report",
    "evaluation",
]  # fmt: skip
Written = Literal[
    "run", "label store", "Design", "Program", "ONNX file", "ExecuTorch file", "C file", "C header", "page", "report",
    "evaluation", "speeds", "repository", "table", "recipe",
]  # fmt: skip

_SUFFIXES: dict[str, Kind] = {".program": "Program", ".onnx": "ONNX file", ".pte": "ExecuTorch file", ".c": "C file"}
_TOLD: dict[str, tuple[Kind, ...]] = {".html": ("report", "page"), ".c": ("C file",), ".h": ("C header",)}
_ENDINGS: dict[str, Kind] = {**_SUFFIXES, **{ending: kinds[0] for ending, kinds in _TOLD.items()}}
_FOLDERS = {"run", "label store", "Design", "evaluation", "speeds", "repository"}
_HEAD = 4096  # bytes by which a file's kind is recognised
_MARKS: dict[Kind, bytes] = {
    "report": b"Limbeck report</title>",
    "C file": b" written by Limbeck ",
    "C header": b" by Limbeck ",
    "page": b"Limbeck page ",
}
_SEAL = OPEN_SEAL.rstrip("0").encode()
_FEW = 500  # entries that are read to recognise a folder of images


def kind_of(path: str | Path) -> Kind:
    """Return what lies at `path`, links followed: an artefact of Limbeck, broken or whole, or what else it is.

    Files are recognised by their endings, as users name them; folders by the files that only Limbeck writes. InputError
    where the path can't be opened.
    """
    path = Path(path)
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "dead link" if path.is_symlink() else "nothing"
    except (OSError, ValueError) as error:
        if getattr(error, "errno", None) == errno.ELOOP:
            return "dead link"
        raise InputError(f"{str(path)[:200]!r} can't be opened: {_why(error)}; give another path") from error
    if stat.S_ISDIR(mode):
        return _kind_of_folder(path)
    if not stat.S_ISREG(mode):
        return "special file"
    if path.suffix in _TOLD:  # by their first lines: others have these endings
        return next((kind for kind in _TOLD[path.suffix] if _starts(path, _MARKS[kind])), "file")
    return _SUFFIXES.get(path.suffix, "file")


def named_kind(spec: str) -> Kind:
    """Return what lies at `spec`, or what its ending says that it should be where nothing does: a user's model."""
    found = kind_of(spec)
    return _SUFFIXES.get(Path(spec).suffix, found) if found in ("nothing", "dead link", "special file") else found


def _why(error: Exception) -> str:
    return (getattr(error, "strerror", "") or str(error)).lower()


def _kind_of_folder(path: Path) -> Kind:
    if _starts(path / MODEL, b'"format"', b'"name"', b'"arguments"') or _is_begun(path):
        return "run"
    if any(_starts(path / name, b'"format"', b'"fingerprint"', b'"data"') for name in (LABELS, OLD_MANIFEST)):
        return "label store"
    if any(_starts(path / name, b'"version"', b'"identity"', b'"part"') for name in (DESIGN, OLD_MANIFEST)):
        return "Design"
    if _starts(path / EVALUATION, b'"model"', b'"net"', b'"split"'):
        return "evaluation"
    try:
        if not any(path.iterdir()):
            return "empty folder"
        return "data folder" if any(islice(_images(path), 1)) else "folder"
    except OSError as error:
        raise InputError(f"{path} can't be read: {_why(error)}; give another path") from error


def _is_begun(path: Path) -> bool:
    """Return whether a run was begun here; a recipe alone may be the user's."""
    beside = _starts(path / ENVIRONMENT, b'"versions"') or any((path / name).is_file() for name in (STATE, LOCK))
    return beside and _starts(path / RECIPE, b"verb = ")


def _head(path: Path) -> bytes:
    """Return a regular file's first bytes; none of what can't be read."""
    with contextlib.suppress(OSError, ValueError):
        if stat.S_ISREG(path.stat().st_mode):
            with path.open("rb") as file:
                return file.read(_HEAD)
    return b""


def _starts(path: Path, *words: bytes) -> bool:
    head = _head(path)
    return bool(head) and all(word in head for word in words)


def _images(folder: Path) -> Iterator[Path]:
    """Yield images among the first entries of a folder and of its folders' folders."""
    from limbeck.images.images import extensions

    def few(place: Path) -> list[Path]:
        with contextlib.suppress(OSError):
            return list(islice(place.iterdir(), _FEW))
        return []

    level = [folder]
    for _ in range(3):
        level = [path for place in level for path in few(place) if not path.name.startswith(".")][:_FEW]
        yield from (path for path in level if path.suffix.lower() in extensions())


# ---- writing ----------------------------------------------------------------------------------------------


def may_write(
    out: str | None,
    kind: Written,
    *,
    flag: str = "--out",
    inputs: Iterable[str | None] = (),
    data: Iterable[str | None] = (),
) -> None:
    """Refuse, in a sentence, to write a `kind` at `out` where anything of the user's would be lost or changed.

    A verb may write where there is nothing, into an empty folder, and over what is of the same kind: a run and a label
    store check themselves whether they are continued, a Design must be as it was written. `inputs` name what the verb
    reads, `data` the sets that it reads: these are kept, and no folder of images gets another file. None: it writes
    nothing.
    """
    if out is None:
        return
    if not out or "\0" in out:
        raise InputError(f"{flag} {out!r} can't be a path; choose another")
    place, known = Path(out), f"{flag} {out}"
    _check_way(place, known)
    _check_name(place, known, kind)
    found = kind_of(place)
    for name in inputs:
        _check_input(place, known, kind, name)
    for name in data:
        _check_data(place if kind in _FOLDERS else place.parent, known, name)
    _check_around(place, known)
    match found:
        case "nothing":
            _check_parent(place, known)
        case "empty folder" if kind in _FOLDERS:
            _check_writable(place, known)
        case _ if found == kind and kind not in ("repository",):
            _check_writable(place, known)
            _check_own(place, known, found)
        case "special file":
            raise InputError(f"{known} is a device or a pipe, not a file; choose another")
        case _ if found in ("file", "report", "page", "C header") or found in _SUFFIXES.values():
            what = f"is {article(found)}" if found != "file" else "is there already"
            raise InputError(f"{known} {what} and stays as it is; choose another, or remove it")
        case _:
            inside = f"; name a file, such as {place / _example(kind)}" if kind not in _FOLDERS else ""
            named = "a folder that is not empty" if found == "folder" else article(found)
            raise InputError(f"{known} is {named} and stays as it is{inside or '; choose another'}")


def article(kind: str) -> str:
    """Return the kind with its article; "nothing" has none."""
    if kind == "nothing":
        return "not there"
    return f"{'an' if kind[0] in 'aeiouAEIOU' else 'a'} {kind}"


def _example(kind: Written) -> str:
    named = {
        "report": "report.html",
        "page": "page.html",
        "C header": "net.h",
        "table": "table.csv",
        "recipe": "recipe.toml",
    }
    return named.get(kind) or next(f"net{ending}" for ending, name in _SUFFIXES.items() if name == kind)


def _check_way(place: Path, known: str) -> None:
    """Refuse a way back out of what is not there: once it was made, `gone/../photos` would be the user's photos."""
    for number, part in enumerate(place.parts):
        if part == ".." and not (before := Path(*place.parts[:number])).is_dir():
            raise InputError(f"{known} leads through {before}, which is not there; leave it out")


def _check_name(place: Path, known: str, kind: Written) -> None:
    if kind in _FOLDERS and (other := _ENDINGS.get(place.suffix)):
        end = place.suffix
        raise InputError(f"{known} ends as {article(other)} does, but {article(kind)} is a folder; leave {end} out")
    if place.is_symlink() and (kind not in ("run", "label store", "evaluation") or not place.is_dir()):
        raise InputError(f"{known} is a link, which would be replaced; give the path that it leads to")


def _check_input(place: Path, known: str, kind: Written, name: str | None) -> None:
    for spelt in {name, (name or "").rpartition("@")[2], (name or "").removeprefix("local-dir:")} - {None, ""}:
        with contextlib.suppress(OSError, ValueError, RuntimeError):
            read = Path(str(spelt)).resolve(strict=True)
            if read == place.resolve() or (kind == "Design" and read.is_relative_to(place.resolve())):
                raise InputError(f"{known} is also an input, {name}; choose another")


def _check_data(place: Path, known: str, name: str | None) -> None:
    """Refuse a folder, to be made, among a set's images, where it would be taken for a class."""
    if not name or not Path(name).is_dir() or (place.is_dir() and any(place.iterdir())):
        return
    from limbeck.images.folder import image_folders
    from limbeck.images.idx import find_idx

    if any(find_idx(Path(name), stem) for stem in ("train-images-idx3-ubyte", "t10k-images-idx3-ubyte")):
        return
    for folder in image_folders(Path(name)):
        if place.resolve().is_relative_to(folder.resolve()):
            raise InputError(f"{known} lies in {folder}, among the images; choose a place outside")


def _check_around(place: Path, known: str) -> None:
    for folder in Path(os.path.abspath(place)).parents:
        if (found := kind_of(folder)) in ("label store", "Design"):
            raise InputError(f"{known} lies in {folder}, {article(found)}; choose a place outside")


def _check_parent(place: Path, known: str) -> None:
    """Refuse a place whose nearest folder can't be written."""
    for folder in Path(os.path.abspath(place)).parents:
        found = kind_of(folder)
        if found == "nothing":
            continue
        if not folder.is_dir():
            raise InputError(f"{known} can't be made: {folder} is no folder; choose another")
        _check_writable(folder, known)
        break


def _check_writable(place: Path, known: str) -> None:
    """A mode without any right to write is a wish, though root could pass it by."""
    try:
        mode = place.stat().st_mode
    except OSError as error:
        raise InputError(f"{known}: {_why(error)}; choose another") from error
    if not mode & 0o222 or not os.access(place, os.W_OK):
        raise InputError(f"{known} can't be written: {place} is read-only; choose another")


def _check_own(place: Path, known: str, kind: Kind) -> None:
    """Refuse to replace what only looks like a `kind`, or holds what Limbeck did not put there."""
    match kind:
        case "Program":
            own = _starts(place, b'"limbeck.program"')
        case "ONNX file":
            own = b"limbeck" in _head(place)[:64]
        case "ExecuTorch file":
            own = _head(place)[4:6] == b"ET" and b"limbeck" in place.read_bytes()
        case "C file" | "C header":
            own = _starts(place, b" Limbeck ", _SEAL)
            _check_unchanged(place, known)
        case "Design":
            from limbeck.fpga.bitstream import MADE

            if strange := changed(place, DESIGN, MADE):
                raise InputError(f"{known} is a Design with changes of yours ({strange}), which stay; choose another")
            return
        case "evaluation":
            strange = next((path.name for path in sorted(place.iterdir()) if path.name not in EVALUATED), "")
            if strange:
                raise InputError(f"{known} holds {strange}, which no evaluation writes; choose another")
            return
        case _:
            return
    if not own:
        raise InputError(f"{known} is not a {kind} of Limbeck's and stays as it is; choose another, or remove it")


def _check_unchanged(place: Path, known: str) -> None:
    try:
        read_sealed(place)
    except InputError as error:
        raise InputError(f"{known} has changes of yours, which stay; choose another") from error


_PLOTS = ("confusion", "reliability", "curves")
EVALUATED = frozenset(
    {EVALUATION, "per_class.csv", "confusion.csv", "predictions.csv"}
    | {f"{name}.{ending}" for name in _PLOTS for ending in ("png", "svg")}
)
