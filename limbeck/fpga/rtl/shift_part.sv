// The low bits of a signed number that is shifted right by zero, one, two or three steps.
module shift_part #(
    parameter int InW = 8,
    parameter int OutW = 8,
    parameter int Step = 1
) (
    input  logic signed [ InW-1:0] d_i,
    input  logic        [     1:0] steps_i,
    output logic signed [OutW-1:0] q_o
);
  for (genvar i = 0; i < OutW; i++) begin : gen_bit
    logic [3:0] choices;
    for (genvar k = 0; k < 4; k++) begin : gen_choice
      assign choices[k] = d_i[i+k*Step < InW ? i + k * Step : InW-1];
    end
    assign q_o[i] = choices[steps_i];
  end
endmodule : shift_part
