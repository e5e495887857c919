"""RTL, generator and documentation have one contract: fields, registers, and latencies as the blocks have them."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rtl import RTL, run_bench

from limbeck.fpga import contract
from limbeck.fpga.contract import LATENCY, MICRO_OPS, REGISTERS, BackOp, FrontOp, ResultOp, Select, packed_op
from limbeck.fpga.driver import Register

DOCS = Path(__file__).parents[1] / "docs"


def made():
    """Return docs/make_contract.py as a module."""
    spec = importlib.util.spec_from_file_location("make_contract", DOCS / "make_contract.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_header_and_the_page_are_those_of_the_contract():
    assert (RTL / "contract.svh").read_text() == made().header(), "run make reference"
    assert (DOCS / "hardware.md").read_text() == made().page(), "run make reference"


def test_every_register_is_described_once():
    assert [row.register for row in REGISTERS] == list(Register)


def random_op(kind, rng):
    values = {name: int(rng.integers(0, 1 << bits.wide)) for name, bits in contract.fields(kind).items()}
    return kind(**values), values


@pytest.mark.parametrize("kind", MICRO_OPS)
def test_a_simulator_takes_a_packed_micro_op_apart_as_it_was_put_together(tmp_path, kind):
    rng = np.random.default_rng(0)
    ops = [random_op(kind, rng) for _ in range(20)]
    name, bits = made()._name(kind), contract.width(kind)
    shown = " ".join("%0d" for _ in contract.fields(kind))
    bench = f"""
module bench;
  `include "contract.svh"
  {name}_t op;
  logic [{bits - 1}:0] words [0:19];
  initial begin
    $readmemh("vectors.mem", words);
    $display("%0d", $bits(op));
    for (int i = 0; i < 20; i++) begin
      op = words[i];
      $display("{shown}", {", ".join(f"op.{field}" for field in contract.fields(kind))});
    end
  end
endmodule
"""
    vectors = [f"{packed_op(op):0{-(-bits // 4)}x}" for op, _ in ops]
    (width,), *rows = run_bench(tmp_path, bench, [], vectors=vectors)
    assert int(width) == bits
    assert [list(map(int, row)) for row in rows] == [list(values.values()) for _, values in ops]


def test_a_value_that_a_field_does_not_hold_is_named():
    rng = np.random.default_rng(0)
    for kind in MICRO_OPS:
        op, _ = random_op(kind, rng)
        assert contract.too_large(op) == ""
        for name, bits in contract.fields(kind).items():
            wrong = replace(op, **{name: 1 << bits.wide})
            assert contract.too_large(wrong) == f"{name} is {1 << bits.wide:,}; the limit is {(1 << bits.wide) - 1:,}"


def test_numbers_of_memories_leave_room_for_every_weight():
    assert max(select for select in Select if select != Select.WEIGHT) < Select.WEIGHT
    assert {FrontOp, BackOp, ResultOp} == set(MICRO_OPS)


PULSE = """
module bench;
  logic clk = 0;
  logic [{width}-1:0] d = '0;
  logic [{out}-1:0] q, rest;
  {setup}
  {dut}
  int edges = -1;
  initial begin
    {before}
    for (int i = 0; i < 60; i++) begin #1 clk = 1; #1 clk = 0; end
    rest = q;
    d = {pulse};
    for (int i = 0; i < 60 && edges < 0; i++) begin
      #1 if (q !== rest) edges = i;
      #1 clk = 1;
      #1 clk = 0;
    end
    $display("%0d", edges);
    $finish;
  end
endmodule
"""
SMALL = ".Px(2), .Il(2), .AccW(20), .Bits(8)"
SUM = "{20'd0, 20'd100}"  # an offset and an accumulator
VALUE = "result_value #(.AccW(20), .StateW(16), .Bits(8)) dut (.clk_i(clk), "
BLOCKS = {  # the block; what it needs; bits of the pulse and of what comes of it; the pulse; the instance; its latency
    "ram": (["ram"], 16, 8, "16'd1", "ram #(.Width(8), .Depth(2)) dut (.clk_i(clk), .we_i(we), .waddr_i(at), "
            ".raddr_i(d), .wdata_i(data), .q_o(q));", LATENCY.ram),
    "window": (["window"], 32, 2 * 9 * 16, "32'd1", "window #(.Px(2), .Il(2), .Groups(2)) dut (.clk_i(clk), "
               ".word0_i(d), .word1_i(32'd0), .word2_i(32'd0), .bank_i(2'd0), .none_above_i(1'b0), "
               ".none_below_i(1'b0), .group_i(1'b0), .remember_i(1'b0), .none_before_i(1'b0), .none_after_i(1'b0), "
               ".stride_2_i(1'b0), .win_o(q));", LATENCY.window),
    "taps": (["taps"], 2 * 9 * 16, 32, "288'd1", "taps #(.Px(2), .Il(2), .ImageC(1), .Bits(8)) dut (.clk_i(clk), "
             ".win_i(d), .tap_i(5'd0), .x_o(q));", LATENCY.taps),
    "stem": (["stem"], 32, 32, "32'd1", "stem #(.Px(2), .Il(2), .ImageC(1), .Bits(8)) dut (.clk_i(clk), .word0_i(d), "
             ".word1_i(32'd0), .word2_i(32'd0), .bank_i(2'd1), .none_above_i(1'b0), .none_here_i(1'b0), "
             ".none_below_i(1'b0), .group_i(2'd0), .remember_i(1'b1), .none_before_i(1'b1), .none_after_i(1'b0), "
             ".tap_i(5'd2), .x_o(q));", LATENCY.window + LATENCY.taps),
    "chain": (["mac_chain", "dsp_mac", "delay"], 8 * 27, 48, "216'd1", "mac_chain #(.Taps(8), .Skew(0)) dut ("
              ".clk_i(clk), .a_i(d), .w_i({8{8'd1}}), .p_o(q));", 8 + LATENCY.chain),
    "requant": (["requant", "dsp_mac", "shift_part"], 40, 16, SUM, "requant #(.AccW(20), .OutW(16)) dut (.clk_i(clk), "
                ".acc_i(d[19:0]), .carry_i(1'b0), .offset_i(d[39:20]), .mult_i(16'd1), .shift_less_1_i(6'd0), "
                ".relu_i(1'b0), .narrow_i(1'b0), .y_o(q));", LATENCY.requant),
    "requant's shift": (["requant", "dsp_mac", "shift_part"], 6, 16, "6'd3", "requant #(.AccW(20), .OutW(16)) dut ("
                        ".clk_i(clk), .acc_i(20'd100), .carry_i(1'b0), .offset_i(20'd0), .mult_i(16'd1), "
                        ".shift_less_1_i(d), .relu_i(1'b0), .narrow_i(1'b0), .y_o(q));",
                        LATENCY.requant - LATENCY.requant_shift),
    "requant's ReLU": (["requant", "dsp_mac", "shift_part"], 1, 16, "1'b1", "requant #(.AccW(20), .OutW(16)) dut ("
                       ".clk_i(clk), .acc_i(-20'sd100), .carry_i(1'b0), .offset_i(20'd0), .mult_i(16'd1), "
                       ".shift_less_1_i(6'd0), .relu_i(d), .narrow_i(1'b0), .y_o(q));",
                       LATENCY.requant - LATENCY.requant_sides),
    "depthwise": (["depthwise", "requant", "mac_chain", "dsp_mac", "delay", "shift_part", "pack"], 288, 32, "288'd64",
                  f"depthwise #({SMALL}) dut (.clk_i(clk), .win_i(d), .kernel_i({{18{{8'd64}}}}), "
                  ".table_i({2{16'd1, 20'd0}}), .shift_less_1_i(6'd5), .relu_i(1'b0), .y_o(q));", LATENCY.depthwise),
    "depthwise's table": (["depthwise", "requant", "mac_chain", "dsp_mac", "delay", "shift_part", "pack"], 72, 32,
                          "{2{16'd1, 20'd640}}", f"depthwise #({SMALL}) dut (.clk_i(clk), .win_i(288'd0), "
                          ".kernel_i({18{8'd1}}), .table_i(d), .shift_less_1_i(6'd5), .relu_i(1'b0), .y_o(q));",
                          LATENCY.depthwise - LATENCY.depthwise_table),
    "pointwise": (["pointwise", "mac_chain", "dsp_mac", "delay", "pack"], 32, 80, "32'd1",
                  f"pointwise #({SMALL}, .Ol(2)) dut (.clk_i(clk), .x_i(d), .weight_i({{4{{8'd1}}}}), "
                  ".first_i(1'b1), .acc_o(q));", LATENCY.pointwise + 2 - 1),  # x comes a cycle after its reading
    "pool": (["pool"], 64, 64, "64'd7", "pool #(.Px(2), .Lanes(2), .StateW(16), .Words(1), .Depth(2)) dut ("
             ".clk_i(clk), .v_i(d), .word_i(1'b0), .place_i(16'd0), .last_pixel_i(4'd1), .valid_i(1'b0), "
             ".first_slot_i(1'b1), .last_slot_i(1'b0), .odd_slot_i(1'b0), .first_row_i(1'b1), .odd_row_i(1'b0), "
             ".y_o(q));", LATENCY.pool),
    "a value": (["result_value", "requant", "dsp_mac", "shift_part"], 40, 16, SUM, VALUE +
                ".acc_i(d[19:0]), .offset_i(d[39:20]), .mult_i(16'd1), .shift_less_1_i(6'd0), .relu_i(1'b0), "
                ".narrow_i(1'b0), .short_i(16'd0), .add_i(1'b0), .in_map_i(1'b1), .state_relu_i(1'b0), "
                ".state_narrow_i(1'b0), .value_o(q), .kept_i(16'd0), .drop_i(5'd0), .map_o());",
                LATENCY.value - LATENCY.ram),
    "a shortcut": (["result_value", "requant", "dsp_mac", "shift_part"], 16, 16, "16'd9", VALUE +
                   ".acc_i(20'd0), .offset_i(20'd0), .mult_i(16'd1), .shift_less_1_i(6'd0), "
                   ".relu_i(1'b0), .narrow_i(1'b0), .short_i(d), .add_i(1'b1), .in_map_i(1'b1), .state_relu_i(1'b0), "
                   ".state_narrow_i(1'b0), .value_o(q), .kept_i(16'd0), .drop_i(5'd0), .map_o());",
                   LATENCY.value - LATENCY.added),
    "a map": (["result_value", "requant", "dsp_mac", "shift_part"], 16, 8, "16'd9", VALUE +
              ".acc_i(20'd0), .offset_i(20'd0), .mult_i(16'd1), .shift_less_1_i(6'd0), .relu_i(1'b0), "
              ".narrow_i(1'b0), .short_i(16'd0), .add_i(1'b0), .in_map_i(1'b1), .state_relu_i(1'b0), "
              ".state_narrow_i(1'b0), .value_o(), .kept_i(d), .drop_i(5'd0), .map_o(q));", LATENCY.drop),
    "a group's sums": (["result_sums", "delay"], 1, 20, "1'b1", "result_sums #(.OlWords(2), .SumsW(20)) dut ("
                       ".clk_i(clk), .start_i(d), .next_i(1'b0), .acc_i({20'd0, 20'(d)}), .sums_o(q));",
                       1 + LATENCY.ram),
}  # fmt: skip
RAM_SETUP = "logic we = 0; logic [15:0] at = 0; logic [7:0] data = 0;"
RAM_FILL = "we = 1; data = 8'd0; #1 clk = 1; #1 clk = 0; at = 1; data = 8'ha5; #1 clk = 1; #1 clk = 0; we = 0;"


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_has_the_latency_of_the_contract(tmp_path, block):
    sources, width, out, pulse, dut, wanted = BLOCKS[block]
    setup, before = (RAM_SETUP, RAM_FILL) if block == "ram" else ("", "")
    bench = PULSE.format(width=width, out=out, pulse=pulse, dut=dut, setup=setup, before=before)
    assert run_bench(tmp_path, bench, sources) == [[str(wanted)]]


def test_a_run_settles_for_longer_than_the_longest_way_through_the_pipelines():
    longest = LATENCY.front + LATENCY.read_after_write - LATENCY.back + 8 + LATENCY.pool
    assert longest + LATENCY.front < LATENCY.settle
