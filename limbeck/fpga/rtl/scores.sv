// Keeps the scores of two images and sends them: one score per beat, sign-extended, then, with TLAST, the class: the
// first with the largest score. An answer that is under way when a run ends is completed; stale_o is high until then.
module scores #(
    parameter int Il = 8,
    parameter int StateW = 16,
    parameter int Classes = 10,
    localparam int Words = (Classes + Il - 1) / Il,
    localparam int WordsW = Words > 1 ? $clog2(Words) : 1
) (
    input  logic                 clk_i,
    input  logic                 rst_ni,
    input  logic                 run_i,
    input  logic                 we_i,
    input  logic [WordsW-1:0]    word_i,
    input  logic                 last_i,
    input  logic [Il*StateW-1:0] data_i,
    output logic [31:0]          tdata_o,
    output logic                 tvalid_o,
    input  logic                 tready_i,
    output logic                 tlast_o,
    output logic                 sent_o,     // the last beat of an image of this run was taken
    output logic                 stale_o
);
  localparam int LaneW = Il > 1 ? $clog2(Il) : 1;

  (* ram_style = "distributed" *) logic [Il*StateW-1:0] mem [0:2*(1<<WordsW)-1];
  logic write_half_q, read_half_q, first_q, end_q, step, better, sending, sent;  // class_q is 0; is Classes
  logic [1:0] full_q;
  logic [15:0] class_q, best_q;
  logic [WordsW-1:0] word_q;
  logic [LaneW-1:0] lane_q;
  logic [Il*StateW-1:0] word;
  logic signed [StateW-1:0] score, top_q, last_score_q;
  logic [15:0] last_class_q, best;
  logic last_first_q, last_there_q;

  assign word = mem[{read_half_q, word_q}];
  assign score = word[32'(lane_q)*StateW+:StateW];
  // the largest so far: a score is compared in the cycle after it was handed on
  assign better = last_there_q && (last_first_q || last_score_q > top_q);
  assign best = better ? last_class_q : best_q;
  assign sending = tvalid_o || !first_q;
  assign step = full_q != 2'd0 && (sending || run_i) && (!tvalid_o || tready_i) && !(tvalid_o && tlast_o);
  assign sent = tvalid_o && tready_i && tlast_o;
  assign sent_o = sent && !stale_o;

  always_ff @(posedge clk_i) begin
    last_there_q <= step && !end_q;
    last_first_q <= first_q;
    last_class_q <= class_q;
    last_score_q <= score;
    best_q <= best;
    if (better) top_q <= last_score_q;
    if (we_i) mem[{write_half_q, word_i}] <= data_i;
    if (!rst_ni) begin
      write_half_q <= 1'b0;
      read_half_q <= 1'b0;
      full_q <= '0;
      class_q <= '0;
      first_q <= 1'b1;
      end_q <= 1'b0;
      word_q <= '0;
      lane_q <= '0;
      tvalid_o <= 1'b0;
      tlast_o <= 1'b0;
      stale_o <= 1'b0;
    end else begin
      if (!run_i) begin  // what is not being sent is dropped
        write_half_q <= read_half_q ^ sending;
        full_q <= {1'b0, sending && !sent};
        if (sending) stale_o <= 1'b1;
      end else begin
        if (we_i && last_i) write_half_q <= !write_half_q;
        if (we_i && last_i && !sent) full_q <= full_q + 2'd1;
        if (!(we_i && last_i) && sent) full_q <= full_q - 2'd1;
      end
      if (tready_i) tvalid_o <= 1'b0;
      if (step) begin
        tvalid_o <= 1'b1;
        tlast_o <= end_q;
        tdata_o <= end_q ? {16'd0, best} : 32'(score);
        class_q <= class_q + 16'd1;
        first_q <= 1'b0;
        end_q <= class_q == 16'(Classes - 1);
        lane_q <= lane_q == LaneW'(Il - 1) ? '0 : lane_q + LaneW'(1);
        if (lane_q == LaneW'(Il - 1)) word_q <= word_q + WordsW'(1);
      end
      if (sent) begin
        stale_o <= 1'b0;
        read_half_q <= !read_half_q;
        class_q <= '0;
        first_q <= 1'b1;
        end_q <= 1'b0;
        word_q <= '0;
        lane_q <= '0;
        tlast_o <= 1'b0;
      end
    end
  end

`ifndef SYNTHESIS
  `include "checks.svh"
  always @(posedge clk_i)
    if (checking && run_i && rst_ni && we_i && full_q == 2'd2 && !sent) $fatal(1, "scores: more than two images' scores");
`endif
endmodule : scores
