// Picks what a 7x7 convolution of the image with stride 2 multiplies next: for each pixel of a slot, Il values of three
// rows from number tap_i on, ordered by place, then channel; three cycles after the words. A word is the 2 Px pixels that
// a slot covers. History is kept for each group of three rows: the word before and the three pixels before that.
module stem #(
    parameter int Px = 2,
    parameter int Il = 8,
    parameter int ImageC = 3,
    parameter int Bits = 8    // bits per value that is handed on
) (
    input  logic                      clk_i,
    input  logic [2*Px*ImageC*8-1:0]  word0_i,   // from the banks with rows 0, 1, 2 mod 3
    input  logic [2*Px*ImageC*8-1:0]  word1_i,
    input  logic [2*Px*ImageC*8-1:0]  word2_i,
    input  logic [1:0]                bank_i,    // of the middle row
    input  logic                      none_above_i,   // rows that lie outside
    input  logic                      none_here_i,
    input  logic                      none_below_i,
    input  logic [1:0]                group_i,   // which three rows
    input  logic                      remember_i,
    input  logic                      none_before_i,  // no word before
    input  logic                      none_after_i,   // no word after; one cycle after the words
    input  logic [4:0]                tap_i,     // two cycles after the words
    output logic [Px*Il*Bits-1:0]     x_o
);
  localparam int PixelW = ImageC * 8;
  localparam int WordW = 2 * Px * PixelW;
  localparam int SeenW = (2 * Px + 5) * PixelW;   // three pixels, the word before, two pixels of this word
  localparam int Values = 21 * ImageC;
  localparam int Choices = (Values + Il - 1) / Il;

  (* ram_style = "distributed" *) logic [3*WordW-1:0] history [0:3];
  (* ram_style = "distributed" *) logic [9*PixelW-1:0] edges [0:3];
  logic [WordW-1:0] up, middle, down;
  logic [3*WordW-1:0] now, before_word, before_q;
  logic [6*PixelW-1:0] next_q;
  logic [9*PixelW-1:0] edge_pixels, last_pixels, edge_q;

  assign up = bank_i == 2'd0 ? word2_i : bank_i == 2'd1 ? word0_i : word1_i;
  assign middle = bank_i == 2'd0 ? word0_i : bank_i == 2'd1 ? word1_i : word2_i;
  assign down = bank_i == 2'd0 ? word1_i : bank_i == 2'd1 ? word2_i : word0_i;
  assign now = {none_below_i ? WordW'(0) : down, none_here_i ? WordW'(0) : middle, none_above_i ? WordW'(0) : up};
  assign before_word = history[group_i];
  assign edge_pixels = none_before_i ? '0 : edges[group_i];

  for (genvar row = 0; row < 3; row++) begin : gen_last
    /* verilator lint_off UNUSEDSIGNAL */  // the last three pixels are used
    logic [WordW+3*PixelW-1:0] both;
    /* verilator lint_on UNUSEDSIGNAL */
    assign both = {before_word[row*WordW+:WordW], edge_pixels[row*3*PixelW+:3*PixelW]};
    assign last_pixels[row*3*PixelW+:3*PixelW] = both[WordW+:3*PixelW];
  end

  always_ff @(posedge clk_i) begin
    before_q <= before_word;
    edge_q <= edge_pixels;
    for (int row = 0; row < 3; row++) next_q[row*2*PixelW+:2*PixelW] <= now[row*WordW+:2*PixelW];
    if (remember_i) begin
      history[group_i] <= now;
      edges[group_i] <= last_pixels;
    end
  end

  logic [3*SeenW-1:0] seen_q;
  for (genvar row = 0; row < 3; row++) begin : gen_seen
    always_ff @(posedge clk_i)
      seen_q[row*SeenW+:SeenW] <= {
        none_after_i ? (2 * PixelW)'(0) : next_q[row*2*PixelW+:2*PixelW],
        before_q[row*WordW+:WordW],
        edge_q[row*3*PixelW+:3*PixelW]
      };
  end

  for (genvar px = 0; px < Px; px++) begin : gen_px
    logic [Choices*Il*Bits-1:0] choices;
    for (genvar value = 0; value < Choices * Il; value++) begin : gen_value
      if (value < Values) begin : gen_some
        localparam int Row = value / (7 * ImageC);
        assign choices[value*Bits+:Bits] = Bits'($signed(seen_q[Row*SeenW+2*px*PixelW+(value%(7*ImageC))*8+:8]));
      end else begin : gen_none
        assign choices[value*Bits+:Bits] = '0;
      end
    end
    always_ff @(posedge clk_i) x_o[px*Il*Bits+:Il*Bits] <= choices[32'(tap_i)*Il*Bits+:Il*Bits];
  end
endmodule : stem
