// The accelerator: pixels in, scores out, by a table of micro-ops. Weights and tables are loaded over AXI4-Lite.
//
//   pixels -> image banks -+                                                         +-> map banks
//                          +-> window -> depthwise | taps -> words -> pointwise -> result -> state
//             map banks ---+                                                         +-> scores
//
// front schedules the reading one slot ahead of back, which schedules pointwise; result follows.
module accelerator #(
    parameter int Px = 2,            // pixels per word: 1 or even
    parameter int Il = 8,            // lanes per word: input channels at once, up to 8 or a multiple of 8
    parameter int Ol = 16,           // output channels at once: a multiple of Il
    parameter int Bits = 8,          // of weights and maps: 8, with two products per multiplier, or 16
    parameter int AccW = 24,         // accumulator and offset bits: up to 27, or 44 where Bits is 16
    parameter int StateW = 16,
    parameter int ImageH = 32,
    parameter int ImageW = 32,
    parameter int ImageC = 3,
    parameter int Stem = 0,          // 1: the image is read by a 7x7 convolution with stride 2
    parameter int Classes = 10,
    parameter int Groups = 2,        // most Il-channel groups of a map that is read
    parameter int XWords = 4,        // most words of an accumulation: a power of two
    parameter int Words = 2,         // most Il-channel groups of a map that is written
    parameter int Ops = 2,
    parameter int MapDepth = 2,      // words per bank
    parameter int StateDepth = 2,
    parameter int WeightDepth = 2,
    parameter int KernelDepth = 2,
    parameter int TableDepth = 2,
    parameter int OffsetDepth = 2,
    parameter int MultDepth = 2,
    parameter int PoolDepth = 0,     // words per row of maxima; 0: nothing is pooled
    parameter logic [31:0] Identity = 0,
    parameter MapStyle = "ultra",    // or "block"
    parameter OffsetStyle = "block"
) (
    input  logic        aclk,
    input  logic        aresetn,
    input  logic [ 7:0] s_axi_awaddr,
    input  logic        s_axi_awvalid,
    output logic        s_axi_awready,
    input  logic [31:0] s_axi_wdata,
    input  logic [ 3:0] s_axi_wstrb,
    input  logic        s_axi_wvalid,
    output logic        s_axi_wready,
    output logic [ 1:0] s_axi_bresp,
    output logic        s_axi_bvalid,
    input  logic        s_axi_bready,
    input  logic [ 7:0] s_axi_araddr,
    input  logic        s_axi_arvalid,
    output logic        s_axi_arready,
    output logic [31:0] s_axi_rdata,
    output logic [ 1:0] s_axi_rresp,
    output logic        s_axi_rvalid,
    input  logic        s_axi_rready,
    input  logic [31:0] s_axis_tdata,
    input  logic        s_axis_tvalid,
    output logic        s_axis_tready,
    input  logic        s_axis_tlast,
    output logic [31:0] m_axis_tdata,
    output logic        m_axis_tvalid,
    input  logic        m_axis_tready,
    output logic        m_axis_tlast
);
  `include "contract.svh"
  localparam int WordW = Px * Il * Bits;
  localparam int ImagePx = Stem != 0 ? 2 * Px : Px;  // pixels per word of the image
  localparam int PixelsW = ImagePx * ImageC * 8;
  localparam int HalfWords = (ImageH + 2) / 3 * ((ImageW + ImagePx - 1) / ImagePx);
  localparam int KernelW = Il * 9 * Bits;
  localparam int TableW = Il * (AccW + 16);
  localparam int OffsetW = 3 * Il * AccW;
  localparam int MultW = Il * 16;
  localparam int WeightW = Ol * Bits;
  localparam int LoadA = ResultOpW > WeightW ? ResultOpW : WeightW;
  localparam int LoadB = KernelW > OffsetW ? KernelW : OffsetW;
  localparam int LoadW = LoadA > LoadB ? LoadA : LoadB;  // the widest memory that is loaded
  localparam int XAddrW = $clog2(XWords);
  localparam int WindowGroupW = Groups > 1 ? $clog2(Groups) : 1;
  localparam int GroupW = Stem != 0 && WindowGroupW < 2 ? 2 : WindowGroupW;  // a stem has three groups of rows
  localparam int ResultWordW = Words > 1 ? $clog2(Words) : 1;
  localparam int ScoreWords = (Classes + Il - 1) / Il;
  localparam int ScoreWordW = ScoreWords > 1 ? $clog2(ScoreWords) : 1;
  localparam int ChainLanes = Il < 8 ? Il : 8;

  // ---- control
  logic run, we, room, busy, image_there, start, release_image, sent, stale, short_frame, long_frame, data_rst_n;
  logic [7:0] last_op, memory, needed;
  logic [15:0] waddr;
  logic [16:0] depth;
  logic [LoadW-1:0] wdata;
  logic score_we, score_last;
  /* verilator lint_off UNUSEDSIGNAL */  // results may have more words than scores
  logic [ResultWordW-1:0] result_word;
  /* verilator lint_on UNUSEDSIGNAL */
  logic [Il*StateW-1:0] score_data;

  control #(.LoadW(LoadW), .Identity(Identity)) u_control (
      .clk_i(aclk), .rst_ni(aresetn),
      .awaddr_i(s_axi_awaddr), .awvalid_i(s_axi_awvalid), .awready_o(s_axi_awready),
      .wdata_i(s_axi_wdata), .wstrb_i(s_axi_wstrb), .wvalid_i(s_axi_wvalid), .wready_o(s_axi_wready),
      .bresp_o(s_axi_bresp), .bvalid_o(s_axi_bvalid), .bready_i(s_axi_bready),
      .araddr_i(s_axi_araddr), .arvalid_i(s_axi_arvalid), .arready_o(s_axi_arready),
      .rdata_o(s_axi_rdata), .rresp_o(s_axi_rresp), .rvalid_o(s_axi_rvalid), .rready_i(s_axi_rready),
      .run_o(run), .last_op_o(last_op), .depth_i(depth), .needed_i(needed), .we_o(we), .memory_o(memory),
      .addr_o(waddr), .data_o(wdata), .room_o(room), .busy_i(busy), .waiting_i(image_there), .start_i(start),
      .scored_i(score_we && score_last), .sent_i(sent), .stale_i(stale), .short_i(short_frame), .long_i(long_frame)
  );
  assign data_rst_n = aresetn && run;

  // words of the selected memory, and pieces of 32 bits per word
  always_comb begin
    depth = 17'd0;
    needed = 8'd0;
    case (memory)
      SelectFront: {depth, needed} = {17'(Ops), 8'((FrontOpW + 31) / 32)};
      SelectBack: {depth, needed} = {17'(Ops), 8'((BackOpW + 31) / 32)};
      SelectResult: {depth, needed} = {17'(Ops), 8'((ResultOpW + 31) / 32)};
      SelectKernel: {depth, needed} = {17'(KernelDepth), 8'((KernelW + 31) / 32)};
      SelectTable: {depth, needed} = {17'(TableDepth), 8'((TableW + 31) / 32)};
      SelectOffset: {depth, needed} = {17'(OffsetDepth), 8'((OffsetW + 31) / 32)};
      SelectMult: {depth, needed} = {17'(MultDepth), 8'((MultW + 31) / 32)};
      default:
      if (memory >= SelectWeight && memory < SelectWeight + 8'(Il))
        {depth, needed} = {17'(WeightDepth), 8'((WeightW + 31) / 32)};
    endcase
  end

  // which memory is written: chosen at least two cycles before
  logic to_front, to_back, to_result, to_kernel, to_table, to_offset, to_mult;
  logic [Il-1:0] to_weight;
  always_ff @(posedge aclk) begin
    to_front <= memory == SelectFront;
    to_back <= memory == SelectBack;
    to_result <= memory == SelectResult;
    to_kernel <= memory == SelectKernel;
    to_table <= memory == SelectTable;
    to_offset <= memory == SelectOffset;
    to_mult <= memory == SelectMult;
    for (int lane = 0; lane < Il; lane++) to_weight[lane] <= memory == SelectWeight + 8'(lane);
  end

  // ---- image in
  logic image_we, pixels_ready;
  logic [1:0] image_bank;
  logic [15:0] image_addr;
  logic [PixelsW-1:0] image_data;

  pixels #(.Px(ImagePx), .Height(ImageH), .Width(ImageW), .Channels(ImageC), .HalfWords(HalfWords)) u_pixels (
      .clk_i(aclk), .rst_ni(data_rst_n), .tdata_i(s_axis_tdata), .tvalid_i(s_axis_tvalid && run),
      .tready_o(pixels_ready), .tlast_i(s_axis_tlast), .we_o(image_we), .bank_o(image_bank), .addr_o(image_addr),
      .data_o(image_data), .release_i(release_image), .ready_o(image_there), .short_o(short_frame), .long_o(long_frame)
  );
  assign s_axis_tready = pixels_ready && run;

  // ---- front: reading
  logic slot, back_done, image, none_above, none_here, none_below, remember, none_before, none_after, stride_2;
  logic is_taps, emit, front_relu;
  logic [15:0] addr0, addr1, addr2, kernel_addr, table_addr;
  logic [1:0] bank;
  logic [GroupW-1:0] group;
  logic [4:0] tap;
  logic [5:0] front_shift;
  logic [XAddrW:0] front_xaddr;

  front #(
      .HalfWords(HalfWords), .StemTaps((7 * ImageC + Il - 1) / Il), .OpW(FrontOpW), .Ops(Ops), .XAddrW(XAddrW),
      .GroupW(GroupW)
  ) u_front (
      .clk_i(aclk), .run_i(run), .last_op_i(last_op), .we_i(we && to_front), .waddr_i(waddr),
      .wdata_i(wdata[FrontOpW-1:0]), .startable_i(image_there && room), .back_done_i(back_done), .slot_o(slot),
      .start_o(start), .release_o(release_image), .busy_o(busy), .addr0_o(addr0), .addr1_o(addr1), .addr2_o(addr2),
      .image_o(image), .bank_o(bank), .none_above_o(none_above), .none_here_o(none_here), .none_below_o(none_below),
      .group_o(group), .remember_o(remember), .none_before_o(none_before), .none_after_o(none_after),
      .stride_2_o(stride_2), .taps_o(is_taps), .tap_o(tap), .kernel_o(kernel_addr), .table_o(table_addr),
      .shift_less_1_o(front_shift), .relu_o(front_relu), .emit_o(emit), .xaddr_o(front_xaddr)
  );

  logic map_we;
  logic [1:0] map_bank;
  logic [15:0] map_addr;
  logic [WordW-1:0] map_data;
  logic [3*16-1:0] addrs;
  logic [3*WordW-1:0] seen;
  logic [3*PixelsW-1:0] image_seen;
  logic image_at_words;

  assign addrs = {addr2, addr1, addr0};
  delay #(.Width(1), .Cycles(RamCycles)) u_image (.clk_i(aclk), .d_i(image), .q_o(image_at_words));

  for (genvar b = 0; b < 3; b++) begin : gen_bank
    logic [WordW-1:0] from_map;
    ram #(.Width(WordW), .Depth(MapDepth), .Style(MapStyle)) u_map (
        .clk_i(aclk), .we_i(map_we && map_bank == 2'(b)), .waddr_i(map_addr), .wdata_i(map_data),
        .raddr_i(addrs[b*16+:16]), .q_o(from_map)
    );
    ram #(.Width(PixelsW), .Depth(2 * HalfWords)) u_image (
        .clk_i(aclk), .we_i(image_we && image_bank == 2'(b)), .waddr_i(image_addr), .wdata_i(image_data),
        .raddr_i(addrs[b*16+:16]), .q_o(image_seen[b*PixelsW+:PixelsW])
    );
    if (Stem != 0) begin : gen_map_only
      assign seen[b*WordW+:WordW] = from_map;
    end else begin : gen_map_or_image
      logic [WordW-1:0] from_image;
      for (genvar px = 0; px < Px; px++) begin : gen_px
        for (genvar lane = 0; lane < Il; lane++) begin : gen_value
          if (lane < ImageC) begin : gen_some
            assign from_image[(px*Il+lane)*Bits+:Bits] =
                Bits'($signed(image_seen[b*PixelsW+(px*ImageC+lane)*8+:8]));
          end else begin : gen_none
            assign from_image[(px*Il+lane)*Bits+:Bits] = '0;
          end
        end
      end
      assign seen[b*WordW+:WordW] = image_at_words ? from_image : from_map;
    end
  end

  // what comes with the words, and what comes a cycle after them
  logic [1:0] words_bank;
  /* verilator lint_off UNUSEDSIGNAL */  // of a stem
  logic words_none_here;
  /* verilator lint_on UNUSEDSIGNAL */
  logic words_none_above, words_none_below, words_remember, sides_none_before, sides_none_after, sides_stride_2;
  logic [GroupW-1:0] words_group;
  logic [Px*9*Il*Bits-1:0] win;
  delay #(.Width(6 + GroupW), .Cycles(RamCycles)) u_words (
      .clk_i(aclk), .d_i({bank, none_above, none_here, none_below, remember, group}),
      .q_o({words_bank, words_none_above, words_none_here, words_none_below, words_remember, words_group})
  );
  delay #(.Width(3), .Cycles(RamCycles + 1)) u_sides (
      .clk_i(aclk), .d_i({none_before, none_after, stride_2}),
      .q_o({sides_none_before, sides_none_after, sides_stride_2})
  );
  window #(.Px(Px), .Il(Il * Bits / 8), .Groups(Groups)) u_window (
      .clk_i(aclk), .word0_i(seen[0+:WordW]), .word1_i(seen[WordW+:WordW]), .word2_i(seen[2*WordW+:WordW]),
      .bank_i(words_bank), .none_above_i(words_none_above), .none_below_i(words_none_below), .group_i(WindowGroupW'(words_group)),
      .remember_i(words_remember), .none_before_i(sides_none_before), .none_after_i(sides_none_after),
      .stride_2_i(sides_stride_2), .win_o(win)
  );

  // ---- depthwise or taps: words for pointwise
  localparam int WinCycles = RamCycles + WindowCycles;           // from front's outputs to windows
  localparam int DwAccCycles = WinCycles + DepthwiseTableCycles; // to the accumulators of depthwise
  logic [15:0] kernel_raddr, table_raddr;
  logic [KernelW-1:0] kernel;
  logic [TableW-1:0] dw_table;
  logic [5:0] dw_shift, dw_shift_q;
  logic dw_relu, word_is_taps, word_there;
  logic [4:0] win_tap;
  logic [XAddrW:0] word_xaddr;
  logic [WordW-1:0] dw_word, window_tap, tap_early, tap_word;

  delay #(.Width(16), .Cycles(WinCycles - RamCycles)) u_kernel_addr (
      .clk_i(aclk), .d_i(kernel_addr), .q_o(kernel_raddr)
  );
  delay #(.Width(16), .Cycles(DwAccCycles - RamCycles)) u_table_addr (
      .clk_i(aclk), .d_i(table_addr), .q_o(table_raddr)
  );
  delay #(.Width(6), .Cycles(DwAccCycles + RequantShiftCycles - 1)) u_dw_shift (
      .clk_i(aclk), .d_i(front_shift), .q_o(dw_shift)
  );
  always_ff @(posedge aclk) dw_shift_q <= run ? dw_shift : 6'd0;  // a flip-flop: an SRL is slow with many sinks
  delay #(.Width(1), .Cycles(DwAccCycles + RequantSidesCycles)) u_dw_relu (
      .clk_i(aclk), .d_i(front_relu), .q_o(dw_relu)
  );
  delay #(.Width(5), .Cycles(WinCycles)) u_tap (.clk_i(aclk), .d_i(tap), .q_o(win_tap));
  delay #(.Width(XAddrW + 3), .Cycles(FrontCycles)) u_emit (
      .clk_i(aclk), .d_i({is_taps, emit && run, front_xaddr}), .q_o({word_is_taps, word_there, word_xaddr})
  );
  ram #(.Width(KernelW), .Depth(KernelDepth)) u_kernel (
      .clk_i(aclk), .we_i(we && to_kernel), .waddr_i(waddr), .wdata_i(wdata[KernelW-1:0]),
      .raddr_i(kernel_raddr), .q_o(kernel)
  );
  ram #(.Width(TableW), .Depth(TableDepth)) u_table (
      .clk_i(aclk), .we_i(we && to_table), .waddr_i(waddr), .wdata_i(wdata[TableW-1:0]),
      .raddr_i(table_raddr), .q_o(dw_table)
  );
  depthwise #(.Px(Px), .Il(Il), .AccW(AccW), .Bits(Bits)) u_depthwise (
      .clk_i(aclk), .win_i(win), .kernel_i(kernel), .table_i(dw_table), .shift_less_1_i(dw_shift_q),
      .relu_i(dw_relu), .y_o(dw_word)
  );
  taps #(.Px(Px), .Il(Il), .ImageC(Stem != 0 ? 0 : ImageC), .Bits(Bits)) u_taps (
      .clk_i(aclk), .win_i(win), .tap_i(win_tap), .x_o(window_tap)
  );
  if (Stem != 0) begin : gen_stem
    logic words_none_before, image_at_taps;
    logic [WordW-1:0] stem_tap;
    delay #(.Width(1), .Cycles(RamCycles)) u_before (.clk_i(aclk), .d_i(none_before), .q_o(words_none_before));
    delay #(.Width(1), .Cycles(WindowCycles + TapsCycles)) u_image_at_taps (
        .clk_i(aclk), .d_i(image_at_words), .q_o(image_at_taps)
    );
    stem #(.Px(Px), .Il(Il), .ImageC(ImageC), .Bits(Bits)) u_stem (
        .clk_i(aclk), .word0_i(image_seen[0+:PixelsW]), .word1_i(image_seen[PixelsW+:PixelsW]),
        .word2_i(image_seen[2*PixelsW+:PixelsW]), .bank_i(words_bank), .none_above_i(words_none_above),
        .none_here_i(words_none_here), .none_below_i(words_none_below), .group_i(2'(words_group)),
        .remember_i(words_remember), .none_before_i(words_none_before), .none_after_i(sides_none_after),
        .tap_i(win_tap), .x_o(stem_tap)
    );
    assign tap_early = image_at_taps ? stem_tap : window_tap;
  end else begin : gen_no_stem
    assign tap_early = window_tap;
  end
  delay #(.Width(WordW), .Cycles(FrontCycles - WinCycles - TapsCycles)) u_tap_word (
      .clk_i(aclk), .d_i(tap_early), .q_o(tap_word)
  );

  // ---- words of two slots: one slot is written while the other is read
  (* ram_style = "distributed" *) logic [WordW-1:0] words [0:2*(1<<XAddrW)-1];
  logic [WordW-1:0] x_q;
  logic [XAddrW:0] back_xaddr, read_xaddr;

  always_ff @(posedge aclk) begin
    if (word_there) words[word_xaddr] <= word_is_taps ? tap_word : dw_word;
    x_q <= words[read_xaddr];
  end

  // ---- back: multiply-accumulate
  logic first, last, read_first, last_notice;
  logic [15:0] weight_addr;
  logic [Il*Ol*Bits-1:0] weights;
  logic [Ol*Px*AccW-1:0] acc;

  back #(.OpW(BackOpW), .Ops(Ops), .XAddrW(XAddrW)) u_back (
      .clk_i(aclk), .run_i(run), .last_op_i(last_op), .we_i(we && to_back), .waddr_i(waddr),
      .wdata_i(wdata[BackOpW-1:0]), .slot_i(slot), .done_o(back_done), .first_o(first), .last_o(last),
      .weight_o(weight_addr), .xaddr_o(back_xaddr)
  );
  delay #(.Width(XAddrW + 2), .Cycles(BackCycles)) u_back_delay (
      .clk_i(aclk), .d_i({first, back_xaddr}), .q_o({read_first, read_xaddr})
  );
  delay #(.Width(1), .Cycles(BackCycles + ChainLanes + PointwiseCycles - NoticeCycles)) u_last (
      .clk_i(aclk), .d_i(last), .q_o(last_notice)
  );

  logic [ChainLanes*16-1:0] weight_addrs;  // those of each chain's first lane, then of each chain's second, and so on
  delay #(.Width(16), .Cycles(BackCycles + 1 - RamCycles)) u_weight_addr (
      .clk_i(aclk), .d_i(weight_addr), .q_o(weight_addrs[15:0])
  );
  for (genvar lane = 1; lane < ChainLanes; lane++) begin : gen_later
    delay #(.Width(16), .Cycles(1)) u_later (
        .clk_i(aclk), .d_i(weight_addrs[(lane-1)*16+:16]), .q_o(weight_addrs[lane*16+:16])
    );
  end
  for (genvar lane = 0; lane < Il; lane++) begin : gen_weight
    ram #(.Width(WeightW), .Depth(WeightDepth)) u_weight (
        .clk_i(aclk), .we_i(we && to_weight[lane]), .waddr_i(waddr), .wdata_i(wdata[WeightW-1:0]),
        .raddr_i(weight_addrs[(lane%ChainLanes)*16+:16]), .q_o(weights[lane*WeightW+:WeightW])
    );
  end
  pointwise #(.Px(Px), .Il(Il), .Ol(Ol), .AccW(AccW), .Bits(Bits)) u_pointwise (
      .clk_i(aclk), .x_i(x_q), .weight_i(weights), .first_i(read_first), .acc_o(acc)
  );

  // ---- results
  result #(
      .Px(Px), .Il(Il), .Ol(Ol), .Bits(Bits), .AccW(AccW), .StateW(StateW), .Words(Words), .StateDepth(StateDepth),
      .OffsetDepth(OffsetDepth), .MultDepth(MultDepth), .PoolDepth(PoolDepth), .OpW(ResultOpW), .Ops(Ops),
      .StateStyle(MapStyle), .OffsetStyle(OffsetStyle)
  ) u_result (
      .clk_i(aclk), .run_i(run), .last_op_i(last_op), .op_we_i(we && to_result),
      .offset_we_i(we && to_offset), .mult_we_i(we && to_mult), .waddr_i(waddr),
      .op_i(wdata[ResultOpW-1:0]), .offset_i(wdata[OffsetW-1:0]), .mult_i(wdata[MultW-1:0]),
      .last_i(last_notice), .acc_i(acc), .map_we_o(map_we), .map_bank_o(map_bank), .map_addr_o(map_addr),
      .map_data_o(map_data), .score_we_o(score_we), .word_o(result_word), .score_last_o(score_last),
      .score_o(score_data)
  );
  scores #(.Il(Il), .StateW(StateW), .Classes(Classes)) u_scores (
      .clk_i(aclk), .rst_ni(aresetn), .run_i(run), .we_i(score_we), .word_i(ScoreWordW'(result_word)),
      .last_i(score_last), .data_i(score_data), .tdata_o(m_axis_tdata), .tvalid_o(m_axis_tvalid),
      .tready_i(m_axis_tready), .tlast_o(m_axis_tlast), .sent_o(sent), .stale_o(stale)
  );

`ifndef SYNTHESIS
  bit checking;
  initial checking = 0;
  always @(posedge aclk) begin
    if (!run) checking <= 1;  // registers hold anything when a simulation begins
    if (checking && run) begin
      if (map_we && 32'(map_addr) >= MapDepth) $fatal(1, "accelerator: a map is too deep for its banks");
      if (image_we && 32'(image_addr) >= 2 * HalfWords) $fatal(1, "accelerator: an image is too deep for its banks");
      if (score_we && 32'(result_word) >= ScoreWords) $fatal(1, "accelerator: more scores than classes");
    end
  end
`endif
endmodule : accelerator
