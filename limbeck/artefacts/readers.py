"""What lies in folders: runs, label stores, Programs, ONNX files, Designs. Everything in them is read as hostile."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from limbeck.errors import InputError
from limbeck.fpga.op import Cycles, Lanes
from limbeck.fpga.parts import Part, part_of
from limbeck.fpga.plan import Resources
from limbeck.images.manifest import COST, MANIFEST, Manifest, read_manifest
from limbeck.integer.file import load
from limbeck.integer.program import Program
from limbeck.runs import ENVIRONMENT, RECIPE, RESULTS, read_json, read_toml

VERBS = ("teach", "distill", "adapt")
MOST_TEXT = 1 << 24  # bytes of a history
History = tuple[dict[str, float], ...]
T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """A run folder. What it holds is as its files say: ask it with `get` and `number`."""

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
    seconds: float | None  # that writing it took; None where it does not say


@dataclass(frozen=True)
class Integers:
    """A Program's file."""

    path: Path
    program: Program


@dataclass(frozen=True)
class Onnx:
    """An ONNX file."""

    path: Path


@dataclass(frozen=True)
class Design:
    """A Design folder, as its manifest has it."""

    path: Path
    part: Part
    lanes: Lanes
    cycles: Cycles
    macs: int
    multipliers: tuple[int, int]  # pointwise, depthwise
    resources: Resources
    ops: int
    accumulator_bits: int
    state_bits: int
    map_words: int  # of a bank
    state_words: int
    loaded: int  # bytes of weights, tables and micro-ops
    program: Program


Artefact = Run | Labels | Integers | Onnx | Design


def find(paths: Sequence[str]) -> tuple[tuple[Artefact, ...], tuple[str, ...]]:
    """Return what the paths name, each once, and notes on what was left out. A folder that is none of these stands for
    what lies in it. InputError where a path names nothing."""
    found: dict[Path, Artefact] = {}
    notes: list[str] = []
    for name in paths:
        path = Path(name)
        inside = [path] if _is_one(path) else sorted(p for p in _children(path) if _is_one(p))
        if not inside:
            raise InputError(
                f"{name} holds no run, label store, .program, .onnx or design; give what Limbeck wrote, or its folder"
            )
        for one in inside:
            if (one / RECIPE).is_file() and not (one / "model.json").is_file():
                notes.append(f"{one} is not finished and was left out; the command that began it goes on with --resume")
            else:
                found.setdefault(one.resolve(), read(one))
    if not found:
        raise InputError(f"there is nothing to report yet: {notes[0]}")
    return tuple(found.values()), tuple(notes)


def _children(path: Path) -> Iterator[Path]:
    try:
        yield from path.iterdir()
    except FileNotFoundError as error:
        raise InputError(
            f"{path} is not there; give runs, .program or .onnx files, designs, or their folder"
        ) from error
    except NotADirectoryError:
        return


def _is_one(path: Path) -> bool:
    if path.name.startswith("."):
        return False
    if path.suffix in (".program", ".onnx"):
        return path.is_file()
    return any((path / name).is_file() for name in (RECIPE, "model.json", MANIFEST))


def read(path: Path) -> Artefact:
    """Return what lies at `path`; InputError where it is broken."""
    if path.suffix == ".program" and path.is_file():
        return Integers(path, load(path))
    if path.suffix == ".onnx" and path.is_file():
        return Onnx(path)
    if (path / "model.json").is_file():
        return _run(path)
    document = read_json(path / MANIFEST)
    if isinstance(document, dict) and "lanes" in document:
        return _design(path, document)
    cost = read_json(path / COST) if (path / COST).is_file() else None
    return Labels(path, read_manifest(path), number(cost, "seconds") if isinstance(cost, dict) else None)


def _run(path: Path) -> Run:
    recipe = read_toml(path / RECIPE) if (path / RECIPE).is_file() else {}
    verb = get(recipe, str, "verb")
    results, environment = (_object(path / name) if (path / name).is_file() else {} for name in (RESULTS, ENVIRONMENT))
    lineage = get(_object(path / "model.json"), dict, "lineage") or {}
    history = _history(path / "metrics.jsonl")
    return Run(path, verb if verb is not None and verb in VERBS else "", recipe, results, environment, lineage, history)


def _object(path: Path) -> dict[str, Any]:
    document = read_json(path)
    if not isinstance(document, dict):
        raise InputError(f"{path} must hold one JSON object; remove it or choose the run again")
    return document


def _history(path: Path) -> History:
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


def names(document: Any, *keys: str) -> tuple[str, ...]:  # noqa: ANN401 - as above
    """Return the list of strings that lies under the keys, empty where there is none."""
    found = get(document, list, *keys) or []
    return tuple(item for item in found if isinstance(item, str))


def _design(path: Path, said: dict[str, Any]) -> Design:
    where = f"{path / MANIFEST} is not a design's"
    try:
        whole = {key: tuple(said[key]) for key in ("multipliers", "memories")}
        pointwise, depthwise = (_count(value) for value in whole["multipliers"])
        return Design(
            path=path,
            part=part_of(str(said["part"])),
            lanes=Lanes(*(_count(said["lanes"][name]) for name in ("pixels", "inputs", "outputs"))),
            cycles=Cycles(*(_count(said["cycles"][name]) for name in ("latency", "interval"))),
            macs=_count(said["macs"]),
            multipliers=(pointwise, depthwise),
            resources=Resources(*(_count(said["resources"][n], 0) for n in ("dsps", "brams", "urams", "luts", "ffs"))),
            ops=_count(said["ops"]),
            accumulator_bits=_count(said["parameters"]["AccW"]),
            state_bits=_count(said["parameters"]["StateW"]),
            map_words=_count(said["parameters"]["MapDepth"]),
            state_words=_count(said["parameters"]["StateDepth"]),
            loaded=sum(-(-_count(m["width"]) // 8) * _count(m["words"], 0) for m in whole["memories"]),
            program=load(path / "net.program"),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{where} ({type(error).__name__}: {error}); compile it again") from error


def _count(value: object, least: int = 1) -> int:
    if type(value) is not int or not least <= value < 1 << 48:
        raise ValueError(f"{str(value)[:40]!r} is no count")
    return value


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
