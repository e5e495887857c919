// Depthwise 3x3: each pixel's and lane's window times its kernel, requantised to Bits; eleven cycles from win_i to y_o.
// Two pixels of 8 bits share a multiplier. Kernels come with win_i, the table six cycles, shift eight, relu ten cycles later.
module depthwise #(
    parameter int Px = 2,
    parameter int Il = 8,
    parameter int AccW = 24,
    parameter int Bits = 8
) (
    input  logic                        clk_i,
    input  logic [  Px*9*Il*Bits-1:0]   win_i,
    input  logic [     Il*9*Bits-1:0]   kernel_i,
    input  logic [Il*(AccW+16)-1:0]     table_i,         // by lane: multiplier, offset
    input  logic [               5:0]   shift_less_1_i,
    input  logic                        relu_i,
    output logic [     Px*Il*Bits-1:0]  y_o
);
  localparam int Share = Bits == 8 ? 2 : 1;  // pixels that share a multiplier
  localparam int Pairs = (Px + Share - 1) / Share;

  for (genvar lane = 0; lane < Il; lane++) begin : gen_lane
    for (genvar pair = 0; pair < Pairs; pair++) begin : gen_pair
      localparam bit Two = Share == 2 && 2 * pair + 1 < Px;
      logic signed [AccW-1:0] low [0:2];
      /* verilator lint_off UNUSEDSIGNAL */  // a pixel may have no partner
      logic signed [AccW-1:0] high [0:2];
      logic [2:0] carry;  // due to be added to high: additions that are there anyway take them as carry-ins
      /* verilator lint_on UNUSEDSIGNAL */

      for (genvar row = 0; row < 3; row++) begin : gen_row
        logic [80:0] a;
        logic [3*Bits-1:0] w;
        /* verilator lint_off UNUSEDSIGNAL */  // AccW bits hold the sum
        logic signed [47:0] p;
        /* verilator lint_on UNUSEDSIGNAL */

        for (genvar column = 0; column < 3; column++) begin : gen_column
          logic [Bits-1:0] first, second;
          assign first = win_i[((Share*pair*9+row*3+column)*Il+lane)*Bits+:Bits];
          if (Two) begin : gen_two
            assign second = win_i[(((2*pair+1)*9+row*3+column)*Il+lane)*Bits+:Bits];
          end else begin : gen_alone
            assign second = '0;
          end
          pack #(.Bits(Bits)) u_pack (.first_i(first), .second_i(second), .packed_o(a[column*27+:27]));
          assign w[column*Bits+:Bits] = kernel_i[(lane*9+row*3+column)*Bits+:Bits];
        end

        mac_chain #(.Taps(3), .Skew(1), .Bits(Bits), .AW(Two ? 27 : Bits)) u_chain (.clk_i, .a_i(a), .w_i(w), .p_o(p));
        assign low[row] = Share == 2 ? AccW'($signed(p[17:0])) : AccW'(p);
        assign high[row] = AccW'($signed(p[47:18]));
        assign carry[row] = p[17];
      end

      for (genvar side = 0; side < (Two ? 2 : 1); side++) begin : gen_side
        logic signed [AccW-1:0] acc_q;
        logic carry_q;
        /* verilator lint_off UNUSEDSIGNAL */  // the lowest bits only carry
        (* keep *) logic [AccW:0] two;  // two additions in a row take fewer LUTs than one of three terms
        logic [AccW:0] three;
        /* verilator lint_on UNUSEDSIGNAL */
        if (side == 0) begin : gen_low
          assign two = {low[0] + low[1], 1'b0};
          assign three = {two[AccW:1] + low[2], 1'b0};
        end else begin : gen_high
          assign two = {high[0], 1'b1} + {high[1], carry[0]};
          assign three = {two[AccW:1], 1'b1} + {high[2], carry[1]};
        end
        always_ff @(posedge clk_i) begin
          acc_q <= three[AccW:1];
          carry_q <= side == 1 && carry[2];
        end
        requant #(.AccW(AccW), .OutW(Bits), .NarrowW(Bits)) u_requant (
            .clk_i, .acc_i(acc_q), .carry_i(carry_q), .offset_i(table_i[lane*(AccW+16)+:AccW]),
            .mult_i(table_i[lane*(AccW+16)+AccW+:16]), .shift_less_1_i, .relu_i, .narrow_i(1'b1),
            .y_o(y_o[((Share*pair+side)*Il+lane)*Bits+:Bits])
        );
      end
    end
  end
endmodule : depthwise
