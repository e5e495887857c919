// The accelerator: pixels in, scores out, by a table of micro-ops. Weights and tables are loaded over AXI4-Lite.
//
//   pixels -> image banks -+                                                         +-> map banks
//                          +-> window -> depthwise | taps -> words -> pointwise -> result -> state
//             map banks ---+                                                         +-> scores
//
// front schedules the reading one slot ahead of back, which schedules pointwise; result follows.
module accelerator #(
    parameter int Px = 2,            // pixels of a word: 1 or even
    parameter int Il = 8,            // lanes of a word: input channels at once, up to 8 or a multiple of 8
    parameter int Ol = 16,           // output channels at once: a multiple of Il
    parameter int Bits = 8,          // of weights and of maps: 8, two products a multiplier, or 16
    parameter int AccW = 24,         // accumulator and offset bits, up to 27 or, of 16 bits, 44
    parameter int StateW = 16,
    parameter int ImageH = 32,
    parameter int ImageW = 32,
    parameter int ImageC = 3,
    parameter int Stem = 0,          // 1: the image is read by a 7x7 convolution with stride 2
    parameter int Classes = 10,
    parameter int Groups = 2,        // Il-channel groups of a map that is read, at most
    parameter int XWords = 4,        // words of an accumulation, at most: a power of two
    parameter int Words = 2,         // Il-channel groups of a map that is written, at most
    parameter int Ops = 2,
    parameter int MapDepth = 2,      // words of a bank
    parameter int StateDepth = 2,
    parameter int WeightDepth = 2,
    parameter int KernelDepth = 2,
    parameter int TableDepth = 2,
    parameter int OffsetDepth = 2,
    parameter int MultDepth = 2,
    parameter int PoolDepth = 0,     // words of a row of maxima; 0: nothing is pooled
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
  localparam int FrontW = 136;       // of ops.svh's structs
  localparam int BackW = 72;
  localparam int ResultW = 222;
  localparam int WordW = Px * Il * Bits;
  localparam int ImagePx = Stem != 0 ? 2 * Px : Px;  // pixels of a word of the image
  localparam int PixelsW = ImagePx * ImageC * 8;
  localparam int HalfWords = (ImageH + 2) / 3 * ((ImageW + ImagePx - 1) / ImagePx);
  localparam int KernelW = Il * 9 * Bits;
  localparam int TableW = Il * (AccW + 16);
  localparam int LoadA = ResultW > Ol * Bits ? ResultW : Ol * Bits;
  localparam int LoadB = KernelW > 3 * Il * AccW ? KernelW : 3 * Il * AccW;
  localparam int LoadW = LoadA > LoadB ? LoadA : LoadB;  // the widest memory that is loaded
  localparam int XAddrW = $clog2(XWords);
  localparam int ChainLanes = Il < 8 ? Il : 8;
  localparam int FrontCycles = 15;   // from front's outputs to words
  localparam int BackDelay = 16;     // from back's outputs to the reading of words

  // ---- control
  logic run, we, room, busy, image_there, start, release_image, sent, stale, short_frame, long_frame, data_rst_n;
  logic [7:0] last_op, memory;
  logic [15:0] waddr;
  logic [LoadW-1:0] wdata;
  logic score_we, score_last;
  logic [7:0] score_word;
  logic [Il*StateW-1:0] score_data;

  control #(.LoadW(LoadW), .Identity(Identity)) u_control (
      .clk_i(aclk), .rst_ni(aresetn),
      .awaddr_i(s_axi_awaddr), .awvalid_i(s_axi_awvalid), .awready_o(s_axi_awready),
      .wdata_i(s_axi_wdata), .wstrb_i(s_axi_wstrb), .wvalid_i(s_axi_wvalid), .wready_o(s_axi_wready),
      .bresp_o(s_axi_bresp), .bvalid_o(s_axi_bvalid), .bready_i(s_axi_bready),
      .araddr_i(s_axi_araddr), .arvalid_i(s_axi_arvalid), .arready_o(s_axi_arready),
      .rdata_o(s_axi_rdata), .rresp_o(s_axi_rresp), .rvalid_o(s_axi_rvalid), .rready_i(s_axi_rready),
      .run_o(run), .last_op_o(last_op), .we_o(we), .memory_o(memory), .addr_o(waddr), .data_o(wdata),
      .room_o(room), .busy_i(busy), .ready_i(image_there), .start_i(start), .scored_i(score_we && score_last),
      .sent_i(sent), .stale_i(stale), .short_i(short_frame), .long_i(long_frame)
  );
  assign data_rst_n = aresetn && run;

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
  logic slot, back_done, image, top, middle, bottom, shift, left, right, stride_2, is_taps, emit, front_relu;
  logic [15:0] addr0, addr1, addr2, kernel_addr, table_addr;
  logic [1:0] bank;
  logic [7:0] group;
  logic [4:0] tap;
  logic [5:0] front_shift;
  logic [XAddrW:0] front_xaddr;

  front #(.HalfWords(HalfWords), .StemTaps((7 * ImageC + Il - 1) / Il), .OpW(FrontW), .Ops(Ops), .XAddrW(XAddrW)) u_front (
      .clk_i(aclk), .run_i(run), .last_op_i(last_op), .we_i(we && memory == 8'd0), .waddr_i(waddr),
      .wdata_i(wdata[FrontW-1:0]), .startable_i(image_there && room), .back_done_i(back_done), .slot_o(slot),
      .start_o(start), .release_o(release_image), .busy_o(busy), .addr0_o(addr0), .addr1_o(addr1), .addr2_o(addr2),
      .image_o(image), .bank_o(bank), .top_o(top), .middle_o(middle), .bottom_o(bottom), .group_o(group),
      .shift_o(shift), .left_o(left), .right_o(right), .stride_2_o(stride_2), .taps_o(is_taps), .tap_o(tap), .weight_o(kernel_addr),
      .table_o(table_addr), .shift_less_1_o(front_shift), .relu_o(front_relu), .emit_o(emit), .xaddr_o(front_xaddr)
  );

  logic map_we;
  logic [1:0] map_bank;
  logic [15:0] map_addr;
  logic [WordW-1:0] map_data;
  logic [3*16-1:0] addrs;
  logic [3*WordW-1:0] seen;
  logic [3*PixelsW-1:0] image_seen;
  logic image_2;

  assign addrs = {addr2, addr1, addr0};
  delay #(.Width(1), .Cycles(2)) u_image (.clk_i(aclk), .d_i(image), .q_o(image_2));

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
      assign seen[b*WordW+:WordW] = image_2 ? from_image : from_map;
    end
  end

  logic [1:0] bank_2;
  /* verilator lint_off UNUSEDSIGNAL */  // of a stem
  logic middle_2;
  /* verilator lint_on UNUSEDSIGNAL */
  logic top_2, bottom_2, shift_2, left_3, right_3, stride_2_3;
  logic [7:0] group_2;
  logic [Px*9*Il*Bits-1:0] win;
  delay #(.Width(14), .Cycles(2)) u_words (
      .clk_i(aclk), .d_i({bank, top, middle, bottom, shift, group}),
      .q_o({bank_2, top_2, middle_2, bottom_2, shift_2, group_2})
  );
  delay #(.Width(3), .Cycles(3)) u_sides (
      .clk_i(aclk), .d_i({left, right, stride_2}), .q_o({left_3, right_3, stride_2_3})
  );
  window #(.Px(Px), .Il(Il * Bits / 8), .Groups(Groups)) u_window (
      .clk_i(aclk), .word0_i(seen[0+:WordW]), .word1_i(seen[WordW+:WordW]), .word2_i(seen[2*WordW+:WordW]),
      .bank_i(bank_2), .top_i(top_2), .bottom_i(bottom_2), .group_i(group_2), .shift_i(shift_2), .left_i(left_3),
      .right_i(right_3), .stride_2_i(stride_2_3), .win_o(win)
  );

  // ---- depthwise or taps: words for pointwise
  logic [15:0] kernel_addr_2, table_addr_8;
  logic [KernelW-1:0] kernel;
  logic [TableW-1:0] dw_table;
  logic [5:0] front_shift_11, front_shift_12;
  logic front_relu_14, is_taps_15, emit_15;
  logic [4:0] tap_4;
  logic [XAddrW:0] front_xaddr_15;
  logic [WordW-1:0] dw_word, window_tap, tap_word_5, tap_word;

  delay #(.Width(16), .Cycles(2)) u_kernel_addr (.clk_i(aclk), .d_i(kernel_addr), .q_o(kernel_addr_2));
  delay #(.Width(16), .Cycles(8)) u_table_addr (.clk_i(aclk), .d_i(table_addr), .q_o(table_addr_8));
  delay #(.Width(6), .Cycles(11)) u_dw_shift (.clk_i(aclk), .d_i(front_shift), .q_o(front_shift_11));
  always_ff @(posedge aclk) front_shift_12 <= run ? front_shift_11 : 6'd0;  // a flip-flop: an SRL is slow for many sinks
  delay #(.Width(1), .Cycles(14)) u_dw_relu (.clk_i(aclk), .d_i(front_relu), .q_o(front_relu_14));
  delay #(.Width(5), .Cycles(4)) u_tap (.clk_i(aclk), .d_i(tap), .q_o(tap_4));
  delay #(.Width(XAddrW + 3), .Cycles(FrontCycles)) u_emit (
      .clk_i(aclk), .d_i({is_taps, emit && run, front_xaddr}), .q_o({is_taps_15, emit_15, front_xaddr_15})
  );
  ram #(.Width(KernelW), .Depth(KernelDepth)) u_kernel (
      .clk_i(aclk), .we_i(we && memory == 8'd3), .waddr_i(waddr), .wdata_i(wdata[KernelW-1:0]),
      .raddr_i(kernel_addr_2), .q_o(kernel)
  );
  ram #(.Width(TableW), .Depth(TableDepth)) u_table (
      .clk_i(aclk), .we_i(we && memory == 8'd4), .waddr_i(waddr), .wdata_i(wdata[TableW-1:0]),
      .raddr_i(table_addr_8), .q_o(dw_table)
  );
  depthwise #(.Px(Px), .Il(Il), .AccW(AccW), .Bits(Bits)) u_depthwise (
      .clk_i(aclk), .win_i(win), .kernel_i(kernel), .table_i(dw_table), .shift_less_1_i(front_shift_12),
      .relu_i(front_relu_14), .y_o(dw_word)
  );
  taps #(.Px(Px), .Il(Il), .ImageC(Stem != 0 ? 0 : ImageC), .Bits(Bits)) u_taps (
      .clk_i(aclk), .win_i(win), .tap_i(tap_4), .x_o(window_tap)
  );
  if (Stem != 0) begin : gen_stem
    logic left_2, image_5;
    logic [WordW-1:0] stem_tap;
    delay #(.Width(1), .Cycles(2)) u_left (.clk_i(aclk), .d_i(left), .q_o(left_2));
    delay #(.Width(1), .Cycles(3)) u_image_5 (.clk_i(aclk), .d_i(image_2), .q_o(image_5));
    stem #(.Px(Px), .Il(Il), .ImageC(ImageC), .Bits(Bits)) u_stem (
        .clk_i(aclk), .word0_i(image_seen[0+:PixelsW]), .word1_i(image_seen[PixelsW+:PixelsW]),
        .word2_i(image_seen[2*PixelsW+:PixelsW]), .bank_i(bank_2), .top_i(top_2), .middle_i(middle_2),
        .bottom_i(bottom_2), .group_i(group_2[1:0]), .shift_i(shift_2), .left_i(left_2), .right_i(right_3),
        .tap_i(tap_4), .x_o(stem_tap)
    );
    assign tap_word_5 = image_5 ? stem_tap : window_tap;
  end else begin : gen_no_stem
    assign tap_word_5 = window_tap;
  end
  delay #(.Width(WordW), .Cycles(10)) u_tap_word (.clk_i(aclk), .d_i(tap_word_5), .q_o(tap_word));

  // ---- words of two slots: one is written, one read
  (* ram_style = "distributed" *) logic [WordW-1:0] words [0:2*(1<<XAddrW)-1];
  logic [WordW-1:0] x_q;
  logic [XAddrW:0] back_xaddr, back_xaddr_16;

  always_ff @(posedge aclk) begin
    if (emit_15) words[front_xaddr_15] <= is_taps_15 ? tap_word : dw_word;
    x_q <= words[back_xaddr_16];
  end

  // ---- back: multiply-accumulate
  logic first, last, first_16, last_late;
  logic [15:0] weight_addr;
  logic [Il*Ol*Bits-1:0] weights;
  logic [Ol*Px*AccW-1:0] acc;

  back #(.OpW(BackW), .Ops(Ops), .XAddrW(XAddrW)) u_back (
      .clk_i(aclk), .run_i(run), .last_op_i(last_op), .we_i(we && memory == 8'd1), .waddr_i(waddr),
      .wdata_i(wdata[BackW-1:0]), .slot_i(slot), .done_o(back_done), .first_o(first), .last_o(last),
      .weight_o(weight_addr), .xaddr_o(back_xaddr)
  );
  delay #(.Width(XAddrW + 2), .Cycles(BackDelay)) u_back_delay (
      .clk_i(aclk), .d_i({first, back_xaddr}), .q_o({first_16, back_xaddr_16})
  );
  delay #(.Width(1), .Cycles(BackDelay + ChainLanes + 2)) u_last (.clk_i(aclk), .d_i(last), .q_o(last_late));

  logic [ChainLanes*16-1:0] weight_addrs;  // of the first lane of each chain, of the second, and so on
  delay #(.Width(16), .Cycles(BackDelay - 1)) u_weight_addr (
      .clk_i(aclk), .d_i(weight_addr), .q_o(weight_addrs[15:0])
  );
  for (genvar lane = 1; lane < ChainLanes; lane++) begin : gen_later
    delay #(.Width(16), .Cycles(1)) u_later (
        .clk_i(aclk), .d_i(weight_addrs[(lane-1)*16+:16]), .q_o(weight_addrs[lane*16+:16])
    );
  end
  for (genvar lane = 0; lane < Il; lane++) begin : gen_weight
    ram #(.Width(Ol * Bits), .Depth(WeightDepth)) u_weight (
        .clk_i(aclk), .we_i(we && memory == 8'(16 + lane)), .waddr_i(waddr), .wdata_i(wdata[Ol*Bits-1:0]),
        .raddr_i(weight_addrs[(lane%ChainLanes)*16+:16]), .q_o(weights[lane*Ol*Bits+:Ol*Bits])
    );
  end
  pointwise #(.Px(Px), .Il(Il), .Ol(Ol), .AccW(AccW), .Bits(Bits)) u_pointwise (
      .clk_i(aclk), .x_i(x_q), .weight_i(weights), .first_i(first_16), .acc_o(acc)
  );

  // ---- results
  result #(
      .Px(Px), .Il(Il), .Ol(Ol), .Bits(Bits), .AccW(AccW), .StateW(StateW), .Words(Words), .StateDepth(StateDepth),
      .OffsetDepth(OffsetDepth), .MultDepth(MultDepth), .PoolDepth(PoolDepth), .OpW(ResultW), .Ops(Ops), .LoadW(LoadW),
      .StateStyle(MapStyle), .OffsetStyle(OffsetStyle)
  ) u_result (
      .clk_i(aclk), .run_i(run), .last_op_i(last_op), .op_we_i(we && memory == 8'd2),
      .offset_we_i(we && memory == 8'd5), .mult_we_i(we && memory == 8'd6), .waddr_i(waddr), .wdata_i(wdata),
      .last_i(last_late), .acc_i(acc), .map_we_o(map_we), .map_bank_o(map_bank), .map_addr_o(map_addr),
      .map_data_o(map_data), .score_we_o(score_we), .score_word_o(score_word), .score_last_o(score_last),
      .score_o(score_data)
  );
  scores #(.Il(Il), .StateW(StateW), .Classes(Classes)) u_scores (
      .clk_i(aclk), .rst_ni(aresetn), .run_i(run), .we_i(score_we), .word_i(score_word), .last_i(score_last),
      .data_i(score_data), .tdata_o(m_axis_tdata), .tvalid_o(m_axis_tvalid), .tready_i(m_axis_tready),
      .tlast_o(m_axis_tlast), .sent_o(sent), .stale_o(stale)
  );
endmodule : accelerator
