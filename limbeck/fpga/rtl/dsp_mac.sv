// sum_o = sum_i of one cycle ago + a_i * b_i of three cycles ago: one DSP48E2 with its registers A, B, M and P, or its
// behavioural model. The first of a cascade has no sum_i; the last gives its sum to the fabric, the others to the next DSP48E2.
// AW and BW say how many bits of a and b are not copies of the sign. LIMBECK_MULT18 is for parts whose multipliers take
// 18 x 18 bits: a of more than 18 takes two.
module dsp_mac #(
    parameter bit First = 0,
    /* verilator lint_off UNUSEDPARAM */  // not every branch needs these
    parameter bit Last = 0,
    parameter int AW = 27,
    parameter int BW = 18
    /* verilator lint_on UNUSEDPARAM */
) (
    input  logic               clk_i,
    /* verilator lint_off UNUSEDSIGNAL */  // copies of the sign
    input  logic signed [26:0] a_i,
    input  logic signed [17:0] b_i,
    input  logic signed [47:0] sum_i,
    /* verilator lint_on UNUSEDSIGNAL */
    output logic signed [47:0] sum_o
);
`ifdef LIMBECK_DSP48E2
  localparam logic [8:0] OpMode = First ? 9'b000000101 : 9'b000010101;  // X, Y: the product; Z: 0 or PCIN

  logic [47:0] p, cascade, pcin;
  logic [29:0] a;
  logic [17:0] b;

  assign a = {{3{a_i[26]}}, a_i};
  assign b = b_i;
  assign pcin = First ? 48'b0 : sum_i;
  assign sum_o = Last ? p : cascade;

  DSP48E2 #(
      .AREG(1), .ACASCREG(1), .BREG(1), .BCASCREG(1), .CREG(0), .DREG(0), .ADREG(0), .MREG(1), .PREG(1),
      .OPMODEREG(0), .ALUMODEREG(0), .INMODEREG(0), .CARRYINREG(0), .CARRYINSELREG(0)
  ) u_dsp (
      .CLK(clk_i), .A(a), .B(b), .C(48'b0), .D(27'b0), .PCIN(pcin), .PCOUT(cascade), .P(p),
      .OPMODE(OpMode), .ALUMODE(4'b0), .INMODE(5'b0), .CARRYIN(1'b0), .CARRYINSEL(3'b0),
      .CEA1(1'b0), .CEA2(1'b1), .CEB1(1'b0), .CEB2(1'b1), .CEM(1'b1), .CEP(1'b1),
      .CEC(1'b0), .CED(1'b0), .CEAD(1'b0), .CECTRL(1'b0), .CECARRYIN(1'b0), .CEALUMODE(1'b0), .CEINMODE(1'b0),
      .RSTA(1'b0), .RSTB(1'b0), .RSTM(1'b0), .RSTP(1'b0), .RSTC(1'b0), .RSTD(1'b0), .RSTCTRL(1'b0),
      .RSTALLCARRYIN(1'b0), .RSTALUMODE(1'b0), .RSTINMODE(1'b0),
      .ACIN(30'b0), .BCIN(18'b0), .CARRYCASCIN(1'b0), .MULTSIGNIN(1'b0)
  );
`elsif LIMBECK_MULT18
  localparam int SumW = AW + BW + 3 < 48 ? AW + BW + 3 : 48;  // bits of a sum of up to eight products

  logic signed [AW-1:0] a_q;
  logic signed [BW-1:0] b_q;
  logic signed [SumW-1:0] base, sum_q;

  assign base = First ? '0 : sum_i[SumW-1:0];
  assign sum_o = 48'(sum_q);

  always_ff @(posedge clk_i) begin
    a_q <= a_i[AW-1:0];
    b_q <= b_i[BW-1:0];
  end
  if (AW <= 18) begin : gen_one
    logic signed [AW+BW-1:0] m_q;
    always_ff @(posedge clk_i) begin
      m_q <= (AW + BW)'(a_q) * (AW + BW)'(b_q);
      sum_q <= base + SumW'(m_q);
    end
  end else begin : gen_two
    logic signed [17+BW:0] low_q;
    logic signed [AW-17+BW-1:0] high_q;
    always_ff @(posedge clk_i) begin
      low_q <= (18 + BW)'($signed({1'b0, a_q[16:0]})) * (18 + BW)'(b_q);
      high_q <= (AW - 17 + BW)'($signed(a_q[AW-1:17])) * (AW - 17 + BW)'(b_q);
      sum_q <= base + SumW'(low_q) + (SumW'(high_q) <<< 17);
    end
  end
`else
  logic signed [26:0] a_q;
  logic signed [17:0] b_q;
  logic signed [44:0] m_q;

  always_ff @(posedge clk_i) begin
    a_q <= a_i;
    b_q <= b_i;
    m_q <= 45'(a_q) * 45'(b_q);
    sum_o <= (First ? 48'sd0 : sum_i) + 48'(m_q);
  end
`endif
endmodule : dsp_mac
