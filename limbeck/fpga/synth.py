"""What Yosys makes of a Design for the part: cells counted, not placed (docs/hardware.md says what that leaves out)."""

import re
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from limbeck import runs
from limbeck.errors import InputError
from limbeck.fpga.parts import Part, part_of

_FAMILIES = {True: "xcup", False: "xc7"}  # by whether the part has DSP48E2s
_LUT_RAMS = {"RAM32M": 4, "RAM32M16": 8, "RAM64M": 4, "RAM64M8": 8, "RAM32X1D": 2, "RAM64X1D": 2, "RAM128X1D": 4}


@dataclass(frozen=True)
class Synthesis:
    """Cells after synthesis, of `limbeck.fpga.plan.Resources`' kinds. BRAMs are of 36 Kb."""

    part: str
    dsps: int
    brams: float
    urams: int
    luts: int  # logic, LUT memories and shift registers
    ffs: int


def available() -> str:
    """Return why designs cannot be synthesised here; empty where they can."""
    return "" if shutil.which("yosys") else "yosys not found; apt-get install yosys"


def synthesise(design: Path) -> Synthesis:
    """Return what Yosys counts; InputError where it is missing or fails. The log is DESIGN/synth/yosys.log."""
    if missing := available():
        raise InputError(f"the design cannot be synthesised: {missing}")
    part = part_of(runs.read_json(design / "manifest.json")["part"])
    folder = design / "synth"
    folder.mkdir(exist_ok=True)
    runs.write_text(folder / "synth.ys", _script(part))
    done = subprocess.run(
        ["yosys", "-q", "-l", "synth/yosys.log", "-s", "synth/synth.ys"],
        cwd=design, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise InputError(f"yosys could not synthesise {design}: {(done.stdout + done.stderr).strip()[-500:]}")
    return counted((folder / "stat.txt").read_text(), part.name)


def _script(part: Part) -> str:
    family, urams = _FAMILIES[part.packs], " -uram" if part.urams else ""
    define = "-DLIMBECK_DSP48E2 " if part.packs else ""
    return (
        f"read_verilog -sv {define}-I rtl rtl/*.sv\n"
        "read_verilog rtl/limbeck.v\n"
        f"synth_xilinx -family {family} -flatten -noiopad -noclkbuf{urams} -top limbeck\n"
        "tee -o synth/stat.txt stat\n"
    )


def counted(stat: str, part: str) -> Synthesis:
    """Return the cells in the text of Yosys' `stat`."""
    cells: Counter[str] = Counter()
    for name, count in re.findall(r"^\s+([A-Z][A-Z0-9_]*)\s+(\d+)$", stat, re.MULTILINE):
        cells[name] += int(count)

    def total(pattern: str) -> int:
        return sum(count for name, count in cells.items() if re.fullmatch(pattern, name))

    lut_rams = sum(luts * cells[name] for name, luts in _LUT_RAMS.items())
    return Synthesis(
        part=part,
        dsps=total(r"DSP48E[12]"),
        brams=total(r"RAMB36E[12]") + total(r"RAMB18E[12]") / 2,
        urams=total("URAM288"),
        luts=total(r"LUT[1-6]|LUT6_2") + total(r"SRL16E|SRLC32E") + lut_rams,
        ffs=total(r"FD[RSCP]E"),
    )
