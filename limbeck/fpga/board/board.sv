// The accelerator behind a serial line: what a board's top holds, without the board's clocks and pins.
// led_o shows the class of the last image.
module board #(
    parameter int Divider = 33,     // cycles per bit of the serial line
    parameter int Channels = 3,
    parameter int Pixels = 1024,    // per image
    parameter int Patience = 22     // see bridge
) (
    input  logic       clk_i,
    input  logic       rst_ni,
    input  logic       rx_i,
    output logic       tx_o,
    output logic [7:0] led_o
);
  logic [7:0] in, out, awaddr, araddr;
  logic in_valid, out_valid, out_ready, awvalid, awready, wvalid, wready, arvalid, arready, rvalid, rready;
  logic [31:0] wdata, rdata, pixel, score;
  logic pixel_valid, pixel_ready, pixel_last, score_valid, score_ready, score_last;
  /* verilator lint_off UNUSEDSIGNAL */  // registers always answer OKAY
  logic [1:0] bresp, rresp;
  logic bvalid;
  /* verilator lint_on UNUSEDSIGNAL */

  uart_rx #(.Divider(Divider)) u_rx (.clk_i, .rst_ni, .line_i(rx_i), .data_o(in), .valid_o(in_valid));
  uart_tx #(.Divider(Divider)) u_tx (
      .clk_i, .rst_ni, .data_i(out), .valid_i(out_valid), .ready_o(out_ready), .line_o(tx_o)
  );
  bridge #(.Channels(Channels), .Pixels(Pixels), .Patience(Patience)) u_bridge (
      .clk_i, .rst_ni, .byte_i(in), .byte_valid_i(in_valid), .byte_o(out), .byte_valid_o(out_valid),
      .byte_ready_i(out_ready), .awaddr_o(awaddr), .awvalid_o(awvalid), .awready_i(awready), .wdata_o(wdata),
      .wvalid_o(wvalid), .wready_i(wready), .araddr_o(araddr), .arvalid_o(arvalid), .arready_i(arready),
      .rdata_i(rdata), .rvalid_i(rvalid), .rready_o(rready), .pixel_o(pixel), .pixel_valid_o(pixel_valid),
      .pixel_ready_i(pixel_ready), .pixel_last_o(pixel_last), .score_i(score), .score_valid_i(score_valid),
      .score_ready_o(score_ready)
  );
  limbeck u_limbeck (
      .aclk(clk_i), .aresetn(rst_ni), .s_axi_awaddr(awaddr), .s_axi_awvalid(awvalid), .s_axi_awready(awready),
      .s_axi_wdata(wdata), .s_axi_wstrb(4'hf), .s_axi_wvalid(wvalid), .s_axi_wready(wready), .s_axi_bresp(bresp),
      .s_axi_bvalid(bvalid), .s_axi_bready(1'b1), .s_axi_araddr(araddr), .s_axi_arvalid(arvalid),
      .s_axi_arready(arready), .s_axi_rdata(rdata), .s_axi_rresp(rresp), .s_axi_rvalid(rvalid), .s_axi_rready(rready),
      .s_axis_tdata(pixel), .s_axis_tvalid(pixel_valid), .s_axis_tready(pixel_ready), .s_axis_tlast(pixel_last),
      .m_axis_tdata(score), .m_axis_tvalid(score_valid), .m_axis_tready(score_ready), .m_axis_tlast(score_last)
  );

  always_ff @(posedge clk_i)
    if (!rst_ni) led_o <= '0;
    else if (score_valid && score_ready && score_last) led_o <= score[7:0];
endmodule : board
