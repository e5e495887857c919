// Depthwise 3x3: each pixel's and lane's window times its kernel, requantised to 8 bits; eleven cycles from win_i to y_o.
// Two pixels share a multiplier. Kernels come with win_i, the table six cycles, shift nine, relu ten cycles later.
module depthwise #(
    parameter int Px = 2,
    parameter int Il = 8,
    parameter int AccW = 24
) (
    input  logic                        clk_i,
    input  logic [     Px*9*Il*8-1:0]   win_i,
    input  logic [        Il*9*8-1:0]   kernel_i,
    input  logic [Il*(AccW+16)-1:0]     table_i,         // by lane: multiplier, offset
    input  logic [               5:0]   shift_less_1_i,
    input  logic                        relu_i,
    output logic [        Px*Il*8-1:0]  y_o
);
  localparam int Pairs = (Px + 1) / 2;

  for (genvar lane = 0; lane < Il; lane++) begin : gen_lane
    for (genvar pair = 0; pair < Pairs; pair++) begin : gen_pair
      localparam bit Two = 2 * pair + 1 < Px;
      logic signed [17:0] low [0:2];
      logic signed [29:0] high [0:2];

      for (genvar row = 0; row < 3; row++) begin : gen_row
        logic [80:0] a;
        logic [23:0] w;
        logic signed [47:0] p;

        for (genvar column = 0; column < 3; column++) begin : gen_column
          logic [7:0] first, second;
          assign first = win_i[((2*pair*9+row*3+column)*Il+lane)*8+:8];
          if (Two) begin : gen_two
            assign second = win_i[(((2*pair+1)*9+row*3+column)*Il+lane)*8+:8];
          end else begin : gen_alone
            assign second = 8'd0;
          end
          pack u_pack (.first_i(first), .second_i(second), .packed_o(a[column*27+:27]));
          assign w[column*8+:8] = kernel_i[(lane*9+row*3+column)*8+:8];
        end

        mac_chain #(.Taps(3), .Skew(1)) u_chain (.clk_i, .a_i(a), .w_i(w), .p_o(p));
        assign low[row] = p[17:0];
        assign high[row] = p[47:18] + {29'b0, p[17]};
      end

      for (genvar side = 0; side < (Two ? 2 : 1); side++) begin : gen_side
        logic signed [AccW-1:0] acc_q;
        always_ff @(posedge clk_i) begin
          if (side == 0) acc_q <= AccW'(low[0]) + AccW'(low[1]) + AccW'(low[2]);
          else acc_q <= AccW'(high[0]) + AccW'(high[1]) + AccW'(high[2]);
        end
        requant #(.AccW(AccW), .OutW(8)) u_requant (
            .clk_i, .acc_i(acc_q), .offset_i(table_i[lane*(AccW+16)+:AccW]),
            .mult_i(table_i[lane*(AccW+16)+AccW+:16]), .shift_less_1_i, .relu_i, .narrow_i(1'b1),
            .y_o(y_o[((2*pair+side)*Il+lane)*8+:8])
        );
      end
    end
  end
endmodule : depthwise
