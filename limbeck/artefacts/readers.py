"""What lies in folders: runs, label stores, Programs, ONNX files, Designs. Everything in them is read as hostile."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from limbeck.artefacts.kinds import article, kind_of
from limbeck.c import artefact
from limbeck.errors import InputError
from limbeck.fpga import design
from limbeck.fpga.design import Design as Design  # noqa: PLC0414 - for whoever reads artefacts
from limbeck.images.manifest import COST, Manifest, read_manifest
from limbeck.integer.file import load
from limbeck.integer.program import Program
from limbeck.runs import ENVIRONMENT, MODEL, RECIPE, RESULTS, read_json, read_toml

VERBS = ("teach", "zero-shot", "distill", "adapt")
HISTORY = "metrics.jsonl"
MOST_TEXT = 1 << 24  # bytes of a history
History = tuple[dict[str, float], ...]
T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """A run folder. What it holds is as its files say: read it with `get` and `number`."""

    path: Path
    verb: str
    recipe: dict[str, Any]
    results: dict[str, Any]  # empty where it is not finished
    environment: dict[str, Any]
    lineage: dict[str, Any]  # of model.json
    history: History


@dataclass(frozen=True)
class Labels:
    """A label store."""

    path: Path
    manifest: Manifest
    seconds: float | None  # that writing it took; None where it is not recorded


@dataclass(frozen=True)
class Integers:
    """A Program's file, or a C file of one."""

    path: Path
    program: Program
    tables: int | None = None  # bytes of a C file's tables


@dataclass(frozen=True)
class Onnx:
    """An ONNX file."""

    path: Path


Artefact = Run | Labels | Integers | Onnx | Design


def find(paths: Sequence[str]) -> tuple[tuple[Artefact, ...], tuple[str, ...]]:
    """Return what the paths name, each once, and notes on what was left out. A folder that is none of these stands for
    what lies in it. InputError where a path names nothing."""
    found: dict[Path, Artefact] = {}
    notes: list[str] = []
    for name in paths:
        path = Path(name)
        inside = [path] if kind_of(path) in _READ else sorted(p for p in _children(path) if kind_of(p) in _READ)
        if not inside:
            raise InputError(
                f"{name} holds no run, label store, .program, .onnx or design; give what Limbeck wrote, or its folder"
            )
        for one in inside:
            if kind_of(one) == "run" and not (one / MODEL).is_file():
                notes.append(f"{one} is not finished and was left out; the command that began it goes on with --resume")
            else:
                found.setdefault(one.resolve(), read(one))
    if not found:
        raise InputError(f"there is nothing to report yet: {notes[0]}")
    return tuple(found.values()), tuple(notes)


_READ = ("run", "label store", "Program", "C file", "ONNX file", "Design")


def _children(path: Path) -> Iterator[Path]:
    try:
        yield from (child for child in path.iterdir() if not child.name.startswith("."))
    except FileNotFoundError as error:
        raise InputError(
            f"{path} is not there; give runs, .program or .onnx files, designs, or their folder"
        ) from error
    except NotADirectoryError:
        return


def read(path: Path) -> Artefact:
    """Return what lies at `path`; InputError where it is broken, or nothing that can be read."""
    match kind_of(path):
        case "Program":
            return Integers(path, load(path))
        case "C file":
            program, written = artefact.load(path)
            return Integers(path, program, written.tables)
        case "ONNX file":
            return Onnx(path)
        case "run":
            return _run(path)
        case "Design":
            return design.read(path)
        case "label store":
            cost = read_json(path / COST) if (path / COST).is_file() else {}
            return Labels(path, read_manifest(path), number(cost, "seconds"))
        case kind:
            raise InputError(f"{path} is {article(kind)}; give a run, label store, .program, .onnx or design")


def _run(path: Path) -> Run:
    recipe = read_toml(path / RECIPE) if (path / RECIPE).is_file() else {}
    verb = get(recipe, str, "verb")
    results, environment = (
        read_json(path / name) if (path / name).is_file() else {} for name in (RESULTS, ENVIRONMENT)
    )
    lineage = get(read_json(path / MODEL), dict, "lineage") or {}
    known = verb if verb is not None and verb in VERBS else ""
    return Run(path, known, recipe, results, environment, lineage, history(path / HISTORY))


def history(path: Path) -> History:
    """Return the epochs' rows, of finite numbers; none where there is no such file."""
    if not path.is_file():
        return ()
    try:
        with path.open(encoding="utf-8") as file:
            lines = file.read(MOST_TEXT).splitlines()
        rows = [json.loads(line) for line in lines]
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not a run's list of epochs: {error}; remove it or choose the run again") from error
    plain = [{str(k): float(v) for k, v in row.items() if _is_number(v)} for row in rows if isinstance(row, dict)]
    return tuple(row for row in plain if "epoch" in row)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def get(document: Any, kind: type[T], *keys: str) -> T | None:  # noqa: ANN401 - whatever JSON holds
    """Return what lies under the keys, if it is of that very type."""
    for key in keys:
        document = document.get(key) if isinstance(document, dict) else None
    return document if type(document) is kind else None


def number(document: Any, *keys: str) -> float | None:  # noqa: ANN401 - as above
    """Return the finite number that lies under the keys, if there is one."""
    for key in keys:
        document = document.get(key) if isinstance(document, dict) else None
    return float(document) if _is_number(document) else None


def named(artefacts: Sequence[Artefact]) -> dict[Path, str]:
    """Return a name of each artefact, by its path: that of its file or folder, with the folder above where two are
    called the same, and as the path has it where that is not enough."""
    paths = [artefact.path for artefact in artefacts]
    choices = [{path: "/".join(path.parts[-depth:]) for path in paths} for depth in (1, 2)]
    chosen = {}
    for path in paths:
        clear = [choice[path] for choice in choices if list(choice.values()).count(choice[path]) == 1]
        chosen[path] = clear[0] if clear else str(path)
    return chosen
