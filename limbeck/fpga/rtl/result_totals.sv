// Adds up the values of a map by channel, one word of channels per cycle. A sum with a word in it can be read two cycles
// after the word's values.
module result_totals #(
    parameter int Px = 2,
    parameter int Il = 8,
    parameter int AccW = 24,
    parameter int StateW = 16,
    parameter int Words = 2,      // most words of a pixel's channels
    localparam int WordsW = Words > 1 ? $clog2(Words) : 1
) (
    input  logic                    clk_i,
    input  logic [Px*Il*StateW-1:0] values_i,  // a cycle before the rest
    input  logic                    add_i,
    input  logic                    first_i,   // of the map
    input  logic [WordsW-1:0]       word_i,
    input  logic [WordsW-1:0]       read_i,
    output logic [Il*AccW-1:0]      totals_o   // of the word read_i a cycle before, what was added in that cycle included
);
  (* ram_style = "distributed" *) logic [Il*AccW-1:0] totals [0:Words-1];
  logic [Il*AccW-1:0] old, renewed, parts_q, read_q;

  assign totals_o = read_q;
  assign old = totals[word_i];

  for (genvar lane = 0; lane < Il; lane++) begin : gen_lane
    logic signed [AccW-1:0] part;
    always_comb begin
      part = '0;
      for (int px = 0; px < Px; px++) part = part + AccW'($signed(values_i[(px*Il+lane)*StateW+:StateW]));
    end
    always_ff @(posedge clk_i) parts_q[lane*AccW+:AccW] <= part;
    assign renewed[lane*AccW+:AccW] = parts_q[lane*AccW+:AccW] + (first_i ? AccW'(0) : old[lane*AccW+:AccW]);
  end

  always_ff @(posedge clk_i) begin
    if (add_i) totals[word_i] <= renewed;
    read_q <= add_i && word_i == read_i ? renewed : totals[read_i];
  end
endmodule : result_totals
