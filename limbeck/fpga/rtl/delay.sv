// Delays d_i by Cycles cycles. There is no reset: valid bits must be low for that long before they count.
module delay #(
    parameter int Width = 1,
    parameter int Cycles = 1
) (
    input  logic             clk_i,
    input  logic [Width-1:0] d_i,
    output logic [Width-1:0] q_o
);
  logic [Width*Cycles-1:0] line_q;

  generate
    if (Cycles == 1) begin : gen_one
      always_ff @(posedge clk_i) line_q <= d_i;
    end else begin : gen_many
      always_ff @(posedge clk_i) line_q <= {line_q[Width*(Cycles-1)-1:0], d_i};
    end
  endgenerate
  assign q_o = line_q[Width*(Cycles-1)+:Width];

  initial if (Cycles < 1) $fatal(1, "delay: Cycles must be at least 1");
endmodule : delay
