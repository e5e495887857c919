"""Write rtl/contract.svh and the tables of docs/hardware.md of fpga/contract.py: python docs/make_contract.py"""

import re
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

from limbeck.fpga import contract
from limbeck.fpga.contract import LATENCY, MICRO_OPS, REGISTERS, Latencies, MicroOp, Select
from limbeck.fpga.driver import Error, Register

ROOT = Path(__file__).parents[1]
HEADER = ROOT / "limbeck" / "fpga" / "rtl" / "contract.svh"
PAGE = ROOT / "docs" / "hardware.md"
_DERIVED = [name for name, value in vars(Latencies).items() if isinstance(value, property)]


def header() -> str:
    """Return the SystemVerilog that modules include."""
    lines = [
        "// Made of limbeck/fpga/contract.py by `make reference`; a test compares. Included inside of modules.",
        "",
        "/* verilator lint_off UNUSEDPARAM */  // each module uses some",
        f"localparam int WordBits = {contract.WORD_BITS};  // of the number of a word among a pixel's channels",
        "",
        "// Widths of the micro-ops.",
        *(f"localparam int {_camel(_name(kind))}W = {contract.width(kind)};" for kind in MICRO_OPS),
        "",
        "// Latencies, in cycles.",
        *(f"localparam int {_camel(name)}Cycles = {value};  // {note}" for name, value, note in latencies()),
        "",
        "// Registers.",
        *(f"localparam logic [7:0] Register{_camel(r.name.lower())} = 8'h{r:02x};" for r in Register),
        *(f"localparam int Error{_camel(error.name.lower())} = {error.value};" for error in Error),
        f"localparam int Errors = {len(Error)};",
        "",
        "// Memories.",
        *(f"localparam logic [7:0] Select{_camel(select.name.lower())} = 8'd{select};" for select in Select),
        "/* verilator lint_on UNUSEDPARAM */",
        *(line for kind in MICRO_OPS for line in _struct(kind)),
    ]
    return "\n".join(lines) + "\n"


def latencies() -> list[tuple[str, int, str]]:
    """Return the latencies with their values and what they are, those that are sums last."""
    hints = get_type_hints(Latencies, include_extras=True)
    given = [
        (field.name, getattr(LATENCY, field.name), hints[field.name].__metadata__[0]) for field in fields(Latencies)
    ]
    return given + [(name, getattr(LATENCY, name), _promise(name)) for name in _DERIVED]


def tables() -> dict[str, str]:
    """Return the tables of docs/hardware.md by their names."""
    registers = [f"| 0x{row.register:02X} | {row.register.name} | {row.access} | {row.text} |" for row in REGISTERS]
    ops = [
        f"| {_name(kind)[:-3]} | {name} | {bits.wide} | {bits.note} |"
        for kind in MICRO_OPS
        for name, bits in contract.fields(kind).items()
    ]
    cycles = [f"| {name} | {value} | {note} |" for name, value, note in latencies()]
    return {
        "registers": "\n".join(["| address | name | | |", "|---|---|---|---|", *registers]),
        "micro-ops": "\n".join(["| | field | bits | |", "|---|---|---|---|", *ops]),
        "latencies": "\n".join(["| | cycles | |", "|---|---|---|", *cycles]),
    }


def page() -> str:
    """Return docs/hardware.md with its tables as they must be."""
    text = PAGE.read_text(encoding="utf-8")
    for name, table in tables().items():
        begin, end = f"<!-- made: {name} -->\n", "<!-- end -->"
        text, found = re.subn(
            f"{begin}.*?{end}", lambda _, made=begin + table + "\n" + end: made, text, flags=re.DOTALL
        )
        assert found == 1, f"docs/hardware.md has {found} places for the table of {name}"
    return text


def _struct(kind: type[MicroOp]) -> list[str]:
    found = contract.fields(kind)
    longest = max(map(len, found))
    lines = []
    for name, bits in found.items():
        wide = f"[{bits.wide - 1}:0]" if bits.wide > 1 else ""
        note = f"  // {bits.note}" if bits.note else ""
        lines.append(f"  logic {wide:>6} {name};{' ' * (longest - len(name)) if note else ''}{note}")
    return ["", f"// {_promise_of(kind)}", "typedef struct packed {", *lines, f"}} {_name(kind)}_t;"]


def _name(kind: type[MicroOp]) -> str:
    return kind.__name__.removesuffix("Op").lower() + "_op"


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def _promise(name: str) -> str:
    text = vars(Latencies)[name].__doc__.partition("\n")[0].rstrip(".")
    return str(text[0].lower() + text[1:])


def _promise_of(kind: type[MicroOp]) -> str:
    return str(kind.__doc__).partition("\n")[0]


if __name__ == "__main__":
    HEADER.write_text(header(), encoding="utf-8")
    PAGE.write_text(page(), encoding="utf-8")
