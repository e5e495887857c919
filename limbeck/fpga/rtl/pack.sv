// Packs two pixels of 8 bits into one multiplier operand: above, the second, less one where the first is negative; below,
// the first, sign-extended to 18 bits. Where pixels have 16 bits, the first stands alone.
module pack #(
    parameter int Bits = 8
) (
    input  logic [Bits-1:0] first_i,
    /* verilator lint_off UNUSEDSIGNAL */
    input  logic [Bits-1:0] second_i,
    /* verilator lint_on UNUSEDSIGNAL */
    output logic [26:0]     packed_o
);
  if (Bits == 8) begin : gen_two
    logic [8:0] upper;
    assign upper = {second_i[7], second_i} - {8'b0, first_i[7]};
    assign packed_o = {upper, {10{first_i[7]}}, first_i};
  end else begin : gen_one
    assign packed_o = 27'($signed(first_i));
  end
endmodule : pack
