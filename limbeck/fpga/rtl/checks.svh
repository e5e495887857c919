// For the assertions of a module, in simulation only: `checking` once a run has been seen to end, since a simulation
// begins with anything in its registers. Included inside of modules with clk_i and run_i.

bit checking;
initial checking = 0;
always @(posedge clk_i) if (!run_i) checking <= 1;
