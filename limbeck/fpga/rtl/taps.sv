// Picks what a dense convolution multiplies next: all lanes of one place of the window (taps 0 to 8), or, from tap 9 on,
// Il of the image's values, ordered by place, then channel. Takes one cycle.
module taps #(
    parameter int Px = 2,
    parameter int Il = 8,
    parameter int ImageC = 3,
    parameter int Bits = 8
) (
    input  logic                  clk_i,
    input  logic [Px*9*Il*Bits-1:0] win_i,
    input  logic [4:0]            tap_i,
    output logic [Px*Il*Bits-1:0] x_o
);
  localparam int Values = 9 * ImageC;
  localparam int Packed = (Values + Il - 1) / Il;
  localparam int Choices = 9 + Packed;

  for (genvar px = 0; px < Px; px++) begin : gen_px
    logic [Choices*Il*Bits-1:0] choices;
    assign choices[9*Il*Bits-1:0] = win_i[px*9*Il*Bits+:9*Il*Bits];
    for (genvar value = 0; value < Packed * Il; value++) begin : gen_value
      if (value < Values) begin : gen_some
        assign choices[(9*Il+value)*Bits+:Bits] = win_i[((px*9+value/ImageC)*Il+value%ImageC)*Bits+:Bits];
      end else begin : gen_none
        assign choices[(9*Il+value)*Bits+:Bits] = '0;
      end
    end
    always_ff @(posedge clk_i) x_o[px*Il*Bits+:Il*Bits] <= choices[32'(tap_i)*Il*Bits+:Il*Bits];
  end

  initial if (Choices > 32 || ImageC > Il) $fatal(1, "taps: the image has too many channels");
endmodule : taps
