"""Integer arithmetic, each rule once (docs/numerics.md §1 to §3). Numpy only."""

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

MULTIPLIER_BITS = 16  # unsigned: a non-negative operand of a DSP48E2's signed 18-bit port
ACCUMULATOR_BITS = 44  # signed: two DSP48E2 multiply 27 + 17 bits of it by a multiplier
SHIFT_LIMIT = 46  # an accumulator times a multiplier, plus the half, stays below 2**62


def saturate(x: Ints, bits: int) -> Ints:
    """Clip to signed `bits` bits."""
    return np.clip(x, -(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def shift_right(x: Ints, shift: int) -> Ints:
    """Drop `shift` >= 0 bits, rounding half up: floor((x + 2**(shift - 1)) / 2**shift)."""
    return (x + ((1 << shift) >> 1)) >> shift


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
