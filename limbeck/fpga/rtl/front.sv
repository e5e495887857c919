// Schedules the reading: for each slot (a word of output pixels) it walks over the channel groups of the maps, one word
// from each of three rows per cycle, and says what becomes of them. It works one slot ahead of `back`; both move on when
// both have finished their slots. All outputs but slot_o, start_o, release_o are registered.
module front #(
    parameter int HalfWords = 1,  // words per half of an image bank
    parameter int StemTaps = 1,   // words of a stem's seventh row
    parameter int OpW = 1,
    parameter int Ops = 2,
    parameter int XAddrW = 1,
    parameter int GroupW = 1
) (
    input  logic              clk_i,
    input  logic              run_i,
    input  logic [       7:0] last_op_i,
    input  logic              we_i,
    input  logic [      15:0] waddr_i,
    input  logic [   OpW-1:0] wdata_i,
    input  logic              startable_i,    // an image is there, and there is room for its scores
    input  logic              back_done_i,
    output logic              slot_o,         // `back` begins the slot that has been read
    output logic              start_o,        // an image begins
    output logic              release_o,      // the image has been read
    output logic              busy_o,
    output logic [      15:0] addr0_o,        // of the banks with rows 0, 1, 2 mod 3
    output logic [      15:0] addr1_o,
    output logic [      15:0] addr2_o,
    output logic              image_o,
    output logic [       1:0] bank_o,         // of the middle row
    output logic              none_above_o,   // a row lies outside of the map
    output logic              none_here_o,
    output logic              none_below_o,
    output logic [GroupW-1:0] group_o,
    output logic              remember_o,     // the words are kept as history
    output logic              none_before_o,  // there is no word on that side
    output logic              none_after_o,
    output logic              stride_2_o,
    output logic              taps_o,
    output logic [       4:0] tap_o,
    output logic [      15:0] kernel_o,
    output logic [      15:0] table_o,
    output logic [       5:0] shift_less_1_o,
    output logic              relu_o,
    output logic              emit_o,         // a word for `pointwise` results
    output logic [  XAddrW:0] xaddr_o
);
  `include "contract.svh"
  typedef enum logic [3:0] {Wait = 4'd1, Before = 4'd2, Emit = 4'd4, Done = 4'd8} phase_e;  // idle: Wait

  front_op_t op;
  logic next, ready;

  fetch #(.Width(OpW), .Depth(Ops)) u_fetch (
      .clk_i, .run_i, .next_i(next), .last_i(last_op_i), .we_i, .waddr_i, .wdata_i, .op_o(op), .ready_o(ready)
  );

  // ---- how an image, an op and a slot begin and end
  phase_e phase_q;
  logic waiting, leading, emitting, done, reading, skips;
  logic busy_d, busy_q, free_d, free_q;  // free: idle, or in a slot's last cycle
  logic last_slot_d, last_slot_q;
  logic advance, begin_image;

  assign {done, emitting, leading, waiting} = phase_q;
  assign reading = leading || emitting;
  assign skips = op.stride_2 && !op.stem;  // every other word only becomes history
  assign advance = free_q && back_done_i;
  assign begin_image = advance && run_i && startable_i && (busy_q ? last_slot_q && op.final_op : ready);
  assign next = advance && busy_q && last_slot_q;
  assign busy_d = run_i && (!advance ? busy_q : begin_image || (busy_q && !(last_slot_q && op.final_op)));
  assign slot_o = advance && busy_q;
  assign start_o = begin_image;
  assign release_o = next && op.image;
  assign busy_o = busy_q;

  // ---- the walk over a slot's words: tap by tap of a channel group, group by group; ends are known a cycle ahead
  logic [15:0] wait_d, wait_q;
  logic [WordBits-1:0] group_d, group_q;
  logic [4:0] tap_d, tap_q;
  logic [XAddrW-1:0] x_d, x_q;
  logic tap_last_d, tap_last_q, group_last_d, group_last_q;
  logic tap_end, pass_end, only_word, next_tap_last, next_group_last;
  logic [4:0] stem_taps;

  assign stem_taps = 5'(StemTaps - 1);
  assign tap_end = leading || tap_last_q;
  assign pass_end = reading && tap_end && group_last_q;
  assign only_word = op.tap_first == op.tap_last && op.groups == '0;
  assign next_tap_last = tap_end
      ? op.tap_first == (op.stem && group_q == WordBits'(1) ? stem_taps : op.tap_last)
      : tap_q + 5'd1 == (op.stem && group_q == WordBits'(2) ? stem_taps : op.tap_last);
  assign next_group_last = !tap_end ? group_last_q
                         : group_last_q ? op.groups == '0 : group_q + WordBits'(1) == op.groups;

  always_comb begin
    wait_d = wait_q;
    group_d = group_q;
    tap_d = tap_q;
    x_d = x_q;
    tap_last_d = tap_last_q;
    group_last_d = group_last_q;
    if (advance) begin
      wait_d = '0;
      group_d = '0;
      x_d = '0;
    end else if (busy_q && waiting) begin  // the op is new
      wait_d = wait_q + 16'd1;
    end else if (busy_q && reading) begin
      if (emitting) x_d = x_q + XAddrW'(1);
      tap_d = tap_end ? op.tap_first : tap_q + 5'd1;
      tap_last_d = next_tap_last;
      if (tap_end) group_d = group_last_q ? '0 : group_q + WordBits'(1);
      group_last_d = next_group_last;
    end
    if (advance || (busy_q && waiting)) begin
      tap_d = op.tap_first;
      tap_last_d = op.tap_first == op.tap_last;
      group_last_d = op.groups == '0;
    end

    if (!busy_d) free_d = 1'b1;
    else if (advance) free_d = busy_q && !last_slot_q && !skips && only_word;
    else if (leading) free_d = pass_end && only_word;
    else if (emitting) free_d = pass_end || (next_tap_last && next_group_last);
    else free_d = done;
  end

  // ---- which slot of the output
  logic [11:0] next_slot_d, next_slot_q, next_row_d, next_row_q;
  logic slot_last_d, slot_last_q, row_last_d, row_last_q;

  always_comb begin
    next_slot_d = next_slot_q;
    next_row_d = next_row_q;
    slot_last_d = slot_last_q;
    row_last_d = row_last_q;
    last_slot_d = last_slot_q;
    if (waiting) begin
      next_slot_d = 12'd1;
      next_row_d = 12'd1;
      slot_last_d = op.slots == 12'd0;
      row_last_d = op.rows == 12'd0;
      last_slot_d = op.slots == 12'd0 && op.rows == 12'd0;
    end else if (advance && slot_last_q) begin
      next_slot_d = 12'd1;
      slot_last_d = op.slots == 12'd0;
      next_row_d = next_row_q + 12'd1;
      row_last_d = next_row_q == op.rows;
      last_slot_d = op.slots == 12'd0 && next_row_q == op.rows;
    end else if (advance) begin
      next_slot_d = next_slot_q + 12'd1;
      slot_last_d = next_slot_q == op.slots;
      last_slot_d = next_slot_q == op.slots && row_last_q;
    end
  end

  // ---- where the words are
  logic [11:0] read_row_d, read_row_q;
  logic [12:0] next_word_d, next_word_q, row_words;  // words of the row that is read
  logic [ 1:0] bank_d, bank_q;
  logic [15:0] row_place_d, row_place_q, place_d, place_q;  // places of the row's first word and of this slot's
  logic [15:0] here, from_place, first, next_row;
  /* verilator lint_off UNUSEDSIGNAL */  // the lowest bit only carries
  logic [16:0] here_and_carry;
  /* verilator lint_on UNUSEDSIGNAL */
  logic word_last_d, word_last_q, half_d, half_q, parity_d, parity_q, back_a_row, first_row, last_row;

  assign row_words = skips ? {op.slots, 1'b1} : {1'b0, op.slots};
  assign first_row = read_row_q == 12'd0;
  assign last_row = read_row_q == op.rows;
  assign back_a_row = op.stem && group_q[1:0] == 2'd0;  // a stem's groups: rows before, at and after a place
  assign from_place = !op.stem ? 16'(group_q)
                    : group_q[1:0] == 2'd0 ? ~op.pitch : group_q[1:0] == 2'd1 ? 16'd0 : op.pitch;
  assign here_and_carry = {place_q, 1'b1} + {from_place, back_a_row};
  assign here = here_and_carry[16:1];
  assign first = op.base + (op.image && half_q ? 16'(HalfWords) : 16'd0);
  assign next_row = row_place_q + ((op.stride_2 ? bank_q != 2'd0 : bank_q == 2'd2) ? op.pitch : 16'd0);

  always_comb begin
    read_row_d = read_row_q;
    next_word_d = next_word_q;
    bank_d = bank_q;
    row_place_d = row_place_q;
    place_d = place_q;
    word_last_d = word_last_q;
    if (waiting) begin
      read_row_d = '0;
      next_word_d = 13'd1;
      bank_d = op.stem ? 2'd1 : 2'd0;
      row_place_d = first;
      place_d = first;
      word_last_d = row_words == 13'd0;
    end else if (pass_end && !word_last_q) begin
      next_word_d = next_word_q + 13'd1;
      word_last_d = next_word_q == row_words;
      place_d = place_q + (op.stem ? 16'd1 : 16'(op.groups) + 16'd1);
    end else if (pass_end) begin
      next_word_d = 13'd1;
      word_last_d = row_words == 13'd0;
      read_row_d = read_row_q + 12'd1;
      row_place_d = next_row;
      place_d = next_row;
      if (op.stride_2) bank_d = bank_q == 2'd0 ? 2'd2 : bank_q - 2'd1;
      else bank_d = bank_q == 2'd2 ? 2'd0 : bank_q + 2'd1;
    end
    half_d = run_i && (half_q ^ release_o);      // of the image memory
    parity_d = run_i && (parity_q ^ slot_o);     // of the words for `pointwise`
  end

  always_ff @(posedge clk_i) begin
    // Held by the registers' enables rather than by logic in front of them, since this is the longest path.
    if (advance) phase_q <= !busy_q || last_slot_q ? Wait : skips ? Before : Emit;
    else if (busy_q && waiting && wait_q == op.gap) phase_q <= Before;
    else if (busy_q && pass_end) phase_q <= emitting ? Done : Emit;
    busy_q <= busy_d;
    free_q <= free_d;
    wait_q <= wait_d;
    group_q <= group_d;
    tap_q <= tap_d;
    x_q <= x_d;
    tap_last_q <= tap_last_d;
    group_last_q <= group_last_d;
    next_slot_q <= next_slot_d;
    next_row_q <= next_row_d;
    slot_last_q <= slot_last_d;
    row_last_q <= row_last_d;
    last_slot_q <= last_slot_d;
    read_row_q <= read_row_d;
    next_word_q <= next_word_d;
    bank_q <= bank_d;
    row_place_q <= row_place_d;
    place_q <= place_d;
    word_last_q <= word_last_d;
    half_q <= half_d;
    parity_q <= parity_d;

    addr0_o <= here + (bank_q == 2'd2 ? op.pitch : 16'd0);
    addr1_o <= here;
    addr2_o <= here - (bank_q == 2'd0 ? op.pitch : 16'd0);
    image_o <= op.image;
    bank_o <= bank_q;
    if (op.stem) begin  // output row y sees the rows 2y - 3 to 2y - 1, 2y to 2y + 2, 2y + 3 and no more
      none_above_o <= group_q[1:0] == 2'd0 ? read_row_q <= 12'd1 : group_q[1:0] == 2'd2 && last_row;
      none_here_o <= group_q[1:0] == 2'd0 ? first_row : group_q[1:0] == 2'd2;
      none_below_o <= group_q[1:0] == 2'd0 ? first_row : group_q[1:0] == 2'd2 || last_row;
    end else begin
      none_above_o <= first_row;
      none_here_o <= 1'b0;
      none_below_o <= last_row && op.bottom;
    end
    group_o <= GroupW'(group_q);
    remember_o <= reading && tap_end;
    none_before_o <= next_slot_q == 12'd1;
    none_after_o <= slot_last_q && op.right;
    stride_2_o <= op.stride_2;
    taps_o <= op.taps;
    tap_o <= tap_q;
    kernel_o <= op.kernel + 16'(group_q);
    table_o <= op.table_base + 16'(group_q);
    shift_less_1_o <= op.shift_less_1;
    relu_o <= op.relu;
    emit_o <= emitting;
    xaddr_o <= {parity_q, x_q};
  end

`ifndef SYNTHESIS
  `include "checks.svh"
  always @(posedge clk_i)
    if (checking && run_i && busy_q) begin
      if (phase_q != Wait && phase_q != Before && phase_q != Emit && phase_q != Done) $fatal(1, "front: in two phases");
      if (reading && !ready) $fatal(1, "front: it walks without a micro-op");
      if (reading && group_q > op.groups) $fatal(1, "front: a channel group beyond the map's");
      if (slot_o && !done && !(emitting && pass_end)) $fatal(1, "front: a slot ends before it is read");
    end
  initial if (OpW != $bits(op)) $fatal(1, "front: OpW must be %0d", $bits(op));
`endif
endmodule : front
