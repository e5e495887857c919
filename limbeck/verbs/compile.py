"""limbeck compile: a Program becomes a Design folder, an accelerator sized to a chip."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from limbeck import runs
from limbeck.errors import InputError
from limbeck.runs import Tell

if TYPE_CHECKING:
    from limbeck.fpga.parts import Part
    from limbeck.fpga.plan import Plan, Resources
    from limbeck.fpga.schedule import Cycles, Lanes
    from limbeck.fpga.synth import Synthesis

PartName = Literal["xczu7ev", "xczu3eg", "xck26", "xc7z020"]
CLOCK = 200e6  # Hz, for images/s


@dataclass(frozen=True)
class Choice:
    """An engine that would fit: its lanes (pixels, inputs, outputs) and what they cost."""

    lanes: tuple[int, int, int]
    dsps: int
    interval: int

    def __str__(self) -> str:
        return f"{self.dsps:,} DSPs, {self.interval:,} cycles an image, {CLOCK / self.interval:,.0f} images/s"


@dataclass(frozen=True)
class Compiled:
    """A Design: its size, its speed, and how much of the part it takes."""

    out: str
    part: "Part"
    lanes: "Lanes"
    ops: int
    cycles: "Cycles"
    macs: int
    multipliers: int
    resources: "Resources"
    choices: tuple[Choice, ...]
    synthesis: "Synthesis | None"  # what Yosys counts

    @property
    def utilisation(self) -> float:
        """Useful multiplications over all that the multipliers could do, in a stream of images."""
        return self.macs / (self.cycles.interval * self.multipliers)

    def rows(self) -> list[tuple[str, str]]:
        """Return what a person wants to know, as (name, value)."""
        need, part, lanes = self.resources, self.part, self.lanes
        used = (("DSP", need.dsps, part.dsps), ("BRAM", need.brams, part.brams), ("URAM", need.urams, part.urams),
                ("LUT", need.luts, part.luts), ("FF", need.ffs, part.ffs))  # fmt: skip
        return [
            ("design", f"{self.out} for {part.name} ({part.board})"),
            (
                "engine",
                f"{lanes.pixels} pixels x {lanes.inputs} inputs x {lanes.outputs} outputs, {self.ops} micro-ops",
            ),
            ("cycles", f"{self.cycles.latency:,} an image alone, {self.cycles.interval:,} in a stream (exact)"),
            ("images/s", f"{CLOCK / self.cycles.interval:,.0f} at {CLOCK / 1e6:.0f} MHz (the clock is assumed)"),
            ("multipliers busy", f"{self.utilisation:.1%} of {self.multipliers:,}"),
            *(
                (name, f"{n:,} of {have:,}{'' if name == 'DSP' else ', estimated'}")
                for name, n, have in used
                if have or n
            ),
            *((f"{name} by Yosys", value) for name, value in self._counted()),
            *((" x ".join(map(str, choice.lanes)), str(choice)) for choice in self.choices),
        ]

    def _counted(self) -> list[tuple[str, str]]:
        found = self.synthesis
        if found is None:
            return []
        return [
            ("DSP, BRAM, URAM", f"{found.dsps:,}, {found.brams:,}, {found.urams:,}"),
            ("LUT, FF", f"{found.luts:,}, {found.ffs:,}"),
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return {**asdict(self), "utilisation": self.utilisation, "clock": CLOCK}


def compile(
    program: str,
    *,
    out: str,
    part: PartName = "xczu7ev",
    lanes: tuple[int, int, int] | None = None,
    max_dsp: int | None = None,
    engine: str | None = None,
    explore: bool = False,
    synth: bool = False,
    tell: Tell = runs.silent,
) -> Compiled:
    """Make an accelerator of a Program: RTL, weights, tables, driver, golden vectors, scripts for Vivado.

    The engine is the fastest that fits the part; cycles are exact, and `limbeck simulate` holds them to it.

    Examples:
        limbeck compile s.program --part xczu7ev --out design
        limbeck compile adapted.program --engine design --out design2

    Args:
        program: A file that limbeck quantize wrote, with 8-bit weights and activations.
        out: The folder to write.
        part: The chip: xczu7ev (ZCU104), xczu3eg (Ultra96), xck26 (Kria K26), xc7z020 (PYNQ-Z2).
        lanes: Output pixels, input channels and output channels at once, instead of the fastest.
        max_dsp: DSPs that the engine may take.
        engine: A design whose engine, and so whose bitstream, this program is to run on.
        explore: Show what other engines would cost.
        synth: Have Yosys count the cells; minutes.
    """
    from limbeck.fpga.emit import emit
    from limbeck.fpga.plan import cycles, macs, multipliers, plan, resources
    from limbeck.fpga.schedule import Lanes
    from limbeck.fpga.synth import synthesise
    from limbeck.integer.file import load

    net = load(program)
    wanted = Lanes(*lanes) if lanes else None
    sizes = None
    if engine is not None:
        if lanes or max_dsp:
            raise InputError("--engine has its lanes already; leave --lanes and --max-dsp out")
        manifest = runs.read_json(Path(engine) / "manifest.json")
        wanted, sizes, part = Lanes(**manifest["lanes"]), manifest["parameters"], manifest["part"]
    found = plan(net, part, lanes=wanted, max_dsp=max_dsp)
    emit(found, net, Path(out), engine=sizes)
    tell("note", {"text": f"{out} written"})
    synthesis = synthesise(Path(out)) if synth else None
    return Compiled(
        out=out,
        part=found.part,
        lanes=found.lanes,
        ops=len(found.schedule.ops),
        cycles=cycles(found, net),
        macs=macs(net),
        multipliers=sum(multipliers(found.lanes)),
        resources=resources(found),
        choices=tuple(_choice(other) for other in _others(program, part)) if explore else (),
        synthesis=synthesis,
    )


def _others(program: str, part: str) -> "tuple[Plan, ...]":
    from limbeck.fpga.plan import trade_offs
    from limbeck.integer.file import load

    return trade_offs(load(program), part)


def _choice(found: "Plan") -> Choice:
    from limbeck.fpga.plan import resources
    from limbeck.fpga.schedule import cycles

    lanes = found.lanes
    return Choice((lanes.pixels, lanes.inputs, lanes.outputs), resources(found).dsps, cycles(found.schedule).interval)
