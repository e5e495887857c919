"""rtl/requant.sv is fixed.requantise."""

import numpy as np
import pytest
from rtl import needs_icarus, run_bench, words

from limbeck.integer.fixed import requantise

BENCH = """
module bench;
  logic clk = 0;
  logic [3*32-1:0] vectors [0:{count}-1];
  logic signed [{acc}-1:0] acc, offset;
  logic [15:0] mult;
  logic signed [{out}-1:0] y;
  requant #(.AccW({acc}), .OutW({out})) dut (
      .clk_i(clk), .acc_i(acc), .offset_i(offset), .mult_i(mult), .shift_less_1_i(6'd{shift}),
      .relu_i(1'b{relu}), .narrow_i(1'b{narrow}), .y_o(y)
  );
  initial begin
    $readmemh("vectors.mem", vectors);
    for (int i = 0; i < {count} + 5; i++) begin
      if (i < {count}) {{acc, offset, mult}} =
          {{vectors[i][64+:{acc}], vectors[i][32+:{acc}], vectors[i][15:0]}};
      #1 clk = 1;
      #1 clk = 0;
      if (i >= 4 && i < {count} + 4) $display("%0d", y);
    end
    $finish;
  end
endmodule
"""


@needs_icarus
@pytest.mark.parametrize(
    ("acc_bits", "out_bits", "shift", "relu", "narrow"),
    [(20, 8, 1, False, True), (24, 16, 17, False, False), (24, 16, 20, True, True), (27, 24, 12, False, False),
     (27, 16, 43, True, False)],
)  # fmt: skip
def test_requant_rounds_and_saturates_as_the_program_does(tmp_path, acc_bits, out_bits, shift, relu, narrow):
    rng = np.random.default_rng(shift)
    count, half = 400, 1 << (acc_bits - 2)
    acc, offset = rng.integers(-half, half, (2, count))
    mult = rng.integers(0, 1 << 16, count)
    size = rng.integers(0, acc_bits - 1, count)  # small sums too, so that not all saturate
    acc, offset = acc >> size, offset >> size
    acc[:4], offset[:4], mult[:4] = [half, -half, half - 1, 0], [half - 1, -half, 1, 0], [65535, 65535, 1, 65535]
    rows = [
        words(int(a), 32) + words(int(o), 32) + words(int(m), 32) for a, o, m in zip(acc, offset, mult, strict=True)
    ]
    settings = {"shift": shift - 1, "relu": int(relu), "narrow": int(narrow)}
    bench = BENCH.format(count=count, acc=acc_bits, out=out_bits, **settings)
    found = [int(y) for (y,) in run_bench(tmp_path, bench, ["requant"], vectors=rows)]
    assert found == requantise(acc + offset, mult, shift, 8 if narrow else out_bits, relu).tolist()
