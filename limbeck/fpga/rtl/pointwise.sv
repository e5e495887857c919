// Dot products for Px pixels and Ol output channels, Il lanes per cycle, in chains of up to 8. A word comes with valid
// control at cycle 0; the sums of an accumulation stand in acc_o, by channel and pixel, Taps + 5 cycles after its last
// word's, with Taps lanes in a chain.
module pointwise #(
    parameter int Px = 2,
    parameter int Il = 8,
    parameter int Ol = 16,
    parameter int AccW = 24,
    parameter int Bits = 8
) (
    input  logic                      clk_i,
    input  logic [    Px*Il*Bits-1:0] x_i,      // at cycle 1
    input  logic [    Il*Ol*Bits-1:0] weight_i, // lane i's Ol weights, at cycle 1 + i mod Taps
    input  logic                      first_i,  // at cycle 0
    output logic [    Ol*Px*AccW-1:0] acc_o
);
  localparam int Share = Bits == 8 ? 2 : 1;  // pixels that share a multiplier
  localparam int Pairs = (Px + Share - 1) / Share;
  localparam int Taps = Il < 8 ? Il : 8;
  localparam int Chains = Il / Taps;

  logic [Pairs*Il*27-1:0] a;
  logic first;

  delay #(.Width(1), .Cycles(Taps + 4)) u_first (.clk_i, .d_i(first_i), .q_o(first));

  for (genvar pair = 0; pair < Pairs; pair++) begin : gen_pair
    for (genvar lane = 0; lane < Il; lane++) begin : gen_lane
      logic [26:0] packed_word;
      logic [Bits-1:0] second;
      if (Share == 2 && 2 * pair + 1 < Px) begin : gen_two
        assign second = x_i[((2*pair+1)*Il+lane)*Bits+:Bits];
      end else begin : gen_alone
        assign second = '0;
      end
      pack #(.Bits(Bits)) u_pack (.first_i(x_i[(Share*pair*Il+lane)*Bits+:Bits]), .second_i(second), .packed_o(packed_word));
      if (lane % Taps > 0) begin : gen_skew
        delay #(.Width(27), .Cycles(lane % Taps)) u_skew (
            .clk_i, .d_i(packed_word), .q_o(a[(pair*Il+lane)*27+:27])
        );
      end else begin : gen_straight
        assign a[(pair*Il+lane)*27+:27] = packed_word;
      end
    end
  end

  for (genvar channel = 0; channel < Ol; channel++) begin : gen_channel
    logic [Il*Bits-1:0] w;
    for (genvar lane = 0; lane < Il; lane++) begin : gen_weight
      assign w[lane*Bits+:Bits] = weight_i[(lane*Ol+channel)*Bits+:Bits];
    end

    for (genvar pair = 0; pair < Pairs; pair++) begin : gen_pair
      /* verilator lint_off UNUSEDSIGNAL */  // AccW bits hold the sum, as the generator has proved; a pixel may be alone
      logic [Chains*48-1:0] p;
      logic signed [AccW-1:0] low, high;
      logic [AccW:0] both;
      /* verilator lint_on UNUSEDSIGNAL */

      for (genvar c = 0; c < Chains; c++) begin : gen_chain
        mac_chain #(.Taps(Taps), .Skew(0), .Bits(Bits), .AW(Share == 2 && 2 * pair + 1 < Px ? 27 : Bits)) u_chain (
            .clk_i, .a_i(a[(pair*Il+c*Taps)*27+:Taps*27]), .w_i(w[c*Taps*Bits+:Taps*Bits]), .p_o(p[c*48+:48])
        );
      end
      // Bit 17 of a chain's sum must be added to its upper part; it is the carry-in of the next addition.
      always_comb begin
        low = '0;
        high = AccW'($signed(p[47:18]));
        both = '0;
        for (int c = 0; c < Chains; c++) begin
          low = low + (Share == 2 ? AccW'($signed(p[c*48+:18])) : AccW'($signed(p[c*48+:48])));
          if (c > 0) begin
            both = {high, 1'b1} + {AccW'($signed(p[c*48+18+:30])), p[c*48-31]};
            high = both[AccW:1];
          end
        end
      end

      for (genvar side = 0; side < (Share == 2 && 2 * pair + 1 < Px ? 2 : 1); side++) begin : gen_side
        logic [AccW-1:0] part_q, acc_q;
        if (side == 0) begin : gen_low
          always_ff @(posedge clk_i) begin
            part_q <= low;
            acc_q <= part_q + (first ? AccW'(0) : acc_q);
          end
        end else begin : gen_high
          logic carry_q;
          /* verilator lint_off UNUSEDSIGNAL */  // the lowest bit only carries
          logic [AccW:0] sum;
          /* verilator lint_on UNUSEDSIGNAL */
          assign sum = {part_q, 1'b1} + {first ? AccW'(0) : acc_q, carry_q};
          always_ff @(posedge clk_i) begin
            part_q <= high;
            carry_q <= p[(Chains-1)*48+17];
            acc_q <= sum[AccW:1];
          end
        end
        assign acc_o[(channel*Px+Share*pair+side)*AccW+:AccW] = acc_q;
      end
    end
  end

  initial if (Il % Taps != 0) $fatal(1, "pointwise: lanes must fill chains of 8");
endmodule : pointwise
