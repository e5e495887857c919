// Turns a host's bytes into register accesses and pixels, and scores into bytes. Numbers have their low byte first.
//
//   01 address data[4]              write a register
//   02 address                      read a register: its four bytes come back
//   03 address count[2] data[4]...  write a register count times (a memory's words)
//   04 count[4] pixel[Channels]...  send that many pixels, TLAST with the last of each image
//
// Each beat of scores is sent as four bytes as soon as it is there. There is no flow control: a host must have at most
// two images under way, and must not read registers while it waits for scores. A command is abandoned once no byte of it
// has come for 2**Patience cycles, so that a restarted host is understood.
module bridge #(
    parameter int Channels = 3,
    parameter int Pixels = 1024,   // per image
    parameter int Patience = 22
) (
    input  logic        clk_i,
    input  logic        rst_ni,
    input  logic [ 7:0] byte_i,
    input  logic        byte_valid_i,
    output logic [ 7:0] byte_o,
    output logic        byte_valid_o,
    input  logic        byte_ready_i,
    output logic [ 7:0] awaddr_o,
    output logic        awvalid_o,
    input  logic        awready_i,
    output logic [31:0] wdata_o,
    output logic        wvalid_o,
    input  logic        wready_i,
    output logic [ 7:0] araddr_o,
    output logic        arvalid_o,
    input  logic        arready_i,
    input  logic [31:0] rdata_i,
    input  logic        rvalid_i,
    output logic        rready_o,
    output logic [31:0] pixel_o,
    output logic        pixel_valid_o,
    input  logic        pixel_ready_i,
    output logic        pixel_last_o,
    input  logic [31:0] score_i,
    input  logic        score_valid_i,
    output logic        score_ready_o
);
  typedef enum logic [2:0] {Command, Address, Count, Data, Pixel} state_e;

  localparam logic [7:0] Write = 8'd1, Read = 8'd2, Burst = 8'd3, Send = 8'd4;
  localparam int PixelW = $clog2(Pixels + 1);

  // ---- in
  state_e state_q, state_d;
  logic [7:0] command_q, command_d, address_q, address_d;
  logic [31:0] word_q, word_d, count_q, count_d, word;
  logic [1:0] place_q, place_d;  // place of the next byte
  logic [Patience:0] idle_q;
  logic [PixelW-1:0] pixel_q;    // of the image
  logic write, read, pixel;

  always_comb begin
    word = word_q;
    word[32'(place_q)*8+:8] = byte_i;
    state_d = state_q;
    command_d = command_q;
    address_d = address_q;
    word_d = word_q;
    count_d = count_q;
    place_d = place_q;
    write = 1'b0;
    read = 1'b0;
    pixel = 1'b0;
    if (byte_valid_i) begin
      place_d = place_q + 2'd1;
      word_d = word;
      case (state_q)
        Command: begin
          command_d = byte_i;
          place_d = '0;
          count_d = 32'd1;
          if (byte_i == Send) state_d = Count;
          else if (byte_i == Write || byte_i == Read || byte_i == Burst) state_d = Address;
        end
        Address: begin
          address_d = byte_i;
          place_d = '0;
          read = command_q == Read;
          if (command_q == Read) state_d = Command;
          else if (command_q == Burst) state_d = Count;
          else state_d = Data;
        end
        Count:
        if (place_q == (command_q == Burst ? 2'd1 : 2'd3)) begin
          count_d = command_q == Burst ? {16'd0, word[15:0]} : word;
          place_d = '0;
          if (count_d == '0) state_d = Command;
          else if (command_q == Burst) state_d = Data;
          else state_d = Pixel;
        end
        Data:
        if (place_q == 2'd3) begin
          write = 1'b1;
          count_d = count_q - 32'd1;
          if (count_q == 32'd1) state_d = Command;
        end
        default:
        if (place_q == 2'(Channels - 1)) begin
          pixel = 1'b1;
          place_d = '0;
          count_d = count_q - 32'd1;
          if (count_q == 32'd1) state_d = Command;
        end
      endcase
    end else if (idle_q[Patience]) state_d = Command;
  end

  always_ff @(posedge clk_i) begin
    command_q <= command_d;
    address_q <= address_d;
    word_q <= word_d;
    count_q <= count_d;
    place_q <= place_d;
    idle_q <= byte_valid_i || state_q == Command ? '0 : idle_q + (Patience + 1)'(1);
    state_q <= rst_ni ? state_d : Command;
  end

  // ---- registers: an access ends long before the bytes of the next one have come
  assign rready_o = left_q == 3'd0;
  always_ff @(posedge clk_i)
    if (!rst_ni) begin
      awvalid_o <= 1'b0;
      wvalid_o <= 1'b0;
      arvalid_o <= 1'b0;
    end else begin
      if (awready_i) awvalid_o <= 1'b0;
      if (wready_i) wvalid_o <= 1'b0;
      if (arready_i) arvalid_o <= 1'b0;
      if (write) begin
        awaddr_o <= address_q;
        wdata_o <= word;
        awvalid_o <= 1'b1;
        wvalid_o <= 1'b1;
      end
      if (read) begin
        araddr_o <= byte_i;
        arvalid_o <= 1'b1;
      end
    end

  // ---- pixels
  always_ff @(posedge clk_i)
    if (!rst_ni) begin
      pixel_valid_o <= 1'b0;
      pixel_q <= '0;
    end else begin
      if (pixel_ready_i) pixel_valid_o <= 1'b0;
      if (state_q == Command) pixel_q <= '0;  // each command begins an image
      if (pixel) begin
        pixel_o <= word;
        pixel_valid_o <= 1'b1;
        pixel_last_o <= pixel_q == PixelW'(Pixels - 1);
        pixel_q <= pixel_q == PixelW'(Pixels - 1) ? '0 : pixel_q + PixelW'(1);
      end
    end

  // ---- out: what was read, then scores
  logic [31:0] out_q;
  logic [2:0] left_q;  // bytes of out_q

  assign byte_o = out_q[7:0];
  assign byte_valid_o = left_q != 3'd0;
  assign score_ready_o = left_q == 3'd0 && !rvalid_i;

  always_ff @(posedge clk_i)
    if (!rst_ni) left_q <= 3'd0;
    else if (rvalid_i && left_q == 3'd0) begin
      out_q <= rdata_i;
      left_q <= 3'd4;
    end else if (score_valid_i && score_ready_o) begin
      out_q <= score_i;
      left_q <= 3'd4;
    end else if (byte_valid_o && byte_ready_i) begin
      out_q <= out_q >> 8;
      left_q <= left_q - 3'd1;
    end
endmodule : bridge
