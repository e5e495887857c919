// y = saturate(((acc + carry + offset) * mult / 2**(shift_less_1 + 1)), rounded half up), five cycles later
// (numerics.md §3).
// shift_less_1_i belongs to the acc_i of two cycles ago, relu_i and narrow_i to that of four cycles ago.
module requant #(
    parameter int AccW = 24,
    parameter int OutW = 16,
    parameter int NarrowW = 8
) (
    input  logic                   clk_i,
    input  logic signed [AccW-1:0] acc_i,
    input  logic                   carry_i,
    input  logic signed [AccW-1:0] offset_i,
    input  logic        [    15:0] mult_i,
    input  logic        [     5:0] shift_less_1_i,
    input  logic                   relu_i,
    input  logic                   narrow_i,        // saturate to NarrowW bits instead of OutW
    output logic signed [OutW-1:0] y_o
);
  localparam int ProdW = AccW + 17;
  localparam int By4W = ProdW < OutW + 16 ? ProdW : OutW + 16;  // what shifts by up to 15 can bring to the result
  localparam int By1W = ProdW < OutW + 4 ? ProdW : OutW + 4;
  localparam int FarW = ProdW - 1 - OutW;

  /* verilator lint_off UNUSEDSIGNAL */  // the lowest bit only carries
  logic [AccW:0] sums;
  /* verilator lint_on UNUSEDSIGNAL */
  logic signed [AccW-1:0] sum;
  logic signed [ProdW-1:0] product;
  (* keep *) logic signed [By4W-1:0] by_16;  // kept, since a mapper would otherwise tangle the parts
  (* keep *) logic signed [By1W-1:0] by_4;
  logic signed [OutW:0] by_1;
  logic [5:0] shift_q;
  logic [FarW-1:0] far_mask_q;
  logic signed [OutW:0] shifted_q, rounded;
  logic [OutW-1:0] high;
  logic far_q, negative_q, over;

  assign sums = {acc_i, 1'b1} + {offset_i, carry_i};
  assign sum = sums[AccW:1];
  if (AccW <= 27) begin : gen_one_dsp
    /* verilator lint_off UNUSEDSIGNAL */  // the product has fewer bits
    logic signed [47:0] p;
    /* verilator lint_on UNUSEDSIGNAL */
    dsp_mac #(.First(1), .Last(1), .AW(AccW), .BW(17)) u_mac (
        .clk_i, .a_i(27'(sum)), .b_i({2'b0, mult_i}), .sum_i(48'sd0), .sum_o(p)
    );
    assign product = p[ProdW-1:0];
  end else begin : gen_two_dsps
    logic signed [AccW-1:0] sum_q;
    logic signed [16:0] mult_q;
    logic signed [ProdW-1:0] product_q, m_q;
    always_ff @(posedge clk_i) begin
      sum_q <= sum;
      mult_q <= {1'b0, mult_i};
      m_q <= ProdW'(sum_q) * ProdW'(mult_q);
      product_q <= m_q;
    end
    assign product = product_q;
  end

  // The shift has three parts, each as narrow as it can be. Bits left above the result must equal its sign.
  shift_part #(.InW(ProdW), .OutW(By4W), .Step(16)) u_by_16 (.d_i(product), .steps_i(shift_q[5:4]), .q_o(by_16));
  shift_part #(.InW(By4W), .OutW(By1W), .Step(4)) u_by_4 (.d_i(by_16), .steps_i(shift_q[3:2]), .q_o(by_4));
  shift_part #(.InW(By1W), .OutW(OutW + 1), .Step(1)) u_by_1 (.d_i(by_4), .steps_i(shift_q[1:0]), .q_o(by_1));

  assign rounded = $signed({shifted_q[OutW], shifted_q[OutW:1]}) + $signed({{OutW{1'b0}}, shifted_q[0]});
  assign over = far_q || rounded[OutW] != rounded[OutW-1]
              || (narrow_i && rounded[OutW-1:NarrowW-1] != {(OutW-NarrowW+1){rounded[OutW]}});
  assign high = (OutW'(1) << (narrow_i ? NarrowW - 1 : OutW - 1)) - OutW'(1);

  always_ff @(posedge clk_i) begin
    shifted_q <= by_1;
    shift_q <= shift_less_1_i;
    for (int i = 0; i < FarW; i++) far_mask_q[i] <= 32'(shift_less_1_i) <= i;
    far_q <= ((product[ProdW-2:OutW] ^ {FarW{product[ProdW-1]}}) & far_mask_q) != '0;
    negative_q <= product[ProdW-1];
    if (negative_q && relu_i) y_o <= '0;
    else if (over) y_o <= negative_q ? ~high : high;
    else y_o <= rounded[OutW-1:0];
  end

  initial if (AccW > 44 || OutW < NarrowW) $fatal(1, "requant: two DSP48E2s multiply at most 44 bits");
endmodule : requant
