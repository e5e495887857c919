// Takes the sums of an output group and turns them, a word of Il channels a cycle, into what the net goes on with:
// requantised, added to the shortcut, dropped to 8 bits; written to map and state, added up, or handed on as scores.
// last_i comes three cycles before the sums stand in acc_i. Counts slots, rows and groups itself: results come in order.
module result #(
    parameter int Px = 2,
    parameter int Il = 8,
    parameter int Ol = 16,
    parameter int Bits = 8,        // of maps
    parameter int AccW = 24,
    parameter int StateW = 16,
    parameter int Words = 2,       // at most, of a pixel's channels
    parameter int StateDepth = 2,
    parameter int OffsetDepth = 2,
    parameter int MultDepth = 2,
    parameter int PoolDepth = 0,   // words of a row that is pooled; 0: there is no pooling
    parameter int OpW = 222,
    parameter int Ops = 2,
    parameter int LoadW = 576,
    parameter StateStyle = "ultra",
    parameter OffsetStyle = "block"
) (
    input  logic                   clk_i,
    input  logic                   run_i,
    input  logic [            7:0] last_op_i,
    input  logic                   op_we_i,
    input  logic                   offset_we_i,
    input  logic                   mult_we_i,
    input  logic [           15:0] waddr_i,
    /* verilator lint_off UNUSEDSIGNAL */  // as wide as the widest memory
    input  logic [      LoadW-1:0] wdata_i,
    /* verilator lint_on UNUSEDSIGNAL */
    input  logic                   last_i,
    input  logic [Ol*Px*AccW-1:0]  acc_i,
    output logic                   map_we_o,
    output logic [            1:0] map_bank_o,
    output logic [           15:0] map_addr_o,
    output logic [Px*Il*Bits-1:0]  map_data_o,
    output logic                   score_we_o,
    output logic [            7:0] score_word_o,
    output logic                   score_last_o,
    output logic [Il*StateW-1:0]   score_o
);
  `include "ops.svh"
  localparam int OlWords = Ol / Il;
  localparam int WordsW = Words > 1 ? $clog2(Words) : 1;
  localparam int SumsW = Px * Il * AccW;       // of a word of channels
  localparam int StateWordW = Px * Il * StateW;
  localparam int Half = Px > 1 ? Px / 2 : 1;
  localparam logic [Bits-1:0] Most = {1'b0, {(Bits - 1) {1'b1}}};                    // of a map
  localparam int By2W = StateW + 1 < Bits + 8 ? StateW + 1 : Bits + 8;               // what later shifts can bring
  localparam int By1W = By2W < Bits + 2 ? By2W : Bits + 2;

  out_op_t op;
  /* verilator lint_off UNUSEDSIGNAL */  // `front` leaves ops the time to be fetched
  logic ready;
  /* verilator lint_on UNUSEDSIGNAL */
  logic last, slot_end, row_end, op_end, group_last, slot_last, row_last;
  // ends are known before, but for an op's first group, slot and row: there its memory tells
  logic one_group, one_slot, one_row, two_rows, one_of_row, one_of_op, first_q;  // also of a row, of the op
  logic group_last_q, slot_last_q, row_last_q, row_end_q, op_end_q, next_group_last, next_slot_last, next_row_last;
  /* verilator lint_off UNUSEDSIGNAL */
  out_op_t loaded;
  /* verilator lint_on UNUSEDSIGNAL */
  assign loaded = wdata_i[OpW-1:0];

  fetch #(.Width(OpW + 6), .Depth(Ops)) u_fetch (
      .clk_i, .run_i, .next_i(op_end), .last_i(last_op_i), .we_i(op_we_i), .waddr_i,
      .wdata_i({loaded.out_groups == 8'd0, loaded.slots == 12'd0, loaded.rows == 12'd0, loaded.rows == 12'd1,
                loaded.out_groups == 8'd0 && loaded.slots == 12'd0,
                loaded.out_groups == 8'd0 && loaded.slots == 12'd0 && loaded.rows == 12'd0, wdata_i[OpW-1:0]}),
      .op_o({one_group, one_slot, one_row, two_rows, one_of_row, one_of_op, op}), .ready_o(ready)
  );

  // ---- where the next output group goes
  logic [ 7:0] next_group_q;
  logic [11:0] next_slot_q, row_after_q;                // that after the next row
  logic first_slot_q, first_row_q, odd_row_q, near_q, early;
  logic [ 1:0] bank_q;
  logic [15:0] word_q;                                  // first word of the group
  logic [15:0] map_row_q, map_slot_q, state_q, short_row_q, short_slot_q, class_q, inner_q;
  logic keep_slot, keep_row, next_last;                 // pooled, every other one is kept
  logic [1:0] next_class;

  always_ff @(posedge clk_i) last <= last_i && run_i;
  assign group_last = first_q ? one_group : group_last_q;
  assign slot_last = first_q ? one_slot : slot_last_q;
  assign row_last = first_q ? one_row : row_last_q;
  assign slot_end = last && group_last;
  assign row_end = last && (first_q ? one_of_row : row_end_q);
  assign op_end = last && (first_q ? one_of_op : op_end_q);
  assign next_group_last = group_last ? one_group : next_group_q == op.out_groups;
  assign next_slot_last = !group_last ? slot_last : slot_last ? one_slot : next_slot_q == op.slots;
  assign next_row_last = group_last && slot_last ? next_last : row_last;
  assign early = first_slot_q || (Px == 1 && next_slot_q == 12'd2);
  assign keep_slot = !op.pool || !next_slot_q[0] || slot_last;
  assign keep_row = !op.pool || odd_row_q || row_last;
  assign next_last = first_row_q ? two_rows : near_q;
  assign next_class = next_last ? {1'b1, op.wide} : op.wide && !first_row_q ? 2'd2 : 2'd1;

  always_ff @(posedge clk_i) begin
    if (!run_i || op_end) first_q <= 1'b1;
    else if (last) first_q <= 1'b0;
    if (last) begin
      group_last_q <= next_group_last;
      slot_last_q <= next_slot_last;
      row_last_q <= next_row_last;
      row_end_q <= next_group_last && next_slot_last;
      op_end_q <= next_group_last && next_slot_last && next_row_last;
    end
    if (!run_i || op_end) begin
      next_group_q <= 8'd1;
      next_slot_q <= 12'd1;
      row_after_q <= 12'd2;
      first_slot_q <= 1'b1;
      first_row_q <= 1'b1;
      odd_row_q <= 1'b0;
      bank_q <= '0;
      word_q <= '0;
      map_row_q <= '0;
      map_slot_q <= '0;
      state_q <= '0;
      short_row_q <= '0;
      short_slot_q <= '0;
    end else if (last) begin
      next_group_q <= slot_end ? 8'd1 : next_group_q + 8'd1;
      word_q <= slot_end ? 16'd0 : word_q + 16'(OlWords);
      if (slot_end) begin
        next_slot_q <= row_end ? 12'd1 : next_slot_q + 12'd1;
        first_slot_q <= row_end;
        if (keep_slot && keep_row) state_q <= state_q + 16'(op.words);
        if (row_end) map_slot_q <= '0;
        else if (keep_slot) map_slot_q <= map_slot_q + 16'(op.words);
        short_slot_q <= row_end ? 16'd0 : short_slot_q + op.state_slot;
      end
      if (row_end) begin
        row_after_q <= row_after_q + 12'd1;
        near_q <= row_after_q == op.rows;
        first_row_q <= 1'b0;
        odd_row_q <= !odd_row_q;
        if (keep_row) begin
          bank_q <= bank_q == 2'd2 ? 2'd0 : bank_q + 2'd1;
          if (bank_q == 2'd2) map_row_q <= map_row_q + op.pitch;
        end
        short_row_q <= short_row_q + op.state_row;
        class_q <= op.offset + (next_class[0] ? op.offset_pitch : 16'd0)
                 + (next_class[1] ? {op.offset_pitch[14:0], 1'b0} : 16'd0);
      end
    end
    inner_q <= op.wide && !early ? 16'(op.words) : 16'd0;  // a stem's slots are long enough for one cycle more
  end

  // ---- the words of the group, one after the other: cycle 0
  typedef struct packed {
    logic          valid;
    logic [7:0]    word;
    logic [1:0]    bank;
    logic [15:0]   map_addr;
    logic [15:0]   state_addr;
    logic          write_map;
    logic          write_state;
    logic [5:0]    shift_less_1;
    logic          relu;
    logic          narrow;
    logic          add;
    logic          state_relu;
    logic          state_narrow;
    logic [4:0]    drop;
    logic          sum;
    logic          sum_first;
    logic          from_sum;
    logic          score;
    logic          last;         // of the pixel's words
    logic          first_slot;
    logic          last_slot;
    logic [3:0]    last_pixel;
    logic          wide;
    logic          pool;
    logic          keep;
    logic          odd_slot;
    logic          odd_row;
    logic          first_row;
    logic [15:0]   place;        // in the row of the map
  } word_t;
  localparam int WordW = 8 + 1 + 2 + 16 + 16 + 1 + 1 + 6 + 1 + 1 + 1 + 1 + 1 + 5 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 4
                       + 6 + 16;

  word_t now_q;
  /* verilator lint_off UNUSEDSIGNAL */  // each cycle uses some fields
  word_t w2, w3, w6, w7, w8, w9, w10, w11, out, out_q, out_2q;
  /* verilator lint_on UNUSEDSIGNAL */
  logic [15:0] offset_q, mult_q, short_q;
  logic [ 7:0] left_q;                                   // words of the group still to come
  logic second_q, twice_q;                               // a strided shortcut takes two cycles a word
  logic [ 8:0] short_words_q, words_q;
  logic [15:0] short_step_q;
  logic step;

  assign step = !twice_q || second_q;

  always_ff @(posedge clk_i) begin
    second_q <= last ? 1'b0 : !second_q;
    if (last) begin
      left_q <= 8'(OlWords);
      now_q.valid <= !op.add_twice;
      now_q.word <= word_q[7:0];
      now_q.bank <= bank_q;
      now_q.map_addr <= op.base + map_row_q + map_slot_q + word_q;
      now_q.state_addr <= op.state_base + state_q + word_q;
      now_q.write_map <= op.write_map;
      now_q.write_state <= op.write_state;
      now_q.shift_less_1 <= op.shift_less_1;
      now_q.relu <= op.relu;
      now_q.narrow <= op.narrow;
      now_q.add <= op.add && word_q[8:0] < op.state_words;
      now_q.state_relu <= op.state_relu;
      now_q.state_narrow <= op.state_narrow;
      now_q.drop <= op.drop;
      now_q.sum <= op.sum;
      now_q.sum_first <= first_slot_q && first_row_q;
      now_q.from_sum <= op.from_sum;
      now_q.score <= op.score;
      now_q.last <= word_q[8:0] + 9'd1 == op.words;
      now_q.first_slot <= first_slot_q;
      now_q.last_slot <= slot_last;
      now_q.last_pixel <= op.last_pixel;
      now_q.wide <= op.wide;
      now_q.pool <= op.pool;
      now_q.keep <= keep_slot && keep_row;
      now_q.odd_slot <= !next_slot_q[0];
      now_q.odd_row <= odd_row_q;
      now_q.first_row <= first_row_q;
      now_q.place <= map_slot_q + word_q;
      offset_q <= (first_row_q ? op.offset : class_q) + word_q + (first_q ? 16'd0 : inner_q);
      mult_q <= op.mult + word_q;
      short_q <= op.state + short_row_q + short_slot_q + word_q;
      twice_q <= op.add_twice;
      short_words_q <= op.state_words;
      short_step_q <= 16'(op.state_words);
      words_q <= op.words;
    end else if (step) begin
      if (left_q != 8'd0) left_q <= left_q - 8'd1;
      now_q.valid <= !twice_q && left_q > 8'd1 && 9'(now_q.word) + 9'd1 < words_q;
      now_q.word <= now_q.word + 8'd1;
      now_q.map_addr <= now_q.map_addr + 16'd1;
      now_q.state_addr <= now_q.state_addr + 16'd1;
      now_q.place <= now_q.place + 16'd1;
      now_q.add <= now_q.add && 9'(now_q.word) + 9'd1 < short_words_q;
      now_q.last <= 9'(now_q.word) + 9'd2 == words_q;
      offset_q <= offset_q + 16'd1;
      mult_q <= mult_q + 16'd1;
      short_q <= twice_q ? short_q - short_step_q + 16'd1 : short_q + 16'd1;
    end else begin
      now_q.valid <= left_q != 8'd0 && 9'(now_q.word) < words_q;
      short_q <= short_q + short_step_q;
    end
    if (!run_i) begin
      now_q.valid <= 1'b0;
      left_q <= '0;
      second_q <= 1'b0;
      twice_q <= 1'b0;
    end
  end

  // ---- what was asked for at cycle 0, in the cycles after
  logic [11*WordW-1:0] line_q;
  always_ff @(posedge clk_i) line_q <= {line_q[10*WordW-1:0], now_q};
  assign w2 = line_q[1*WordW+:WordW];
  assign w3 = line_q[2*WordW+:WordW];
  assign w6 = line_q[5*WordW+:WordW];
  assign w7 = line_q[6*WordW+:WordW];
  assign w8 = line_q[7*WordW+:WordW];
  assign w9 = line_q[8*WordW+:WordW];
  assign w10 = line_q[9*WordW+:WordW];
  assign w11 = line_q[10*WordW+:WordW];

  // what has many sinks comes from flip-flops, not from the shift registers that are made of the line
  logic [5:0] shift_4_q;
  logic [4:0] drop_q;                                    // of `out`
  logic late_q;
  always_ff @(posedge clk_i) begin
    shift_4_q <= w3.valid ? w3.shift_less_1 : 6'd0;
    late_q <= PoolDepth > 0 && w10.valid && w10.pool;
    drop_q <= PoolDepth > 0 && w10.valid && w10.pool ? w10.drop : w8.drop;
  end

  // ---- sums: kept when they stand, and taken a word of channels after the other, the first at once
  logic [SumsW-1:0] word_sums_q;
  logic soon_q, load_q;
  always_ff @(posedge clk_i) begin
    soon_q <= last;
    load_q <= soon_q;
  end
  if (OlWords > 1) begin : gen_words
    logic [(OlWords-1)*SumsW-1:0] hold_q;
    logic [$clog2(OlWords)-1:0] next_q;
    logic stepped;
    delay #(.Width(1), .Cycles(2)) u_step (.clk_i, .d_i(step), .q_o(stepped));
    always_ff @(posedge clk_i) begin
      if (load_q) hold_q <= acc_i[Ol*Px*AccW-1:SumsW];
      if (soon_q) next_q <= '0;
      else if (load_q || stepped) next_q <= next_q + 1'b1;
    end
    for (genvar i = 0; i < SumsW; i++) begin : gen_bit
      logic [(1<<$clog2(OlWords))-1:0] choices;
      assign choices[0] = acc_i[i];
      for (genvar word = 1; word < 1 << $clog2(OlWords); word++) begin : gen_choice
        if (word < OlWords) begin : gen_some
          assign choices[word] = hold_q[(word-1)*SumsW+i];
        end else begin : gen_none
          assign choices[word] = 1'b0;
        end
      end
      always_ff @(posedge clk_i) if (load_q || stepped) word_sums_q[i] <= choices[next_q];
    end
  end else begin : gen_word
    always_ff @(posedge clk_i) if (load_q) word_sums_q <= acc_i;
  end

  logic [3*Il*AccW-1:0] offsets;   // of the left, inner and right column classes
  logic [Il*16-1:0] mults;
  ram #(.Width(3 * Il * AccW), .Depth(OffsetDepth), .Style(OffsetStyle)) u_offset (
      .clk_i, .we_i(offset_we_i), .waddr_i, .wdata_i(wdata_i[3*Il*AccW-1:0]), .raddr_i(offset_q), .q_o(offsets)
  );
  ram #(.Width(Il * 16), .Depth(MultDepth)) u_mult (
      .clk_i, .we_i(mult_we_i), .waddr_i, .wdata_i(wdata_i[Il*16-1:0]), .raddr_i(mult_q), .q_o(mults)
  );

  logic [15:0] short_addr;
  logic [StateWordW-1:0] state_word;
  /* verilator lint_off UNUSEDSIGNAL */  // a strided shortcut takes every other pixel
  logic [StateWordW-1:0] state_before_q;
  /* verilator lint_on UNUSEDSIGNAL */
  logic [StateWordW-1:0] v_q, pooled, kept;
  delay #(.Width(16), .Cycles(5)) u_short (.clk_i, .d_i(short_q), .q_o(short_addr));
  ram #(.Width(StateWordW), .Depth(StateDepth), .Style(StateStyle)) u_state (
      .clk_i, .we_i(out.valid && out.write_state), .waddr_i(out.state_addr), .wdata_i(kept), .raddr_i(short_addr),
      .q_o(state_word)
  );
  /* verilator lint_off UNUSEDSIGNAL */  // one pixel a word has no twice
  logic twice;
  /* verilator lint_on UNUSEDSIGNAL */
  delay #(.Width(1), .Cycles(7)) u_twice (.clk_i, .d_i(twice_q), .q_o(twice));
  always_ff @(posedge clk_i) state_before_q <= state_word;

  (* ram_style = "distributed" *) logic [Il*AccW-1:0] sums [0:Words-1];
  logic [Il*AccW-1:0] sum_here, sum_there, sums_next, parts_q;
  assign sum_here = sums[w2.word[WordsW-1:0]];
  assign sum_there = sums[w10.word[WordsW-1:0]];

  for (genvar lane = 0; lane < Il; lane++) begin : gen_lane
    for (genvar px = 0; px < Px; px++) begin : gen_px
      logic signed [AccW-1:0] acc, offset;
      logic signed [StateW-1:0] y, short;
      logic signed [StateW:0] sum_q;
      logic signed [StateW:0] by_8;                     // with the bit below the result, which rounds it
      logic signed [By2W-1:0] by_2;
      logic signed [By1W-1:0] by_1;
      logic signed [Bits:0] dropped_q, rounded;
      logic [StateW-1:0] v, high;
      logic [2:0] far_q;
      logic in_map, over, negative_q;

      assign acc = w2.from_sum ? (px == 0 ? sum_here[lane*AccW+:AccW] : AccW'(0)) : word_sums_q[(lane*Px+px)*AccW+:AccW];
      // the left, inner or right class; a stem's first word has those of its first three columns
      assign offset = (w2.last_slot && w2.last_pixel == 4'(px) && !(w2.first_slot && px == 0))
                      || (px > 1 && w2.first_slot && w2.wide) ? offsets[(2*Il+lane)*AccW+:AccW]
                    : w2.first_slot && px == 0 ? offsets[lane*AccW+:AccW]
                    : offsets[(Il+lane)*AccW+:AccW];
      requant #(.AccW(AccW), .OutW(StateW), .NarrowW(Bits)) u_requant (
          .clk_i, .acc_i(acc), .carry_i(1'b0), .offset_i(offset), .mult_i(mults[lane*16+:16]), .shift_less_1_i(shift_4_q),
          .relu_i(w6.relu), .narrow_i(w6.narrow), .y_o(y)
      );

      // cycle 7: the shortcut; strided, it takes every other pixel of two words
      if (Px == 1) begin : gen_short_one
        assign short = state_word[lane*StateW+:StateW];
      end else if (px < Half) begin : gen_short_first
        assign short = twice ? state_before_q[(2*px*Il+lane)*StateW+:StateW] : state_word[(px*Il+lane)*StateW+:StateW];
      end else begin : gen_short_second
        assign short = twice ? state_word[((2*px-Px)*Il+lane)*StateW+:StateW] : state_word[(px*Il+lane)*StateW+:StateW];
      end
      assign high = w8.state_narrow ? {{(StateW - Bits) {1'b0}}, Most} : {1'b0, {(StateW - 1) {1'b1}}};
      assign over = sum_q[StateW] != sum_q[StateW-1]
                 || (w8.state_narrow && sum_q[StateW-1:Bits-1] != {(StateW - Bits + 1) {sum_q[StateW]}});
      assign in_map = px == 0 || !w8.last_slot || w8.last_pixel > 4'(px - 1);
      assign v = !in_map || (w8.state_relu && sum_q[StateW]) ? StateW'(0)
               : over ? (sum_q[StateW] ? ~high : high) : sum_q[StateW-1:0];
      // the shift, in parts as in `requant`
      assign by_8 = $signed({kept[(px*Il+lane)*StateW+:StateW], 1'b0}) >>> {drop_q[4:3], 3'd0};
      assign by_2 = $signed(by_8[By2W-1:0]) >>> {drop_q[2:1], 1'd0};
      assign by_1 = $signed(by_2[By1W-1:0]) >>> drop_q[0];
      assign rounded = $signed({dropped_q[Bits], dropped_q[Bits:1]}) + $signed({{Bits{1'b0}}, dropped_q[0]});

      always_ff @(posedge clk_i) begin
        sum_q <= (StateW + 1)'(y) + (w7.add ? (StateW + 1)'(short) : (StateW + 1)'(0));
        v_q[(px*Il+lane)*StateW+:StateW] <= v;
        dropped_q <= by_1[Bits:0];
        far_q <= {by_8 != (StateW + 1)'($signed(by_8[By2W-1:0])), by_2 != By2W'($signed(by_2[By1W-1:0])),
                  by_1[By1W-1] != by_1[Bits]};
        negative_q <= kept[(px*Il+lane+1)*StateW-1];
        map_data_o[(px*Il+lane)*Bits+:Bits] <=
            far_q != 3'd0 || rounded[Bits] != rounded[Bits-1] ? (negative_q ? ~Most : Most) : rounded[Bits-1:0];
      end
    end

    // the sum over a word's pixels: cycle 10
    logic signed [AccW-1:0] part;
    always_comb begin
      part = '0;
      for (int px = 0; px < Px; px++) part = part + AccW'($signed(v_q[(px*Il+lane)*StateW+:StateW]));
    end
    always_ff @(posedge clk_i) parts_q[lane*AccW+:AccW] <= part;
    assign sums_next[lane*AccW+:AccW] = parts_q[lane*AccW+:AccW] + (w10.sum_first ? AccW'(0) : sum_there[lane*AccW+:AccW]);
  end

  always_ff @(posedge clk_i) if (w10.valid && w10.sum) sums[w10.word[WordsW-1:0]] <= sums_next;

  // ---- what is kept: v_q of cycle 9 or, of what is pooled, the maxima of cycle 11
  if (PoolDepth > 0) begin : gen_pool
    logic first_slot_9_q;
    always_ff @(posedge clk_i) first_slot_9_q <= w8.valid && w8.first_slot;
    pool #(.Px(Px), .Lanes(Il), .StateW(StateW), .Words(Words), .Depth(PoolDepth)) u_pool (
        .clk_i, .v_i(v_q), .word_i(w8.word), .place_i(w8.place), .valid_i(w9.valid && w9.pool),
        .first_slot_i(first_slot_9_q), .last_slot_i(w9.last_slot), .odd_slot_i(w9.odd_slot),
        .first_row_i(w9.first_row), .odd_row_i(w9.odd_row), .last_pixel_i(w9.last_pixel), .y_o(pooled)
    );
  end else begin : gen_no_pool
    assign pooled = v_q;
  end
  assign kept = late_q ? pooled : v_q;
  always_comb begin
    out = late_q ? w11 : w9;
    out.valid = late_q ? w11.keep : w9.valid && !w9.pool;
  end
  always_ff @(posedge clk_i) begin
    out_q <= out;
    out_2q <= out_q;
  end

  assign map_we_o = out_2q.valid && out_2q.write_map;
  assign map_bank_o = out_2q.bank;
  assign map_addr_o = out_2q.map_addr;
  assign score_we_o = w9.valid && w9.score;
  assign score_word_o = w9.word;
  assign score_last_o = w9.last;
  assign score_o = v_q[Il*StateW-1:0];

`ifndef SYNTHESIS
  bit telling;
  initial telling = 0;
  always @(posedge clk_i) if (!run_i) telling <= $test$plusargs("tell") != 0;  // not of what a simulation begins with
  always @(posedge clk_i) if (telling && run_i && w9.valid) $fdisplay(32'h8000_0002, "V %h", v_q);
  always @(posedge clk_i) if (telling && run_i && map_we_o) $fdisplay(32'h8000_0002, "M %h", map_data_o);
  always @(posedge clk_i) if (telling && run_i && out.valid && out.pool) $fdisplay(32'h8000_0002, "P %h", kept);
`endif

  initial begin
    if (WordW != $bits(now_q)) $fatal(1, "result: WordW must be %0d", $bits(now_q));
    if (Ol % Il != 0 || (Px > 1 && Px % 2 != 0)) $fatal(1, "result: Ol must be a multiple of Il, Px 1 or even");
  end
endmodule : result
