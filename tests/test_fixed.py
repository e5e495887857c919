"""Fixed-point rules against exact fractions."""

import math
from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from limbeck.integer.fixed import SHIFT_LIMIT, multipliers, requantise, saturate, shift_right

accumulators = st.integers(-(2**43), 2**43)
mults = st.integers(0, 2**16 - 1)
shifts = st.integers(0, SHIFT_LIMIT)


def one(value):
    return np.array([value], np.int64)


def clip(value, bits):
    return max(-(2 ** (bits - 1)), min(2 ** (bits - 1) - 1, value))


@given(accumulators, mults, shifts, st.sampled_from([8, 16, 24]), st.booleans())
def test_requantise_is_the_exact_product_rounded_half_up_and_clipped(acc, mult, shift, bits, relu):
    expected = clip(math.floor(Fraction(acc * mult, 2**shift) + Fraction(1, 2)), bits)
    expected = max(0, expected) if relu else expected
    assert requantise(one(acc), one(mult), shift, bits, relu) == expected


def test_halves_round_towards_plus_infinity():
    x = np.array([-3, -1, 1, 3, 5])  # over 2: -1.5, -0.5, 0.5, 1.5, 2.5
    assert shift_right(x, 1).tolist() == [-1, 0, 1, 2, 3]


@given(st.integers(-(2**40), 2**40), st.integers(2, 32))
def test_saturation_keeps_what_fits_and_clips_the_rest(x, bits):
    assert saturate(one(x), bits) == clip(x, bits)


@given(st.lists(st.floats(1e-9, 1e3), min_size=1, max_size=8))
def test_multipliers_are_as_near_as_16_bits_allow(ratios):
    ratio = np.array(ratios)
    mult, shift = multipliers(ratio)
    assert 0 <= shift <= SHIFT_LIMIT
    assert (mult >= 0).all()
    assert (mult < 2**16).all()
    if shift < SHIFT_LIMIT:
        assert mult.max() >= 2**15
        assert (np.abs(mult * 2.0**-shift - ratio) <= ratio.max() * 2.0**-16).all()
