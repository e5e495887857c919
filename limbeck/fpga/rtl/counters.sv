// Counts images and three kinds of cycles: from an image's first read to its last score, from one image to the next, and
// idle ones. Says whether there is room for one more image's scores.
module counters (
    input  logic        clk_i,
    input  logic        run_i,          // 0: all counters restart
    input  logic        start_i,        // an image begins
    input  logic        scored_i,       // its scores are valid
    input  logic        sent_i,         // its scores are taken
    input  logic        stale_i,        // scores of an earlier run are not all taken yet
    input  logic        busy_i,
    input  logic        waiting_i,      // an image waits
    output logic        room_o,
    output logic [ 1:0] under_way_o,    // images whose scores are not all taken
    output logic [31:0] images_o,
    output logic [31:0] interval_o,
    output logic [31:0] latency_o,
    output logic [31:0] wait_pixels_o,
    output logic [31:0] wait_scores_o
);
  logic [31:0] now_q, began_q, began_before_q;
  logic [ 1:0] unscored_q;  // images that have begun and have no scores yet

  assign room_o = under_way_o < 2'd2 && !stale_i;

  always_ff @(posedge clk_i)
    if (!run_i) begin
      now_q <= '0;
      began_q <= '0;
      began_before_q <= '0;
      unscored_q <= '0;
      under_way_o <= '0;
      images_o <= '0;
      interval_o <= '0;
      latency_o <= '0;
      wait_pixels_o <= '0;
      wait_scores_o <= '0;
    end else begin
      now_q <= now_q + 32'd1;
      if (start_i) begin
        began_q <= now_q;
        began_before_q <= began_q;
        interval_o <= now_q - began_q;
      end
      if (scored_i) begin
        images_o <= images_o + 32'd1;
        latency_o <= now_q - (unscored_q == 2'd1 ? began_q : began_before_q);
      end
      unscored_q <= unscored_q + {1'b0, start_i} - {1'b0, scored_i};
      under_way_o <= under_way_o + {1'b0, start_i} - {1'b0, sent_i};
      if (!busy_i && !waiting_i) wait_pixels_o <= wait_pixels_o + 32'd1;
      if (!busy_i && waiting_i && !room_o) wait_scores_o <= wait_scores_o + 32'd1;
    end

`ifndef SYNTHESIS
  `include "checks.svh"
  always @(posedge clk_i)
    if (checking && run_i) begin
      if (scored_i && unscored_q == 2'd0) $fatal(1, "counters: scores of no image");
      if (sent_i && under_way_o == 2'd0) $fatal(1, "counters: an answer of no image");
      if (start_i && !room_o) $fatal(1, "counters: an image without room for its scores");
    end
`endif
endmodule : counters
