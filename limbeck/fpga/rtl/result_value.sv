// Makes a value of an accumulator, which is requantised, added to its shortcut and saturated; and what goes to the map:
// the value with its low bits dropped, rounded and saturated. Cycles are counted as in `result`, from the address of the
// value's word.
module result_value #(
    parameter int AccW = 24,
    parameter int StateW = 16,
    parameter int Bits = 8        // of maps
) (
    input  logic                     clk_i,
    input  logic signed [  AccW-1:0] acc_i,           // these three at cycle RamCycles
    input  logic signed [  AccW-1:0] offset_i,
    input  logic        [      15:0] mult_i,
    input  logic        [       5:0] shift_less_1_i,  // RequantShiftCycles later
    input  logic                     relu_i,          // these two RequantSidesCycles later
    input  logic                     narrow_i,
    input  logic signed [StateW-1:0] short_i,         // these two at cycle AddedCycles
    input  logic                     add_i,
    input  logic                     in_map_i,        // these three a cycle later
    input  logic                     state_relu_i,
    input  logic                     state_narrow_i,
    output logic        [StateW-1:0] value_o,         // at cycle ValueCycles; 0 outside of the map
    input  logic        [StateW-1:0] kept_i,
    input  logic        [       4:0] drop_i,          // with kept_i
    output logic        [  Bits-1:0] map_o            // DropCycles later
);
  localparam logic [Bits-1:0] Most = {1'b0, {(Bits - 1) {1'b1}}};       // of a map
  localparam int By2W = StateW + 1 < Bits + 8 ? StateW + 1 : Bits + 8;  // bits that later shifts can bring to the result
  localparam int By1W = By2W < Bits + 2 ? By2W : Bits + 2;

  logic signed [StateW-1:0] y;
  logic signed [StateW:0] sum_q;
  logic [StateW-1:0] high;
  logic over;

  requant #(.AccW(AccW), .OutW(StateW), .NarrowW(Bits)) u_requant (
      .clk_i, .acc_i, .carry_i(1'b0), .offset_i, .mult_i, .shift_less_1_i, .relu_i, .narrow_i, .y_o(y)
  );

  assign high = state_narrow_i ? {{(StateW - Bits) {1'b0}}, Most} : {1'b0, {(StateW - 1) {1'b1}}};
  assign over = sum_q[StateW] != sum_q[StateW-1]
             || (state_narrow_i && sum_q[StateW-1:Bits-1] != {(StateW - Bits + 1) {sum_q[StateW]}});

  always_ff @(posedge clk_i) begin
    sum_q <= (StateW + 1)'(y) + (add_i ? (StateW + 1)'(short_i) : (StateW + 1)'(0));
    if (!in_map_i || (state_relu_i && sum_q[StateW])) value_o <= '0;
    else if (over) value_o <= sum_q[StateW] ? ~high : high;
    else value_o <= sum_q[StateW-1:0];
  end

  // ---- to the map: a shift in parts, as in `requant`
  logic signed [StateW:0] by_8;                     // includes the bit below the result, which rounds it
  logic signed [By2W-1:0] by_2;
  logic signed [By1W-1:0] by_1;
  logic signed [Bits:0] dropped_q, rounded;
  logic [2:0] far_q;
  logic negative_q;

  assign by_8 = $signed({kept_i, 1'b0}) >>> {drop_i[4:3], 3'd0};
  assign by_2 = $signed(by_8[By2W-1:0]) >>> {drop_i[2:1], 1'd0};
  assign by_1 = $signed(by_2[By1W-1:0]) >>> drop_i[0];
  assign rounded = $signed({dropped_q[Bits], dropped_q[Bits:1]}) + $signed({{Bits{1'b0}}, dropped_q[0]});

  always_ff @(posedge clk_i) begin
    dropped_q <= by_1[Bits:0];
    far_q <= {by_8 != (StateW + 1)'($signed(by_8[By2W-1:0])), by_2 != By2W'($signed(by_2[By1W-1:0])),
              by_1[By1W-1] != by_1[Bits]};
    negative_q <= kept_i[StateW-1];
    if (far_q != 3'd0 || rounded[Bits] != rounded[Bits-1]) map_o <= negative_q ? ~Most : Most;
    else map_o <= rounded[Bits-1:0];
  end
endmodule : result_value
