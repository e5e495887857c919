// y = saturate(((acc + offset) * mult / 2**(shift_less_1 + 1)), rounded half up), five cycles later (numerics.md §3).
// shift_less_1_i and what follows it belong to acc_i of three cycles before, relu_i and narrow_i to that of four.
module requant #(
    parameter int AccW = 24,
    parameter int OutW = 16,
    parameter int NarrowW = 8
) (
    input  logic                   clk_i,
    input  logic signed [AccW-1:0] acc_i,
    input  logic signed [AccW-1:0] offset_i,
    input  logic        [    15:0] mult_i,
    input  logic        [     5:0] shift_less_1_i,
    input  logic                   relu_i,
    input  logic                   narrow_i,        // saturate to NarrowW bits instead of OutW
    output logic signed [OutW-1:0] y_o
);
  localparam int ProdW = AccW + 17;

  logic signed [ AccW-1:0] sum_q;
  logic signed [     16:0] mult_q;
  logic signed [ProdW-1:0] product_q, m_q, shifted_q;
  logic signed [ProdW-1:0] rounded, high, low;

  assign rounded = (shifted_q + ProdW'(1)) >>> 1;
  assign high = (ProdW'(1) <<< (narrow_i ? NarrowW - 1 : OutW - 1)) - ProdW'(1);
  assign low = relu_i ? ProdW'(0) : ~high;

  always_ff @(posedge clk_i) begin
    sum_q <= acc_i + offset_i;
    mult_q <= {1'b0, mult_i};
    m_q <= ProdW'(sum_q) * ProdW'(mult_q);
    product_q <= m_q;
    shifted_q <= product_q >>> shift_less_1_i;
    if (rounded > high) y_o <= high[OutW-1:0];
    else if (rounded < low) y_o <= low[OutW-1:0];
    else y_o <= rounded[OutW-1:0];
  end

  initial if (AccW > 44 || OutW < NarrowW) $fatal(1, "requant: two DSP48E2s multiply at most 44 bits");
endmodule : requant
