"""A Design folder as its manifest has it, read as hostile: every value is checked, no path in it leads outside."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limbeck import runs
from limbeck.errors import InputError
from limbeck.fpga.op import Cycles, Lanes
from limbeck.fpga.parts import Part, part_of
from limbeck.fpga.plan import Resources
from limbeck.integer import file
from limbeck.integer.program import Program

PROGRAM = "net.program"
_MEMORY = re.compile(r"memories/\w+\.mem")
_WIDEST = 1 << 16  # bits of a memory's word
_NAME = re.compile(r"[A-Z][A-Za-z]*")  # of a parameter
_SHOWN = {"AccW", "StateW", "MapDepth", "StateDepth"}


@dataclass(frozen=True)
class Design:
    """A Design folder, as its manifest has it."""

    path: Path
    manifest: dict[str, Any]
    part: Part
    lanes: Lanes
    cycles: Cycles
    macs: int
    multipliers: tuple[int, int]  # pointwise, depthwise
    resources: Resources
    ops: int
    parameters: dict[str, int]  # of its engine
    identity: int
    styles: tuple[str, str]  # of the maps' and of the offsets' memories
    loaded: int  # bytes of weights, tables and micro-ops
    program: Program

    @property
    def accumulator_bits(self) -> int:
        return self.parameters["AccW"]

    @property
    def state_bits(self) -> int:
        return self.parameters["StateW"]

    @property
    def map_words(self) -> int:
        """Words of a bank."""
        return self.parameters["MapDepth"]

    @property
    def state_words(self) -> int:
        return self.parameters["StateDepth"]


def manifest_of(folder: Path) -> Path:
    """Return the Design's manifest: design.json, or manifest.json where Limbeck 0.1.0 wrote it."""
    old = Path(folder) / runs.OLD_MANIFEST
    return old if old.is_file() and not (Path(folder) / runs.DESIGN).is_file() else Path(folder) / runs.DESIGN


def read(folder: Path) -> Design:
    """Return the Design in `folder`; InputError where there is none, or where its manifest, its Program or a memory is
    damaged. The Program's SHA-256 and, but for 0.1.0's, that of every memory are compared with the manifest's."""
    folder, path = Path(folder), manifest_of(folder)
    if not path.is_file():
        raise InputError(f"{folder} is not a design: it has no {runs.DESIGN}; limbeck compile makes designs")
    said = runs.read_json(path)
    try:
        made = _design(folder, said)
        _check_files(folder, said)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        reason = f"{type(error).__name__}: {str(error)[:80]}"
        raise InputError(f"{path} is not a design's ({reason}); compile it again") from error
    return made


def _design(folder: Path, said: Any) -> Design:  # noqa: ANN401 - whatever JSON holds
    pointwise, depthwise = (_count(value) for value in said["multipliers"])
    parameters = {name: _count(value, 0) for name, value in said["parameters"].items() if _NAME.fullmatch(name)}
    if said["parameters"].keys() != parameters.keys() or not parameters.keys() >= _SHOWN:
        raise ValueError("parameters of other names")
    for memory in said["memories"]:
        _check_memory(folder, memory)
    _check_program(folder, said)
    program = file.load(folder / PROGRAM)
    if said["classes"] != list(program.classes):
        raise ValueError("classes other than its Program's")
    styles = said["map_style"], said["offset_style"]
    if not set(styles) <= {"ultra", "block"}:
        raise ValueError(f"{styles} are no memories")
    return Design(
        path=folder,
        manifest=said,
        part=part_of(str(said["part"])),
        lanes=Lanes(*(_count(said["lanes"][name]) for name in ("pixels", "inputs", "outputs"))),
        cycles=Cycles(*(_count(said["cycles"][name]) for name in ("latency", "interval"))),
        macs=_count(said["macs"]),
        multipliers=(pointwise, depthwise),
        resources=Resources(*(_count(said["resources"][n], 0) for n in ("dsps", "brams", "urams", "luts", "ffs"))),
        ops=_count(said["ops"]),
        parameters=parameters,
        identity=_count(said["identity"], 0),
        styles=styles,
        loaded=sum(-(-_count(m["width"]) // 8) * _count(m["words"], 0) for m in said["memories"]),
        program=program,
    )


def _check_memory(folder: Path, memory: dict[str, Any]) -> None:
    if not _MEMORY.fullmatch(memory["file"]) or _count(memory["width"]) > _WIDEST or _count(memory["select"], 0) > 255:
        raise ValueError(f"no memory: {str(memory)[:60]}")
    if not _is_plain(folder / memory["file"]):
        raise ValueError(f"{memory['file']} is missing, or no file of its own")


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and not path.parent.is_symlink()


def _check_program(folder: Path, said: Any) -> None:  # noqa: ANN401 - whatever JSON holds
    held = runs.read_sealed(folder / PROGRAM)
    if hashlib.sha256(held).hexdigest() != said["program"]:
        raise InputError(f"{folder / PROGRAM} is not the Program that {folder} was compiled of; compile it again")


def _check_files(folder: Path, said: Any) -> None:  # noqa: ANN401 - whatever JSON holds
    known = said.get("files", {})
    for memory in said["memories"] if known else ():
        name = memory["file"]
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != known[name]:
            raise InputError(f"{folder / name} is damaged: its SHA-256 is not the manifest's; compile it again")


def _count(value: object, least: int = 1) -> int:
    if type(value) is not int or not least <= value < 1 << 48:
        raise ValueError(f"{str(value)[:40]!r} is no count")
    return value
