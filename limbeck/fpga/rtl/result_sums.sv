// Keeps the sums of an output group and hands them on, one word of channels after the other. The first comes RamCycles
// after result_words' first word, together with its offsets and multipliers.
module result_sums #(
    parameter int OlWords = 2,  // words of an output group
    parameter int SumsW = 1     // bits of a word's sums
) (
    input  logic                     clk_i,
    input  logic                     start_i,  // two cycles before the sums are valid in acc_i
    input  logic                     next_i,   // result_words' next_o
    input  logic [OlWords*SumsW-1:0] acc_i,
    output logic [SumsW-1:0]         sums_o
);
  `include "contract.svh"
  localparam int ChoiceW = OlWords > 1 ? $clog2(OlWords) : 1;

  logic soon, load;

  delay #(.Width(1), .Cycles(NoticeCycles - 2)) u_soon (.clk_i, .d_i(start_i), .q_o(soon));
  delay #(.Width(1), .Cycles(1)) u_load (.clk_i, .d_i(soon), .q_o(load));

  if (OlWords > 1) begin : gen_words
    logic [(OlWords-1)*SumsW-1:0] hold_q;
    logic [ChoiceW-1:0] choice_q;
    logic next;
    delay #(.Width(1), .Cycles(RamCycles)) u_next (.clk_i, .d_i(next_i), .q_o(next));
    always_ff @(posedge clk_i) begin
      if (load) hold_q <= acc_i[OlWords*SumsW-1:SumsW];
      if (soon) choice_q <= '0;
      else if (load || next) choice_q <= choice_q + 1'b1;
    end
    for (genvar i = 0; i < SumsW; i++) begin : gen_bit
      logic [(1<<ChoiceW)-1:0] choices;
      assign choices[0] = acc_i[i];
      for (genvar word = 1; word < 1 << ChoiceW; word++) begin : gen_choice
        if (word < OlWords) begin : gen_some
          assign choices[word] = hold_q[(word-1)*SumsW+i];
        end else begin : gen_none
          assign choices[word] = 1'b0;
        end
      end
      always_ff @(posedge clk_i) if (load || next) sums_o[i] <= choices[choice_q];
    end
  end else begin : gen_word
    /* verilator lint_off UNUSEDSIGNAL */  // there is no next word
    logic unused;
    /* verilator lint_on UNUSEDSIGNAL */
    assign unused = next_i;
    always_ff @(posedge clk_i) if (load) sums_o <= acc_i;
  end
endmodule : result_sums
