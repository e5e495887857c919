"""A Program becomes a Design folder, an accelerator sized to a chip."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from limbeck import runs
from limbeck.errors import InputError
from limbeck.fpga.parts import CLOCK, BoardName, PartName
from limbeck.results import Result
from limbeck.runs import Tell

if TYPE_CHECKING:
    from limbeck.fpga.bitstream import Bitstream
    from limbeck.fpga.op import Cycles, Lanes
    from limbeck.fpga.parts import Part
    from limbeck.fpga.plan import Plan, Resources
    from limbeck.fpga.synth import Synthesis

EXPLORED = "explore.svg"


@dataclass(frozen=True)
class Choice:
    """An engine that would fit: its lanes (pixels, inputs, outputs), what they cost, cycles and images/s."""

    lanes: tuple[int, int, int]
    dsps: int
    brams: int
    urams: int
    luts: int
    ffs: int
    latency: int
    interval: int
    rate: float  # images/s at the stated clock

    def __str__(self) -> str:
        blocks = f"{self.brams:,} BRAMs" + (f", {self.urams:,} URAMs" if self.urams else "")
        return f"{self.dsps:,} DSPs, {blocks}, {self.interval:,} cycles per image, {self.rate:,.0f} images/s"


@dataclass(frozen=True)
class Compiled(Result):
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
    clock: float  # Hz: assumed, or the bitstream's
    picture: str  # of the choices; empty without any
    bitstream: "Bitstream | None" = None

    @property
    def utilisation(self) -> float:
        """Useful multiplications over all that the multipliers could do, in a stream of images."""
        return self.macs / (self.cycles.interval * self.multipliers)

    def rows(self) -> list[tuple[str, str]]:
        """Return what a person wants to know, as (name, value)."""
        part, lanes = self.part, self.lanes
        return [
            ("design", f"{self.out} for {part.name} ({part.board})"),
            (
                "engine",
                f"{lanes.pixels} pixels x {lanes.inputs} inputs x {lanes.outputs} outputs, {self.ops} micro-ops",
            ),
            (
                "cycles",
                f"{self.cycles.latency:,} for one image, {self.cycles.interval:,} per image in a stream (exact)",
            ),
            (
                "images/s",
                f"{self.clock / self.cycles.interval:,.0f} at {self.clock / 1e6:g} MHz "
                f"({'placed and routed' if self.bitstream else 'the clock is assumed'})",
            ),
            ("multipliers busy", f"{self.utilisation:.1%} of {self.multipliers:,}"),
            *(
                (name, f"{text}{'' if name == 'DSP' else ', estimated'}")
                for name, text in _shares(self.resources, part)
            ),
            *(self._counted(self.synthesis) if self.synthesis else ()),
            *(_placed(self.bitstream) if self.bitstream else ()),
            *((" x ".join(map(str, choice.lanes)), str(choice)) for choice in self.choices),
            *((("drawn", self.picture),) if self.picture else ()),
        ]

    def _counted(self, found: "Synthesis") -> list[tuple[str, str]]:
        held, clock = found.registers, found.timing
        registers = (
            f"{held.a:,} A, {held.b:,} B, {held.m:,} M, {held.p:,} P of {found.dsps:,} DSPs; {held.cascaded:,} cascaded"
        )
        return [
            *((f"{name} by Yosys", text) for name, text in _shares(found, self.part)),
            ("registers", registers),
            *(
                (("clock", f"{clock} (an estimate without placement)"), ("longest path", clock.longest))
                if clock
                else ()
            ),
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return {**asdict(self), "utilisation": self.utilisation}


def _placed(made: "Bitstream") -> list[tuple[str, str]]:
    """Return what nextpnr reports, in words."""
    cells = ("MULT18X18D", "DP16KD", "TRELLIS_COMB", "TRELLIS_FF")
    return [
        ("bitstream", made.file),
        ("clock", f"{made.clock:g} MHz; the routed design reaches {made.fmax:.1f} MHz (placement {made.seed})"),
        ("longest path", made.critical),
        *((kind, f"{used:,} of {there:,} ({used / there:.0%})") for kind in cells for used, there in [made.used[kind]]),
    ]


def _shares(need: "Resources | Synthesis", part: "Part") -> list[tuple[str, str]]:
    """Return how much of each of the part's resources is needed, in words."""
    found = []
    for name in ("DSP", "BRAM", "URAM", "LUT", "FF"):
        count, have = (getattr(of, f"{name.lower()}s") for of in (need, part))
        if have or count:
            found.append(
                (name, f"{count:,} of {have:,}".replace(".0 ", " ") + (f" ({count / have:.0%})" if have else ""))
            )
    return found


def compile_program(
    program: str,
    out: str,
    *,
    part: PartName = "xczu7ev",
    lanes: tuple[int, int, int] | None = None,
    max_dsp: int | None = None,
    engine: str | None = None,
    explore: bool = False,
    synth: bool = False,
    board: BoardName | None = None,
    bitstream: bool = False,
    clock: float | None = None,
    tell: Tell = runs.silent,
) -> Compiled:
    """Write the Design of a Program for a chip: of the fastest engine that fits, of one with these `lanes` or at most
    `max_dsp` DSPs, or of the `engine` that another Design has. `clock` is in MHz: assumed, or, with `bitstream`, the
    board's."""
    from limbeck.fpga.bitstream import keep, make
    from limbeck.fpga.design import read
    from limbeck.fpga.emit import emit, identity, seal
    from limbeck.fpga.op import Lanes
    from limbeck.fpga.parts import board_of
    from limbeck.fpga.plan import cycles, macs, multipliers, plan, resources, trade_offs
    from limbeck.fpga.synth import synthesise
    from limbeck.integer.file import load

    assumed = clock or CLOCK / 1e6
    net = load(program)
    wanted = Lanes(*lanes) if lanes else None
    sizes = None
    if engine is not None:
        if lanes or max_dsp:
            raise InputError("--engine has its lanes already; leave --lanes and --max-dsp out")
        known = read(Path(engine))
        wanted, sizes, part = known.lanes, known.parameters, cast("PartName", known.part.name)
        if known.identity != identity(sizes):
            raise InputError(f"{engine} has the RTL of another version of Limbeck; compile it, and its bitstream, anew")
    made_for = board_of(part, board) if bitstream or board else None
    found = plan(net, part, lanes=wanted, max_dsp=max_dsp)
    choices = tuple(_choice(other, assumed * 1e6) for other in trade_offs(net, part)) if explore else ()
    with runs.building(Path(out)) as folder:
        emit(found, net, folder, engine=sizes)
        picture = str(Path(out) / _draw(folder, choices, found, assumed)) if choices else ""
        synthesis = synthesise(folder) if synth else None
        seal(folder)
        if made_for:
            keep(Path(out) / made_for.name, folder / made_for.name)
    tell("note", {"text": f"{out} written"})
    made = make(Path(out), made_for, clock=clock, tell=tell) if made_for and bitstream else None
    return Compiled(
        out=out,
        part=found.part,
        lanes=found.lanes,
        ops=len(found.schedule.ops),
        cycles=cycles(found, net),
        macs=macs(net),
        multipliers=sum(multipliers(found.lanes)),
        resources=resources(found),
        choices=choices,
        synthesis=synthesis,
        clock=(made.clock if made else assumed) * 1e6,
        picture=picture,
        bitstream=made,
    )


def _choice(found: "Plan", clock: float) -> Choice:
    from limbeck.fpga.plan import resources
    from limbeck.fpga.schedule import cycles

    lanes, time = found.lanes, cycles(found.schedule)
    return Choice(
        lanes=(lanes.pixels, lanes.inputs, lanes.outputs),
        **asdict(resources(found)),
        **asdict(time),
        rate=clock / time.interval,
    )


def _draw(out: Path, choices: tuple[Choice, ...], found: "Plan", clock: float) -> str:
    """Draw the choices and this design, which need not be among them; return the picture's name."""
    from limbeck.page.charts import Engine, engines
    from limbeck.page.svg import standalone

    part = found.part
    have = {"DSP": part.dsps, "BRAM": part.brams, "URAM": part.urams, "LUT": part.luts, "FF": part.ffs}
    here = _choice(found, clock * 1e6)
    shown = sorted({*choices, here}, key=lambda choice: (choice.dsps, choice.rate))
    points = [
        Engine(
            " x ".join(map(str, choice.lanes)),
            choice.dsps,
            choice.rate,
            {name: getattr(choice, f"{name.lower()}s") / count for name, count in have.items() if count},
        )
        for choice in shown
    ]
    drawn = engines(points, shown.index(here), f"Engines on the {part.name}: images/s and resources over DSPs")
    note = f"images/s at an assumed {clock:g} MHz, and shares of the part; filled: this design"
    runs.write_text(out / EXPLORED, standalone(drawn, f"Engines on the {part.name} ({part.board})", note))
    return EXPLORED
