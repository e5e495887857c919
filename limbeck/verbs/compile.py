"""limbeck compile."""

from limbeck import runs
from limbeck.artefacts.kinds import may_write
from limbeck.deploy.design import Compiled, compile_program
from limbeck.errors import InputError
from limbeck.fpga.parts import FASTEST, BoardName, PartName
from limbeck.runs import Tell


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
    board: BoardName | None = None,
    bitstream: bool = False,
    clock: float | None = None,
    tell: Tell = runs.silent,
) -> Compiled:
    """Make an accelerator of a Program, sized to a chip.

    It writes RTL, weights, tables, driver, golden vectors and scripts for Vivado. The engine is the fastest that fits
    the part; cycle counts are exact, and `limbeck simulate` checks them.

    Examples:
        limbeck compile s.program --part xczu7ev --out design
        limbeck compile s.program --part xczu3eg --out design --explore --clock 250
        limbeck compile adapted.program --engine design --out design2
        limbeck compile s.program --part lfe5u-85f --board ulx3s --out design --bitstream

    Args:
        program: A file that limbeck quantize wrote, with weights and activations of 8 or 16 bits.
        out: The folder to write.
        part: The chip: xczu7ev (ZCU104), xczu3eg (Ultra96), xck26 (Kria K26), xc7z020 (PYNQ-Z2),
            lfe5u-85f or lfe5u-45f (ULX3S).
        lanes: Output pixels, input channels and output channels per cycle, instead of the fastest engine's.
        max_dsp: The most DSPs that the engine may take.
        engine: A design whose engine, and so whose bitstream, this program is to run on.
        explore: Show what other engines would cost, and draw it: explore.svg in OUT.
        synth: Have Yosys count the cells and estimate the clock; minutes.
        board: The board of the bitstream: ulx3s (default: the one that has the part).
        bitstream: Place, route and pack the board's bitstream with open tools (an ECP5 part); minutes.
        clock: MHz that images/s are given for, an assumption (default 200). With --bitstream the clock of the board,
            a multiple of 12.5; by default the fastest that the routed design reaches.
    """
    if clock is not None and not 0 < clock <= FASTEST:
        raise InputError(f"--clock is {clock:g}; it must lie above 0 and be at most {FASTEST:g} MHz")
    may_write(out, "Design", inputs=(program, engine))
    return compile_program(
        program, out, part=part, lanes=lanes, max_dsp=max_dsp, engine=engine, explore=explore, synth=synth,
        board=board, bitstream=bitstream, clock=clock, tell=tell,
    )  # fmt: skip
