// Schedules the reading: for each slot (a word of output pixels) it walks over the channel groups of the maps, one word
// of each of three rows a cycle, and says what becomes of them. It works one slot ahead of `back`; a slot ends when
// both have finished with theirs. All outputs but slot_o, start_o, release_o are registered.
module front #(
    parameter int HalfWords = 1,  // words of one half of the image memory
    parameter int StemTaps = 1,   // words of a stem's seventh row
    parameter int OpW = 136,
    parameter int Ops = 2,
    parameter int XAddrW = 1
) (
    input  logic              clk_i,
    input  logic              run_i,
    input  logic [       7:0] last_op_i,
    input  logic              we_i,
    input  logic [      15:0] waddr_i,
    input  logic [   OpW-1:0] wdata_i,
    input  logic              startable_i,  // an image is there, and room for its scores
    input  logic              back_done_i,
    output logic              slot_o,       // `back` begins with the slot that was read
    output logic              start_o,      // an image begins
    output logic              release_o,    // the image has been read
    output logic              busy_o,
    output logic [      15:0] addr0_o,      // of the banks with rows 0, 1, 2 mod 3
    output logic [      15:0] addr1_o,
    output logic [      15:0] addr2_o,
    output logic              image_o,
    output logic [       1:0] bank_o,       // of the middle row
    output logic              top_o,        // no row above
    output logic              middle_o,     // no row here
    output logic              bottom_o,     // no row below
    output logic [       7:0] group_o,
    output logic              shift_o,      // the words become history
    output logic              left_o,       // no word before
    output logic              right_o,      // no word after
    output logic              stride_2_o,
    output logic              taps_o,
    output logic [       4:0] tap_o,
    output logic [      15:0] weight_o,
    output logic [      15:0] table_o,
    output logic [       5:0] shift_less_1_o,
    output logic              relu_o,
    output logic              emit_o,       // a word for `pointwise` comes of it
    output logic [  XAddrW:0] xaddr_o
);
  `include "ops.svh"
  typedef enum logic [3:0] {Wait = 4'd1, Before = 4'd2, Emit = 4'd4, Done = 4'd8} phase_e;  // idle: Wait

  front_op_t op;
  logic next, ready;

  fetch #(.Width(OpW), .Depth(Ops)) u_fetch (
      .clk_i, .run_i, .next_i(next), .last_i(last_op_i), .we_i, .waddr_i, .wdata_i, .op_o(op), .ready_o(ready)
  );

  phase_e phase_q;
  logic busy_q, parity_q, half_q;
  logic [15:0] wait_q;
  logic [ 7:0] group_q;
  logic [ 4:0] tap_q;
  logic [XAddrW-1:0] x_q;
  logic [11:0] next_slot_q, next_row_q;       // of the output
  logic [12:0] next_word_q;                   // of the row that is read
  logic [11:0] read_row_q;
  logic [ 1:0] bank_q;
  logic [15:0] row_place_q, place_q;          // of the row's first word, of this slot's
  logic tap_last_q, group_last_q, slot_last_q, row_last_q, word_last_q, last_slot_q;  // whether the counts are at their ends
  logic waiting, leading, emitting, done, reading, tap_end, pass_end, advance, begin_image;
  logic free_q, next_busy, next_tap_last, next_group_last, only_word;  // free: idle, or this is a slot's last cycle
  logic [12:0] row_words;
  logic [15:0] here, step, first, next_row;
  /* verilator lint_off UNUSEDSIGNAL */  // the lowest bit only carries
  logic [16:0] sum;
  /* verilator lint_on UNUSEDSIGNAL */
  logic back_a_row;
  logic first_row, last_row;

  assign {done, emitting, leading, waiting} = phase_q;
  assign reading = leading || emitting;
  assign tap_end = leading || tap_last_q;
  assign pass_end = reading && tap_end && group_last_q;
  assign advance = free_q && back_done_i;
  assign next_busy = run_i && (!advance ? busy_q : begin_image || (busy_q && !(last_slot_q && op.final_op)));
  assign only_word = op.tap_first == op.tap_last && op.groups == 8'd0;
  assign next_tap_last = tap_end ? op.tap_first == (op.stem && group_q == 8'd1 ? 5'(StemTaps - 1) : op.tap_last)
                                 : tap_q + 5'd1 == (op.stem && group_q == 8'd2 ? 5'(StemTaps - 1) : op.tap_last);
  assign next_group_last = !tap_end ? group_last_q : group_last_q ? op.groups == 8'd0 : group_q + 8'd1 == op.groups;
  assign row_words = op.stride_2 && !op.stem ? {op.slots, 1'b1} : {1'b0, op.slots};
  assign next = advance && busy_q && last_slot_q;
  assign begin_image = advance && run_i && startable_i && (busy_q ? last_slot_q && op.final_op : ready);
  assign slot_o = advance && busy_q;
  assign start_o = begin_image;
  assign release_o = next && op.image;
  assign busy_o = busy_q;
  assign first_row = read_row_q == 12'd0;
  assign last_row = read_row_q == op.rows;
  assign back_a_row = op.stem && group_q[1:0] == 2'd0;  // a stem has three groups
  assign step = !op.stem ? 16'(group_q) : group_q[1:0] == 2'd0 ? ~op.pitch : group_q[1:0] == 2'd1 ? 16'd0 : op.pitch;
  assign sum = {place_q, 1'b1} + {step, back_a_row};
  assign here = sum[16:1];
  assign first = op.base + (op.image && half_q ? 16'(HalfWords) : 16'd0);
  assign next_row = row_place_q + ((op.stride_2 ? bank_q != 2'd0 : bank_q == 2'd2) ? op.pitch : 16'd0);

  always_ff @(posedge clk_i) begin
    busy_q <= next_busy;

    if (!run_i) begin
      half_q <= 1'b0;
      parity_q <= 1'b0;
    end else begin
      if (release_o) half_q <= !half_q;
      if (slot_o) parity_q <= !parity_q;
    end

    if (advance) begin
      wait_q <= '0;
      group_q <= '0;
      x_q <= '0;
      phase_q <= (!busy_q || last_slot_q) ? Wait : op.stride_2 && !op.stem ? Before : Emit;
      tap_q <= op.tap_first;
      tap_last_q <= op.tap_first == op.tap_last;
      group_last_q <= op.groups == 8'd0;
    end else if (busy_q && !done) begin
      if (waiting) begin  // the op is new
        wait_q <= wait_q + 16'd1;
        tap_q <= op.tap_first;
        tap_last_q <= op.tap_first == op.tap_last;
        group_last_q <= op.groups == 8'd0;
        if (wait_q == op.gap) phase_q <= Before;
      end else begin
        if (emitting) x_q <= x_q + XAddrW'(1);
        tap_q <= tap_end ? op.tap_first : tap_q + 5'd1;
        tap_last_q <= next_tap_last;
        if (tap_end) group_q <= group_last_q ? 8'd0 : group_q + 8'd1;
        group_last_q <= next_group_last;
        if (pass_end) begin
          phase_q <= emitting ? Done : Emit;
        end
      end
    end

    if (!next_busy) free_q <= 1'b1;
    else if (advance) free_q <= busy_q && !last_slot_q && !(op.stride_2 && !op.stem) && only_word;
    else if (leading) free_q <= pass_end && only_word;
    else if (emitting) free_q <= pass_end || (next_tap_last && next_group_last);
    else free_q <= done;

    // which slot of the output
    if (waiting) begin
      next_slot_q <= 12'd1;
      next_row_q <= 12'd1;
      slot_last_q <= op.slots == 12'd0;
      row_last_q <= op.rows == 12'd0;
      last_slot_q <= op.slots == 12'd0 && op.rows == 12'd0;
    end else if (advance) begin
      if (slot_last_q) begin
        next_slot_q <= 12'd1;
        slot_last_q <= op.slots == 12'd0;
        next_row_q <= next_row_q + 12'd1;
        row_last_q <= next_row_q == op.rows;
        last_slot_q <= op.slots == 12'd0 && next_row_q == op.rows;
      end else begin
        next_slot_q <= next_slot_q + 12'd1;
        slot_last_q <= next_slot_q == op.slots;
        last_slot_q <= next_slot_q == op.slots && row_last_q;
      end
    end

    // where the next words are
    if (waiting) begin
      read_row_q <= '0;
      next_word_q <= 13'd1;
      bank_q <= op.stem ? 2'd1 : 2'd0;
      row_place_q <= first;
      place_q <= first;
      word_last_q <= row_words == 13'd0;
    end else if (pass_end) begin
      if (!word_last_q) begin
        next_word_q <= next_word_q + 13'd1;
        word_last_q <= next_word_q == row_words;
        place_q <= place_q + (op.stem ? 16'd1 : 16'(op.groups) + 16'd1);
      end else begin
        next_word_q <= 13'd1;
        word_last_q <= row_words == 13'd0;
        read_row_q <= read_row_q + 12'd1;
        row_place_q <= next_row;
        place_q <= next_row;
        if (op.stride_2) begin
          bank_q <= bank_q == 2'd0 ? 2'd2 : bank_q - 2'd1;
        end else begin
          bank_q <= bank_q == 2'd2 ? 2'd0 : bank_q + 2'd1;
        end
      end
    end

    addr0_o <= here + (bank_q == 2'd2 ? op.pitch : 16'd0);
    addr1_o <= here;
    addr2_o <= here - (bank_q == 2'd0 ? op.pitch : 16'd0);
    image_o <= op.image;
    bank_o <= bank_q;
    if (op.stem) begin  // output row y sees the rows 2y - 3 to 2y - 1, 2y to 2y + 2, 2y + 3
      top_o <= group_q == 8'd0 ? read_row_q <= 12'd1 : group_q == 8'd2 && last_row;
      middle_o <= group_q == 8'd0 && first_row;
      bottom_o <= group_q == 8'd0 ? first_row : last_row;
    end else begin
      top_o <= first_row;
      middle_o <= 1'b0;
      bottom_o <= last_row && op.bottom;
    end
    group_o <= group_q;
    shift_o <= reading && tap_end;
    left_o <= next_slot_q == 12'd1;
    right_o <= slot_last_q && op.right;
    stride_2_o <= op.stride_2;
    taps_o <= op.taps;
    tap_o <= tap_q;
    weight_o <= op.weight + 16'(group_q);
    table_o <= op.table_base + 16'(group_q);
    shift_less_1_o <= op.shift_less_1;
    relu_o <= op.relu;
    emit_o <= emitting;
    xaddr_o <= {parity_q, x_q};
  end

  endmodule : front
