"""Run folders: files appear whole or not at all. Standard library only, so that every folder may use it."""

import contextlib
import csv
import fcntl
import io
import json
import math
import os
import shutil
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from limbeck.errors import InputError

_PARTIAL = ".partial-"  # begins the name of a file that is being written


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is synced and renamed to `path`, else it is removed.

    A reader sees the old file or the new one, never a part. A full disk or a folder that can't be written
    raises InputError and leaves the old file as it was.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=_PARTIAL, suffix=path.suffix)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; choose another --out") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}; nothing was changed") from error
    finally:
        temporary.unlink(missing_ok=True)


def make_folder(out: Path) -> None:
    """Make the folder now, so that a long measurement does not find out at its end that it can't."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {out}: {error.strerror}; choose another --out") from error


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


def read_json(path: Path) -> Any:  # noqa: ANN401 - whatever the file holds
    """Return what the JSON file holds; InputError where it is missing or broken."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not readable JSON: {error}") from error


Tell = Callable[[str, dict[str, Any]], None]
"""How a verb tells its progress: an event's name ("step", "epoch", "note", ...) and its values."""


def silent(event: str, values: dict[str, Any]) -> None:
    """The Tell of a caller who does not want to hear."""


RECIPES = Path(__file__).parent / "recipes"  # those that ship with Limbeck
RECIPE, ENVIRONMENT, STATE, RESULTS = "recipe.toml", "environment.json", "state.pt", "results.json"
_LOCK = ".lock"
_LEFT = (_PARTIAL, _LOCK)  # begin the names of what a process that was killed early may leave
_CLAIM = contextlib.ExitStack()  # holds the lock of the run that this process writes
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
            raise InputError(f"{value!r} is no Unicode text; choose another name for it")
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
        _claim(out)
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
        if not (_are_same(before, now) or (key == "epochs" and isinstance(before, int) and before < now)):
            raise InputError(
                f"{out} was begun with {key} = {before!r}, now it is {now!r}; "
                "resume with the same settings or choose another --out"
            )
    _claim(out)
    if saved.get("epochs") != plain.get("epochs"):
        write_text(recipe, to_toml({**saved, "epochs": plain["epochs"]}))
    for left in out.glob(f"{_PARTIAL}*"):
        left.unlink(missing_ok=True)
    return True


def _are_same(before: Any, now: Any) -> bool:  # noqa: ANN401 - of the kinds that TOML has
    """Whether two settings are equal, or paths of one place."""
    if isinstance(before, list) and isinstance(now, list):
        return len(before) == len(now) and all(map(_are_same, before, now))
    if isinstance(before, str) and isinstance(now, str) and os.path.exists(before) and os.path.exists(now):
        return os.path.samefile(before, now)
    return bool(before == now)


def release(out: Path) -> None:
    """Free a run folder whose training was refused before it had saved anything: what `begin` and its verb put there
    goes; where a state or anything else is there, all stays."""
    if not (out / RECIPE).is_file() or any((out / name).exists() for name in (STATE, RESULTS, "model.json")):
        return
    _CLAIM.close()
    for name in (RECIPE, ENVIRONMENT, "labels.json", "metrics.csv", "metrics.jsonl", _LOCK):
        (out / name).unlink(missing_ok=True)
    for name in ("tensorboard", "candidates"):
        shutil.rmtree(out / name, ignore_errors=True)
    with contextlib.suppress(OSError):  # it holds what is not ours
        out.rmdir()


def _claim(out: Path) -> None:
    """Lock `out` against this machine's other processes until this one ends, by whatever end, or begins another run;
    InputError where one of them has it."""
    _CLAIM.close()  # before the new lock: closing a file gives up all locks that its process has on it
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = os.open(out / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise InputError(f"cannot write {out / _LOCK}: {error.strerror}; choose another --out") from error
    _CLAIM.callback(os.close, lock)
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # of the process: forked loaders don't inherit it
    except (BlockingIOError, PermissionError) as error:
        raise InputError(
            f"another process is writing to {out}; wait until it ends, stop it, or choose another --out"
        ) from error
    except OSError:
        pass  # some network file systems have no locks


def read_toml(path: Path) -> dict[str, Any]:
    """Return what the TOML file holds; InputError where it is missing or broken."""
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not readable TOML: {error}") from error


def write_history(out: Path, history: list[dict[str, float]]) -> None:
    """Write one row an epoch to metrics.csv and metrics.jsonl, whole files, atomically."""
    names = list(dict.fromkeys(name for row in history for name in row))
    text = io.StringIO()
    table = csv.DictWriter(text, names, lineterminator="\n")
    table.writeheader()
    table.writerows(history)
    write_text(out / "metrics.csv", text.getvalue())
    write_text(out / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in history))
