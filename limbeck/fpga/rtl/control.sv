// AXI4-Lite registers: run, errors, counters and the memory load port (docs/hardware.md lists them).
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
    input  logic [16:0]      depth_i,    // words of memory_o; 0: there is none
    input  logic [ 7:0]      needed_i,   // pieces per word of that memory
    output logic             we_o,
    output logic [ 7:0]      memory_o,
    output logic [15:0]      addr_o,
    output logic [LoadW-1:0] data_o,
    output logic             room_o,     // there is room for one more image's scores
    input  logic             busy_i,
    input  logic             waiting_i,  // an image waits
    input  logic             start_i,    // an image begins
    input  logic             scored_i,   // its scores are valid
    input  logic             sent_i,     // its scores are taken
    input  logic             stale_i,    // scores of an earlier run are not all taken yet
    input  logic             short_i,    // a frame was too short
    input  logic             long_i
);
  `include "contract.svh"
  localparam int SettleW = $clog2(SettleCycles);

  logic aw_d, aw_q, w_d, w_q, bvalid_d, bvalid_q, rvalid_d, rvalid_q, run_d, run_q, write, read;
  logic [7:0] awaddr_q, last_op_d, last_op_q, pieces;
  logic [31:0] wdata_q, rdata_d, rdata_q, images, interval, latency, wait_pixels, wait_scores;
  logic [3:0] wstrb_q;
  logic [Errors-1:0] errors_d, errors_q, clear;
  logic [SettleW-1:0] settle_q;
  logic [1:0] under_way;
  logic wrong, select, place, piece, bad_load;

  assign awready_o = !aw_q;
  assign wready_o = !w_q;
  assign bresp_o = 2'b00;
  assign bvalid_o = bvalid_q;
  assign arready_o = !rvalid_q;
  assign rresp_o = 2'b00;
  assign rvalid_o = rvalid_q;
  assign rdata_o = rdata_q;
  assign last_op_o = last_op_q;
  assign write = aw_q && w_q && !bvalid_q;
  assign read = arvalid_i && arready_o;

  // ---- writes: address and data come in any order; a wrong one changes nothing but ERRORS
  always_comb begin
    aw_d = (aw_q || awvalid_i) && !write;
    w_d = (w_q || wvalid_i) && !write;
    bvalid_d = write || (bvalid_q && !bready_i);
    run_d = run_q;
    last_op_d = last_op_q;
    clear = '0;
    wrong = 1'b0;
    select = 1'b0;
    place = 1'b0;
    piece = 1'b0;
    if (write) begin
      if (wstrb_q != 4'hf) wrong = 1'b1;
      else
        case (awaddr_q)
          RegisterRun: run_d = wdata_q[0];
          RegisterErrors: clear = wdata_q[Errors-1:0];
          RegisterLastOp: begin
            wrong = run_q;
            if (!run_q) last_op_d = wdata_q[7:0];
          end
          RegisterMemory: select = 1'b1;
          RegisterAddress: place = 1'b1;
          RegisterData: begin
            wrong = run_q;
            piece = !run_q;
          end
          default: wrong = 1'b1;
        endcase
    end
    errors_d = errors_q & ~clear;  // an error that occurs in the cycle that clears it stays
    if (short_i) errors_d[ErrorShortFrame] = 1'b1;
    if (long_i) errors_d[ErrorLongFrame] = 1'b1;
    if (wrong) errors_d[ErrorRegister] = 1'b1;
    if (bad_load) errors_d[ErrorLoad] = 1'b1;
  end

  // ---- reads
  always_comb begin
    rvalid_d = read || (rvalid_q && !rready_i);
    rdata_d = rdata_q;
    if (read)
      case (araddr_i)
        RegisterRun: rdata_d = {31'd0, run_q};
        RegisterStatus: rdata_d = {28'd0, under_way, waiting_i, busy_i};
        RegisterErrors: rdata_d = 32'(errors_q);
        RegisterImages: rdata_d = images;
        RegisterInterval: rdata_d = interval;
        RegisterLatency: rdata_d = latency;
        RegisterWaitPixels: rdata_d = wait_pixels;
        RegisterWaitScores: rdata_d = wait_scores;
        RegisterIdentity: rdata_d = Identity;
        RegisterLastOp: rdata_d = {24'd0, last_op_q};
        RegisterMemory: rdata_d = {16'd0, pieces, memory_o};
        RegisterAddress: rdata_d = {16'd0, addr_o};
        default: rdata_d = 32'd0;
      endcase
  end

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      aw_q <= 1'b0;
      w_q <= 1'b0;
      bvalid_q <= 1'b0;
      rvalid_q <= 1'b0;
      run_q <= 1'b0;
      last_op_q <= '0;
      errors_q <= '0;
    end else begin
      aw_q <= aw_d;
      w_q <= w_d;
      bvalid_q <= bvalid_d;
      rvalid_q <= rvalid_d;
      run_q <= run_d;
      last_op_q <= last_op_d;
      errors_q <= errors_d;
    end
    if (!aw_q) awaddr_q <= awaddr_i;
    if (!w_q) begin
      wdata_q <= wdata_i;
      wstrb_q <= wstrb_i;
    end
    rdata_q <= rdata_d;
  end

  // ---- the engine starts once the pipelines have drained from the run before
  always_ff @(posedge clk_i)
    if (!rst_ni || !run_q) begin
      settle_q <= '0;
      run_o <= 1'b0;
    end else begin
      settle_q <= settle_q + SettleW'(1);
      if (settle_q == SettleW'(SettleCycles - 1)) run_o <= 1'b1;
    end

  load #(.LoadW(LoadW)) u_load (
      .clk_i, .rst_ni, .select_i(select), .place_i(place), .piece_i(piece), .data_i(wdata_q), .depth_i, .needed_i,
      .memory_o, .pieces_o(pieces), .addr_o, .we_o, .word_o(data_o), .bad_o(bad_load)
  );
  counters u_counters (
      .clk_i, .run_i(rst_ni && run_q), .start_i, .scored_i(scored_i && run_o), .sent_i, .stale_i, .busy_i, .waiting_i, .room_o,
      .under_way_o(under_way), .images_o(images), .interval_o(interval), .latency_o(latency),
      .wait_pixels_o(wait_pixels), .wait_scores_o(wait_scores)
  );
endmodule : control
