# Packages the accelerator as an IP with AXI ports: vivado -mode batch -source vivado/package.tcl, in the design's folder.
# Written for Vivado 2022.1 and later; it has not been run (docs/hardware.md).
create_project -force limbeck_ip vivado/ip_project -part $vivado_part
add_files [glob rtl/*.sv rtl/*.svh rtl/limbeck.v]
set_property include_dirs [file normalize rtl] [current_fileset]
set_property verilog_define {LIMBECK_DSP48E2} [current_fileset]
set_property top limbeck [current_fileset]
update_compile_order -fileset sources_1
ipx::package_project -root_dir vivado/ip -vendor limbeck -library user -taxonomy /UserIP -import_files -force
foreach name {s_axi s_axis m_axis} { ipx::associate_bus_interfaces -busif $$name -clock aclk [ipx::current_core] }
set_property core_revision 1 [ipx::current_core]
ipx::create_xgui_files [ipx::current_core]
ipx::update_checksums [ipx::current_core]
ipx::save_core [ipx::current_core]
