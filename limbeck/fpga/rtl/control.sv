// AXI4-Lite registers: run, counters, errors, and the door to the memories (docs/hardware.md lists them).
// A memory's words are written 32 bits at a time, low bits first.
module control #(
    parameter int LoadW = 32,
    parameter logic [31:0] Identity = 0
) (
    input  logic             clk_i,
    input  logic             rst_ni,
    input  logic [ 7:0]      awaddr_i,
    input  logic             awvalid_i,
    output logic             awready_o,
    input  logic [31:0]      wdata_i,
    input  logic [ 3:0]      wstrb_i,
    input  logic             wvalid_i,
    output logic             wready_o,
    output logic [ 1:0]      bresp_o,
    output logic             bvalid_o,
    input  logic             bready_i,
    input  logic [ 7:0]      araddr_i,
    input  logic             arvalid_i,
    output logic             arready_o,
    output logic [31:0]      rdata_o,
    output logic [ 1:0]      rresp_o,
    output logic             rvalid_o,
    input  logic             rready_i,
    output logic             run_o,
    output logic [ 7:0]      last_op_o,
    output logic             we_o,
    output logic [ 7:0]      memory_o,
    output logic [15:0]      addr_o,
    output logic [LoadW-1:0] data_o,
    output logic             room_o,     // for one more image's scores
    input  logic             busy_i,
    input  logic             ready_i,    // an image waits
    input  logic             start_i,    // an image begins
    input  logic             scored_i,   // its scores stand
    input  logic             sent_i,     // its scores are taken
    input  logic             stale_i,    // those of a run before are not yet
    input  logic             short_i,
    input  logic             long_i
);
  localparam int Pieces = (LoadW + 31) / 32;

  logic [7:0] awaddr_q, memory_q, pieces_q, piece_q;
  logic aw_q, w_q, write, run_q, we_q;
  logic [6:0] settle_q;   // what an aborted run left in the pipelines is gone before the next begins
  logic [31:0] wdata_q;
  logic [ 3:0] wstrb_q;
  logic [15:0] addr_q;
  /* verilator lint_off UNUSEDSIGNAL */  // a word's last piece may have bits too many
  logic [Pieces*32-1:0] data_q;
  /* verilator lint_on UNUSEDSIGNAL */
  logic [ 2:0] errors_q;
  logic [31:0] images_q, now_q, began_q, interval_q, latency_q, wait_pixels_q, wait_scores_q;
  logic [ 1:0] under_way_q;
  logic [31:0] scoring_q;
  logic [ 1:0] unscored_q;  // images that have begun and have no scores yet

  assign awready_o = !aw_q;
  assign wready_o = !w_q;
  assign bresp_o = 2'b00;
  assign rresp_o = 2'b00;
  assign write = aw_q && w_q && !bvalid_o;
  assign arready_o = !rvalid_o;
  assign run_o = settle_q[6];
  assign we_o = we_q;
  assign memory_o = memory_q;
  assign addr_o = addr_q;
  assign data_o = data_q[LoadW-1:0];
  assign room_o = under_way_q < 2'd2 && !stale_i;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      aw_q <= 1'b0;
      w_q <= 1'b0;
      bvalid_o <= 1'b0;
      rvalid_o <= 1'b0;
      run_q <= 1'b0;
      we_q <= 1'b0;
      last_op_o <= '0;
      memory_q <= '0;
      pieces_q <= 8'd1;
      piece_q <= '0;
      addr_q <= '0;
      errors_q <= '0;
    end else begin
      if (awvalid_i && awready_o) begin
        aw_q <= 1'b1;
        awaddr_q <= awaddr_i;
      end
      if (wvalid_i && wready_o) begin
        w_q <= 1'b1;
        wdata_q <= wdata_i;
        wstrb_q <= wstrb_i;
      end
      if (bready_i) bvalid_o <= 1'b0;
      we_q <= 1'b0;
      if (we_q) addr_q <= addr_q + 16'd1;
      if (short_i) errors_q[0] <= 1'b1;
      if (long_i) errors_q[1] <= 1'b1;
      if (write) begin
        aw_q <= 1'b0;
        w_q <= 1'b0;
        bvalid_o <= 1'b1;
        if (wstrb_q != 4'hf) errors_q[2] <= 1'b1;
        else
          case (awaddr_q)
            8'h00: run_q <= wdata_q[0];
            8'h08: errors_q <= errors_q & ~wdata_q[2:0];
            8'h24: last_op_o <= wdata_q[7:0];
            8'h28: begin
              memory_q <= wdata_q[7:0];
              pieces_q <= wdata_q[15:8];
              piece_q <= '0;
            end
            8'h2c: addr_q <= wdata_q[15:0];
            8'h30:
            if (run_q) errors_q[2] <= 1'b1;
            else begin
              data_q[32'(piece_q)*32+:32] <= wdata_q;
              piece_q <= piece_q + 8'd1 == pieces_q ? 8'd0 : piece_q + 8'd1;
              we_q <= piece_q + 8'd1 == pieces_q;
            end
            default: errors_q[2] <= 1'b1;
          endcase
      end
      if (rready_i) rvalid_o <= 1'b0;
      if (arvalid_i && arready_o) begin
        rvalid_o <= 1'b1;
        case (araddr_i)
          8'h00: rdata_o <= {31'd0, run_q};
          8'h04: rdata_o <= {28'd0, under_way_q, ready_i, busy_i};
          8'h08: rdata_o <= {29'd0, errors_q};
          8'h0c: rdata_o <= images_q;
          8'h10: rdata_o <= interval_q;
          8'h14: rdata_o <= latency_q;
          8'h18: rdata_o <= wait_pixels_q;
          8'h1c: rdata_o <= wait_scores_q;
          8'h20: rdata_o <= Identity;
          8'h24: rdata_o <= {24'd0, last_op_o};
          8'h28: rdata_o <= {16'd0, pieces_q, memory_q};
          8'h2c: rdata_o <= {16'd0, addr_q};
          default: rdata_o <= 32'd0;
        endcase
      end
    end
  end

  always_ff @(posedge clk_i)
    if (!rst_ni || !run_q) settle_q <= '0;
    else if (!settle_q[6]) settle_q <= settle_q + 7'd1;

  // cycles: from the first read of an image to its last score, and from image to image
  always_ff @(posedge clk_i) begin
    now_q <= now_q + 32'd1;
    if (!rst_ni || !run_q) begin
      images_q <= '0;
      now_q <= '0;
      began_q <= '0;
      scoring_q <= '0;
      interval_q <= '0;
      latency_q <= '0;
      wait_pixels_q <= '0;
      wait_scores_q <= '0;
      under_way_q <= '0;
    end else begin
      if (start_i) begin
        began_q <= now_q;
        interval_q <= now_q - began_q;
      end
      if (start_i) scoring_q <= began_q;
      if (scored_i) begin
        images_q <= images_q + 32'd1;
        latency_q <= now_q - (unscored_q == 2'd1 ? began_q : scoring_q);
      end
      if (start_i && !sent_i) under_way_q <= under_way_q + 2'd1;
      if (!start_i && sent_i) under_way_q <= under_way_q - 2'd1;
      if (!busy_i && !ready_i) wait_pixels_q <= wait_pixels_q + 32'd1;
      if (!busy_i && ready_i && !room_o) wait_scores_q <= wait_scores_q + 32'd1;
    end
  end

  always_ff @(posedge clk_i)
    if (!rst_ni || !run_q) unscored_q <= '0;
    else unscored_q <= unscored_q + {1'b0, start_i} - {1'b0, scored_i};

  initial if (Pieces > 255) $fatal(1, "control: a memory's word has at most 255 pieces");
endmodule : control
