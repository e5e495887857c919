"""4-bit weights in hardware: integers that 8 bits hold, so the accelerator takes them as they are."""

from dataclasses import replace

import numpy as np
from test_lower import family, images_for

from limbeck.fpga.emit import emit
from limbeck.fpga.op import Lanes
from limbeck.fpga.plan import plan
from limbeck.integer.lower import lower
from limbeck.integer.program import Conv, run
from limbeck.integer.survey import survey


def in_eight_bits(node):
    return replace(node, op=replace(node.op, weight_bits=8)) if isinstance(node.op, Conv) else node


def test_a_design_of_four_bit_weights_is_that_of_the_same_integers_in_eight(tmp_path):
    net = family("dsodenet20", size=8)
    four = lower(net, images_for(net), weight_bits=4)
    eight = replace(four, nodes=tuple(map(in_eight_bits, four.nodes)))
    assert {site.node.op.weight_bits for site in survey(four) if isinstance(site.node.op, Conv)} == {4, 8}
    np.testing.assert_array_equal(run(four, images_for(net).numpy()), run(eight, images_for(net).numpy()))
    for name, program in (("four", four), ("eight", eight)):
        emit(plan(program, "xczu7ev", lanes=Lanes(2, 4, 8)), program, tmp_path / name)
    memories = [
        {path.name: path.read_bytes() for path in (tmp_path / name).rglob("*.mem")} for name in ("four", "eight")
    ]
    assert len(memories[0]) > 1
    assert memories[0] == memories[1]
