"""The chips that Limbeck knows, from the makers' product tables."""

from dataclasses import dataclass
from typing import Literal

from limbeck.errors import InputError

PartName = Literal["xczu7ev", "xczu3eg", "xck26", "xc7z020"]
CLOCK = 200e6  # Hz, for images/s: assumed


@dataclass(frozen=True)
class Part:
    """What a chip has. A BRAM holds 36 Kb, a URAM 288 Kb. `packs`: its multipliers take 27 x 18 bits (DSP48E2)."""

    name: str
    vivado: str
    board: str
    luts: int
    ffs: int
    brams: int
    urams: int
    dsps: int
    packs: bool = True


PARTS = {
    part.name: part
    for part in (
        Part("xczu7ev", "xczu7ev-ffvc1156-2-e", "ZCU104", 230_400, 460_800, 312, 96, 1728),
        Part("xczu3eg", "xczu3eg-sbva484-1-e", "Ultra96", 70_560, 141_120, 216, 0, 360),
        Part("xck26", "xck26-sfvc784-2LV-c", "Kria K26", 117_120, 234_240, 144, 64, 1248),
        Part("xc7z020", "xc7z020clg400-1", "PYNQ-Z2", 53_200, 106_400, 140, 0, 220, packs=False),
    )
}


def part_of(name: str) -> Part:
    """Return the part; InputError where it is none of ours."""
    if name not in PARTS:
        raise InputError(f"part {name} is unknown; choose one of {', '.join(PARTS)}")
    return PARTS[name]
