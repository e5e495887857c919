// Makes 3x3 windows of the words that are read: win_o holds what each output pixel of this slot sees, ordered by output
// pixel, place and lane, two cycles after the words. History is kept for each channel group: the word before and the last
// pixel of the one before that. A word is Px pixels of Il lanes of 8 bits (16-bit values take two), lane first.
module window #(
    parameter int Px = 2,
    parameter int Il = 8,
    parameter int Groups = 2,
    localparam int GroupW = Groups > 1 ? $clog2(Groups) : 1
) (
    input  logic                clk_i,
    input  logic [Px*Il*8-1:0]  word0_i,    // from the banks with rows 0, 1, 2 mod 3
    input  logic [Px*Il*8-1:0]  word1_i,
    input  logic [Px*Il*8-1:0]  word2_i,
    input  logic [1:0]          bank_i,     // of the middle row
    input  logic                none_above_i,   // a row lies outside the map
    input  logic                none_below_i,
    input  logic [GroupW-1:0]   group_i,
    input  logic                remember_i,     // the words become history
    input  logic                none_before_i,  // there is no word on that side; these three one cycle after the words
    input  logic                none_after_i,
    input  logic                stride_2_i,
    output logic [Px*9*Il*8-1:0] win_o
);
  localparam int Lanes = Il * 8;
  localparam int WordW = Px * Lanes;

  (* ram_style = "distributed" *) logic [3*WordW-1:0] history [0:Groups-1];
  (* ram_style = "distributed" *) logic [3*Lanes-1:0] edges [0:Groups-1];
  logic [3*WordW-1:0] now, before_word, now_q, before_q;
  logic [3*Lanes-1:0] last_pixels, edge_q;
  logic [WordW-1:0] up, middle, down;
  logic [GroupW-1:0] group;

  assign group = Groups > 1 ? group_i : '0;
  assign up = bank_i == 2'd0 ? word2_i : bank_i == 2'd1 ? word0_i : word1_i;
  assign middle = bank_i == 2'd0 ? word0_i : bank_i == 2'd1 ? word1_i : word2_i;
  assign down = bank_i == 2'd0 ? word1_i : bank_i == 2'd1 ? word2_i : word0_i;
  assign now = {none_below_i ? {WordW{1'b0}} : down, middle, none_above_i ? {WordW{1'b0}} : up};
  assign before_word = history[group];

  for (genvar row = 0; row < 3; row++) begin : gen_last
    assign last_pixels[row*Lanes+:Lanes] = before_word[row*WordW+(Px-1)*Lanes+:Lanes];
  end

  always_ff @(posedge clk_i) begin
    now_q <= now;
    before_q <= before_word;
    edge_q <= edges[group];
    if (remember_i) begin
      history[group] <= now;
      edges[group] <= last_pixels;
    end
  end

  for (genvar row = 0; row < 3; row++) begin : gen_row
    logic [(2*Px+1)*Lanes-1:0] seen;  // one pixel, the word before, this word
    assign seen = {
      none_after_i ? {WordW{1'b0}} : now_q[row*WordW+:WordW],
      before_q[row*WordW+:WordW],
      none_before_i ? {Lanes{1'b0}} : edge_q[row*Lanes+:Lanes]
    };
    for (genvar px = 0; px < Px; px++) begin : gen_px
      always_ff @(posedge clk_i)
        win_o[(px*9+row*3)*Lanes+:3*Lanes] <=
            stride_2_i ? seen[2*px*Lanes+:3*Lanes] : seen[px*Lanes+:3*Lanes];
    end
  end

  initial if (Px < 1 || Il < 1) $fatal(1, "window: a word has at least one pixel of one lane");
endmodule : window
