// ULX3S: the accelerator behind the USB serial line; LEDs show the class of the last image.
module top (
    input  wire       clk_25mhz,
    input  wire       btn_pwr_n,   // resets
    input  wire       ftdi_txd,    // from the PC
    output wire       ftdi_rxd,    // to the PC
    output wire [7:0] led,
    output wire       wifi_gpio0   // high, since the ESP32 would otherwise take over the board
);
  wire clk, locked;
  reg [7:0] reset_q = 8'd0;  // all ones once the clock has run for 8 cycles

  assign wifi_gpio0 = 1'b1;

  (* FREQUENCY_PIN_CLKI = "25", ICP_CURRENT = "12", LPF_RESISTOR = "8", MFG_ENABLE_FILTEROPAMP = "1", MFG_GMCREF_SEL = "2" *)
  EHXPLLL #(
      .CLKI_DIV($clki_div), .CLKFB_DIV($clkfb_div), .CLKOP_DIV($clkop_div), .CLKOP_CPHASE($clkop_cphase), .CLKOP_FPHASE(0),
      .CLKOP_ENABLE("ENABLED"), .FEEDBK_PATH("CLKOP"), .PLLRST_ENA("DISABLED"), .INTFB_WAKE("DISABLED"),
      .STDBY_ENABLE("DISABLED"), .DPHASE_SOURCE("DISABLED"), .OUTDIVIDER_MUXA("DIVA")
  ) u_pll (
      .CLKI(clk_25mhz), .CLKFB(clk), .CLKOP(clk), .LOCK(locked), .RST(1'b0), .STDBY(1'b0), .PHASESEL0(1'b0),
      .PHASESEL1(1'b0), .PHASEDIR(1'b1), .PHASESTEP(1'b1), .PHASELOADREG(1'b1), .PLLWAKESYNC(1'b0), .ENCLKOP(1'b0)
  );

  always @(posedge clk) reset_q <= locked && btn_pwr_n ? {reset_q[6:0], 1'b1} : 8'd0;

  board #(.Divider($divider), .Channels($channels), .Pixels($pixels)) u_board (
      .clk_i(clk), .rst_ni(reset_q[7]), .rx_i(ftdi_txd), .tx_o(ftdi_rxd), .led_o(led)
  );
endmodule
