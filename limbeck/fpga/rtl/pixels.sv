// Takes frames of pixels, one per beat, row by row, channel 0 in the low byte, into the free half of the image memory.
// A frame whose TLAST comes before its last pixel, or not with it, is dropped and reported as an error.
module pixels #(
    parameter int Px = 2,
    parameter int Height = 32,
    parameter int Width = 32,
    parameter int Channels = 3,
    parameter int HalfWords = 1        // words per half of a bank
) (
    input  logic                      clk_i,
    input  logic                      rst_ni,
    /* verilator lint_off UNUSEDSIGNAL */
    input  logic [31:0]               tdata_i,
    /* verilator lint_on UNUSEDSIGNAL */
    input  logic                      tvalid_i,
    output logic                      tready_o,
    input  logic                      tlast_i,
    output logic                      we_o,
    output logic [1:0]                bank_o,
    output logic [15:0]               addr_o,
    output logic [Px*Channels*8-1:0]  data_o,
    input  logic                      release_i,   // an image has been read
    output logic                      ready_o,     // an image is there
    output logic                      short_o,
    output logic                      long_o
);
  localparam int PixelW = Channels * 8;
  localparam int Slots = (Width + Px - 1) / Px;

  logic [15:0] x_q, y_q, row_q, slot_q;
  logic [ 4:0] px_q;
  logic [ 1:0] bank_q, full_q;
  logic half_q, drop_q, x_last_q, y_last_q, beat, row_end, frame_end, done;
  logic [Px*PixelW-1:0] word_q, word;

  assign tready_o = drop_q || full_q != 2'd2;
  assign ready_o = full_q != 2'd0;
  assign beat = tvalid_i && tready_o;
  assign row_end = x_last_q;
  assign frame_end = row_end && y_last_q;
  assign done = beat && !drop_q && frame_end && tlast_i;

  always_comb begin
    word = px_q == 5'd0 ? '0 : word_q;
    for (int px = 0; px < Px; px++)
      if (px_q == 5'(px)) word[px*PixelW+:PixelW] = tdata_i[PixelW-1:0] ^ {Channels{8'h80}};  // p - 128
  end

  always_ff @(posedge clk_i) begin
    word_q <= beat ? word : word_q;
    we_o <= beat && !drop_q && (row_end || px_q == 5'(Px - 1));
    bank_o <= bank_q;
    addr_o <= row_q + slot_q + (half_q ? 16'(HalfWords) : 16'd0);
    data_o <= word;

    if (!rst_ni) begin
      full_q <= 2'd0;
      half_q <= 1'b0;
      drop_q <= 1'b0;
      short_o <= 1'b0;
      long_o <= 1'b0;
    end else begin
      if (done && !release_i) full_q <= full_q + 2'd1;
      if (!done && release_i) full_q <= full_q - 2'd1;
      if (done) half_q <= !half_q;
      short_o <= beat && !drop_q && !frame_end && tlast_i;
      long_o <= beat && !drop_q && frame_end && !tlast_i;
      if (beat) drop_q <= (drop_q || frame_end) && !tlast_i;
    end

    if (!rst_ni || (beat && (tlast_i || drop_q || frame_end))) begin
      x_q <= '0;
      y_q <= '0;
      x_last_q <= Width == 1;
      y_last_q <= Height == 1;
      row_q <= '0;
      slot_q <= '0;
      px_q <= '0;
      bank_q <= '0;
    end else if (beat) begin
      x_q <= row_end ? 16'd0 : x_q + 16'd1;
      x_last_q <= row_end ? Width == 1 : x_q == 16'(Width - 2);
      px_q <= row_end || px_q == 5'(Px - 1) ? 5'd0 : px_q + 5'd1;
      if (row_end) slot_q <= '0;
      else if (px_q == 5'(Px - 1)) slot_q <= slot_q + 16'd1;
      if (row_end) begin
        y_q <= y_q + 16'd1;
        y_last_q <= y_q == 16'(Height - 2);
        bank_q <= bank_q == 2'd2 ? 2'd0 : bank_q + 2'd1;
        if (bank_q == 2'd2) row_q <= row_q + 16'(Slots);
      end
    end
  end

  initial if (Channels > 4) $fatal(1, "pixels: a beat holds at most 4 channels");
endmodule : pixels
