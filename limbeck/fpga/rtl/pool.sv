// The largest of each 3x3 window of a map's values, none of them negative, for every other row and column: y_o holds a
// word of them two cycles after the word that completes it. Values outside the map are 0, as in v_i. Kept meanwhile: for
// each channel word, half a word of maxima along the row and the last pixel; for each word of a row of maxima, the maxima
// of the rows so far.
module pool #(
    parameter int Px = 2,
    parameter int Lanes = 8,
    parameter int StateW = 16,
    parameter int Words = 2,        // most words of a pixel's channels
    parameter int Depth = 2,        // most words of a row of maxima
    localparam int WordsW = Words > 1 ? $clog2(Words) : 1
) (
    input  logic                       clk_i,
    input  logic [Px*Lanes*StateW-1:0] v_i,
    /* verilator lint_off UNUSEDSIGNAL */  // counts have the same width everywhere
    input  logic [WordsW-1:0]          word_i,        // this and the next come a cycle before the rest
    input  logic [15:0]                place_i,       // in a row of maxima
    input  logic [3:0]                 last_pixel_i,  // of the last slot
    /* verilator lint_on UNUSEDSIGNAL */
    input  logic                       valid_i,
    input  logic                       first_slot_i,
    input  logic                       last_slot_i,
    input  logic                       odd_slot_i,
    input  logic                       first_row_i,
    input  logic                       odd_row_i,
    output logic [Px*Lanes*StateW-1:0] y_o
);
  localparam int PixelW = Lanes * StateW;
  localparam int Half = Px > 1 ? Px / 2 : 1;
  localparam int DepthW = Depth > 1 ? $clog2(Depth) : 1;

  (* ram_style = "distributed" *) logic [Half*PixelW-1:0] halves [0:Words-1];
  (* ram_style = "distributed" *) logic [PixelW-1:0] edges [0:Words-1];
  (* ram_style = "block" *) logic [Px*PixelW-1:0] rows [0:Depth-1];
  logic [WordsW-1:0] word, word_q;
  logic [Half*PixelW-1:0] row_half, half;
  logic [PixelW-1:0] edge_pixel, edge_q, last_q;
  logic [Px*PixelW-1:0] row_word_q, rows_q, kept_q, above_q, largest, kept;
  logic [DepthW-1:0] place, place_q, place_2q;
  logic valid_q, first_row_q, odd_row_q, written_q, renewed_q;

  function automatic [StateW-1:0] larger(input logic [StateW-1:0] a, input logic [StateW-1:0] b);
    larger = a > b ? a : b;
  endfunction

  assign word = Words > 1 ? word_i : '0;
  assign half = halves[word_q];
  assign edge_pixel = first_slot_i ? '0 : renewed_q ? last_q : edge_q;
  assign kept = odd_row_q ? row_word_q : largest;
  assign place = place_i[DepthW-1:0];

  for (genvar lane = 0; lane < Lanes; lane++) begin : gen_lane
    if (Px == 1) begin : gen_one  // the first two of three pixels, then all three
      assign row_half[lane*StateW+:StateW] = larger(
          v_i[lane*StateW+:StateW], odd_slot_i ? half[lane*StateW+:StateW] : edge_pixel[lane*StateW+:StateW]);
    end else begin : gen_more
      for (genvar k = 0; k < Half; k++) begin : gen_maximum
        logic [StateW-1:0] previous, first, second;
        logic outside;
        if (k == 0) begin : gen_first
          assign outside = 1'b0;
          assign previous = edge_pixel[lane*StateW+:StateW];
        end else begin : gen_later
          assign outside = last_slot_i && last_pixel_i < 4'(2 * k);
          assign previous = v_i[(2*k-1)*PixelW+lane*StateW+:StateW];
        end
        assign first = v_i[2*k*PixelW+lane*StateW+:StateW];
        assign second = v_i[(2*k+1)*PixelW+lane*StateW+:StateW];
        assign row_half[k*PixelW+lane*StateW+:StateW] = outside ? StateW'(0)
            : previous > first && previous > second ? previous : larger(first, second);
      end
    end
  end

  if (Px == 1) begin : gen_word_of_one
    always_ff @(posedge clk_i) row_word_q <= row_half;
  end else begin : gen_word_of_two
    always_ff @(posedge clk_i) row_word_q <= odd_slot_i ? {row_half, half} : {{Half * PixelW{1'b0}}, row_half};
  end
  for (genvar i = 0; i < Px * Lanes; i++) begin : gen_largest
    assign largest[i*StateW+:StateW] =
        first_row_q ? row_word_q[i*StateW+:StateW] : larger(row_word_q[i*StateW+:StateW], above_q[i*StateW+:StateW]);
  end

  always_ff @(posedge clk_i) begin
    if (valid_i) begin
      edges[word_q] <= v_i[(Px-1)*PixelW+:PixelW];
      halves[word_q] <= row_half;
    end
    word_q <= word;
    edge_q <= edges[word];
    renewed_q <= valid_i && word_q == word;  // in the cycle of its reading
    last_q <= v_i[(Px-1)*PixelW+:PixelW];
    place_q <= place;
    place_2q <= place_q;
    valid_q <= valid_i && (odd_slot_i || last_slot_i);
    first_row_q <= first_row_i;
    odd_row_q <= odd_row_i;
    if (valid_q) rows[place_2q] <= kept;
    rows_q <= rows[place];
    written_q <= valid_q && place_2q == place;  // in the cycle of its reading
    kept_q <= kept;
    above_q <= valid_q && place_2q == place_q ? kept : written_q ? kept_q : rows_q;
    y_o <= largest;
  end
endmodule : pool
