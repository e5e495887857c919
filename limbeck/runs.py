"""Files on disk: they appear whole or not at all, and say when they have rotted; run folders. Standard library only,
so that every folder may use it."""

import contextlib
import csv
import fcntl
import glob
import hashlib
import io
import json
import math
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from limbeck.errors import InputError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_PARTIAL = ".partial-"  # begins the name of what is being written

# The files by which folders are known.
RECIPE, ENVIRONMENT, STATE, RESULTS, MODEL = (
    "recipe.toml", "environment.json", "state.pt", "results.json", "model.json"
)  # fmt: skip
LABELS, DESIGN, EVALUATION = "labels.json", "design.json", "evaluation.json"
OLD_MANIFEST = "manifest.json"  # of a label store and of a Design, in Limbeck 0.1.0
LOCK = ".lock"
MOST_JSON = 1 << 28  # bytes


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is synced and renamed to `path`, else it is removed.

    A reader sees the old file or the new one, never a part. A new file has the rights that the user's umask gives, a
    replaced one keeps its own. A full disk or a folder that can't be written raises InputError and leaves the old
    file as it was.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary, handle = _beside(path)
        if path.exists():
            temporary.chmod(stat.S_IMODE(path.stat().st_mode))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot write {path}: {_why(error)}; choose another --out") from error
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise InputError(f"cannot write {path}: {_why(error)}; nothing was changed") from error
        raise
    finally:
        os.close(handle)


def _beside(path: Path) -> tuple[Path, int]:
    """Return an empty file to write `path` to, open and, where the file system can, locked. It is what a killed process
    left, if there is that: so nothing is left for longer than until the command is run again."""
    named = path.with_name(f"{_PARTIAL}{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}{path.suffix}")
    handle = os.open(named, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o666)
    with contextlib.suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(handle), named.stat()):  # else another process has just given it its name
            os.ftruncate(handle, 0)
            return named, handle
    os.close(handle)
    other = path.with_name(f"{_PARTIAL}{secrets.token_hex(8)}{path.suffix}")
    return other, os.open(other, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


@contextlib.contextmanager
def building(out: Path, flag: str = "--out") -> Iterator[Path]:
    """Yield a new folder beside `out`; on success it takes the place of `out`, else it is removed.

    A reader sees the old folder, the new one or, for a moment, none; never a mixture. What a process that was killed
    left beside `out` is swept away. InputError where that can't be written.
    """
    out = Path(os.path.realpath(out)) if out.name == ".." else Path(os.path.realpath(out.parent), out.name)
    prefix = f"{_PARTIAL}{out.name}-"
    folder = out.with_name(f"{prefix}{secrets.token_hex(8)}")
    with contextlib.ExitStack() as held:
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            _sweep(out.parent, prefix)
            folder.mkdir()
            held.callback(shutil.rmtree, folder, ignore_errors=True)
            _hold(folder, held)
        except (OSError, ValueError) as error:
            raise InputError(f"cannot write {out}: {_why(error)}; choose another {flag}") from error
        yield folder
        old = folder.with_name(f"{folder.name}-old")
        try:
            if out.exists():
                out.rename(old)
                held.callback(shutil.rmtree, old, ignore_errors=True)
            folder.rename(out)
        except OSError as error:
            if old.exists() and not out.exists():
                old.rename(out)
            raise InputError(f"cannot write {out}: {_why(error)}; nothing was changed") from error


def _hold(folder: Path, held: contextlib.ExitStack) -> None:
    """Lock the folder until `held` ends, or the process; BlockingIOError where another process has it."""
    handle = os.open(folder, os.O_RDONLY)
    held.callback(os.close, handle)
    with contextlib.suppress(OSError) if _lockless(handle) else contextlib.nullcontext():
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _lockless(handle: int) -> bool:
    """Return whether the file system knows no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return False


def _sweep(place: Path, prefix: str) -> None:
    """Remove folders that were being built when their process was killed."""
    for left in place.glob(f"{glob.escape(prefix)}*"):
        with contextlib.ExitStack() as held, contextlib.suppress(OSError):
            _hold(left, held)
            shutil.rmtree(left)


# ---- seals ------------------------------------------------------------------------------------------------

_SEAL = b"limbeck-sha256:"
OPEN_SEAL = _SEAL.decode() + 64 * "0"
"""Stands in a document where its seal is to be."""


def sealed(data: bytes, rest: bytes | memoryview = b"") -> bytes:
    """Return `data` with the SHA-256 of all of it, its one OPEN_SEAL and the `rest` that follows included, in the
    place of the zeros."""
    if data.count(_SEAL) != 1:
        raise InputError(f"a name in this file contains {_SEAL.decode()!r}, which marks its check sum; choose another")
    whole = hashlib.sha256(data)
    whole.update(rest)
    return data.replace(OPEN_SEAL.encode(), _SEAL + whole.hexdigest().encode())


def check_seal(data: bytes, path: Path | str) -> None:
    """Raise InputError where `data`, what the file holds, is not what was sealed; 0.1.0 sealed nothing."""
    place = data.find(_SEAL)
    if place < 0:
        return
    first, last = place + len(_SEAL), place + len(OPEN_SEAL)
    whole = hashlib.sha256(data[:first] + 64 * b"0")
    whole.update(memoryview(data)[last:])
    if whole.hexdigest().encode() != data[first:last]:
        raise InputError(f"{path} is damaged: its SHA-256 is not the one that it was written with; make it again")


def read_sealed(path: Path | str) -> bytes:
    """Return what the file holds; InputError where it is missing, no file, or damaged."""
    data = _bytes_of(Path(path))
    check_seal(data, path)
    return data


def _bytes_of(path: Path, most: int | None = None) -> bytes:
    """Return a regular file's bytes; InputError for another thing, and for more than `most` of them."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise InputError(f"{path} is no file")
        if most is not None and found.st_size > most:
            raise InputError(f"{path} has {found.st_size:,} bytes; the limit is {most:,}")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} can't be read: {_why(error)}") from error


def digests(folder: Path, without: str = "") -> dict[str, str]:
    """Return the SHA-256 of every file below the folder but the one that is to hold them, by its path in it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    named = {path.relative_to(folder).as_posix(): path for path in files}
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in named.items() if name != without}


def changed(folder: Path, document: str, made: Collection[str] = ()) -> str:
    """Return what of the folder is not as its `document` ("files": path -> SHA-256) says, in a few words; empty where
    all is. Files in its folders whose names are among `made` may be there or not."""
    if not (folder / document).is_file():
        return f"no {document} to compare it with"
    try:
        known = read_json(folder / document).get("files")
    except InputError:
        return f"{document} is broken"
    if not isinstance(known, dict):
        return f"{document} lists no files"
    links = next((path for path in folder.rglob("*") if path.is_symlink()), None)
    if links is not None:
        return f"{links.relative_to(folder)} is a link"
    found = digests(folder, document)
    for name in sorted(known.keys() | found.keys()):
        if known.get(name) != found.get(name) and not (name not in known and "/" in name and Path(name).name in made):
            return f"{name} is {'new' if name not in known else 'missing' if name not in found else 'changed'}"
    return ""


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Write `data` to `path` atomically."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically, as UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:  # noqa: ANN401 - whatever json takes
    """Write `value` to `path` atomically, as indented JSON."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_sealed(path: Path, document: dict[str, Any]) -> None:
    """Write `document` to `path` atomically, as indented JSON that ends with its own SHA-256; read_json checks it."""
    text = json.dumps({**document, SEAL: OPEN_SEAL}, indent=2, ensure_ascii=False) + "\n"
    write_bytes(path, sealed(text.encode()))


SEAL = "seal"  # the key of the check sum in a JSON document


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON file's object, without its seal; InputError where it is missing, broken or damaged."""
    data = _bytes_of(Path(path), MOST_JSON)
    check_seal(data, path)
    try:
        found = json.loads(data.decode("utf-8-sig"))
    except ValueError as error:
        raise InputError(f"{path} is not readable JSON: {error}") from error
    except RecursionError as error:
        raise InputError(f"{path} is not readable JSON: it is nested too deep") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} must hold one JSON object; make it again")
    found.pop(SEAL, None)
    return found


Tell = Callable[[str, dict[str, Any]], None]
"""How a verb reports its progress: an event's name ("step", "epoch", "note", ...) and its values."""


def silent(event: str, values: dict[str, Any]) -> None:
    """The Tell of a caller who does not want to hear."""


RECIPES = Path(__file__).parent / "recipes"  # those that ship with Limbeck
_LEFT = (_PARTIAL, LOCK)  # begin the names of what a process that was killed early may leave
_MADE = ("tensorboard/events.out.tfevents.*", "candidates/*.json", "candidates/*.npy")  # what may lie in its folders
_LOCKS: dict[tuple[int, Path], int] = {}  # of each process and run that it writes: the open lock
_MAY_DIFFER = {"out", "resume", "workers", "track", "download"}  # between a run and its resumption
_FINGERPRINTED = {"data", "target"}  # may be spelt otherwise: their images are compared


def to_toml(settings: dict[str, Any], comment: str = "") -> str:
    """Return flat settings as TOML; None is left out, for it is a default. Values: str, bool, int, float, lists."""
    lines = [f"# {line}" for line in comment.splitlines()]
    return "\n".join([*lines, *(f"{key} = {_toml(v)}" for key, v in settings.items() if v is not None)]) + "\n"


def _toml(value: Any) -> str:  # noqa: ANN401 - of the kinds that to_toml takes
    match value:
        case list() | tuple():
            return "[" + ", ".join(map(_toml, value)) + "]"
        case float() if not math.isfinite(value):
            return str(value)  # JSON's name for it is another
        case str() if not value.isprintable() and any("\ud800" <= c <= "\udfff" for c in value):
            raise InputError(f"{value!r} is not Unicode text; choose another name for it")
        case _:  # but for DEL, JSON's strings, numbers and booleans are TOML's too
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def begin(out: Path, verb: str, settings: dict[str, Any], *, resume: bool) -> bool:
    """Make the run folder `out` with its recipe, or check that the run in it can go on.

    Returns whether there is a run to go on with. Raises InputError where the folder holds something else, or a run
    of other settings, or a run although `resume` is false, or another process is at it. What a killed process left
    half-written is removed.
    """
    recipe = out / RECIPE
    plain = json.loads(json.dumps({"verb": verb, **settings}))  # tuples become lists
    if not recipe.exists():
        if out.exists() and not (out.is_dir() and all(path.name.startswith(_LEFT) for path in out.iterdir())):
            raise InputError(f"{out} exists and is not a run folder; choose another --out")
        claim(out)
        write_text(recipe, to_toml(plain))
        return False
    if not resume:
        raise InputError(f"{out} already holds a run; pass --resume to go on with it or choose another --out")
    saved = read_toml(recipe)
    for key in sorted((plain.keys() | saved.keys()) - _MAY_DIFFER - _FINGERPRINTED):
        before, now = saved.get(key), plain.get(key)
        if key == "epochs" and isinstance(before, int) and before < now and (out / RESULTS).exists():
            raise InputError(
                f"{out} is finished: it has had its {before} epochs; to train on, give it as the net to start from, "
                "with another --out"
            )
        if not (same_setting(before, now) or (key == "epochs" and isinstance(before, int) and before < now)):
            raise InputError(
                f"{out} was begun with {key} = {before!r}, now it is {now!r}; "
                "resume with the same settings or choose another --out"
            )
    claim(out)
    if saved.get("epochs") != plain.get("epochs"):
        write_text(recipe, to_toml({**saved, "epochs": plain["epochs"]}))
    for left in out.glob(f"{_PARTIAL}*"):
        left.unlink(missing_ok=True)
    return True


def same_setting(before: Any, now: Any) -> bool:  # noqa: ANN401 - of the kinds that TOML has
    """Whether two settings are equal, or paths of one place."""
    if isinstance(before, list) and isinstance(now, list):
        return len(before) == len(now) and all(map(same_setting, before, now))
    if isinstance(before, str) and isinstance(now, str) and os.path.exists(before) and os.path.exists(now):
        return os.path.samefile(before, now)
    return bool(before == now)


def release(out: Path) -> None:
    """Free a run folder whose training was refused before it had saved anything: what `begin` and its verb put there
    goes; where a state or anything else is there, all stays."""
    if not (out / RECIPE).is_file() or any((out / name).exists() for name in (STATE, RESULTS, "model.json")):
        return
    give_up(out)
    for name in (RECIPE, ENVIRONMENT, "labels.json", "metrics.csv", "metrics.jsonl", LOCK):
        (out / name).unlink(missing_ok=True)
    for made in _MADE:
        for path in out.glob(made):
            path.unlink(missing_ok=True)
    for folder in (*sorted({(out / made).parent for made in _MADE}), out):
        with contextlib.suppress(OSError):  # it is not there, or holds what is not ours
            folder.rmdir()


def claim(out: Path) -> None:
    """Lock `out` against this machine's other processes until this one ends, by whatever end, or gives it up.
    InputError where one of them has it."""
    key = os.getpid(), out.resolve()  # a fork has the file open, but not the lock
    with contextlib.suppress(OSError):
        if key in _LOCKS and os.path.samestat(os.fstat(_LOCKS[key]), (out / LOCK).stat()):
            return  # to open and close the file again would give up the lock
    give_up(out)  # of a folder that is gone
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = os.open(out / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise InputError(f"cannot write {out / LOCK}: {error.strerror}; choose another --out") from error
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # of the process: forked loaders don't inherit it
    except (BlockingIOError, PermissionError) as error:
        os.close(lock)
        raise InputError(
            f"another process is writing to {out}; wait until it ends, stop it, or choose another --out"
        ) from error
    except OSError:
        pass  # some network file systems have no locks
    _LOCKS[key] = lock


def give_up(out: Path) -> None:
    """Let other processes write to the run `out` again, which is finished."""
    if (lock := _LOCKS.pop((os.getpid(), out.resolve()), None)) is not None:
        os.close(lock)


def read_toml(path: Path) -> dict[str, Any]:
    """Return what the TOML file holds; InputError where it is missing or broken."""
    data = _bytes_of(Path(path), MOST_JSON)
    try:
        return tomllib.loads(data.decode("utf-8-sig"))
    except ValueError as error:
        raise InputError(f"{path} is not readable TOML: {error}") from error
    except RecursionError as error:
        raise InputError(f"{path} is not readable TOML: it is nested too deep") from error


def write_history(out: Path, history: list[dict[str, float]]) -> None:
    """Write one row per epoch to metrics.csv and metrics.jsonl, whole files, atomically."""
    names = list(dict.fromkeys(name for row in history for name in row))
    text = io.StringIO()
    table = csv.DictWriter(text, names, lineterminator="\n")
    table.writeheader()
    table.writerows(history)
    write_text(out / "metrics.csv", text.getvalue())
    write_text(out / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in history))
