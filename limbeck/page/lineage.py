"""Where things come from, what they cost, and how to make them again: tables of a report."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limbeck.artefacts.readers import Artefact, Design, Integers, Labels, Onnx, Run, get, number
from limbeck.runs import RECIPE, to_toml

MOST_TEXT = 20_000  # characters of a recipe


@dataclass(frozen=True)
class Cost:
    """What a stage took. None: its folder does not say."""

    name: str
    what: str
    images: int | None
    epochs: int | None
    seconds: float | None


@dataclass(frozen=True)
class Origin:
    """Where an artefact comes from; empty where it is not known."""

    name: str
    what: str
    weights: str  # sha256
    tag: str
    seen: str  # outside data that the weights have seen
    licence: str
    data: str
    fingerprint: str
    seed: str
    versions: str
    teachers: tuple[str, ...]


@dataclass(frozen=True)
class Command:
    """A command that makes an artefact again, what it does not repeat, and the recipe that it reads."""

    name: str
    line: str
    note: str
    recipe: str


def costs(artefacts: Sequence[Artefact], called: Mapping[Path, str]) -> tuple[Cost, ...]:
    """Return what each trained or labelled stage cost."""
    return tuple(_cost(a, called[a.path]) for a in artefacts if isinstance(a, Run | Labels))


def _cost(one: Run | Labels, name: str) -> Cost:
    if isinstance(one, Labels):
        return Cost(name, f"label, {one.manifest.views} views", one.manifest.images, None, one.seconds)
    counts = [number(one.results, key) for key in ("images", "epochs")]
    images, epochs = (None if count is None else int(count) for count in counts)
    epochs = None if get(one.results, str, "method") == "norm" else epochs  # nothing is trained
    return Cost(name, one.verb or "net", images, epochs, number(one.results, "seconds"))


def origins(artefacts: Sequence[Artefact], called: Mapping[Path, str]) -> tuple[Origin, ...]:
    """Return where each artefact comes from, as it says itself."""
    return tuple(_origin(artefact, called[artefact.path]) for artefact in artefacts if not isinstance(artefact, Onnx))


def _origin(one: Run | Labels | Integers | Design, name: str) -> Origin:
    match one:
        case Run():
            return Origin(
                name, one.verb or "net", *_weights(one.lineage),
                data=get(one.environment, str, "data", "spec") or "",
                fingerprint=get(one.environment, str, "data", "fingerprint") or "",
                seed=str(one.recipe.get("seed", "")),
                versions=_versions(one.environment),
                teachers=_teachers(one.lineage),
            )  # fmt: skip
        case Labels():
            m = one.manifest
            taught = tuple(str(teacher.lineage["sha256"]) for teacher in m.teachers)
            return Origin(name, "label", "", "", "", "", m.data, m.fingerprint, str(m.seed), "", taught)
        case Integers() | Design():
            what = "compile" if isinstance(one, Design) else "quantize" if one.tables is None else "export"
            lineage = one.program.lineage
            return Origin(name, what, *_weights(lineage), "", "", "", "", _teachers(lineage))


def _weights(lineage: Mapping[str, Any]) -> tuple[str, str, str, str]:
    sha256, tag, data, licence = (get(lineage, str, key) or "" for key in ("sha256", "tag", "data", "licence"))
    return sha256, tag, data, licence


def _teachers(lineage: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the teachers' weights, or their tags where these are not known."""
    found = get(lineage, list, "teachers") or []
    return tuple(get(t, str, "sha256") or get(t, str, "tag") or "" for t in found if isinstance(t, dict))


def _versions(environment: Mapping[str, Any]) -> str:
    found = get(environment, dict, "versions") or {}
    said = ", ".join(f"{key} {value}" for key, value in found.items() if isinstance(value, str))
    machine = [get(environment, str, "machine", key) for key in ("processor", "device")]
    return "; ".join(part for part in (said, ", ".join(filter(None, machine))) if part)


def commands(artefacts: Sequence[Artefact], called: Mapping[Path, str]) -> tuple[Command, ...]:
    """Return what to type to make each artefact again, into another folder."""
    return tuple(_command(artefact, called[artefact.path], artefacts) for artefact in artefacts)


def _command(one: Artefact, name: str, others: Sequence[Artefact]) -> Command:
    again = str(Path("again") / one.path.name)
    match one:
        case Run() if one.verb:
            shown = to_toml({key: value for key, value in one.recipe.items() if _is_plain(value)})[:MOST_TEXT]
            return Command(name, _line(one.verb, "-c", str(one.path / RECIPE), "--out", again), "", shown)
        case Run():
            return Command(name, "", "it has no recipe", "")
        case Labels():
            return Command(name, _labels(one, again), "views that were drawn otherwise need their own flags", "")
        case Integers():
            return _integers(one, name, again, others)
        case Onnx():
            return Command(name, _line("export", "RUN", "--out", again), "an ONNX file does not name its run", "")
        case Design():
            lanes = [str(lane) for lane in (one.lanes.pixels, one.lanes.inputs, one.lanes.outputs)]
            program = str(one.path / "net.program")
            line = _line("compile", program, "--part", one.part.name, "--lanes", *lanes, "--out", again)
            return Command(name, line, "", "")


def _integers(one: Integers, name: str, again: str, others: Sequence[Artefact]) -> Command:
    if one.tables is not None:
        programs = (other for other in others if isinstance(other, Integers) and other.tables is None)
        made_of = next((p for p in programs if p.program.lineage == one.program.lineage), None)
        line = _line("export", str(made_of.path) if made_of else "PROGRAM", "--format", "c", "--out", again)
        return Command(name, line, "" if made_of else "a C file does not name its Program's file", "")
    made = made_from(one.program.lineage, others)
    settings = get(one.program.lineage, dict, "quantize") or {"data": "DATA"}
    line = _line("quantize", str(made.path) if made else "RUN", *_flags(settings), "--out", again)
    note = "" if "bits" in settings else "the file does not hold the flags of its making: bits, --train"
    return Command(name, line, note, "")


def _labels(one: Labels, again: str) -> str:
    m = one.manifest
    teachers = [teacher.spec for teacher in m.teachers]
    more = ("--views", str(m.views), "--seed", str(m.seed), "--out", again)
    return _line("label", "--data", m.data, "--teachers", *teachers, *more)


def made_from(lineage: Mapping[str, Any], others: Sequence[Artefact]) -> Run | None:
    """Return the run whose weights these are."""
    sha256 = get(lineage, str, "sha256")
    runs = (other for other in others if isinstance(other, Run))
    return next((run for run in runs if sha256 and get(run.lineage, str, "sha256") == sha256), None)


def _line(verb: str, *words: str) -> str:
    return shlex.join(("limbeck", verb, *words))


def _flags(settings: Mapping[str, Any]) -> list[str]:
    """Return what to type for a verb's settings; a file's, so anybody's."""
    found: list[str] = []
    for key, value in settings.items():
        if value is True:
            found.append(f"--{key.replace('_', '-')}")
        elif value is not None and value is not False and _is_plain(value):
            values = value if isinstance(value, list) else [value]
            found += [f"--{key.replace('_', '-')}", *map(str, values)]
    return found


def _is_plain(value: object) -> bool:
    items = value if isinstance(value, list) else [value]
    return all(isinstance(item, str | int | float) for item in items)


def taught_by(artefacts: Sequence[Artefact]) -> frozenset[str]:
    """Return the sha256 of every teacher that an artefact names."""
    runs = [weights for a in artefacts if isinstance(a, Run) for weights in _teachers(a.lineage)]
    stores = [str(t.lineage["sha256"]) for a in artefacts if isinstance(a, Labels) for t in a.manifest.teachers]
    return frozenset((*runs, *stores)) - {""}
