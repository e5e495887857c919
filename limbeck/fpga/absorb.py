"""Registers of an ECP5 netlist moved into its multipliers and block RAMs, which Yosys leaves outside them.

A MULT18X18D has registers at its inputs and its output, a DP16KD behind each port; with them a path ends in the block
instead of passing through it (5.8 ns of a DP16KD of speed 6 without, by nextpnr's report). Works on Yosys' JSON.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

Cell = dict[str, Any]
Bit = int | str  # a wire's number, or a constant


def absorb(module: dict[str, Any]) -> dict[str, int]:
    """Move what can be moved, in place; return how many blocks took a register, by "output", "a", "b" and "read".

    A register is moved where nothing else distinguishes it from the block's own: the same clock, no enable, no reset.
    One that feeds several multipliers moves into each of them.
    """
    net = _Netlist(module)
    counts: dict[str, int] = defaultdict(int)
    for cell in list(module["cells"].values()):
        match cell["type"]:
            case "MULT18X18D":
                counts["output"] += net.behind(cell, "P", "REG_OUTPUT_CLK", "CLK0", None)
                counts["a"] += net.before(cell, "A", "REG_INPUTA_CLK")
                counts["b"] += net.before(cell, "B", "REG_INPUTB_CLK")
            case "DP16KD" if _two_ports(cell):
                for port in "AB":
                    counts["read"] += net.behind(cell, f"DO{port}", f"REGMODE_{port}", "OUTREG", f"CLK{port}")
    net.sweep()
    return dict(counts)


class _Netlist:
    """The cells, and who drives and reads each wire."""

    def __init__(self, module: dict[str, Any]) -> None:
        self.cells: dict[str, Cell] = module["cells"]
        self.readers: dict[Bit, set[str]] = defaultdict(set)
        self.flops: dict[Bit, str] = {}  # by what they drive
        for port in module["ports"].values():
            for bit in port["bits"]:
                self.readers[bit].add("")  # the outside
        for name, cell in self.cells.items():
            for port, bits in cell["connections"].items():
                for bit in bits if cell["port_directions"][port] == "input" else []:
                    self.readers[bit].add(name)
            if _is_plain(cell):
                self.flops[cell["connections"]["Q"][0]] = name

    def behind(self, block: Cell, port: str, parameter: str, value: str, clock: str | None) -> int:
        """Move the registers behind all outputs of a port into the block; return 1, or 0 where they can't be."""
        moved: dict[str, str] = {}  # registers, by the block's port
        for pin, bit in _pins(block, port):
            readers = self.readers[bit]
            if not readers:
                continue
            (name,) = readers if len(readers) == 1 else ("",)
            if not name or not _is_plain(self.cells[name]) or self.cells[name]["connections"]["DI"] != [bit]:
                return 0
            moved[pin] = name
        if clock and block["connections"].get(f"OCE{port[-1]}") != ["1"]:
            return 0
        clocks = {self.cells[name]["connections"]["CLK"][0] for name in moved.values()}
        if len(clocks) != 1 or (clock and [*clocks] != block["connections"][clock]) or not self._clocked(block, clocks):
            return 0
        for pin, name in moved.items():
            block["connections"][pin] = self.cells.pop(name)["connections"]["Q"]
        block["parameters"][parameter] = value
        return 1

    def before(self, block: Cell, port: str, parameter: str) -> int:
        """Move the registers before all inputs of a port into the block; return 1, or 0 where they can't be."""
        pins = [(pin, bit) for pin, bit in _pins(block, port) if isinstance(bit, int)]
        if not pins or any(bit not in self.flops for _, bit in pins):
            return 0
        flops = {pin: self.cells[self.flops[bit]] for pin, bit in pins}
        clocks = {flop["connections"]["CLK"][0] for flop in flops.values()}
        constants = [bit for _, bit in _pins(block, port) if not isinstance(bit, int)]
        if len(clocks) != 1 or "1" in constants or not self._clocked(block, clocks):
            return 0
        for pin, flop in flops.items():
            block["connections"][pin] = flop["connections"]["DI"]
        block["parameters"][parameter] = "CLK0"
        return 1

    def _clocked(self, block: Cell, clocks: set[Bit]) -> bool:
        """Give a multiplier this clock, unless it has another; a block RAM has its own."""
        if block["type"] != "MULT18X18D":
            return True
        wires: dict[str, list[Bit]] = block["connections"]
        if wires.get("CLK0", ["x"])[0] not in ("x", "0", *clocks):
            return False
        wires.update({"CLK0": [*clocks], "CE0": ["1"], "RST0": ["0"]})
        block["port_directions"].update({"CLK0": "input", "CE0": "input", "RST0": "input"})
        return True

    def sweep(self) -> None:
        """Remove registers that nothing reads any more."""
        while True:
            read = {bit for cell in self.cells.values() for bit in _inputs(cell)}
            read |= {bit for bit, readers in self.readers.items() if "" in readers}
            dead = [
                name
                for name, cell in self.cells.items()
                if cell["type"] == "TRELLIS_FF" and not read & set(cell["connections"]["Q"])
            ]
            if not dead:
                return
            for name in dead:
                del self.cells[name]


def _inputs(cell: Cell) -> Iterator[Bit]:
    for port, bits in cell["connections"].items():
        if cell["port_directions"][port] == "input":
            yield from bits


def _pins(block: Cell, port: str) -> Iterator[tuple[str, Bit]]:
    """Yield the block's single-bit ports of this name, "P0", "P1", ..., with their wires."""
    for number in range(36):
        for bit in block["connections"].get(f"{port}{number}", []):
            yield f"{port}{number}", bit


def _two_ports(cell: Cell) -> bool:
    """Return whether a block RAM has two ports of its own. Where they make one of 36 bits, how a bitstream turns their
    registers on is not documented, so these stay outside."""
    return all(int(cell["parameters"][f"DATA_WIDTH_{port}"], 2) <= 18 for port in "AB")


def _is_plain(cell: Cell) -> bool:
    """Return whether a cell is a flip-flop that takes its input at every rising edge."""
    if cell["type"] != "TRELLIS_FF":
        return False
    have, wires = cell["parameters"], cell["connections"]
    return (
        have.get("CEMUX", "1").strip() == "1"  # Yosys ends what looks like a number with a blank
        and have.get("CLKMUX", "CLK") == "CLK"
        and wires.get("LSR", ["0"]) in (["0"], ["x"], [])
        and "M" not in wires
    )
