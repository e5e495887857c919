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
    Add,
    AveragePool,
    Conv,
    GlobalAverage,
    Input,
    MaxPool,
    Node,
    Program,
    Requant,
    Shortcut,
)
from limbeck.integer.survey import survey

CLASSES = 4


NONE, ONE, THREE = ((pad,) * 4 for pad in (0, 1, 3))


def built(image, **operations):
    """Return a program on images of this shape: operations one on the other, each (operation, weights or nothing)."""
    tensors = {"zeros": np.zeros(8, int), "mults": np.full(8, 40000)}
    tensors |= {"fc.zeros": np.zeros(CLASSES, int), "fc.mults": np.full(CLASSES, 40000)}
    nodes, last = [], "input"
    for name, (op, *weight) in operations.items():
        for shape in weight:
            tensors[f"{name}.weight"] = np.ones(shape, int)
        weighted = replace(op, weight=f"{name}.weight") if weight else op
        nodes.append(Node(name, (last,), weighted, (1.0,)))
        last = name
    return Program(Input(*image), tensors, tuple(nodes), tuple("abcd"))


def requant(bits=8, shift=12, prefix=""):
    return Requant(f"{prefix}zeros", f"{prefix}mults", shift, bits, False)


def dense(side=3, inputs=8, **changes):
    """Return a dense layer of 8 channels, and the shape of its weights."""
    layer = Conv("", 8, 1, 1, (side // 2,) * 4, requant())
    return replace(layer, **changes), (8, inputs, side, side)


HEAD = {
    "mean": (GlobalAverage(requant()),),
    "head": (Conv("", 8, 1, 1, NONE, requant(16, prefix="fc.")), (CLASSES, 8, 1, 1)),
}


def net(*layers, image=(3, 8, 8), **named):
    """Return a program of a stem, the layers, a mean and a dense layer; all maps have 8 channels."""
    named |= {name: layer for name, layer in zip("abcdef", layers, strict=False)}
    return built(image, stem=dense(3, image[0]), **named, **HEAD)


@pytest.mark.parametrize("part", PARTS)
def test_a_plan_fits_its_part(part):
    found = plan(random_program(3, (3, 16, 16), 10), part)
    need, have = resources(found), PARTS[part]
    assert need.dsps <= have.dsps
    assert need.brams <= have.brams
    assert need.urams <= have.urams
    assert need.luts <= have.luts


@pytest.mark.parametrize(("part", "smallest"), [("xczu3eg", 30), ("lfe5u-45f", 34)])
def test_fewer_multipliers_than_the_smallest_engine_takes_are_refused(part, smallest):
    program = random_program(3, (1, 16, 16), 10)
    assert resources(plan(program, part, lanes=Lanes(1, 2, 4))).dsps == smallest
    with pytest.raises(InputError) as caught:
        plan(program, part, max_dsp=28)
    assert str(caught.value) == f"DSPs: 28 are too few for any engine; the smallest takes {smallest}"


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
    large = net(dense(), image=(3, 200, 200))
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
        ((MaxPool(3, 2, ONE),), "odd: the accelerator pools the output of a convolution with a ReLU"),
        ((MaxPool(2, 2, NONE),), "odd: a pool of 2x2 with stride 2 and padding 0; the accelerator pools 3x3"),
        ((AveragePool(2, 2, NONE, False, requant()),), "odd: the accelerator has no AveragePool yet"),
        ((Shortcut(3, 8),), "odd: a stride of 3 is too large"),
        (dense(7, stride=2), "odd: a 7x7 kernel"),
        (dense(weight_bits=16), "stem: a map of 8 bits beside maps or weights of 16; lower all maps with 16"),
        (dense(5), "odd: a 5x5 kernel"),
        (dense(padding=(0, 1, 0, 1), stride=2), r"odd: a 3x3 kernel with stride 2 and padding \(0, 1, 0, 1\)"),
        ((dense(groups=2)[0], (8, 4, 3, 3)), "odd: a convolution of 2 groups"),
        ((dense(groups=8)[0], (8, 1, 3, 3)), "after: it follows a depthwise layer"),
        (dense(requant=requant(16)), "stem: a map of 8 bits beside maps or weights of 16"),
        ((Add((1,), 2, 16, False),), "a map of 8 bits beside maps or weights of 16"),
        ((Add((3,), 2, 8, False),), "odd: the accelerator narrows by bits; it has no factor"),
        ((Add((1,), 2, 8, True),), "odd: the accelerator narrows by bits; it has no factor and no ReLU"),
    ],
)
def test_what_the_engine_cannot_do_is_refused(layer, sentence):
    program = net(odd=layer, after=dense())
    survey(program)
    with pytest.raises(InputError, match=sentence):
        plan(program, "xczu7ev")


def summed(*inputs, factors=(1, 1)):
    """Return a program of three layers, then a sum of the maps of this name, a mean and a dense layer."""
    program = net(dense(), dense(), dense())
    nodes = [*program.nodes[:4], Node("sum", inputs, Add(factors, 0, 8, False), (1.0,)), *program.nodes[4:]]
    nodes[5] = replace(nodes[5], inputs=("sum",))
    return replace(program, nodes=tuple(nodes))


@pytest.mark.parametrize(
    ("program", "sentence"),
    [
        (
            summed("a", "c", factors=(3, 1)),
            "sum: a sum with factors 3, 1 and 0 bits dropped; .* Euler's and midpoint's",
        ),
        (summed("a", "b", "c", factors=(1, 1, 1)), "sum: a sum with factors 1, 1, 1"),
        (summed("c", "c"), "sum: the accelerator adds a map to the result of the convolution just made"),
        (summed("c", "input"), "sum: the maps"),
    ],
)
def test_a_sum_that_the_engine_cannot_do_is_refused(program, sentence):
    with pytest.raises(InputError, match=sentence):
        plan(program, "xczu7ev")


def test_a_state_is_kept_while_it_is_needed():
    """Of z, z + k and z + k + m the engine has room for two: z stays where z + k does not take its place."""
    twice = net(dense(), dense(), dense())
    sums = (Node(f"sum{n}", ("a", name), Add((1, 1), 0, 8, False), (1.0,)) for n, name in enumerate("bc"))
    first, second = sums
    *before, mean, head = twice.nodes
    stem, a, b, c = before
    nodes = stem, a, b, first, replace(c, inputs=("sum0",)), second, replace(mean, inputs=("sum1",)), head
    works = works_of(replace(twice, nodes=nodes))
    assert [work.buffer for work in works[:4]] == [None, 0, 1, 0]
    assert [work.shortcut and work.shortcut.buffer for work in works[:4]] == [None, None, 0, 0]
    assert works_of(summed("a", "c"))[3].buffer == 0


def projected(first="c", stride=2):
    """Return a program of a stem a, layers b and c on it, and p of 1x1 on it too, which is added to c; p is made
    before `first`."""
    two = net(dense(), dense(stride=stride), dense(), dense(1, stride=stride))
    stem, a, b, c, p, mean, head = two.nodes
    p = replace(p, name="p", inputs=("a",), op=replace(p.op, weight="d.weight"))
    total = Node("sum", ("c", "p"), Add((1, 1), 0, 8, True), (1.0,))
    nodes = [stem, a, b, c, total, replace(mean, inputs=("sum",)), head]
    nodes.insert({"b": 2, "c": 3, "sum": 4}[first], p)
    return replace(two, nodes=tuple(nodes))


@pytest.mark.parametrize("first", ["b", "c", "sum"])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_shortcut_that_is_a_layer_follows_the_pass_whose_map_it_reads(first, stride):
    works = works_of(projected(first, stride))
    assert [work.value for work in works] == ["stem", "a", "p", "b", "sum", "mean", "head"]
    assert [work.aside for work in works] == [False, False, True, False, False, False, False]
    assert works[4].shortcut.buffer == works[2].buffer
    ops = plan(projected(first, stride), "xczu7ev", lanes=Lanes(2, 8, 8)).schedule.ops
    assert ops[3].front.base == ops[2].front.base == ops[1].result.map_base != ops[3].result.map_base
    assert ops[4].front.base == ops[3].result.map_base


def test_two_branches_of_several_layers_are_refused():
    program = net(*[dense() for _ in "abcde"])
    stem, a, b, c, d, e, mean, head = program.nodes
    total = Node("sum", ("c", "e"), Add((1, 1), 0, 8, False), (1.0,))
    nodes = stem, a, b, c, replace(d, inputs=("a",)), e, total, replace(mean, inputs=("sum",)), head
    with pytest.raises(InputError, match=r"d: it takes a; a pass .* or an older one where its result is only added"):
        works_of(replace(program, nodes=nodes))


def stem(image, **changes):
    """Return a program whose first layer is a 7x7 convolution."""
    first, shape = dense(7, image[0], stride=2, padding=THREE)
    return built(image, stem=(replace(first, **changes), shape), **HEAD)


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
    first = dense(3, 1)[0], (channels, 1, 3, 3)
    head = HEAD["head"][0], (CLASSES, channels, 1, 1)
    program = built((1, 1, 1), first=first, mean=HEAD["mean"], head=head)
    program.tensors.update(zeros=np.zeros(channels, int), mults=np.full(channels, 40000))
    return program


def test_what_no_field_of_a_micro_op_holds_is_refused():
    lanes = Lanes(1, 2, 4)
    assert plan(wide_net(2048), "xczu7ev", lanes=lanes).schedule.ops[0].result.words == 1024
    with pytest.raises(InputError, match=r"first: its micro-op's out_groups is 1,024; the limit is 1,023; use more"):
        plan(wide_net(4100), "xczu7ev", lanes=lanes)


def test_layers_of_one_name_are_refused():
    program = net(dense(), dense())
    again = replace(program.nodes[2], name="a", inputs=("a",))
    nodes = (*program.nodes[:2], again, *program.nodes[3:])
    with pytest.raises(InputError, match="two maps have the name 'a'"):
        plan(replace(program, nodes=nodes), "xczu7ev")


def test_accumulators_too_wide_are_refused():
    program = net(loud=dense())
    program.tensors["zeros"] = np.full(8, 1 << 28)
    with pytest.raises(InputError, match=": its accumulators need 30 bits; the accelerator has 27"):
        plan(program, "xczu7ev")


def test_works_count_the_multiplications_of_the_program():
    program = net(dense(), dense(stride=2))
    assert macs(program) == 64 * 8 * 27 + 64 * 8 * 72 + 16 * 8 * 72 + CLASSES * 8
    assert [work.out for work in works_of(program)] == [(8, 8, 8), (8, 8, 8), (8, 4, 4), (8, 1, 1), (CLASSES, 1, 1)]


def test_depths_are_powers_of_two():
    assert [depth_for(n) for n in (0, 1, 2, 3, 4, 5, 1024, 1025)] == [2, 2, 2, 4, 4, 8, 1024, 2048]


def test_random_programs_are_programs_of_every_kind():
    kinds = set()
    for seed in range(30):
        sites = survey(random_program(seed, (3, 9, 9), 5))
        kinds |= {(type(site.node.op), len(site.ins)) for site in sites}
        kinds |= {site.node.op.groups > 1 for site in sites if isinstance(site.node.op, Conv)}
    assert kinds == {(Conv, 1), (Add, 1), (Add, 2), (GlobalAverage, 1), (Shortcut, 1), True, False}


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
