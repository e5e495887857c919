"""rtl/requant.sv is fixed.requantise."""

import numpy as np
import pytest
from rtl import run_bench, words

from limbeck.integer.fixed import requantise

BENCH = """
module bench;
  logic clk = 0;
  logic [3*64-1:0] vectors [0:{count}-1];
  logic signed [{acc}-1:0] acc, offset;
  logic carry;
  logic [15:0] mult;
  logic signed [{out}-1:0] y;
  requant #(.AccW({acc}), .OutW({out}), .NarrowW({narrow_bits})) dut (
      .clk_i(clk), .acc_i(acc), .carry_i(carry), .offset_i(offset), .mult_i(mult), .shift_less_1_i(6'd{shift}),
      .relu_i(1'b{relu}), .narrow_i(1'b{narrow}), .y_o(y)
  );
  initial begin
    $readmemh("vectors.mem", vectors);
    for (int i = 0; i < {count} + 5; i++) begin
      if (i < {count}) {{acc, offset, carry, mult}} =
          {{vectors[i][128+:{acc}], vectors[i][64+:{acc}], vectors[i][16:0]}};
      #1 clk = 1;
      #1 clk = 0;
      if (i >= 4 && i < {count} + 4) $display("%0d", y);
    end
    $finish;
  end
endmodule
"""


@pytest.mark.parametrize("defines", [(), ("LIMBECK_MULT18",)])
@pytest.mark.parametrize(
    ("acc_bits", "out_bits", "shift", "relu", "narrow"),  # to so many bits; 0: not
    [(20, 8, 1, False, 8), (24, 16, 17, False, 0), (24, 16, 20, True, 8), (27, 24, 12, False, 0),
     (27, 16, 43, True, 0), (44, 16, 40, False, 16), (44, 24, 36, True, 16), (44, 24, 30, False, 0)],
)  # fmt: skip
def test_requant_rounds_and_saturates_as_the_program_does(tmp_path, acc_bits, out_bits, shift, relu, narrow, defines):
    rng = np.random.default_rng(shift)
    count, half = 400, 1 << (acc_bits - 2)
    acc, offset = rng.integers(-half, half, (2, count))
    mult, carry = rng.integers(0, 1 << 16, count), rng.integers(0, 2, count)
    size = rng.integers(0, acc_bits - 1, count)  # small sums too, so that not all saturate
    acc, offset = acc >> size, offset >> size
    acc[:4], offset[:4], mult[:4] = [half, -half, half - 1, 0], [half - 1, -half, 1, 0], [65535, 65535, 1, 65535]
    carry[0] = 0  # the largest sum that fits
    rows = [
        words(int(a), 64) + words(int(o), 64) + words(int(m), 64)
        for a, o, m in zip(acc, offset, carry << 16 | mult, strict=True)
    ]
    settings = {"shift": shift - 1, "relu": int(relu), "narrow": int(narrow > 0), "narrow_bits": narrow or 8}
    bench = BENCH.format(count=count, acc=acc_bits, out=out_bits, **settings)
    blocks = ["requant", "dsp_mac", "shift_part"]
    found = [int(y) for (y,) in run_bench(tmp_path, bench, blocks, vectors=rows, defines=defines)]
    assert found == requantise(acc + carry + offset, mult, shift, narrow or out_bits, relu).tolist()
