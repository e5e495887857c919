// Turns the sums of an output group, a word of Il channels per cycle, into what the net goes on with: they are
// requantised, added to the shortcut and dropped to the bits of a map, then written to map and state, added up, or handed
// on as scores. last_i comes NoticeCycles before the sums are valid in acc_i.
//
//   result_places -> result_words -> offsets, multipliers, shortcut -+
//   acc_i -> result_sums ------------------------------------------> result_value -> [pool] -> map, state, scores
//   result_totals <---------------------------------------------------+
//
// Cycle 0 is that in which result_words has the address of a word; what belongs to the word follows it in a delay line.
module result #(
    parameter int Px = 2,
    parameter int Il = 8,
    parameter int Ol = 16,
    parameter int Bits = 8,        // of maps
    parameter int AccW = 24,
    parameter int StateW = 16,
    parameter int Words = 2,       // most words of a pixel's channels
    parameter int StateDepth = 2,
    parameter int OffsetDepth = 2,
    parameter int MultDepth = 2,
    parameter int PoolDepth = 0,   // words per pooled row; 0: there is no pooling
    parameter int OpW = 1,
    parameter int Ops = 2,
    parameter StateStyle = "ultra",
    parameter OffsetStyle = "block",
    localparam int WordsW = Words > 1 ? $clog2(Words) : 1
) (
    input  logic                   clk_i,
    input  logic                   run_i,
    input  logic [            7:0] last_op_i,
    input  logic                   op_we_i,
    input  logic                   offset_we_i,
    input  logic                   mult_we_i,
    input  logic [           15:0] waddr_i,
    input  logic [        OpW-1:0] op_i,         // what is written to the three memories
    input  logic [  3*Il*AccW-1:0] offset_i,
    input  logic [      Il*16-1:0] mult_i,
    input  logic                   last_i,
    input  logic [Ol*Px*AccW-1:0]  acc_i,
    output logic                   map_we_o,
    output logic [            1:0] map_bank_o,
    output logic [           15:0] map_addr_o,
    output logic [Px*Il*Bits-1:0]  map_data_o,
    output logic                   score_we_o,
    output logic [     WordsW-1:0] word_o,
    output logic                   score_last_o,
    output logic [Il*StateW-1:0]   score_o
);
  `include "contract.svh"
  localparam int OlWords = Ol / Il;
  localparam int CountW = WordBits + 1;        // of a number of words
  localparam int SumsW = Px * Il * AccW;       // of a word of channels
  localparam int StateWordW = Px * Il * StateW;
  localparam int Half = Px > 1 ? Px / 2 : 1;

  // ---- the micro-op, with flags that are made as it is stored
  result_op_t op;
  /* verilator lint_off UNUSEDSIGNAL */  // only its counts
  result_op_t loaded;
  /* verilator lint_on UNUSEDSIGNAL */
  logic last, op_end, one_group, one_slot, one_row, two_rows, one_of_row, one_of_op;
  logic ready;  // always high when results come: `front` leaves enough time to fetch an op

  assign loaded = op_i;
  fetch #(.Width(OpW + 6), .Depth(Ops)) u_fetch (
      .clk_i, .run_i, .next_i(op_end), .last_i(last_op_i), .we_i(op_we_i), .waddr_i,
      .wdata_i({loaded.out_groups == '0, loaded.slots == 12'd0, loaded.rows == 12'd0, loaded.rows == 12'd1,
                loaded.out_groups == '0 && loaded.slots == 12'd0,
                loaded.out_groups == '0 && loaded.slots == 12'd0 && loaded.rows == 12'd0, op_i}),
      .op_o({one_group, one_slot, one_row, two_rows, one_of_row, one_of_op, op}), .ready_o(ready)
  );
  always_ff @(posedge clk_i) last <= last_i && run_i;

  // ---- where the group goes, and where its words go
  /* verilator lint_off UNUSEDSIGNAL */  // addresses have more bits than a word's number
  logic [15:0] group_word;
  /* verilator lint_on UNUSEDSIGNAL */
  logic [15:0] group_map_addr, group_place, group_state_addr, group_offset, group_mult, group_short;
  logic [ 1:0] group_bank;
  logic group_first_slot, group_last_slot, group_odd_slot, group_first_row, group_odd_row, group_keep;

  result_places #(.Px(Px), .OlWords(OlWords), .OpW(OpW)) u_places (
      .clk_i, .run_i, .last_i(last), .op_i(op), .one_group_i(one_group), .one_slot_i(one_slot), .one_row_i(one_row),
      .two_rows_i(two_rows), .one_of_row_i(one_of_row), .one_of_op_i(one_of_op), .op_end_o(op_end),
      .word_o(group_word), .bank_o(group_bank), .map_addr_o(group_map_addr), .place_o(group_place),
      .state_addr_o(group_state_addr), .offset_o(group_offset), .mult_o(group_mult), .short_o(group_short),
      .first_slot_o(group_first_slot), .last_slot_o(group_last_slot), .odd_slot_o(group_odd_slot),
      .first_row_o(group_first_row), .odd_row_o(group_odd_row), .keep_o(group_keep)
  );

  typedef struct packed {
    logic [1:0]  bank;
    logic        write_map;
    logic        write_state;
    logic [5:0]  shift_less_1;
    logic        relu;
    logic        narrow;
    logic        state_relu;
    logic        state_narrow;
    logic [4:0]  drop;
    logic        sum;
    logic        sum_first;
    logic        from_sum;
    logic        score;
    logic        first_slot;
    logic        last_slot;
    logic [3:0]  last_pixel;
    logic        stem;
    logic        pool;
    logic        keep;
    logic        odd_slot;
    logic        odd_row;
    logic        first_row;
  } group_t;                       // what all words of a group have in common
  typedef struct packed {
    logic        valid;
    logic [WordsW-1:0] word;
    logic [15:0] map_addr;
    logic [15:0] state_addr;
    logic [15:0] place;          // in the row of the map
    logic        add;
    logic        last;           // of the pixel's words
    group_t      of;
  } word_t;

  group_t group_q;
  word_t now;
  logic [15:0] offset_addr, mult_addr, short_addr_early;
  logic next_word, strided;
  /* verilator lint_off UNUSEDSIGNAL */  // results have fewer words than a micro-op can count
  logic [CountW-1:0] now_word;
  /* verilator lint_on UNUSEDSIGNAL */

  always_ff @(posedge clk_i)
    if (last) begin
      group_q.bank <= group_bank;
      group_q.write_map <= op.write_map;
      group_q.write_state <= op.write_state;
      group_q.shift_less_1 <= op.shift_less_1;
      group_q.relu <= op.relu;
      group_q.narrow <= op.narrow;
      group_q.state_relu <= op.state_relu;
      group_q.state_narrow <= op.state_narrow;
      group_q.drop <= op.drop;
      group_q.sum <= op.sum;
      group_q.sum_first <= group_first_slot && group_first_row;
      group_q.from_sum <= op.from_sum;
      group_q.score <= op.score;
      group_q.first_slot <= group_first_slot;
      group_q.last_slot <= group_last_slot;
      group_q.last_pixel <= op.last_pixel;
      group_q.stem <= op.stem;
      group_q.pool <= op.pool;
      group_q.keep <= group_keep;
      group_q.odd_slot <= group_odd_slot;
      group_q.odd_row <= group_odd_row;
      group_q.first_row <= group_first_row;
    end

  result_words #(.OlWords(OlWords), .CountW(CountW)) u_words (
      .clk_i, .run_i, .start_i(last), .word_i(group_word[CountW-1:0]), .map_addr_i(group_map_addr),
      .place_i(group_place), .state_addr_i(group_state_addr), .offset_i(group_offset), .mult_i(group_mult),
      .short_i(group_short), .strided_i(op.strided), .add_i(op.add), .words_i(op.words),
      .short_words_i(op.short_words), .next_o(next_word), .strided_o(strided), .valid_o(now.valid),
      .word_o(now_word), .map_addr_o(now.map_addr), .place_o(now.place), .state_addr_o(now.state_addr),
      .offset_o(offset_addr), .mult_o(mult_addr), .short_o(short_addr_early), .add_o(now.add), .last_o(now.last)
  );
  assign now.word = now_word[WordsW-1:0];
  assign now.of = group_q;

  // ---- the word in the cycles after
  localparam int WordW = WordsW + 86;  // of word_t
  localparam int PoolValue = ValueCycles + PoolCycles;

  logic [PoolValue*WordW-1:0] line_q;
  /* verilator lint_off UNUSEDSIGNAL */  // each cycle uses some fields
  word_t w_before_read, w_read, w_shift, w_sides, w_added, w_saturated, w_value, w_total, w_before_pooled, w_pooled;
  word_t out, out_q, out_2q;
  /* verilator lint_on UNUSEDSIGNAL */
  always_ff @(posedge clk_i) line_q <= {line_q[(PoolValue-1)*WordW-1:0], now};
  assign w_before_read = line_q[(RamCycles-2)*WordW+:WordW];
  assign w_read = line_q[(RamCycles-1)*WordW+:WordW];
  assign w_shift = line_q[(RamCycles+RequantShiftCycles-2)*WordW+:WordW];  // a cycle before it is taken
  assign w_sides = line_q[(RamCycles+RequantSidesCycles-1)*WordW+:WordW];
  assign w_added = line_q[(AddedCycles-1)*WordW+:WordW];
  assign w_saturated = line_q[AddedCycles*WordW+:WordW];
  assign w_value = line_q[(ValueCycles-1)*WordW+:WordW];
  assign w_total = line_q[ValueCycles*WordW+:WordW];
  assign w_before_pooled = line_q[(PoolValue-2)*WordW+:WordW];
  assign w_pooled = line_q[(PoolValue-1)*WordW+:WordW];

  // Signals with many sinks come from flip-flops rather than from the shift registers that the delay line becomes.
  logic [5:0] shift_q;
  logic [4:0] drop_q;                                    // of `out`
  logic is_pooled_q;                                     // `out` is w_pooled
  logic from_sum_q;                                      // of w_read
  logic [Px-1:0] left_q, right_q;                        // of w_read: whose offset each pixel takes, else the inner one's
  always_ff @(posedge clk_i) begin
    shift_q <= w_shift.valid ? w_shift.of.shift_less_1 : 6'd0;
    is_pooled_q <= PoolDepth > 0 && w_before_pooled.valid && w_before_pooled.of.pool;
    drop_q <= PoolDepth > 0 && w_before_pooled.valid && w_before_pooled.of.pool ? w_before_pooled.of.drop
            : w_saturated.of.drop;
    from_sum_q <= w_before_read.of.from_sum;
    for (int px = 0; px < Px; px++) begin
      left_q[px] <= px == 0 && w_before_read.of.first_slot;
      // a stem's first word has the classes of its first three columns
      right_q[px] <= (w_before_read.of.last_slot && w_before_read.of.last_pixel == 4'(px))
                     || (px > 1 && w_before_read.of.first_slot && w_before_read.of.stem);
    end
  end

  // ---- what a word's values are made of
  logic [SumsW-1:0] word_sums;
  logic [3*Il*AccW-1:0] offsets;   // of the left, inner and right column classes
  logic [Il*16-1:0] mults;
  logic [15:0] short_addr;
  logic [StateWordW-1:0] state_word;
  /* verilator lint_off UNUSEDSIGNAL */  // a strided shortcut takes every other pixel; one pixel a word has none
  logic [StateWordW-1:0] state_before_q;
  logic strided_at_added;
  /* verilator lint_on UNUSEDSIGNAL */
  logic [StateWordW-1:0] values, pooled, kept;
  logic [Il*AccW-1:0] totals;

  result_sums #(.OlWords(OlWords), .SumsW(SumsW)) u_sums (
      .clk_i, .start_i(last), .next_i(next_word), .acc_i, .sums_o(word_sums)
  );
  ram #(.Width(3 * Il * AccW), .Depth(OffsetDepth), .Style(OffsetStyle)) u_offset (
      .clk_i, .we_i(offset_we_i), .waddr_i, .wdata_i(offset_i), .raddr_i(offset_addr), .q_o(offsets)
  );
  ram #(.Width(Il * 16), .Depth(MultDepth)) u_mult (
      .clk_i, .we_i(mult_we_i), .waddr_i, .wdata_i(mult_i), .raddr_i(mult_addr), .q_o(mults)
  );
  delay #(.Width(16), .Cycles(AddedCycles - RamCycles)) u_short (.clk_i, .d_i(short_addr_early), .q_o(short_addr));
  ram #(.Width(StateWordW), .Depth(StateDepth), .Style(StateStyle)) u_state (
      .clk_i, .we_i(out.valid && out.of.write_state), .waddr_i(out.state_addr), .wdata_i(kept), .raddr_i(short_addr),
      .q_o(state_word)
  );
  delay #(.Width(1), .Cycles(AddedCycles)) u_strided (.clk_i, .d_i(strided), .q_o(strided_at_added));
  always_ff @(posedge clk_i) state_before_q <= state_word;
  result_totals #(.Px(Px), .Il(Il), .AccW(AccW), .StateW(StateW), .Words(Words)) u_totals (
      .clk_i, .values_i(values), .add_i(w_total.valid && w_total.of.sum), .first_i(w_total.of.sum_first),
      .word_i(w_total.word), .read_i(w_before_read.word), .totals_o(totals)
  );

  for (genvar lane = 0; lane < Il; lane++) begin : gen_lane
    for (genvar px = 0; px < Px; px++) begin : gen_px
      localparam int At = px * Il + lane;
      logic signed [AccW-1:0] acc, offset;
      logic signed [StateW-1:0] short;
      logic in_map;

      if (px == 0) begin : gen_total
        assign acc = from_sum_q ? totals[lane*AccW+:AccW] : word_sums[lane*Px*AccW+:AccW];
      end else begin : gen_no_total
        assign acc = from_sum_q ? AccW'(0) : word_sums[(lane*Px+px)*AccW+:AccW];
      end
      assign offset = left_q[px] ? offsets[lane*AccW+:AccW]
                    : right_q[px] ? offsets[(2*Il+lane)*AccW+:AccW] : offsets[(Il+lane)*AccW+:AccW];
      // a strided shortcut takes every other pixel of two words
      if (Px == 1) begin : gen_short_one
        assign short = state_word[lane*StateW+:StateW];
      end else if (px < Half) begin : gen_short_first
        assign short = strided_at_added ? state_before_q[(2*px*Il+lane)*StateW+:StateW] : state_word[At*StateW+:StateW];
      end else begin : gen_short_second
        assign short = strided_at_added ? state_word[((2*px-Px)*Il+lane)*StateW+:StateW] : state_word[At*StateW+:StateW];
      end
      assign in_map = px == 0 || !w_saturated.of.last_slot || w_saturated.of.last_pixel > 4'(px - 1);

      result_value #(.AccW(AccW), .StateW(StateW), .Bits(Bits)) u_value (
          .clk_i, .acc_i(acc), .offset_i(offset), .mult_i(mults[lane*16+:16]), .shift_less_1_i(shift_q),
          .relu_i(w_sides.of.relu), .narrow_i(w_sides.of.narrow), .short_i(short), .add_i(w_added.add),
          .in_map_i(in_map), .state_relu_i(w_saturated.of.state_relu), .state_narrow_i(w_saturated.of.state_narrow),
          .value_o(values[At*StateW+:StateW]), .kept_i(kept[At*StateW+:StateW]), .drop_i(drop_q),
          .map_o(map_data_o[At*Bits+:Bits])
      );
    end
  end

  // ---- what is kept: values, or maxima where they are pooled
  if (PoolDepth > 0) begin : gen_pool
    logic first_slot_q;
    always_ff @(posedge clk_i) first_slot_q <= w_saturated.valid && w_saturated.of.first_slot;
    pool #(.Px(Px), .Lanes(Il), .StateW(StateW), .Words(Words), .Depth(PoolDepth)) u_pool (
        .clk_i, .v_i(values), .word_i(w_saturated.word), .place_i(w_saturated.place),
        .valid_i(w_value.valid && w_value.of.pool), .first_slot_i(first_slot_q), .last_slot_i(w_value.of.last_slot),
        .odd_slot_i(w_value.of.odd_slot), .first_row_i(w_value.of.first_row), .odd_row_i(w_value.of.odd_row),
        .last_pixel_i(w_value.of.last_pixel), .y_o(pooled)
    );
  end else begin : gen_no_pool
    assign pooled = values;
  end
  assign kept = is_pooled_q ? pooled : values;
  always_comb begin
    out = is_pooled_q ? w_pooled : w_value;
    out.valid = is_pooled_q ? w_pooled.of.keep : w_value.valid && !w_value.of.pool;
  end
  always_ff @(posedge clk_i) begin
    out_q <= out;
    out_2q <= out_q;
  end

  assign map_we_o = out_2q.valid && out_2q.of.write_map;  // DropCycles after its value
  assign map_bank_o = out_2q.of.bank;
  assign map_addr_o = out_2q.map_addr;
  assign score_we_o = w_value.valid && w_value.of.score;
  assign word_o = w_value.word;
  assign score_last_o = w_value.last;
  assign score_o = values[Il*StateW-1:0];

`ifndef SYNTHESIS
  `include "checks.svh"
  bit telling;
  initial telling = $test$plusargs("tell") != 0;
  always @(posedge clk_i)
    if (checking && run_i) begin
      if (telling && w_value.valid) $fdisplay(32'h8000_0002, "V %h", values);
      if (telling && map_we_o) $fdisplay(32'h8000_0002, "M %h", map_data_o);
      if (telling && out.valid && out.of.pool) $fdisplay(32'h8000_0002, "P %h", kept);
      if (last && !ready) $fatal(1, "result: sums without a micro-op");
      if (now.valid && 32'(now_word) >= Words) $fatal(1, "result: a word beyond the pixel's");
      if (out.valid && out.of.write_state && 32'(out.state_addr) >= StateDepth) $fatal(1, "result: no such state");
      if (is_pooled_q && w_value.valid && !w_value.of.pool) $fatal(1, "result: a value and a maximum at once");
    end
  initial begin
    if (OpW != $bits(op)) $fatal(1, "result: OpW must be %0d", $bits(op));
    if (WordW != $bits(now)) $fatal(1, "result: WordW must be %0d", $bits(now));
  end
`endif

  initial
    if (Ol % Il != 0 || (Px > 1 && Px % 2 != 0)) $fatal(1, "result: Ol must be a multiple of Il, Px 1 or even");
endmodule : result
