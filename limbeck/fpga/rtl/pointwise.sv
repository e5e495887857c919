// Px pixels times Ol output channels of dot products, Il lanes a cycle. A word comes with valid control at cycle 0; the
// sums of an accumulation stand in acc_o, by channel and pixel, Il + 5 cycles after its last word's.
module pointwise #(
    parameter int Px = 2,
    parameter int Il = 8,
    parameter int Ol = 16,
    parameter int AccW = 24
) (
    input  logic                      clk_i,
    input  logic [       Px*Il*8-1:0] x_i,      // at cycle 1
    input  logic [       Il*Ol*8-1:0] weight_i, // lane i's Ol weights, at cycle 1 + i
    input  logic                      first_i,  // at cycle 0
    output logic [    Ol*Px*AccW-1:0] acc_o
);
  localparam int Pairs = (Px + 1) / 2;

  logic [Pairs*Il*27-1:0] a;
  logic first;

  delay #(.Width(1), .Cycles(Il + 4)) u_first (.clk_i, .d_i(first_i), .q_o(first));

  for (genvar pair = 0; pair < Pairs; pair++) begin : gen_pair
    for (genvar lane = 0; lane < Il; lane++) begin : gen_lane
      logic [26:0] packed_word;
      logic [ 7:0] second;
      if (2 * pair + 1 < Px) begin : gen_two
        assign second = x_i[((2*pair+1)*Il+lane)*8+:8];
      end else begin : gen_alone
        assign second = 8'd0;
      end
      pack u_pack (.first_i(x_i[(2*pair*Il+lane)*8+:8]), .second_i(second), .packed_o(packed_word));
      if (lane > 0) begin : gen_skew
        delay #(.Width(27), .Cycles(lane)) u_skew (
            .clk_i, .d_i(packed_word), .q_o(a[(pair*Il+lane)*27+:27])
        );
      end else begin : gen_straight
        assign a[pair*Il*27+:27] = packed_word;
      end
    end
  end

  for (genvar channel = 0; channel < Ol; channel++) begin : gen_channel
    logic [Il*8-1:0] w;
    for (genvar lane = 0; lane < Il; lane++) begin : gen_weight
      assign w[lane*8+:8] = weight_i[(lane*Ol+channel)*8+:8];
    end

    for (genvar pair = 0; pair < Pairs; pair++) begin : gen_pair
      logic signed [47:0] p;
      logic signed [17:0] low;
      /* verilator lint_off UNUSEDSIGNAL */  // AccW bits hold the sum, as the generator has proved
      logic signed [29:0] high;
      /* verilator lint_on UNUSEDSIGNAL */

      mac_chain #(.Taps(Il), .Skew(0)) u_chain (.clk_i, .a_i(a[pair*Il*27+:Il*27]), .w_i(w), .p_o(p));
      assign low = p[17:0];
      assign high = p[47:18] + {29'b0, p[17]};

      for (genvar side = 0; side < (2 * pair + 1 < Px ? 2 : 1); side++) begin : gen_side
        logic signed [AccW-1:0] part_q, acc_q;
        always_ff @(posedge clk_i) begin
          part_q <= side == 0 ? AccW'(low) : AccW'(high);
          acc_q <= part_q + (first ? AccW'(0) : acc_q);
        end
        assign acc_o[(channel*Px+2*pair+side)*AccW+:AccW] = acc_q;
      end
    end
  end

  initial if (Il > 8) $fatal(1, "pointwise: 9 products overflow an 18-bit field");
endmodule : pointwise
