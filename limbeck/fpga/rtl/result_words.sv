// Walks over the words of an output group from the cycle after start_i on: one per cycle, or one per two cycles where
// the shortcut is strided, since two of its words are then read for one. Outputs are registered.
module result_words #(
    parameter int OlWords = 2,         // words of an output group
    parameter int CountW = 1           // bits of a number of words
) (
    input  logic              clk_i,
    input  logic              run_i,
    input  logic              start_i,       // the group's first word is at these places
    input  logic [CountW-1:0] word_i,
    input  logic [15:0]       map_addr_i,
    input  logic [15:0]       place_i,
    input  logic [15:0]       state_addr_i,
    input  logic [15:0]       offset_i,
    input  logic [15:0]       mult_i,
    input  logic [15:0]       short_i,
    input  logic              strided_i,
    input  logic              add_i,
    input  logic [CountW-1:0] words_i,       // per pixel
    input  logic [CountW-1:0] short_words_i, // per pixel of the shortcut
    output logic              next_o,        // the next word comes in the next cycle
    output logic              strided_o,     // the group is one of a strided shortcut
    output logic              valid_o,
    output logic [CountW-1:0] word_o,
    output logic [15:0]       map_addr_o,
    output logic [15:0]       place_o,
    output logic [15:0]       state_addr_o,
    output logic [15:0]       offset_o,
    output logic [15:0]       mult_o,
    output logic [15:0]       short_o,
    output logic              add_o,         // the word has a shortcut
    output logic              last_o         // it is the pixel's last
);
  localparam int LeftW = $clog2(OlWords + 1);

  logic valid_d, valid_q, second_d, second_q, strided_d, strided_q, add_d, add_q, last_d, last_q;
  logic [LeftW-1:0] left_d, left_q;  // words of the group still to come
  logic [CountW-1:0] word_d, word_q, words_d, words_q, short_words_d, short_words_q;
  logic [15:0] short_d, short_q, map_addr_d, map_addr_q, place_d, place_q, state_addr_d, state_addr_q;
  logic [15:0] offset_d, offset_q, mult_d, mult_q;

  assign next_o = !strided_q || second_q;

  always_comb begin
    second_d = !start_i && !second_q;
    strided_d = strided_q;
    words_d = words_q;
    short_words_d = short_words_q;
    left_d = left_q;
    word_d = word_q;
    map_addr_d = map_addr_q;
    place_d = place_q;
    state_addr_d = state_addr_q;
    offset_d = offset_q;
    mult_d = mult_q;
    add_d = add_q;
    last_d = last_q;
    if (start_i) begin
      strided_d = strided_i;
      words_d = words_i;
      short_words_d = short_words_i;
      left_d = LeftW'(OlWords);
      valid_d = !strided_i;
      word_d = word_i;
      map_addr_d = map_addr_i;
      place_d = place_i;
      state_addr_d = state_addr_i;
      offset_d = offset_i;
      mult_d = mult_i;
      short_d = short_i;
      add_d = add_i && word_i < short_words_i;
      last_d = word_i + CountW'(1) == words_i;
    end else if (next_o) begin
      if (left_q != '0) left_d = left_q - LeftW'(1);
      valid_d = !strided_q && left_q != '0 && left_q != LeftW'(1) && word_q + CountW'(1) < words_q;
      word_d = word_q + CountW'(1);
      map_addr_d = map_addr_q + 16'd1;
      place_d = place_q + 16'd1;
      state_addr_d = state_addr_q + 16'd1;
      offset_d = offset_q + 16'd1;
      mult_d = mult_q + 16'd1;
      short_d = strided_q ? short_q - 16'(short_words_q) + 16'd1 : short_q + 16'd1;
      add_d = add_q && word_q + CountW'(1) < short_words_q;
      last_d = word_q + CountW'(2) == words_q;
    end else begin  // the second of the two words
      valid_d = left_q != '0 && word_q < words_q;
      short_d = short_q + 16'(short_words_q);
    end
    if (!run_i) begin
      valid_d = 1'b0;
      left_d = '0;
      second_d = 1'b0;
      strided_d = 1'b0;
    end
  end

  assign strided_o = strided_q;
  assign valid_o = valid_q;
  assign word_o = word_q;
  assign map_addr_o = map_addr_q;
  assign place_o = place_q;
  assign state_addr_o = state_addr_q;
  assign offset_o = offset_q;
  assign mult_o = mult_q;
  assign short_o = short_q;
  assign add_o = add_q;
  assign last_o = last_q;

  always_ff @(posedge clk_i) begin
    valid_q <= valid_d;
    second_q <= second_d;
    strided_q <= strided_d;
    left_q <= left_d;
    word_q <= word_d;
    words_q <= words_d;
    short_words_q <= short_words_d;
    map_addr_q <= map_addr_d;
    place_q <= place_d;
    state_addr_q <= state_addr_d;
    offset_q <= offset_d;
    mult_q <= mult_d;
    short_q <= short_d;
    add_q <= add_d;
    last_q <= last_d;
  end

`ifndef SYNTHESIS
  `include "checks.svh"
  always @(posedge clk_i)
    if (checking && run_i && start_i && (strided_q && !second_q ? left_q != '0 && word_q < words_q
                                                    : left_q != '0 && left_q != LeftW'(1) && word_q + CountW'(1) < words_q))
      $fatal(1, "result_words: a group begins before the words of the one before are through");
`endif
endmodule : result_words
