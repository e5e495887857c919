// Hands out the ops of its memory in order, over and over. op_o is the next op one cycle after next_i, provided that ops
// are four cycles apart. ready_o: op_o holds an op.
module fetch #(
    parameter int Width = 8,
    parameter int Depth = 2
) (
    input  logic             clk_i,
    input  logic             run_i,    // low: begin again with op 0
    input  logic             next_i,
    input  logic [      7:0] last_i,   // index of the last op
    input  logic             we_i,
    /* verilator lint_off UNUSEDSIGNAL */
    input  logic [     15:0] waddr_i,
    /* verilator lint_on UNUSEDSIGNAL */
    input  logic [Width-1:0] wdata_i,
    output logic [Width-1:0] op_o,
    output logic             ready_o
);
  localparam int AddrW = $clog2(Depth);

  /* verilator lint_off UNUSEDPARAM */  // only synthesis asks for Kind
`ifdef LIMBECK_MULT18  // as in ram.sv
  localparam Kind = Depth <= 32 ? "distributed" : "block";
`else
  localparam Kind = "block";
`endif
  /* verilator lint_on UNUSEDPARAM */

  (* ram_style = Kind *) logic [Width-1:0] mem [0:Depth-1];
  logic [Width-1:0] read_q;
  logic [      7:0] index_q;
  logic             need_q, taken_q, take;

  assign take = (need_q || next_i) && !taken_q;  // one cycle after a take, read_q is still the op taken
  assign ready_o = !need_q;

  always_ff @(posedge clk_i) begin
    if (we_i) mem[waddr_i[AddrW-1:0]] <= wdata_i;
    read_q <= mem[index_q[AddrW-1:0]];
    taken_q <= take || !run_i;
    if (take) op_o <= read_q;
    if (!run_i) begin
      need_q <= 1'b1;
      index_q <= '0;
    end else begin
      need_q <= (need_q || next_i) && !take;
      if (take) index_q <= index_q == last_i ? 8'd0 : index_q + 8'd1;
    end
  end

  initial if (Depth < 2 || Depth > 256) $fatal(1, "fetch: Depth must be 2 to 256");
endmodule : fetch
