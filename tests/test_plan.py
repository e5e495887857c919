"""Plans fit their part, say what does not, and count cycles; the engine refuses what it cannot do in a sentence."""

from dataclasses import replace

import numpy as np
import pytest
from fpga_programs import random_program

from limbeck.errors import InputError
from limbeck.fpga.op import Lanes, spent
from limbeck.fpga.parts import PARTS
from limbeck.fpga.plan import cycles, macs, multipliers, plan, resources, trade_offs
from limbeck.fpga.schedule import depth_for
from limbeck.fpga.works import works_of
from limbeck.integer.program import (
    Conv,
    Depthwise,
    GlobalAverage,
    Input,
    MaxPool,
    Narrow,
    Ode,
    Pointwise,
    Program,
    Requant,
    Residual,
)
from limbeck.integer.survey import survey

CLASSES = 4


def requant(channels, bits=8, shift=12):
    return Requant(np.zeros((1, channels), int), np.full((1, channels), 40000), shift, bits, False, (1.0,))


def net(*layers, image=(3, 8, 8)):
    """Return a program of a stem, the layers, a mean and a dense layer; all maps have 8 channels."""
    stem = Conv("stem", np.ones((8, image[0], 3, 3), int), 8, 1, 1, requant(8))
    head = Pointwise("head", np.ones((CLASSES, 8), int), 8, requant(CLASSES, 16))
    mean = GlobalAverage("mean", requant(8))
    return Program(Input(*image), (stem, *layers, mean, head), tuple("abcd"))


def dense(name, **changes):
    layer = Conv(name, np.ones((8, 8, 3, 3), int), 8, 1, 1, requant(8))
    return replace(layer, **changes)


@pytest.mark.parametrize("part", PARTS)
def test_a_plan_fits_its_part(part):
    found = plan(random_program(3, (3, 16, 16), 10), part)
    need, have = resources(found), PARTS[part]
    assert need.dsps <= have.dsps
    assert need.brams <= have.brams
    assert need.urams <= have.urams
    assert need.luts <= have.luts


def test_more_dsps_are_never_slower():
    program = random_program(2, (3, 16, 16), 10)
    intervals = [cycles(plan(program, "xczu7ev", max_dsp=dsps), program).interval for dsps in (60, 120, 400, 1500)]
    assert intervals == sorted(intervals, reverse=True)
    assert intervals[0] > 3 * intervals[-1]


def test_trade_offs_get_faster_with_size():
    program = random_program(2, (3, 16, 16), 10)
    found = trade_offs(program, "xczu3eg")
    assert len(found) > 3
    dsps = [resources(p).dsps for p in found]
    assert dsps == sorted(dsps)
    assert resources(found[-1]) == resources(plan(program, "xczu3eg"))


def test_multipliers_are_never_more_than_busy():
    for seed in range(8):
        program = random_program(seed, (3, 11, 13), 5)
        for lanes in (Lanes(1, 4, 4), Lanes(2, 8, 16), Lanes(4, 4, 8)):
            found = plan(program, "xczu7ev", lanes=lanes)
            assert macs(program) <= cycles(found, program).interval * sum(multipliers(lanes))


def test_what_is_short_is_said():
    large = net(dense("a"), image=(3, 200, 200))
    with pytest.raises(
        InputError, match=r"does not fit xc7z020: BRAMs: it needs .* too few, with .*; parts that fit: xc"
    ):
        plan(large, "xc7z020")


def test_lanes_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="DSPs: it needs"):
        plan(net(), "xc7z020", lanes=Lanes(8, 8, 64))
    with pytest.raises(InputError, match="6 input lanes; choose 2, 4, 8 or 16"):
        plan(net(), "xczu7ev", lanes=Lanes(2, 6, 12))


def test_an_unknown_part_is_named_with_the_known_ones():
    with pytest.raises(InputError, match="part xc1 is unknown; choose one of xczu7ev"):
        plan(net(), "xc1")


@pytest.mark.parametrize(
    ("layer", "sentence"),
    [
        (MaxPool("pool", 3, 2, 1), "pool: the accelerator pools what a convolution with a ReLU gives"),
        (MaxPool("pool", 2, 2, 0), "pool: a pool of 2x2 with stride 2 and padding 0; the accelerator pools 3x3"),
        (dense("inner", weight=np.ones((8, 8, 7, 7), int), stride=2, padding=3), "inner: a 7x7 kernel"),
        (dense("wide", weight_bits=16), "stem: a map of 8 bits beside maps or weights of 16; lower all maps with 16"),
        (dense("far", weight=np.ones((8, 8, 5, 5), int), padding=2), "far: a 5x5 kernel"),
        (dense("sixteen", requant=requant(8, 16)), "stem: a map of 8 bits beside maps or weights of 16"),
        (Ode("ode", (dense("f"),), 2, "rk4", 8), "ode: the accelerator takes Euler steps, not rk4's"),
        (Narrow("narrow", 2, 16), "a map of 8 bits beside maps or weights of 16"),
    ],
)
def test_what_the_engine_cannot_do_is_refused(layer, sentence):
    program = net(layer, dense("after"))
    survey(program)
    with pytest.raises(InputError, match=sentence):
        plan(program, "xczu7ev")


def stem(image, **changes):
    """Return a program whose first layer is a 7x7 convolution."""
    first = Conv("stem", np.ones((8, image[0], 7, 7), int), 8, 2, 3, requant(8))
    mean, head = (
        GlobalAverage("mean", requant(8)),
        Pointwise("head", np.ones((CLASSES, 8), int), 8, requant(CLASSES, 16)),
    )
    return Program(Input(*image), (replace(first, **changes), mean, head), tuple("abcd"))


def test_a_7x7_stem_takes_as_many_words_as_its_values_fill():
    found = plan(stem((3, 16, 16)), "xczu7ev", lanes=Lanes(2, 8, 8))
    assert found.schedule.ops[0].pace.groups == -(-147 // 8)
    assert plan(stem((1, 16, 16)), "xczu7ev", lanes=Lanes(2, 8, 8)).schedule.ops[0].pace.groups == -(-49 // 8)


@pytest.mark.parametrize(
    ("program", "lanes", "sentence"),
    [
        (stem((3, 15, 16)), Lanes(2, 8, 8), "stem: a 7x7 kernel .* on images 15x16; .* images of even sides"),
        (stem((3, 16, 16), stride=1), Lanes(2, 8, 8), "stem: a 7x7 kernel with stride 1"),
        (stem((3, 16, 16)), Lanes(8, 8, 8), "stem: a row of its map is one word; use fewer pixel lanes"),
    ],
)
def test_a_7x7_stem_that_the_engine_cannot_do_is_refused(program, lanes, sentence):
    with pytest.raises(InputError, match=sentence):
        plan(program, "xczu7ev", lanes=lanes)


def wide_net(channels):
    """Return a program of a 1x1 image, so many channels, a mean and a dense layer."""
    first = Conv("first", np.ones((channels, 1, 3, 3), int), 8, 1, 1, requant(channels))
    head = Pointwise("head", np.ones((CLASSES, channels), int), 8, requant(CLASSES, 16))
    return Program(Input(1, 1, 1), (first, GlobalAverage("mean", requant(channels)), head), tuple("abcd"))


def test_what_no_field_of_a_micro_op_holds_is_refused():
    lanes = Lanes(1, 2, 4)
    assert plan(wide_net(2048), "xczu7ev", lanes=lanes).schedule.ops[0].result.words == 1024
    with pytest.raises(InputError, match=r"first: its micro-op's out_groups is 1,024; the limit is 1,023; use more"):
        plan(wide_net(4100), "xczu7ev", lanes=lanes)


def test_layers_of_one_name_are_refused():
    with pytest.raises(InputError, match="a: two layers have this name"):
        plan(net(dense("a"), dense("a")), "xczu7ev")


def test_accumulators_too_wide_are_refused():
    layer = dense("loud", requant=replace(requant(8), offset=np.full((1, 8), 1 << 28)))
    with pytest.raises(InputError, match="loud: its accumulators need 30 bits; the accelerator has 27"):
        plan(net(layer), "xczu7ev")


def test_works_count_the_multiplications_of_the_program():
    program = net(dense("a"), dense("b", stride=2))
    assert macs(program) == 64 * 8 * 27 + 64 * 8 * 72 + 16 * 8 * 72 + CLASSES * 8
    assert [work.out for work in works_of(program)] == [(8, 8, 8), (8, 8, 8), (8, 4, 4), (8, 1, 1), (CLASSES, 1, 1)]


def test_depths_are_powers_of_two():
    assert [depth_for(n) for n in (0, 1, 2, 3, 4, 5, 1024, 1025)] == [2, 2, 2, 4, 4, 8, 1024, 2048]


def test_random_programs_are_programs_of_every_kind():
    kinds = set()
    for seed in range(30):
        kinds |= {type(site.layer) for site in survey(random_program(seed, (3, 9, 9), 5))}
    assert kinds == {Conv, Depthwise, Pointwise, Narrow, GlobalAverage, Residual, Ode}


@pytest.mark.parametrize("lanes", [Lanes(1, 4, 4), Lanes(2, 8, 16), Lanes(4, 4, 8)])
def test_the_interval_is_the_sum_of_the_cycles_of_the_micro_ops(lanes):
    for seed in range(8):
        program = random_program(seed, (3, 11, 13), 5)
        found = plan(program, "xczu7ev", lanes=lanes)
        each = spent(found.schedule.ops)
        assert sum(each) == cycles(found, program).interval
        for taken, op in zip(each, found.schedule.ops, strict=True):
            assert taken >= op.slots * max(op.pace.front, op.pace.back) - max(0, op.pace.front - op.pace.back)


def test_16_bits_take_a_multiplier_for_each_product_and_two_to_requantise():
    program, lanes = random_program(3, (3, 9, 9), 5, bits=16), Lanes(2, 8, 16)
    found, eight = (plan(p, "xczu7ev", lanes=lanes) for p in (program, random_program(3, (3, 9, 9), 5)))
    assert (found.value_bits, eight.value_bits) == (16, 8)
    assert resources(found).dsps == sum(multipliers(lanes)) + 4 * 2 * 8
    assert resources(eight).dsps == sum(multipliers(lanes)) // 2 + 2 * 2 * 8
    assert 27 < found.accumulator_bits <= 44


def test_wide_states_leave_accumulators_that_the_engine_has():
    for seed in range(5):
        found = plan(random_program(seed, (2, 1, 3), 4, state_bits=24), "xczu7ev", lanes=Lanes(2, 4, 4))
        assert found.state_bits == 24
        assert 24 <= found.accumulator_bits <= 27


def test_deep_offsets_lie_in_uram_where_a_part_has_it():
    program = random_program(3, (3, 16, 16), 10)
    found = plan(program, "xczu7ev", lanes=Lanes(2, 4, 8))
    assert not found.offset_urams
    deep = replace(found.schedule, depths={**found.schedule.depths, "offset": 3000})
    high, low = (replace(found, part=PARTS[part], schedule=deep) for part in ("xczu7ev", "xczu3eg"))
    width = 3 * 4 * found.accumulator_bits
    assert high.offset_urams
    assert resources(high).urams == resources(found).urams + -(-width // 72)
    assert not low.offset_urams
    assert resources(low).brams > resources(high).brams + width // 9
