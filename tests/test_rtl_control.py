"""rtl/control.sv loses no error."""

import pytest
from rtl import run_bench

from limbeck.fpga.driver import Error, Register

BENCH = """
module bench;
  logic clk = 0, rst_n = 0, valid = 0, short_frame = 0, long_frame = 0, arvalid = 0;
  logic [7:0] address = 8'h{errors:02x};
  logic [31:0] data;
  wire aw, w, b, ar, r;
  control #(.LoadW(32)) dut (
      .clk_i(clk), .rst_ni(rst_n), .awaddr_i(address), .awvalid_i(valid), .awready_o(aw), .wdata_i(32'hff),
      .wstrb_i(4'hf), .wvalid_i(valid), .wready_o(w), .bresp_o(), .bvalid_o(b), .bready_i(1'b1), .araddr_i(address),
      .arvalid_i(arvalid), .arready_o(ar), .rdata_o(data), .rresp_o(), .rvalid_o(r), .rready_i(1'b0), .run_o(),
      .last_op_o(), .depth_i(17'd2), .needed_i(8'd1), .we_o(), .memory_o(), .addr_o(), .data_o(), .room_o(),
      .busy_i(1'b0), .waiting_i(1'b0), .start_i(1'b0), .scored_i(1'b0), .sent_i(1'b0), .stale_i(1'b0),
      .short_i(short_frame), .long_i(long_frame)
  );
  task tick;
    begin #1 clk = 1; #1 clk = 0; end
  endtask
  initial begin
    tick; tick;
    rst_n = 1;
    tick;
    for (int i = 0; i < 8; i++) begin
      valid = i == 2;  // ERRORS is cleared in the cycle after
      short_frame = i == {at};
      long_frame = i == 0;
      tick;
    end
    arvalid = 1;
    tick;
    $display("%0d", data);
    $finish;
  end
endmodule
"""


@pytest.mark.parametrize(("at", "left"), [(1, 0), (2, 0), (3, 1), (4, 1), (6, 1)])
def test_an_error_in_the_cycle_of_its_clearing_stays(tmp_path, at, left):
    bench = BENCH.format(errors=Register.ERRORS, at=at)
    assert run_bench(tmp_path, bench, ["control", "load", "counters"]) == [[str(left << Error.SHORT_FRAME)]]
