# Synthesises and places the accelerator alone: vivado -mode batch -source vivado/synth.tcl, in the design's folder.
# Written for Vivado 2022.1 and later; it has not been run (docs/hardware.md).
read_verilog -sv [glob rtl/*.sv]
read_verilog rtl/limbeck.v
synth_design -top limbeck -part $vivado_part -mode out_of_context -include_dirs rtl -verilog_define LIMBECK_DSP48E2
create_clock -period $period -name aclk [get_ports aclk]
report_utilization -file vivado/utilization.txt
opt_design
place_design
route_design
report_timing_summary -file vivado/timing.txt
report_utilization -file vivado/utilization_routed.txt
write_checkpoint -force vivado/limbeck.dcp
