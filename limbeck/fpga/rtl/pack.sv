// Packs two pixels into one multiplier operand: the second less one where the first is negative, then the first with its
// sign spread over 18 bits.
module pack (
    input  logic [ 7:0] first_i,
    input  logic [ 7:0] second_i,
    output logic [26:0] packed_o
);
  logic [8:0] upper;
  assign upper = {second_i[7], second_i} - {8'b0, first_i[7]};
  assign packed_o = {upper, {10{first_i[7]}}, first_i};
endmodule : pack
