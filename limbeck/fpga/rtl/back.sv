// Schedules the multiply-accumulates of the slot that `front` has read: output group by output group, all words of it.
module back #(
    parameter int OpW = 1,
    parameter int Ops = 2,
    parameter int XAddrW = 1
) (
    input  logic             clk_i,
    input  logic             run_i,
    input  logic [      7:0] last_op_i,
    input  logic             we_i,
    input  logic [     15:0] waddr_i,
    input  logic [  OpW-1:0] wdata_i,
    input  logic             slot_i,   // a slot begins in the next cycle
    output logic             done_o,   // there is no slot, or this is its last cycle
    output logic             first_o,  // of an accumulation
    output logic             last_o,   // of an accumulation
    output logic [     15:0] weight_o,
    output logic [ XAddrW:0] xaddr_o
);
  `include "contract.svh"

  back_op_t op;
  logic busy_q, parity_q, active, period_end, group_end, slot_last, slot_end, next;
  // Ends are known a cycle ahead, except in an op's first cycle, group and slot, where the op's memory tells.
  logic one_cycle, one_group, one_slot, begin_q, first_slot_q, cycle_last_q, group_last_q, slot_last_q;
  logic one, free_q, cycle_last, group_last;  // one: the slot takes one cycle in all; free: no slot, or its last cycle
  logic [11:0] cycle_q, next_cycle_q;
  logic [WordBits-1:0] next_group_q;
  logic [23:0] next_slot_q;
  logic [15:0] weight_q;
  logic ready;  // always high while a slot is computed: `front` leaves enough time to fetch an op

  /* verilator lint_off UNUSEDSIGNAL */
  back_op_t loaded;
  /* verilator lint_on UNUSEDSIGNAL */
  assign loaded = wdata_i;

  fetch #(.Width(OpW + 4), .Depth(Ops)) u_fetch (
      .clk_i, .run_i, .next_i(next), .last_i(last_op_i), .we_i, .waddr_i,
      .wdata_i({loaded.period == 12'd0 && loaded.out_groups == '0, loaded.period == 12'd0, loaded.out_groups == '0,
                loaded.slots == 24'd0, wdata_i}),
      .op_o({one, one_cycle, one_group, one_slot, op}), .ready_o(ready)
  );

  assign active = busy_q && cycle_q <= op.groups;
  assign period_end = begin_q ? one_cycle : cycle_last_q;
  assign group_end = begin_q ? one_group : group_last_q;
  assign slot_last = first_slot_q ? one_slot : slot_last_q;
  assign done_o = begin_q ? one : free_q;
  assign slot_end = busy_q && done_o;
  assign cycle_last = period_end ? one_cycle : next_cycle_q == op.period;
  assign group_last = period_end ? next_group_q == op.out_groups : group_end;
  assign next = slot_end && slot_last;

  always_ff @(posedge clk_i) begin
    if (!run_i) begin
      busy_q <= 1'b0;
      parity_q <= 1'b1;
      next_slot_q <= 24'd1;
      first_slot_q <= 1'b1;
    end else begin
      if (slot_i) busy_q <= 1'b1;
      else if (slot_end) busy_q <= 1'b0;
      if (slot_i) parity_q <= !parity_q;
      if (slot_end) begin
        next_slot_q <= slot_last ? 24'd1 : next_slot_q + 24'd1;
        first_slot_q <= slot_last;
        slot_last_q <= next_slot_q == op.slots;
      end
    end

    begin_q <= slot_i && run_i;
    cycle_last_q <= cycle_last;
    group_last_q <= group_last;
    free_q <= !run_i || !busy_q || slot_end || (cycle_last && group_last);

    if (slot_i) begin
      cycle_q <= '0;
      next_cycle_q <= 12'd1;
      next_group_q <= WordBits'(1);
      weight_q <= '0;
    end else if (busy_q) begin
      cycle_q <= period_end ? 12'd0 : next_cycle_q;
      next_cycle_q <= period_end ? 12'd1 : next_cycle_q + 12'd1;
      if (period_end) next_group_q <= next_group_q + WordBits'(1);
      if (active) weight_q <= weight_q + 16'd1;
    end

    first_o <= active && cycle_q == 12'd0;
    last_o <= run_i && active && cycle_q == op.groups;
    weight_o <= op.weight + weight_q;
    xaddr_o <= {parity_q, cycle_q[XAddrW-1:0]};
  end

`ifndef SYNTHESIS
  `include "checks.svh"
  always @(posedge clk_i)
    if (checking && run_i && busy_q) begin
      if (!ready) $fatal(1, "back: a slot without a micro-op");
      if (slot_i && !done_o) $fatal(1, "back: a slot begins before the one before has ended");
    end
  initial if (OpW != $bits(op)) $fatal(1, "back: OpW must be %0d", $bits(op));
`endif
endmodule : back
