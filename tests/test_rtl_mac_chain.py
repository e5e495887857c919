"""rtl/mac_chain.sv: two pixels in one multiplier are exact, with the DSP48E2 as with its twin."""

import numpy as np
import pytest
from rtl import run_bench, words

BENCH = """
module bench;
  localparam int Taps = {taps};
  logic clk = 0;
  logic [Taps*24-1:0] vectors [0:{count}-1];
  logic [Taps*27-1:0] a;
  logic [Taps*8-1:0] w;
  logic signed [47:0] p;
  logic signed [17:0] low;
  logic signed [29:0] high;
  logic [Taps*24-1:0] now;
  mac_chain #(.Taps(Taps), .Skew(1)) dut (.clk_i(clk), .a_i(a), .w_i(w), .p_o(p));
  for (genvar i = 0; i < Taps; i++) begin : gen_tap
    pack u_pack (.first_i(now[i*24+:8]), .second_i(now[i*24+8+:8]), .packed_o(a[i*27+:27]));
    assign w[i*8+:8] = now[i*24+16+:8];
  end
  assign low = p[17:0];
  assign high = p[47:18] + {{29'b0, p[17]}};
  initial begin
    $readmemh("vectors.mem", vectors);
    for (int i = 0; i < {count} + Taps + 2; i++) begin
      now = vectors[i < {count} ? i : 0];
      #1 clk = 1;
      #1 clk = 0;
      if (i >= Taps + 1 && i < {count} + Taps + 1) $display("%0d %0d", low, high);
    end
    $finish;
  end
endmodule
"""

BENCH_16 = """
module bench;
  localparam int Taps = {taps};
  logic clk = 0;
  logic [Taps*32-1:0] vectors [0:{count}-1];
  logic [Taps*27-1:0] a;
  logic [Taps*16-1:0] w;
  logic signed [47:0] p;
  logic [Taps*32-1:0] now;
  mac_chain #(.Taps(Taps), .Skew(1), .Bits(16)) dut (.clk_i(clk), .a_i(a), .w_i(w), .p_o(p));
  for (genvar i = 0; i < Taps; i++) begin : gen_tap
    pack #(.Bits(16)) u_pack (.first_i(now[i*32+:16]), .second_i(16'b0), .packed_o(a[i*27+:27]));
    assign w[i*16+:16] = now[i*32+16+:16];
  end
  initial begin
    $readmemh("vectors.mem", vectors);
    for (int i = 0; i < {count} + Taps + 2; i++) begin
      now = vectors[i < {count} ? i : 0];
      #1 clk = 1;
      #1 clk = 0;
      if (i >= Taps + 1 && i < {count} + Taps + 1) $display("%0d", p);
    end
    $finish;
  end
endmodule
"""

# What we use of the primitive, written from its data sheet's words; not AMD's model.
DSP48E2 = """
module DSP48E2 #(
    parameter AREG = 1, ACASCREG = 1, BREG = 1, BCASCREG = 1, CREG = 1, DREG = 1, ADREG = 1, MREG = 1, PREG = 1,
    parameter OPMODEREG = 1, ALUMODEREG = 1, INMODEREG = 1, CARRYINREG = 1, CARRYINSELREG = 1
) (
    input CLK, input [29:0] A, input [17:0] B, input [47:0] C, input [26:0] D, input [47:0] PCIN,
    output [47:0] PCOUT, output [47:0] P, input [8:0] OPMODE, input [3:0] ALUMODE, input [4:0] INMODE,
    input CARRYIN, input [2:0] CARRYINSEL, input CEA1, CEA2, CEB1, CEB2, CEM, CEP, CEC, CED, CEAD, CECTRL,
    input CECARRYIN, CEALUMODE, CEINMODE, RSTA, RSTB, RSTM, RSTP, RSTC, RSTD, RSTCTRL, RSTALLCARRYIN, RSTALUMODE,
    input RSTINMODE, input [29:0] ACIN, input [17:0] BCIN, input CARRYCASCIN, MULTSIGNIN
);
  reg signed [26:0] a; reg signed [17:0] b; reg signed [44:0] m; reg [47:0] p;
  wire [47:0] z = OPMODE[6:4] == 3'b001 ? PCIN : 48'b0;
  always @(posedge CLK) begin
    a <= A[26:0]; b <= B; m <= a * b;
    p <= z + (OPMODE[3:0] == 4'b0101 ? {{3{m[44]}}, m} : 48'b0);
  end
  assign P = p;
  assign PCOUT = p;
  initial if (AREG != 1 || BREG != 1 || MREG != 1 || PREG != 1) $fatal(1, "the model has one register each");
endmodule
"""


@pytest.mark.parametrize("defines", [(), ("LIMBECK_DSP48E2",), ("LIMBECK_MULT18",)])
@pytest.mark.parametrize("taps", [1, 3, 8])
def test_two_pixels_share_a_multiplier_exactly(tmp_path, taps, defines):
    rng = np.random.default_rng(taps)
    x = rng.integers(-128, 128, (300, taps, 2))
    w = rng.integers(-127, 128, (300, taps))
    x[:4], w[:4] = np.array([[-128, -128], [-128, 127], [127, -128], [127, 127]])[:, None], 127
    x[4:8], w[4:8] = x[:4], -127
    rows = [
        "".join(
            words(int(w[i, t]), 8) + words(int(x[i, t, 1]), 8) + words(int(x[i, t, 0]), 8) for t in range(taps)[::-1]
        )
        for i in range(len(x))
    ]
    (tmp_path / "dsp48e2.v").write_text(DSP48E2)
    more = [tmp_path / "dsp48e2.v"] if "LIMBECK_DSP48E2" in defines else []
    bench = BENCH.format(taps=taps, count=len(x))
    blocks = ["mac_chain", "dsp_mac", "delay", "pack"]
    found = run_bench(tmp_path, bench, blocks, vectors=rows, defines=defines, more=more)
    assert [[int(v) for v in line] for line in found] == np.einsum("itp,it->ip", x, w).tolist()


@pytest.mark.parametrize("defines", [(), ("LIMBECK_DSP48E2",), ("LIMBECK_MULT18",)])
@pytest.mark.parametrize("taps", [1, 8])
def test_16_bits_have_a_multiplier_alone(tmp_path, taps, defines):
    rng = np.random.default_rng(taps)
    x = rng.integers(-(1 << 15), 1 << 15, (200, taps))
    w = rng.integers(1 - (1 << 15), 1 << 15, (200, taps))
    x[:2], w[:2] = -(1 << 15), [[(1 << 15) - 1], [1 - (1 << 15)]]
    rows = [
        "".join(words(int(b), 16) + words(int(a), 16) for a, b in zip(xs[::-1], ws[::-1], strict=True))
        for xs, ws in zip(x, w, strict=True)
    ]
    (tmp_path / "dsp48e2.v").write_text(DSP48E2)
    more = [tmp_path / "dsp48e2.v"] if "LIMBECK_DSP48E2" in defines else []
    bench = BENCH_16.format(taps=taps, count=len(x))
    blocks = ["mac_chain", "dsp_mac", "delay", "pack"]
    found = run_bench(tmp_path, bench, blocks, vectors=rows, defines=defines, more=more)
    assert [int(v) for (v,) in found] == (x * w).sum(1).tolist()
