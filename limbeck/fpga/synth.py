"""What Yosys makes of a Design for the part: cells counted, not placed (docs/hardware.md says what that leaves out)."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Any

from limbeck import runs
from limbeck.errors import InputError
from limbeck.fpga.design import manifest_of
from limbeck.fpga.parts import Part, part_of
from limbeck.fpga.timing import Cell, Timing, estimate, registered

_LUTS = {"SRL16E": 1, "SRLC32E": 1, "LUT6_2": 1, **{f"LUT{size}": 1 for size in range(1, 7)}}
_LUTS |= {"RAM32M": 4, "RAM32M16": 8, "RAM64M": 4, "RAM64M8": 8, "RAM32X1D": 2, "RAM64X1D": 2, "RAM128X1D": 4}
_PYOSYS = "import sys; from pyosys import libyosys; libyosys.Design().run_pass(sys.argv[1])"


@dataclass(frozen=True)
class Registers:
    """How many DSPs have registers at A, at B, behind the multiplier (M) and at P, and how many are cascaded."""

    a: int
    b: int
    m: int
    p: int
    cascaded: int  # take the sum of the DSP before over the chip's own wires


@dataclass(frozen=True)
class Synthesis:
    """Cells after synthesis, of `limbeck.fpga.plan.Resources`' kinds. BRAMs are of 36 Kb."""

    part: str
    dsps: int
    brams: float
    urams: int
    luts: int  # logic, LUT memories and shift registers
    ffs: int
    registers: Registers
    timing: Timing | None  # an estimate; None for parts whose delays Limbeck does not know


def available() -> str:
    """Return why designs cannot be synthesised here; empty where they can."""
    return "" if _yosys() else "Yosys not found; pip install 'limbeck[synth]' or apt-get install yosys"


def _yosys(folder: str = "synth") -> list[str]:
    """Return the command that runs FOLDER/synth.ys: pyosys, else a yosys on the path, else none."""
    if find_spec("pyosys"):
        return [sys.executable, "-c", _PYOSYS, f"tee -q -o {folder}/yosys.log script {folder}/synth.ys"]
    return ["yosys", "-q", "-l", f"{folder}/yosys.log", "-s", f"{folder}/synth.ys"] if which("yosys") else []


def synthesise(design: Path) -> Synthesis:
    """Return what Yosys counts; InputError where it is missing or fails.

    The log is DESIGN/synth/yosys.log, the netlist DESIGN/synth/netlist.json.
    """
    if missing := available():
        raise InputError(f"the design cannot be synthesised: {missing}")
    part = part_of(runs.read_json(manifest_of(design))["part"])
    if part.family == "ecp5":
        raise InputError(
            f"{design} is for {part.name}, which is not only counted: leave --synth out, and give --bitstream"
        )
    netlist = run_yosys(design, "synth", _script(part))
    return counted(netlist["modules"]["limbeck"]["cells"], part)


def run_yosys(design: Path, folder: str, script: str) -> Any:  # noqa: ANN401 - a netlist
    """Run a script in the design, its file and log in DESIGN/FOLDER; return the netlist that it writes there as
    netlist.json. InputError where Yosys fails."""
    place = design / folder
    place.mkdir(exist_ok=True)
    (place / "netlist.json").unlink(missing_ok=True)
    runs.write_text(place / "synth.ys", script)
    done = subprocess.run(_yosys(folder), cwd=design, capture_output=True, text=True, check=False)
    if done.returncode or not (place / "netlist.json").exists():
        raise InputError(f"yosys could not synthesise {design}: {(done.stdout + done.stderr).strip()[-500:]}")
    return json.loads((place / "netlist.json").read_text(encoding="utf-8"))


def _script(part: Part) -> str:
    urams = " -uram" if part.urams else ""
    define = "-DLIMBECK_DSP48E2 " if part.packs else ""
    return (
        f"read_verilog -sv {define}-I rtl rtl/*.sv\n"
        "read_verilog rtl/limbeck.v\n"
        f"synth_xilinx -family {part.family} -flatten -noiopad -noclkbuf{urams} -top limbeck\n"
        "rename -wire\n"  # cells are called after what they drive
        "opt_clean -purge\n"
        "attrmap -remove src\n"
        "write_json synth/netlist.json\n"
    )


def counted(cells: Mapping[str, Cell], part: Part) -> Synthesis:
    """Return the count of a netlist's cells, and its timing where the part has UltraScale+ delays."""
    kinds = Counter(str(cell["type"]) for cell in cells.values())
    return Synthesis(
        part=part.name,
        dsps=kinds["DSP48E1"] + kinds["DSP48E2"],
        brams=kinds["RAMB36E1"] + kinds["RAMB36E2"] + (kinds["RAMB18E1"] + kinds["RAMB18E2"]) / 2,
        urams=kinds["URAM288"],
        luts=sum(luts * kinds[name] for name, luts in _LUTS.items()),
        ffs=sum(kinds[name] for name in ("FDRE", "FDSE", "FDCE", "FDPE")),
        registers=_registers(cells),
        timing=estimate(cells) if part.packs else None,
    )


def _registers(cells: Mapping[str, Cell]) -> Registers:
    dsps = [cell for cell in cells.values() if str(cell["type"]).startswith("DSP48E")]
    a, b, m, p = (sum(registered(dsp, f"{name}REG") for dsp in dsps) for name in "ABMP")
    return Registers(
        a, b, m, p, sum(any(isinstance(w, int) for w in dsp["connections"].get("PCIN", ())) for dsp in dsps)
    )
