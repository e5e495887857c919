"""Integer arithmetic, each rule once (docs/numerics.md §1 to §3). Numpy only."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Rounding = Literal["half_up", "truncate"]

MULTIPLIER_BITS = 16  # unsigned: a non-negative operand of a DSP48E2's signed 18-bit port
ACCUMULATOR_BITS = 44  # signed: two DSP48E2 multiply 27 + 17 bits of it by a multiplier
SHIFT_LIMIT = 46  # an accumulator times a multiplier, plus the half, stays below 2**62


@dataclass(frozen=True)
class Format:
    """Signed `bits`-bit integers that stand for multiples of 2**-fraction; overflow saturates (AP_SAT).

    `truncate` drops bits towards minus infinity (AP_TRN): only for comparison with other work.
    """

    bits: int
    fraction: int = 0
    rounding: Rounding = "half_up"

    @property
    def low(self) -> int:
        return -(1 << (self.bits - 1))

    @property
    def high(self) -> int:
        return (1 << (self.bits - 1)) - 1


Q16_16 = Format(32, 16, "truncate")  # ap_fixed<32, 16>, AP_TRN, AP_SAT: what the dsODENet lab has documented
Q20 = Format(32, 20, "truncate")  # ODENet on PYNQ-Z2: 32 bits, 20 of them fraction


def saturate(x: Ints, bits: int) -> Ints:
    """Clip to signed `bits` bits."""
    return np.clip(x, -(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def shift_right(x: Ints, shift: int, rounding: Rounding = "half_up") -> Ints:
    """Drop `shift` >= 0 bits: floor((x + half) / 2**shift); half is 2**(shift - 1), or 0 to truncate."""
    half = (1 << shift) >> 1 if rounding == "half_up" else 0
    return (x + half) >> shift


def requantise(acc: Ints, mult: Ints, shift: int, bits: int, relu: bool = False) -> Ints:
    """Return acc · mult / 2**shift, rounded half up, saturated to signed `bits`, negatives to 0 if `relu`.

    `mult` broadcasts against `acc`. Exact where |acc| < 2**43 and shift <= 46 (numerics.md §3).
    """
    scaled = saturate(shift_right(acc * mult, shift), bits)
    return np.maximum(scaled, 0) if relu else scaled


def multipliers(ratio: Floats) -> tuple[Ints, int]:
    """Return (mult, shift) with mult / 2**shift nearest to `ratio` >= 0: one shift, the largest that fits.

    The largest mult has all of its 16 bits, so |mult / 2**shift - ratio| <= max(ratio) * 2**-16.
    """
    largest = float(ratio.max())
    assert (ratio >= 0).all()
    assert 0 < largest < np.inf
    shift = int(np.floor(MULTIPLIER_BITS - np.log2(largest)))
    while np.rint(largest * 2.0**shift) >= 1 << MULTIPLIER_BITS:
        shift -= 1
    shift = min(shift, SHIFT_LIMIT)
    return np.rint(ratio * 2.0**shift).astype(np.int64), shift


def encode(x: Floats, form: Format) -> Ints:
    """Return the integers that stand for `x`: scaled, rounded as the format says, saturated."""
    scaled = np.ldexp(x, form.fraction)
    whole = np.floor(scaled + 0.5) if form.rounding == "half_up" else np.floor(scaled)
    return np.clip(whole, form.low, form.high).astype(np.int64)


def decode(x: Ints, form: Format) -> Floats:
    """Return the numbers that the integers stand for."""
    return np.ldexp(x.astype(np.float64), -form.fraction)


def product(a: Ints, b: Ints, form: Format) -> Ints:
    """Return a * b, all three in `form`: 2 * fraction bits dropped to fraction, then saturated."""
    return saturate(shift_right(a * b, form.fraction, form.rounding), form.bits)


def total(a: Ints, b: Ints, form: Format) -> Ints:
    """Return a + b, saturated to `form`."""
    return saturate(a + b, form.bits)
