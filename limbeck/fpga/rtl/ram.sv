// A memory with one write and one read port: q_o is the word at the raddr_i of two cycles ago.
// A word that is written in the cycle in which it is read comes out undefined, as from an ECP5's block RAM.
module ram #(
    parameter int Width = 8,
    parameter int Depth = 2,
    parameter Style = "block"
) (
    input  logic             clk_i,
    input  logic             we_i,
    /* verilator lint_off UNUSEDSIGNAL */  // addresses have 16 bits everywhere; each memory uses its own
    input  logic [     15:0] waddr_i,
    input  logic [     15:0] raddr_i,
    /* verilator lint_on UNUSEDSIGNAL */
    input  logic [Width-1:0] wdata_i,
    output logic [Width-1:0] q_o
);
  localparam int AddrW = $clog2(Depth);

  logic clash;

  assign clash = we_i && waddr_i[AddrW-1:0] == raddr_i[AddrW-1:0];

  /* verilator lint_off UNUSEDPARAM */  // only synthesis asks for Kind
`ifdef LIMBECK_MULT18
  // An ECP5's block RAM has words of 1, 2, 4, 9 or 18 bits, the fewer the deeper. Memories are cut into slices of one block,
  // for q_o to be the block's own register: a multiplexer behind several blocks would keep it outside, and the clock slow.
  // Words of 36 bits would take both ports of a block, whose registers are then out of reach (absorb.py). Few words lie in
  // LUTs: in blocks they would take one per 18 bits.
  localparam int SliceW = Depth <= 1024 ? 18 : Depth <= 2048 ? 9 : Depth <= 4096 ? 4 : Depth <= 8192 ? 2 : 1;
  localparam Kind = Depth <= 32 ? "distributed" : Style;
`else
  localparam int SliceW = Width;
  localparam Kind = Style;
`endif
  /* verilator lint_on UNUSEDPARAM */

  for (genvar low = 0; low < Width; low = low + SliceW) begin : gen_slice
    localparam int Bits = Width - low < SliceW ? Width - low : SliceW;
    (* ram_style = Kind *) logic [Bits-1:0] mem [0:Depth-1];
    logic [Bits-1:0] read_q;

    always_ff @(posedge clk_i) begin
      if (we_i) mem[waddr_i[AddrW-1:0]] <= wdata_i[low+:Bits];
      read_q <= mem[raddr_i[AddrW-1:0]];
`ifndef SYNTHESIS
      if (clash) read_q <= ~mem[raddr_i[AddrW-1:0]];  // so whoever relies on it gets wrong scores
`elsif LIMBECK_MULT18
      if (clash) read_q <= 'x;  // otherwise Yosys would write a cycle late and put a multiplexer before q_o
`endif
      q_o[low+:Bits] <= read_q;
    end
  end

  initial if (Depth < 2) $fatal(1, "ram: Depth must be at least 2");
endmodule : ram
