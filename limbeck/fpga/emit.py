"""A Plan as a Design folder: RTL, memories, register map, golden vectors, harness, Vivado scripts, README."""

import hashlib
import json
import zlib
from dataclasses import asdict, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from limbeck import runs
from limbeck.errors import InputError
from limbeck.fpga import driver, serial
from limbeck.fpga.design import PROGRAM, Design
from limbeck.fpga.memories import Memory, memories
from limbeck.fpga.parts import BOARDS, CLOCK, Board
from limbeck.fpga.plan import Plan, cycles, macs, multipliers, resources
from limbeck.fpga.schedule import depth_for
from limbeck.integer import file, program
from limbeck.runs import DESIGN

VERSION = 1
_FLOW = "| `vivado/` | `package.tcl` makes an IP, `synth.tcl` synthesises and routes the accelerator alone |"
_FLOWS = {
    "ecp5": "| `ulx3s/` | serial line, pins and clock; `limbeck compile --bitstream` makes `ulx3s.bit` |\n"
    "| `serial.py` | the host's side of the serial line: a Port for `driver.py` |"
}
_GOLDEN_IMAGES = 4
_PACKAGE = files("limbeck.fpga")
_FIXED = {"Px", "Il", "Ol", "Bits", "StateW", "ImageH", "ImageW", "ImageC", "Stem", "Classes"}  # an engine has no other
_LOADED = {"weight": "WeightDepth", "kernel": "KernelDepth", "table": "TableDepth", "offset": "OffsetDepth"}


def parameters(plan: Plan, net: program.Program) -> dict[str, int]:
    """Return the parameters of rtl/accelerator.sv."""
    ops, depths, lanes = plan.schedule.ops, plan.schedule.depths, plan.lanes
    return {
        "Px": lanes.pixels,
        "Il": lanes.inputs,
        "Ol": lanes.outputs,
        "Bits": plan.value_bits,
        "AccW": plan.accumulator_bits,
        "StateW": plan.state_bits,
        "ImageH": net.input.height,
        "ImageW": net.input.width,
        "ImageC": net.input.channels,
        "Stem": int(ops[0].work.stem),
        "Classes": len(net.classes),
        "Groups": max(op.read.words for op in ops),
        "XWords": depth_for(max(op.pace.groups for op in ops)),
        "Words": max(op.written.words for op in ops),
        "Ops": depth_for(len(ops)),
        "MapDepth": max(2, depths["map"]),
        "StateDepth": max(2, depths["state"]),
        **{parameter: depth_for(depths[name]) for name, parameter in _LOADED.items()},
        "MultDepth": depth_for(depths["mult"]),
        "PoolDepth": max(op.kept.slots * op.kept.words if op.work.pool else 0 for op in ops),
    }


def identity(parameters: dict[str, int]) -> int:
    """Return what the IDENTITY register reads: engines of the same RTL with equal parameters take each other's
    memories."""
    return zlib.crc32(json.dumps([VERSION, rtl_version(), parameters], sort_keys=True).encode())


@cache
def rtl_version() -> str:
    """Return a digest of the RTL's sources."""
    digest = hashlib.sha256()
    sources = [source for source in (_PACKAGE / "rtl").iterdir() if source.name.endswith((".sv", ".svh"))]
    for source in sorted(sources, key=lambda source: source.name):
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    return digest.hexdigest()


def emit(plan: Plan, net: program.Program, out: Path, *, engine: dict[str, int] | None = None) -> None:
    """Write the Design folder `out`; InputError where there is already something.

    `engine` has the parameters of an engine that is there: the design is then another net's on the same bitstream;
    InputError where it needs a larger one.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists; choose another --out")
    sizes = parameters(plan, net)
    if engine is not None:
        plan, sizes = _fitted(plan, sizes, engine)
    loaded = memories(plan)
    for memory in loaded:
        runs.write_text(out / "memories" / f"{memory.name}.mem", hex_lines(memory))
    _copy("rtl", out / "rtl")
    _copy("templates", out / "sim", ".cpp")
    runs.write_bytes(out / "driver.py", Path(driver.__file__).read_bytes())
    file.save(net, out / PROGRAM)
    _write_golden(net, out / "golden")
    values = _values(plan, net, sizes)
    vivado = () if plan.part.family == "ecp5" else (("package.tcl", "vivado"), ("synth.tcl", "vivado"))
    for source, target in (("limbeck.v", "rtl"), *vivado, ("README.md", "")):
        text = (_PACKAGE / "templates" / source).read_text(encoding="utf-8")
        runs.write_text(out / target / source, Template(text).substitute(values))
    for board in BOARDS.values():
        if plan.part.name in board.parts:
            _write_board(board, net, out)
    runs.write_sealed(out / DESIGN, _manifest(plan, net, sizes, loaded, out))
    seal(out)


def seal(out: Path) -> None:
    """Have the manifest list every file of the Design with its SHA-256: what is damaged, or the user's, then shows."""
    runs.write_sealed(out / DESIGN, {**runs.read_json(out / DESIGN), "files": runs.digests(out, DESIGN)})


def _fitted(plan: Plan, sizes: dict[str, int], engine: dict[str, int]) -> tuple[Plan, dict[str, int]]:
    for name, need in sizes.items():
        if need > engine[name] or (name in _FIXED and need != engine[name]):
            raise InputError(f"the program needs {name} {need:,}; the engine has {engine[name]:,}: compile it anew")
    return replace(plan, accumulator_bits=engine["AccW"]), engine


def hex_lines(memory: Memory) -> str:
    """Return a memory as text, a hexadecimal word a line."""
    digits = -(-memory.width // 4)
    words = (int.from_bytes(word.astype("<u4").tobytes(), "little") for word in memory.words)
    return "".join(f"{word:0{digits}x}\n" for word in words)


def _copy(folder: str, target: Path, suffix: str = ".sv") -> None:
    target.mkdir(parents=True, exist_ok=True)
    for source in (_PACKAGE / folder).iterdir():
        if source.name.endswith((suffix, ".svh")):
            runs.write_bytes(target / source.name, source.read_bytes())


def _write_board(board: Board, net: program.Program, out: Path) -> None:
    """Write what `limbeck.fpga.bitstream` makes the board's bitstream of, and the host's side of its serial line."""
    _copy("board", out / board.name)
    text = (_PACKAGE / "board" / f"{board.name}.v").read_text(encoding="utf-8")
    sizes = {"channels": str(net.input.channels), "pixels": str(net.input.height * net.input.width)}
    runs.write_text(out / board.name / "top.v.in", Template(text).safe_substitute(sizes))  # the clock's are for later
    pins = (_PACKAGE / "board" / f"{board.name}.lpf").read_bytes()
    runs.write_bytes(out / board.name / f"{board.name}.lpf", pins)
    runs.write_bytes(out / "serial.py", Path(serial.__file__).read_bytes())


def _write_golden(net: program.Program, folder: Path) -> None:
    i = net.input
    shape = (_GOLDEN_IMAGES, i.channels, i.height, i.width)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    for name, table in (("images", images), ("scores", program.run(net, images))):
        with runs.replacing(folder / f"{name}.npy") as path:
            np.save(path, table, allow_pickle=False)


def _manifest(
    plan: Plan, net: program.Program, sizes: dict[str, int], loaded: tuple[Memory, ...], out: Path
) -> dict[str, Any]:
    return {
        "version": VERSION,
        "identity": identity(sizes),
        "part": plan.part.name,
        "board": plan.part.board,
        "lanes": asdict(plan.lanes),
        "parameters": sizes,
        **dict(zip(("map_style", "offset_style"), _styles(plan), strict=True)),
        "ops": len(plan.schedule.ops),
        "classes": list(net.classes),
        "image": [net.input.channels, net.input.height, net.input.width],
        "cycles": asdict(cycles(plan, net)),
        "macs": macs(net),
        "multipliers": list(multipliers(plan.lanes)),
        "resources": asdict(resources(plan)),
        "program": hashlib.sha256((out / PROGRAM).read_bytes()).hexdigest(),
        "memories": [
            {"file": f"memories/{m.name}.mem", "select": m.select, "width": m.width, "words": len(m.words)}
            for m in loaded
        ],
        "registers": {register.name: int(register) for register in driver.Register},
    }


def _styles(plan: Plan) -> tuple[str, str]:
    return "ultra" if plan.urams else "block", "ultra" if plan.offset_urams else "block"


def _engine(sizes: dict[str, int], identity: int, styles: tuple[str, str]) -> dict[str, str]:
    """Return what the placeholders of rtl/limbeck.v stand for."""
    return {
        "parameters": "\n".join(f"      .{name}({value})," for name, value in sizes.items()),
        "identity": f"32'h{identity:08x}",
        "style": styles[0],
        "offset_style": styles[1],
    }


def sources(design: Design) -> dict[str, bytes]:
    """Return the RTL that this Limbeck has for the design's engine, by its path in a Design folder."""
    rtl = {f"rtl/{s.name}": s.read_bytes() for s in (_PACKAGE / "rtl").iterdir() if s.name.endswith((".sv", ".svh"))}
    top = (_PACKAGE / "templates" / "limbeck.v").read_text(encoding="utf-8")
    values = _engine(design.parameters, design.identity, design.styles)
    return {**rtl, "rtl/limbeck.v": Template(top).substitute(values).encode()}


def harness() -> bytes:
    """Return the C++ that drives a simulated Design."""
    return (_PACKAGE / "templates" / "harness.cpp").read_bytes()


def _values(plan: Plan, net: program.Program, sizes: dict[str, int]) -> dict[str, str]:
    """Return what the templates' placeholders stand for."""
    need, time, part = resources(plan), cycles(plan, net), plan.part
    return {
        **_engine(sizes, identity(sizes), _styles(plan)),
        "part": part.name,
        "vivado_part": part.vivado,
        "board": part.board,
        "lanes": f"{plan.lanes.pixels} x {plan.lanes.inputs} x {plan.lanes.outputs}",
        "flow": _FLOWS.get(part.family, _FLOW),
        "ops": str(len(plan.schedule.ops)),
        "latency": f"{time.latency:,}",
        "interval": f"{time.interval:,}",
        "clock": f"{CLOCK / 1e6:g}",
        "period": f"{1e9 / CLOCK:.3f}",
        "rate": f"{CLOCK / time.interval:,.0f}",
        "resources": "\n".join(
            f"| {name} | {need_:,} | {have:,} | {need_ / have:.0%} |" if have else f"| {name} | {need_:,} | 0 | |"
            for name, need_, have in (
                ("DSP", need.dsps, part.dsps),
                ("BRAM 36 Kb", need.brams, part.brams),
                ("URAM", need.urams, part.urams),
                ("LUT", need.luts, part.luts),
                ("FF", need.ffs, part.ffs),
            )
        ),
    }
