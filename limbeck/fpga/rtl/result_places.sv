// Says where the next output group goes: results come in order, so slots, rows and groups are counted here too. A pooled
// result keeps the place of the word that it becomes part of.
module result_places #(
    parameter int Px = 2,
    parameter int OlWords = 2,        // words of an output group
    parameter int OpW = 1
) (
    input  logic           clk_i,
    input  logic           run_i,
    input  logic           last_i,         // this group goes now, and the next one is asked for
    input  logic [OpW-1:0] op_i,
    // Of the op's counts, known when it is stored: one group, one slot, one row; two rows; one group per row, per op.
    input  logic           one_group_i,
    input  logic           one_slot_i,
    input  logic           one_row_i,
    input  logic           two_rows_i,
    input  logic           one_of_row_i,
    input  logic           one_of_op_i,
    output logic           op_end_o,       // the group is the op's last
    output logic [   15:0] word_o,         // the group's first among the pixel's words; so are the addresses
    output logic [    1:0] bank_o,
    output logic [   15:0] map_addr_o,
    output logic [   15:0] place_o,        // in the row of the map
    output logic [   15:0] state_addr_o,
    output logic [   15:0] offset_o,
    output logic [   15:0] mult_o,
    output logic [   15:0] short_o,
    output logic           first_slot_o,
    output logic           last_slot_o,
    output logic           odd_slot_o,
    output logic           first_row_o,
    output logic           odd_row_o,
    output logic           keep_o          // pooled, every other word is kept
);
  `include "contract.svh"

  /* verilator lint_off UNUSEDSIGNAL */  // only what says where results go
  result_op_t op;
  /* verilator lint_on UNUSEDSIGNAL */
  assign op = op_i;

  // ---- groups of a slot, slots of a row, rows: ends are known a group ahead, except in an op's first group, where
  // the op's memory tells
  logic first_d, first_q, group_last, slot_last, row_last, row_after_last, slot_end, row_end, op_end;
  logic group_last_d, group_last_q, slot_last_d, slot_last_q, row_last_d, row_last_q, row_end_q, op_end_q;
  logic [WordBits-1:0] next_group_d, next_group_q;
  logic [11:0] next_slot_d, next_slot_q, row_after_d, row_after_q;  // row_after: the one after the next row
  logic near_end_d, near_end_q, first_slot_d, first_slot_q, first_row_d, first_row_q, odd_row_d, odd_row_q;

  assign group_last = first_q ? one_group_i : group_last_q;
  assign slot_last = first_q ? one_slot_i : slot_last_q;
  assign row_last = first_q ? one_row_i : row_last_q;
  assign row_after_last = first_row_q ? two_rows_i : near_end_q;
  assign slot_end = last_i && group_last;
  assign row_end = last_i && (first_q ? one_of_row_i : row_end_q);
  assign op_end = last_i && (first_q ? one_of_op_i : op_end_q);
  assign op_end_o = op_end;

  always_comb begin
    first_d = !run_i || op_end || (first_q && !last_i);
    group_last_d = group_last ? one_group_i : next_group_q == op.out_groups;
    slot_last_d = !group_last ? slot_last : slot_last ? one_slot_i : next_slot_q == op.slots;
    row_last_d = group_last && slot_last ? row_after_last : row_last;
    next_group_d = next_group_q;
    next_slot_d = next_slot_q;
    first_slot_d = first_slot_q;
    row_after_d = row_after_q;
    near_end_d = near_end_q;
    first_row_d = first_row_q;
    odd_row_d = odd_row_q;
    if (!run_i || op_end) begin
      next_group_d = WordBits'(1);
      next_slot_d = 12'd1;
      row_after_d = 12'd2;
      first_slot_d = 1'b1;
      first_row_d = 1'b1;
      odd_row_d = 1'b0;
    end else if (last_i) begin
      next_group_d = slot_end ? WordBits'(1) : next_group_q + WordBits'(1);
      if (slot_end) begin
        next_slot_d = row_end ? 12'd1 : next_slot_q + 12'd1;
        first_slot_d = row_end;
      end
      if (row_end) begin
        row_after_d = row_after_q + 12'd1;
        near_end_d = row_after_q == op.rows;
        first_row_d = 1'b0;
        odd_row_d = !odd_row_q;
      end
    end
  end

  // ---- addresses: a place is a base plus what its row, slot and word add
  logic [15:0] word_d, word_q, map_row_d, map_row_q, map_slot_d, map_slot_q, state_d, state_q;
  logic [15:0] short_row_d, short_row_q, short_slot_d, short_slot_q;
  logic [15:0] row_class_d, row_class_q, column_class_d, column_class_q;  // where the offsets of a class begin
  logic [ 1:0] bank_d, bank_q, next_class;
  logic keep_slot, keep_row, early;

  assign keep_slot = !op.pool || !next_slot_q[0] || slot_last;
  assign keep_row = !op.pool || odd_row_q || row_last;
  assign early = first_slot_q || (Px == 1 && next_slot_q == 12'd2);
  assign next_class = row_after_last ? {1'b1, op.stem} : op.stem && !first_row_q ? 2'd2 : 2'd1;

  always_comb begin
    word_d = word_q;
    map_row_d = map_row_q;
    map_slot_d = map_slot_q;
    state_d = state_q;
    short_row_d = short_row_q;
    short_slot_d = short_slot_q;
    row_class_d = row_class_q;
    bank_d = bank_q;
    if (!run_i || op_end) begin
      word_d = '0;
      map_row_d = '0;
      map_slot_d = '0;
      state_d = '0;
      short_row_d = '0;
      short_slot_d = '0;
      bank_d = '0;
    end else if (last_i) begin
      word_d = slot_end ? 16'd0 : word_q + 16'(OlWords);
      if (slot_end) begin
        if (keep_slot && keep_row) state_d = state_q + 16'(op.words);
        if (row_end) map_slot_d = '0;
        else if (keep_slot) map_slot_d = map_slot_q + 16'(op.words);
        short_slot_d = row_end ? 16'd0 : short_slot_q + op.short_slot;
      end
      if (row_end) begin
        if (keep_row) begin
          bank_d = bank_q == 2'd2 ? 2'd0 : bank_q + 2'd1;
          if (bank_q == 2'd2) map_row_d = map_row_q + op.map_pitch;
        end
        short_row_d = short_row_q + op.short_row;
        row_class_d = op.offset + (next_class[0] ? op.offset_pitch : 16'd0)
                    + (next_class[1] ? {op.offset_pitch[14:0], 1'b0} : 16'd0);
      end
    end
    column_class_d = op.stem && !early ? 16'(op.words) : 16'd0;  // a stem's slots are long enough for one more cycle
  end

  assign word_o = word_q;
  assign bank_o = bank_q;
  assign map_addr_o = op.map_base + map_row_q + map_slot_q + word_q;
  assign place_o = map_slot_q + word_q;
  assign state_addr_o = op.state_base + state_q + word_q;
  assign offset_o = (first_row_q ? op.offset : row_class_q) + word_q + (first_q ? 16'd0 : column_class_q);
  assign mult_o = op.mult + word_q;
  assign short_o = op.short_base + short_row_q + short_slot_q + word_q;
  assign first_slot_o = first_slot_q;
  assign last_slot_o = slot_last;
  assign odd_slot_o = !next_slot_q[0];
  assign first_row_o = first_row_q;
  assign odd_row_o = odd_row_q;
  assign keep_o = keep_slot && keep_row;

  always_ff @(posedge clk_i) begin
    first_q <= first_d;
    if (last_i) begin
      group_last_q <= group_last_d;
      slot_last_q <= slot_last_d;
      row_last_q <= row_last_d;
      row_end_q <= group_last_d && slot_last_d;
      op_end_q <= group_last_d && slot_last_d && row_last_d;
    end
    next_group_q <= next_group_d;
    next_slot_q <= next_slot_d;
    row_after_q <= row_after_d;
    near_end_q <= near_end_d;
    first_slot_q <= first_slot_d;
    first_row_q <= first_row_d;
    odd_row_q <= odd_row_d;
    word_q <= word_d;
    map_row_q <= map_row_d;
    map_slot_q <= map_slot_d;
    state_q <= state_d;
    short_row_q <= short_row_d;
    short_slot_q <= short_slot_d;
    row_class_q <= row_class_d;
    column_class_q <= column_class_d;
    bank_q <= bank_d;
  end

`ifndef SYNTHESIS
  `include "checks.svh"
  always @(posedge clk_i)
    if (checking && run_i && last_i) begin
      if (word_q >= 16'(op.words)) $fatal(1, "result_places: a group beyond the pixel's words");
    end
  initial if (OpW != $bits(op)) $fatal(1, "result_places: OpW must be %0d", $bits(op));
`endif
endmodule : result_places
