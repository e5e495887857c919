"""Fixed-point rules against exact fractions."""

import math
from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from limbeck.integer.fixed import (
    Q16_16,
    Q20,
    SHIFT_LIMIT,
    Format,
    decode,
    encode,
    multipliers,
    product,
    requantise,
    saturate,
    shift_right,
    total,
)

accumulators = st.integers(-(2**43), 2**43)
mults = st.integers(0, 2**16 - 1)
shifts = st.integers(0, SHIFT_LIMIT)
legacy = st.sampled_from([Q16_16, Q20])


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


def test_truncation_goes_towards_minus_infinity():
    x = np.array([-5, -4, -1, 1, 3, 4])
    assert shift_right(x, 2, "truncate").tolist() == [-2, -1, -1, 0, 0, 1]


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


@given(legacy, st.floats(-1e5, 1e5))
def test_legacy_encoding_truncates_and_saturates(form, x):
    exact = math.floor(Fraction(x) * 2**form.fraction)
    assert encode(np.array([x]), form) == clip(exact, 32)


@given(legacy, st.integers(-(2**31), 2**31 - 1), st.integers(-(2**31), 2**31 - 1))
def test_legacy_products_and_sums_are_those_of_ap_trn_and_ap_sat(form, a, b):
    assert product(one(a), one(b), form) == clip(a * b // 2**form.fraction, 32)
    assert total(one(a), one(b), form) == clip(a + b, 32)


def test_legacy_corner_values():
    lowest, highest = Q16_16.low, Q16_16.high
    assert product(one(-1), one(1), Q16_16) == -1  # AP_TRN: -2**-32 becomes -2**-16
    assert product(one(1), one(1), Q16_16) == 0
    assert product(one(lowest), one(lowest), Q16_16) == highest
    assert total(one(highest), one(1), Q16_16) == highest
    assert total(one(lowest), one(-1), Q16_16) == lowest
    assert encode(np.array([-(2.0**-17), 40000.0, -40000.0]), Q16_16).tolist() == [-1, highest, lowest]


@given(st.integers(2, 32), st.data())
def test_decoding_and_encoding_again_changes_nothing(bits, data):
    form = Format(bits, data.draw(st.integers(0, bits)), data.draw(st.sampled_from(["half_up", "truncate"])))
    x = one(data.draw(st.integers(form.low, form.high)))
    assert encode(decode(x, form), form) == x


@given(st.floats(-100, 100), st.integers(0, 16))
def test_rounding_errs_by_at_most_half_a_unit_and_truncating_by_one(x, fraction):
    exact = Fraction(x) * 2**fraction
    rounded = int(encode(np.array([x]), Format(32, fraction))[0])
    truncated = int(encode(np.array([x]), Format(32, fraction, "truncate"))[0])
    assert -Fraction(1, 2) < rounded - exact <= Fraction(1, 2)
    assert -1 < truncated - exact <= 0
