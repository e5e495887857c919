"""The chips that Limbeck knows, from the makers' product tables."""

from dataclasses import dataclass
from typing import Literal

from limbeck.errors import InputError

PartName = Literal["xczu7ev", "xczu3eg", "xck26", "xc7z020", "lfe5u-85f", "lfe5u-45f"]
BoardName = Literal["ulx3s"]
CLOCK = 200e6  # Hz, for images/s: assumed
FASTEST = 1000.0  # MHz that a clock may have


@dataclass(frozen=True)
class Part:
    """What a chip has. A BRAM holds 36 Kb (two block RAMs of an ECP5), a URAM 288 Kb. `family` is Yosys' word."""

    name: str
    vivado: str
    board: str
    luts: int
    ffs: int
    brams: int
    urams: int
    dsps: int
    family: Literal["xcup", "xc7", "ecp5"] = "xcup"

    @property
    def packs(self) -> bool:
        """Whether a multiplier takes 27 x 18 bits, and so two products of 8 bits (DSP48E2)."""
        return self.family == "xcup"


@dataclass(frozen=True)
class Board:
    """A board that open tools make bitstreams for: the package of its chip, and its speed grade."""

    name: str
    package: str
    speed: int
    parts: tuple[str, ...]  # that it is sold with


BOARDS = {board.name: board for board in (Board("ulx3s", "CABGA381", 6, ("lfe5u-45f", "lfe5u-85f")),)}


PARTS = {
    part.name: part
    for part in (
        Part("xczu7ev", "xczu7ev-ffvc1156-2-e", "ZCU104", 230_400, 460_800, 312, 96, 1728),
        Part("xczu3eg", "xczu3eg-sbva484-1-e", "Ultra96", 70_560, 141_120, 216, 0, 360),
        Part("xck26", "xck26-sfvc784-2LV-c", "Kria K26", 117_120, 234_240, 144, 64, 1248),
        Part("xc7z020", "xc7z020clg400-1", "PYNQ-Z2", 53_200, 106_400, 140, 0, 220, "xc7"),
        Part("lfe5u-85f", "", "ULX3S", 83_640, 83_640, 104, 0, 156, "ecp5"),
        Part("lfe5u-45f", "", "ULX3S", 43_848, 43_848, 54, 0, 72, "ecp5"),
    )
}


def part_of(name: str) -> Part:
    """Return the part; InputError where it is unknown."""
    if name not in PARTS:
        raise InputError(f"part {name} is unknown; choose one of {', '.join(PARTS)}")
    return PARTS[name]


def board_of(part: str, name: str | None = None) -> Board:
    """Return the board of this name, else the first with this part, that open tools make bitstreams for.

    InputError where there is none.
    """
    boards = [BOARDS[name]] if name else [*BOARDS.values()]
    for board in boards:
        if part in board.parts:
            return board
    served = ", ".join(part for board in boards for part in board.parts)
    if name:
        raise InputError(f"--board {name} does not come with {part}; choose --part {served.replace(', ', ' or ')}")
    raise InputError(f"open tools make no bitstream for {part}; leave --bitstream out, or choose one of {served}")
