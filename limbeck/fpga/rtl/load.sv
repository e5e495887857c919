// The memory load port: assembles words of the selected memory from pieces of 32 bits, low bits first, and writes them
// to consecutive addresses. A piece for a memory or an address that the engine does not have is dropped and reported.
module load #(
    parameter int LoadW = 32   // of the widest memory
) (
    input  logic             clk_i,
    input  logic             rst_ni,
    input  logic             select_i,    // data_i is a memory's number, and how many pieces its words have
    input  logic             place_i,     // data_i is the next address
    input  logic             piece_i,     // data_i is a piece
    input  logic [31:0]      data_i,
    input  logic [16:0]      depth_i,     // words of the memory with this number; 0: there is none
    input  logic [ 7:0]      needed_i,    // pieces per word of that memory
    output logic [ 7:0]      memory_o,
    output logic [ 7:0]      pieces_o,
    output logic [15:0]      addr_o,
    output logic             we_o,
    output logic [LoadW-1:0] word_o,
    output logic             bad_o        // a piece was dropped
);
  localparam int Pieces = (LoadW + 31) / 32;

  logic [7:0] memory_d, memory_q, pieces_d, pieces_q, piece_d, piece_q;
  logic [15:0] addr_d, addr_q;
  logic we_d, we_q, bad_d, bad_q, fits_q, last_piece;
  /* verilator lint_off UNUSEDSIGNAL */  // a word's last piece may have more bits than the word needs
  logic [Pieces*32-1:0] word_q;
  /* verilator lint_on UNUSEDSIGNAL */

  assign memory_o = memory_q;
  assign pieces_o = pieces_q;
  assign addr_o = addr_q;
  assign we_o = we_q;
  assign word_o = word_q[LoadW-1:0];
  assign bad_o = bad_q;
  assign last_piece = piece_q + 8'd1 == pieces_q;

  always_comb begin
    memory_d = select_i ? data_i[7:0] : memory_q;
    pieces_d = select_i ? data_i[15:8] : pieces_q;
    piece_d = piece_q;
    if (select_i) piece_d = 8'd0;
    else if (piece_i && fits_q) piece_d = last_piece ? 8'd0 : piece_q + 8'd1;
    we_d = piece_i && fits_q && last_piece;
    bad_d = piece_i && !fits_q;
    addr_d = place_i ? data_i[15:0] : we_q ? addr_q + 16'd1 : addr_q;
  end

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      memory_q <= '0;
      pieces_q <= 8'd1;
      piece_q <= '0;
      addr_q <= '0;
      we_q <= 1'b0;
      bad_q <= 1'b0;
    end else begin
      memory_q <= memory_d;
      pieces_q <= pieces_d;
      piece_q <= piece_d;
      addr_q <= addr_d;
      we_q <= we_d;
      bad_q <= bad_d;
    end
    fits_q <= {1'b0, addr_d} < depth_i && pieces_q == needed_i;  // writes are two cycles apart or more
    if (piece_i && fits_q) word_q[32'(piece_q)*32+:32] <= data_i;
  end

  initial if (Pieces > 255) $fatal(1, "load: a memory's word has at most 255 pieces");
endmodule : load
