// Sums a * w over a cascade of Taps DSP48E2s; p_o comes Taps + 2 cycles after term 0.
// a packs two pixels, {pixel 1 - (pixel 0 < 0), sign of pixel 0, pixel 0}: p_o's low 18 bits are pixel 0's sum, the rest
// is pixel 1's, less one where pixel 0's is negative. Exact for weights in [-127, 127] and up to 8 taps.
// With Skew, all terms come in the same cycle and are delayed here; without, term i must come i cycles after term 0.
module mac_chain #(
    parameter int Taps = 8,
    parameter bit Skew = 1,
    parameter int Bits = 8,   // of w; where it is 16, a holds one pixel
    parameter int AW = 27     // bits of a that are not copies of its sign
) (
    input  logic                      clk_i,
    input  logic        [Taps*27-1:0] a_i,
    input  logic     [Taps*Bits-1:0] w_i,
    output logic signed [       47:0] p_o
);
  logic signed [47:0] sum [0:Taps];

  assign sum[0] = '0;
  assign p_o = sum[Taps];

  for (genvar i = 0; i < Taps; i++) begin : gen_tap
    logic signed [26:0] a;
    logic signed [Bits-1:0] w;
    logic signed [17:0] b;

    assign b = 18'(w);
    if (Skew && i > 0) begin : gen_skew
      delay #(.Width(27 + Bits), .Cycles(i)) u_delay (.clk_i, .d_i({a_i[i*27+:27], w_i[i*Bits+:Bits]}), .q_o({a, w}));
    end else begin : gen_straight
      assign a = a_i[i*27+:27];
      assign w = w_i[i*Bits+:Bits];
    end

    dsp_mac #(.First(i == 0), .Last(i == Taps - 1), .AW(AW), .BW(Bits)) u_mac (
        .clk_i, .a_i(a), .b_i(b), .sum_i(sum[i]), .sum_o(sum[i+1])
    );
  end

  initial if (Taps < 1 || Taps > 8) $fatal(1, "mac_chain: 9 products overflow an 18-bit field");
endmodule : mac_chain
