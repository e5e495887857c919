// Receives bytes from a serial line: one start bit, eight data bits from the lowest, one stop bit.
// valid_o is high for one cycle with each byte; a byte without its stop bit is dropped.
module uart_rx #(
    parameter int Divider = 33  // cycles per bit, 4 or more
) (
    input  logic       clk_i,
    input  logic       rst_ni,
    input  logic       line_i,
    output logic [7:0] data_o,
    output logic       valid_o
);
  localparam int CountW = $clog2(Divider + Divider / 2 + 1);

  logic [2:0] sync_q;  // two flip-flops against metastability, and one more
  logic busy_q, busy_d, valid_d;
  logic [CountW-1:0] wait_q, wait_d;  // cycles to the next sample
  logic [3:0] left_q, left_d;         // bits to come, with the stop bit
  logic [7:0] data_d;

  always_comb begin
    busy_d = busy_q;
    wait_d = wait_q - CountW'(1);
    left_d = left_q;
    data_d = data_o;
    valid_d = 1'b0;
    if (!busy_q) begin
      busy_d = !sync_q[2];
      wait_d = CountW'(Divider + Divider / 2 - 1);  // the middle of the first data bit
      left_d = 4'd9;
    end else if (wait_q == '0) begin
      wait_d = CountW'(Divider - 1);
      left_d = left_q - 4'd1;
      if (left_q == 4'd1) begin
        busy_d = 1'b0;
        valid_d = sync_q[2];
      end else data_d = {sync_q[2], data_o[7:1]};
    end
  end

  always_ff @(posedge clk_i) begin
    sync_q <= {sync_q[1:0], line_i};
    wait_q <= wait_d;
    left_q <= left_d;
    data_o <= data_d;
    if (!rst_ni) begin
      sync_q <= '1;
      busy_q <= 1'b0;
      valid_o <= 1'b0;
    end else begin
      busy_q <= busy_d;
      valid_o <= valid_d;
    end
  end

  initial if (Divider < 4) $fatal(1, "uart_rx: Divider must be at least 4");
endmodule : uart_rx
