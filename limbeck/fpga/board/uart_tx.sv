// Sends bytes over a serial line: one start bit, eight data bits from the lowest, one stop bit.
module uart_tx #(
    parameter int Divider = 33  // cycles per bit
) (
    input  logic       clk_i,
    input  logic       rst_ni,
    input  logic [7:0] data_i,
    input  logic       valid_i,
    output logic       ready_o,
    output logic       line_o
);
  localparam int CountW = $clog2(Divider + 1);

  logic [9:0] bits_q;     // still to be sent, the next one lowest
  logic [3:0] left_q;
  logic [CountW-1:0] wait_q;

  assign ready_o = left_q == 4'd0;
  assign line_o = left_q == 4'd0 || bits_q[0];

  always_ff @(posedge clk_i)
    if (!rst_ni) left_q <= 4'd0;
    else if (ready_o) begin
      bits_q <= {1'b1, data_i, 1'b0};
      wait_q <= CountW'(Divider - 1);
      if (valid_i) left_q <= 4'd10;
    end else if (wait_q == '0) begin
      bits_q <= {1'b1, bits_q[9:1]};
      wait_q <= CountW'(Divider - 1);
      left_q <= left_q - 4'd1;
    end else wait_q <= wait_q - CountW'(1);
endmodule : uart_tx
