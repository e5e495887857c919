"""How fast the clock might be: an estimate from a netlist, with published cell delays and assumed wires.

Nothing is placed or routed, so a wire's delay is a guess from its number of sinks, in three versions; the result is a
range, never a promise. Cells: UltraScale+ delays as RapidWright publishes them (timing/ultrascaleplus), DSP48E2 and its
limit from AMD's DS925, -2 at 0.85 V; CARRY4, SRL and memory pins are rounded. docs/fpga-figures.md has more.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Cell = Mapping[str, Any]  # of Yosys' write_json: type, parameters, port_directions, connections

WIRES = {"slow": (500, 80), "typical": (300, 50), "fast": (150, 25)}  # ps: one sink, and each doubling of sinks
DSP_LIMIT = 1290  # ps from register to register in a DSP48E2 with all registers: 775 MHz
_DSP_LAUNCH, _DSP_SETUP = 300, 250  # P register to P, A and B to their registers
_DSP_THROUGH = 2440  # A, B to P without registers: 410 MHz with those around it
_LUT = (150, 125, 100, 90, 50, 35)  # from inputs A1 to A6; a mapper gives the late ones the fast pins
_NEAR, _MUX, _FF_LAUNCH, _FF_SETUP, _FF_CONTROL, _LUT_RAM = 20, 100, 77, 25, 45, 150
_LAUNCH = {"SRL": 312, "RAMB": 992, "URAM": 1126, "RAM": 312}  # of memories without output registers
_REGISTERED = {"RAMB": 229, "URAM": 320}  # an FF behind a memory's output is its output register
_SETUP = {"SRL": 69, "RAMB": 291, "URAM": 500, "RAM": 100}
_CLOCKS = {"C", "CLK", "WCLK", "CLKARDCLK", "CLKBWRCLK"}
_CASCADES = {"PCIN", "PCOUT", "ACIN", "BCIN", "ACOUT", "BCOUT", "CARRYCASCIN", "MULTSIGNIN"}


@dataclass(frozen=True)
class Timing:
    """Clock frequencies in MHz with slow, typical and fast wires, and the typical version's longest path."""

    slow: float
    typical: float
    fast: float
    longest: str

    def __str__(self) -> str:
        return f"{self.slow:.0f} to {self.fast:.0f} MHz, {self.typical:.0f} with typical wires"


@dataclass(frozen=True)
class _Arc:
    """From one wire to another, through a cell. `wire`: its first wire is of general routing, else inside a slice."""

    source: int
    delay: int
    wire: bool


@dataclass(frozen=True, eq=False)
class _Graph:
    """Wires by number: which arcs make them, when registers launch them, who takes them with which setup."""

    cells: Mapping[str, Cell]
    arcs: Mapping[int, Sequence[_Arc]]
    launched: Mapping[int, int]
    taken: Sequence[tuple[int, int, bool, str]]  # wire, setup, whether routed, cell
    drivers: Mapping[int, str]
    order: Sequence[int]  # of the wires that arcs make: each after its sources


def estimate(cells: Mapping[str, Cell]) -> Timing:
    """Return the clock's range for a mapped UltraScale+ netlist. Unregistered ports are taken to be registered."""
    graph = _graph(cells)
    found = {name: _longest(graph, wires) for name, wires in WIRES.items()}
    mhz = {name: 1e6 / max(worst, DSP_LIMIT) for name, (worst, _) in found.items()}
    return Timing(mhz["slow"], mhz["typical"], mhz["fast"], found["typical"][1])


def registered(cell: Cell, name: str) -> bool:
    """Return whether a DSP48E2 has this register, one of AREG, BREG, MREG, PREG."""
    return "1" in str(cell["parameters"].get(name, "0"))  # binary: 10 is two of them


def _pins(cell: Cell, direction: str) -> Iterator[tuple[str, int, int]]:
    """Yield pin, place in it and wire; constants are left out."""
    for pin, wires in cell["connections"].items():
        if cell["port_directions"][pin] == direction:
            for place, wire in enumerate(wires):
                if isinstance(wire, int):
                    yield pin, place, wire


def _kind(cell: Cell) -> str:
    name = str(cell["type"])
    return next((kind for kind in ("FD", "SRL", "RAMB", "URAM", "RAM", "DSP", "LUT", "CARRY", "MUXF", "INV")
                 if name.startswith(kind)), name)  # fmt: skip


def _graph(cells: Mapping[str, Cell]) -> _Graph:
    drivers = {wire: name for name, cell in cells.items() for _, _, wire in _pins(cell, "output")}
    arcs: dict[int, list[_Arc]] = defaultdict(list)
    launched: dict[int, int] = {}
    taken: list[tuple[int, int, bool, str]] = []
    for name, cell in cells.items():
        for pin, place, wire in _pins(cell, "output"):
            arcs[wire] = list(_through(cell, pin, place, cells, drivers))
            if (time := _launch(cell, cells, drivers)) is not None and pin not in _CASCADES:
                launched[wire] = time
        for pin, _, wire in _pins(cell, "input"):
            if (setup := _setup(cell, pin)) is not None:
                near = _kind(cell) == "FD" and pin == "D" and _from(wire, cells, drivers) in ("LUT", "CARRY", "MUXF")
                taken.append((wire, setup, not near, name))
    return _Graph(cells, arcs, launched, taken, drivers, _ordered(arcs))


def _from(wire: int, cells: Mapping[str, Cell], drivers: Mapping[int, str]) -> str:
    """Return the kind of the cell that drives a wire; empty for a port."""
    return _kind(cells[drivers[wire]]) if wire in drivers else ""


def _launch(cell: Cell, cells: Mapping[str, Cell], drivers: Mapping[int, str]) -> int | None:
    """Return the ps from the clock to the cell's outputs; None where it has no register there."""
    kind = _kind(cell)
    if kind == "FD":
        behind = cell["connections"]["D"][0]
        return _REGISTERED.get(_from(behind, cells, drivers) if isinstance(behind, int) else "", _FF_LAUNCH)
    if kind == "DSP":
        if registered(cell, "PREG"):
            return _DSP_LAUNCH
        return DSP_LIMIT if registered(cell, "MREG") else None
    return _LAUNCH.get(kind)


def _setup(cell: Cell, pin: str) -> int | None:
    """Return the ps before the clock by which a pin must stand; None where it is none of a register."""
    kind = _kind(cell)
    if pin in _CLOCKS or pin in _CASCADES:
        return None
    if kind == "FD":
        return _FF_SETUP if pin == "D" else _FF_CONTROL
    if kind == "DSP":
        if pin in ("A", "B") and registered(cell, f"{pin}REG"):
            return _DSP_SETUP
        clocked = registered(cell, "MREG") or registered(cell, "PREG")
        return _DSP_THROUGH - _FF_LAUNCH if clocked else None
    if kind == "RAM" and pin.startswith("ADDR") and not pin.endswith(("D", "H")):
        return None  # read without a clock
    return _SETUP.get(kind)


def _through(cell: Cell, pin: str, place: int, cells: Mapping[str, Cell], drivers: Mapping[int, str]) -> Iterator[_Arc]:
    """Yield the arcs through a cell to one of its output wires."""
    inputs = list(_pins(cell, "input"))
    match _kind(cell):
        case "LUT":
            size = max(1, min(len(inputs), len(_LUT)))
            yield from (_Arc(wire, sum(_LUT[-size:]) // size, True) for _, _, wire in inputs)
        case "INV":  # goes into the LUT or register behind it
            yield from (_Arc(wire, 0, False) for _, _, wire in inputs)
        case "MUXF":
            yield from (_Arc(wire, _MUX, name == "S") for name, _, wire in inputs)
        case "CARRY":
            yield from (arc for one in inputs for arc in _carry(pin, place, one, cells, drivers))
        case "RAM":
            yield from (_Arc(wire, _LUT_RAM, True) for name, _, wire in inputs if name == f"ADDR{pin[2:]}")
        case "SRL":
            yield from (_Arc(wire, _LUT_RAM, True) for name, _, wire in inputs if name.startswith("A"))
        case "DSP" if not (registered(cell, "PREG") or registered(cell, "MREG") or pin in _CASCADES):
            delay = _DSP_THROUGH - _FF_LAUNCH - _FF_SETUP
            yield from (_Arc(wire, delay, True) for name, _, wire in inputs if name in ("A", "B", "C", "D"))


def _carry(
    pin: str, place: int, one: tuple[str, int, int], cells: Mapping[str, Cell], drivers: Mapping[int, str]
) -> Iterator[_Arc]:
    """Yield the arc from an input (pin, place, wire) of a CARRY4 to output `pin` at `place`, if there is one."""
    name, at, wire = one
    if name in ("CI", "CYINIT"):
        yield _Arc(wire, 30 + 15 * place if pin == "O" else 18 + 8 * place, name == "CYINIT")
    elif at <= place:
        beside = name == "S" and _from(wire, cells, drivers) == "LUT"
        yield _Arc(wire, (60 if pin == "O" else 70) + 20 * (place - at), not beside)


def _ordered(arcs: Mapping[int, Sequence[_Arc]]) -> Sequence[int]:
    """Return the wires, each after those that its arcs come from; wires in loops are left out."""
    waiting = {wire: sum(arc.source in arcs for arc in made) for wire, made in arcs.items()}
    leads: dict[int, list[int]] = defaultdict(list)
    for wire, made in arcs.items():
        for arc in made:
            leads[arc.source].append(wire)
    order = [wire for wire, count in waiting.items() if not count]
    for wire in order:
        for after in leads[wire]:
            waiting[after] -= 1
            if not waiting[after]:
                order.append(after)
    return order


def _longest(graph: _Graph, wires: tuple[int, int]) -> tuple[float, str]:
    """Return the longest path's ps, and what it is."""
    sinks = Counter(wire for wire, *_ in graph.taken)
    sinks.update(arc.source for made in graph.arcs.values() for arc in made)

    def routed(wire: int, *, general: bool) -> float:
        return wires[0] + wires[1] * math.log2(max(1, sinks[wire])) if general else _NEAR

    at: dict[int, float] = {}
    came: dict[int, int] = {}
    for wire in graph.order:
        at[wire] = graph.launched.get(wire, 0)
        for arc in graph.arcs[wire]:
            time = at.get(arc.source, 0) + routed(arc.source, general=arc.wire) + arc.delay
            if time > at[wire]:
                at[wire], came[wire] = time, arc.source
    worst, wire, end = max(
        (
            (at.get(wire, 0) + routed(wire, general=general) + setup, wire, end)
            for wire, setup, general, end in graph.taken
        ),
        default=(0.0, 0, ""),
    )
    return worst, _told(graph, came, wire, end, worst)


def _told(graph: _Graph, came: Mapping[int, int], wire: int, end: str, worst: float) -> str:
    """Return a path in words: from register to register, and the cells between."""
    cells: list[str] = []
    while wire in came:
        cells.append(graph.drivers[wire])
        wire = came[wire]
    begin = graph.drivers.get(wire, "a port")
    between = Counter(_kind(graph.cells[name]) for name in cells)
    inside = " + ".join(f"{count} {kind}" for kind, count in sorted(between.items()) if kind != "INV") or "a wire"
    return f"{worst / 1000:.2f} ns from {begin} through {inside} to {end}"
