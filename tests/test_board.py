"""A board is the Program over its serial line; the netlist that is placed is the Program too."""

import json
import os
import select
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from fpga_programs import random_program
from rtl import RTL, run_bench
from tools import need

from limbeck.artefacts.models import load_model
from limbeck.errors import InputError
from limbeck.fpga import bitstream, serial, simulate, synth
from limbeck.fpga.absorb import absorb
from limbeck.fpga.bitstream import pll
from limbeck.fpga.driver import Accelerator
from limbeck.fpga.emit import emit
from limbeck.fpga.parts import BOARDS
from limbeck.fpga.plan import Lanes, plan
from limbeck.fpga.serial import SerialError, SerialPort
from limbeck.integer.program import run

IMAGE, CLASSES, LANES = (1, 6, 6), 3, Lanes(1, 2, 4)
DIVIDER = 4  # a fast line: 40 cycles a byte
BOARD_FILES = RTL.parent / "board"


@pytest.fixture(scope="module")
def program():
    """Return a random program that tells images apart."""
    drawn = (random_program(seed, IMAGE, CLASSES) for seed in range(3, 50))
    return next(program for program in drawn if len(np.unique(run(program, images_of(5)), axis=0)) > 3)


@pytest.fixture(scope="module")
def design(program, tmp_path_factory):
    out = tmp_path_factory.mktemp("board") / "design"
    emit(plan(program, "lfe5u-45f", lanes=LANES), program, out)
    return out


def images_of(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *IMAGE), dtype=np.uint8)


class Pipe:
    """A simulated board's line: bytes to and from a process."""

    def __init__(self, process):
        self.process = process

    def read(self, size):
        """Return what has come, or nothing once a minute has passed."""
        there, _, _ = select.select([self.process.stdout], [], [], 60)
        return os.read(self.process.stdout.fileno(), size) if there else b""

    def write(self, data):
        self.process.stdin.write(data)
        self.process.stdin.flush()


def verilated(folder, top, sources, *options):
    """Return a simulator, built by Verilator."""
    need("verilator", "g++")
    command = ["verilator", "--cc", "--exe", "--build", "-O3", "-Wno-fatal", "-Wno-lint", "--top-module", top]
    command += ["--Mdir", str(folder), "-MAKEFLAGS", "OPT_FAST=-O1 OPT_SLOW=-O0", "-o", "simulator", *options]
    done = subprocess.run([*command, *map(str, sources)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
    return folder / "simulator"


@pytest.fixture(scope="module")
def board(design, tmp_path_factory):
    """Return the board's simulator, its multipliers those of 18 x 18 bits."""
    sources = [
        *design.glob("rtl/*.sv"),
        design / "rtl/limbeck.v",
        *design.glob("ulx3s/*.sv"),
        BOARD_FILES / "serial.cpp",
    ]
    channels, height, width = IMAGE
    sizes = [f"-GDivider={DIVIDER}", f"-GChannels={channels}", f"-GPixels={height * width}"]
    options = ["-DLIMBECK_MULT18", f"-I{design / 'rtl'}", "-CFLAGS", f"-DDIVIDER={DIVIDER}", *sizes]
    return verilated(tmp_path_factory.mktemp("simulator"), "board", sources, *options)


@contextmanager
def line(simulator):
    process = subprocess.Popen([simulator], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield Pipe(process)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_the_board_gives_the_programs_scores_over_its_serial_line(program, design, board):
    images = images_of(5)
    with line(board) as pipe:
        accelerator = Accelerator(SerialPort(pipe, IMAGE[0]), design)
        scores, classes = accelerator.run(images)
        assert accelerator.counters().images == len(images)
    wanted = run(program, images)
    assert len(np.unique(wanted, axis=0)) > 1
    np.testing.assert_array_equal(scores, wanted)
    np.testing.assert_array_equal(classes, wanted.argmax(1))


@pytest.mark.slow
def test_a_board_is_a_model_like_any_other(program, design, board, monkeypatch):
    images = torch.from_numpy(images_of(3, seed=1))
    with line(board) as pipe:
        monkeypatch.setattr(serial, "open_line", lambda device: pipe)
        net = load_model(f"{design}@/dev/ttyUSB7")
        logits = net(images).numpy()
    wanted = run(program, images.numpy())
    np.testing.assert_array_equal(np.round(logits / program.scale), wanted)


def test_a_line_that_is_not_there_is_told_in_a_sentence(design):
    with pytest.raises(InputError, match=r"@/dev/none: /dev/none can't be opened: "):
        load_model(f"{design}@/dev/none")


BRIDGE = """
module bench;
  logic clk = 0, rst_n = 0;
  logic [8:0] vectors [0:{count}-1];  // a byte, or 1xx: time passes
  logic [7:0] in, out, awaddr, araddr;
  logic in_valid = 0, out_valid, awvalid, wvalid, arvalid, rready, pixel_valid, pixel_last, rvalid = 0, score_ready;
  logic [31:0] wdata, pixel;
  bridge #(.Channels(2), .Pixels(3), .Patience(6)) dut (
      .clk_i(clk), .rst_ni(rst_n), .byte_i(in), .byte_valid_i(in_valid), .byte_o(out), .byte_valid_o(out_valid),
      .byte_ready_i(1'b1), .awaddr_o(awaddr), .awvalid_o(awvalid), .awready_i(1'b1), .wdata_o(wdata), .wvalid_o(wvalid),
      .wready_i(1'b1), .araddr_o(araddr), .arvalid_o(arvalid), .arready_i(1'b1), .rdata_i(32'h44332211),
      .rvalid_i(rvalid), .rready_o(rready), .pixel_o(pixel), .pixel_valid_o(pixel_valid), .pixel_ready_i(1'b1),
      .pixel_last_o(pixel_last), .score_i(32'h88776655), .score_valid_i(1'b0), .score_ready_o(score_ready)
  );
  task step;
    begin
      #1 clk = 1;
      if (awvalid && wvalid) $display("write %0d %0d", awaddr, wdata);
      if (arvalid) $display("read %0d", araddr);
      if (pixel_valid) $display("pixel %0d %0d", pixel[15:0], pixel_last);
      if (out_valid) $display("out %0d", out);
      rvalid = arvalid;
      #1 clk = 0;
    end
  endtask
  initial begin
    $readmemh("vectors.mem", vectors);
    repeat (4) step;
    rst_n = 1;
    for (int i = 0; i < {count}; i++) begin
      in = vectors[i][7:0];
      in_valid = !vectors[i][8];
      step;
      in_valid = 0;
      repeat (vectors[i][8] ? 70 : 6) step;
    end
    $finish;
  end
endmodule
"""
LATER = [0x100]


@pytest.mark.parametrize(
    ("sent", "done"),
    [
        ([1, 8, 1, 2, 0, 0], ["write 8 513"]),
        ([2, 0x20], ["read 32", "out 17", "out 34", "out 51", "out 68"]),
        ([3, 0x30, 2, 0, 5, 0, 0, 0, 6, 0, 0, 0], ["write 48 5", "write 48 6"]),
        ([3, 0x30, 0, 0, 1, 8, 7, 0, 0, 0], ["write 8 7"]),  # a burst of none
        ([4, 4, 0, 0, 0, *range(1, 9)],
         ["pixel 513 0", "pixel 1027 0", "pixel 1541 1", "pixel 2055 0"]),  # images of three pixels
        ([9, 1, 8, 1, 0, 0, 0], ["write 8 1"]),  # no command
        ([3, 0x30, 200, 0, 1, 2, 3, *LATER, 1, 8, 1, 0, 0, 0], ["write 8 1"]),  # a host was killed
        ([4, 9, 0, 0, 0, 1, 1, *LATER, 4, 3, 0, 0, 0, *range(1, 7)],
         ["pixel 257 0", "pixel 513 0", "pixel 1027 0", "pixel 1541 1"]),
    ],
)  # fmt: skip
def test_the_bridge_does_what_a_host_sends(tmp_path, sent, done):
    rows = [f"{byte:03x}" for byte in sent]
    bench = BRIDGE.format(count=len(sent))
    found = run_bench(tmp_path, bench, [], vectors=rows, more=[BOARD_FILES / "bridge.sv"])
    assert [" ".join(line) for line in found] == done


def test_a_silent_board_is_told():
    class Silent:
        def read(self, size):
            return b""

        def write(self, data):
            pass

    with pytest.raises(SerialError, match=r"the board sent 0 of 4 bytes and fell silent; is its bitstream loaded\?"):
        SerialPort(Silent(), 1).read(0x20)


def test_at_most_two_images_are_under_way():
    """The line has no flow control, and the board room for two."""

    class Counting:
        sent = taken = worst = 0

        def write(self, data):
            self.sent += data[0] == 4
            self.worst = max(self.worst, self.sent - self.taken // 12)

        def read(self, size):
            self.taken += size
            return bytes(size)

    counted = Counting()
    SerialPort(counted, 1).transfer(np.zeros(6 * 5, np.uint32), 5, 6 * 3)
    assert (counted.sent, counted.worst, counted.taken) == (6, 2, 6 * 12)


@pytest.mark.parametrize("speed", [25, 87.5, 100, 112.5, 200])
def test_the_plls_dividers_make_the_clock(speed):
    """CLKOP = 25 MHz / CLKI_DIV * CLKFB_DIV, of an oscillator CLKOP_DIV times as fast, between 400 and 800 MHz."""
    made = pll(speed)
    assert 25 / made["clki_div"] * made["clkfb_div"] == speed
    assert 400 <= speed * made["clkop_div"] <= 800
    assert all(1 <= made[name] <= 128 for name in ("clki_div", "clkfb_div", "clkop_div"))


# ---- the netlist

BLOCKS = """
module MULT18X18D #(
  parameter REG_INPUTA_CLK = "NONE", REG_INPUTB_CLK = "NONE", REG_OUTPUT_CLK = "NONE", REG_PIPELINE_CLK = "NONE",
  parameter REG_INPUTC_CLK = "NONE", GSR = "", SOURCEB_MODE = "", MULT_BYPASS = "", RESETMODE = ""
) ({ports});
  {directions}
  wire [17:0] a = {{{a}}}, b = {{{b}}};
  reg [17:0] a_q, b_q;
  reg [35:0] p_q;
  wire [17:0] x = REG_INPUTA_CLK == "NONE" ? a : a_q, y = REG_INPUTB_CLK == "NONE" ? b : b_q;
  wire signed [35:0] p = $signed({{SIGNEDA & x[17], x}}) * $signed({{SIGNEDB & y[17], y}});
  always @(posedge CLK0) begin a_q <= a; b_q <= b; p_q <= p; end
  assign {{{p}}} = REG_OUTPUT_CLK == "NONE" ? p : p_q;
endmodule
"""


def multiplier():
    """Return a model of MULT18X18D, as Lattice describes it (TN1267), with the ports that netlists here use."""
    a, b, p = ([f"{name}{i}" for i in reversed(range(size))] for name, size in (("A", 18), ("B", 18), ("P", 36)))
    others = [f"C{i}" for i in range(18)] + ["SIGNEDA", "SIGNEDB", "SOURCEA", "SOURCEB", "CLK0", "CE0", "RST0"]
    others += [f"{n}{i}" for n in ("CLK", "CE", "RST") for i in (1, 2, 3)]
    others += [f"{n}{i}" for n in ("SRIA", "SRIB") for i in range(18)]
    directions = f"input {', '.join([*a, *b, *others])}; output {', '.join(p)};"
    ports = ", ".join([*a, *b, *others, *p])
    return BLOCKS.format(ports=ports, directions=directions, a=", ".join(a), b=", ".join(b), p=", ".join(p))


MEMORY = """
module DP16KD #(
  parameter DATA_WIDTH_A = 18, DATA_WIDTH_B = 18, REGMODE_A = "NOREG", REGMODE_B = "NOREG", CLKAMUX = "CLKA",
  parameter CLKBMUX = "CLKB", WRITEMODE_A = "NORMAL", WRITEMODE_B = "NORMAL", GSR = "", RESETMODE = "",
  parameter ASYNC_RESET_RELEASE = "", CSDECODE_A = "", CSDECODE_B = "", {inits}
) ({ports});
  {directions}
  localparam integer WA = DATA_WIDTH_A, WB = DATA_WIDTH_B;
  reg [17:0] mem [0:1023];
  wire [13:0] ada = {{{ada}}}, adb = {{{adb}}};
  wire [17:0] dia = {{{dia}}}, dib = {{{dib}}};
  reg [35:0] ra, rb, qa, qb;
  // what a port of so many bits reads at a bit address, of words of 18: 9 bits a half, the ninth of 1, 2 and 4 unused
  function [35:0] read(input integer width, input [13:0] at);
    case (width)
      1: read = mem[at[13:4]][at[3] * 9 + at[2:0] +: 1];
      2: read = mem[at[13:4]][at[3] * 9 + at[2:1] * 2 +: 2];
      4: read = mem[at[13:4]][at[3] * 9 + at[2] * 4 +: 4];
      9: read = mem[at[13:4]][at[3] * 9 +: 9];
      18: read = mem[at[13:4]];
      default: read = {{mem[{{at[13:5], 1'b1}}], mem[{{at[13:5], 1'b0}}]}};
    endcase
  endfunction
  always @(posedge CLKA) begin
    qa <= ra;
    if (CEA) begin
      ra <= read(WA, ada);
      if (WEA) case (WA)
        1: mem[ada[13:4]][ada[3] * 9 + ada[2:0] +: 1] <= dia[0:0];
        2: mem[ada[13:4]][ada[3] * 9 + ada[2:1] * 2 +: 2] <= dia[1:0];
        4: mem[ada[13:4]][ada[3] * 9 + ada[2] * 4 +: 4] <= dia[3:0];
        9: mem[ada[13:4]][ada[3] * 9 +: 9] <= dia[8:0];
        18: begin
          if (ada[0]) mem[ada[13:4]][8:0] <= dia[8:0];
          if (ada[1]) mem[ada[13:4]][17:9] <= dia[17:9];
        end
        default: begin
          if (ada[0]) mem[{{ada[13:5], 1'b0}}][8:0] <= dia[8:0];
          if (ada[1]) mem[{{ada[13:5], 1'b0}}][17:9] <= dia[17:9];
          if (ada[2]) mem[{{ada[13:5], 1'b1}}][8:0] <= dib[8:0];
          if (ada[3]) mem[{{ada[13:5], 1'b1}}][17:9] <= dib[17:9];
        end
      endcase
    end
  end
  always @(posedge CLKB) begin
    qb <= rb;
    if (CEB) begin
      rb <= read(WB, adb);
      if (WEB) case (WB)
        1: mem[adb[13:4]][adb[3] * 9 + adb[2:0] +: 1] <= dib[0:0];
        2: mem[adb[13:4]][adb[3] * 9 + adb[2:1] * 2 +: 2] <= dib[1:0];
        4: mem[adb[13:4]][adb[3] * 9 + adb[2] * 4 +: 4] <= dib[3:0];
        9: mem[adb[13:4]][adb[3] * 9 +: 9] <= dib[8:0];
        default: begin
          if (adb[0]) mem[adb[13:4]][8:0] <= dib[8:0];
          if (adb[1]) mem[adb[13:4]][17:9] <= dib[17:9];
        end
      endcase
    end
  end
  wire [35:0] a = REGMODE_A == "OUTREG" ? qa : ra, b = REGMODE_B == "OUTREG" ? qb : rb;
  assign {{{doa}}} = WB == 36 ? b[17:0] : a[17:0];
  assign {{{dob}}} = WB == 36 ? b[35:18] : b[17:0];
endmodule
"""


def memory():
    """Return a model of DP16KD, as Lattice describes it (TN1264): two ports, or one of 36 bits that writes and one that
    reads, whose words are halves of 18."""
    names = {f"{n.lower()}{p.lower()}": [f"{n}{p}{i}" for i in reversed(range(size))]
             for p in "AB" for n, size in (("AD", 14), ("DI", 18), ("DO", 18))}  # fmt: skip
    single = [f"{n}{p}" for p in "AB" for n in ("CE", "OCE", "CLK", "WE", "RST")] + [
        f"CS{p}{i}" for p in "AB" for i in range(3)
    ]
    inputs = [*names["ada"], *names["adb"], *names["dia"], *names["dib"], *single]
    outputs = [*names["doa"], *names["dob"]]
    directions = f"input {', '.join(inputs)}; output {', '.join(outputs)};"
    inits = ", ".join(f"INITVAL_{i:02X} = 320'h0" for i in range(64))
    parts = {name: ", ".join(pins) for name, pins in names.items()}
    return MEMORY.format(ports=", ".join(inputs + outputs), directions=directions, inits=inits, **parts)


@pytest.fixture(scope="module")
def netlist(design):
    """Return how many registers moved in the accelerator's netlist for an ECP5, and the netlist as Verilog."""
    script = (
        "read_verilog -sv -DLIMBECK_MULT18 -I rtl rtl/*.sv\nread_verilog rtl/limbeck.v\n"
        "synth_ecp5 -top limbeck -json check/netlist.json\n"
    )
    found = synth.run_yosys(design, "check", script)
    counts = absorb(found["modules"]["limbeck"])
    (design / "check" / "absorbed.json").write_text(json.dumps(found))
    back = "read_json check/absorbed.json\nwrite_verilog -noattr check/netlist.v\nwrite_json check/netlist.json\n"
    synth.run_yosys(design, "check", back)
    return counts, design / "check" / "netlist.v"


def cells_of_yosys():
    """Return the folder of Yosys' own models of ECP5 cells."""
    import pyosys

    return Path(pyosys.__file__).parent / "share" / "ecp5"


@pytest.mark.slow
def test_the_netlist_gives_the_programs_scores(program, design, netlist, tmp_path):
    counts, verilog = netlist
    assert all(counts[kind] for kind in ("output", "a", "b"))
    models = tmp_path / "blocks.v"
    models.write_text(multiplier() + memory())
    cells = cells_of_yosys()
    sources = [verilog, models, cells / "cells_sim.v", design / "sim" / "harness.cpp"]
    simulator = verilated(tmp_path / "made", "limbeck", sources, f"-I{cells}", "--timing")
    report = simulate.simulate(design, images_of(3), simulator=simulator)
    np.testing.assert_array_equal(report.scores, run(program, images_of(3)))


def flop(clock, d, q, **parameters):
    return {
        "type": "TRELLIS_FF", "parameters": {"CEMUX": "1 ", "CLKMUX": "CLK", **parameters},
        "port_directions": {"CLK": "input", "LSR": "input", "DI": "input", "Q": "output"},
        "connections": {"CLK": [clock], "LSR": ["0"], "DI": [d], "Q": [q]},
    }  # fmt: skip


def product(a, b, p):
    pins = {f"A{i}": [bit] for i, bit in enumerate(a)} | {f"B{i}": [bit] for i, bit in enumerate(b)}
    pins |= {f"P{i}": [bit] for i, bit in enumerate(p)}
    directions = {pin: "output" if pin[0] == "P" else "input" for pin in pins}
    return {"type": "MULT18X18D", "parameters": {}, "port_directions": directions, "connections": pins}


def outside(*bits):
    return {"out": {"direction": "output", "bits": list(bits)}}


def test_a_register_that_feeds_a_multiplier_and_others_stays_for_the_others():
    cells = {"ff": flop(1, 2, 3), "m": product([3], ["0"], [4]), "other": flop(1, 3, 5)}
    module = {"cells": cells, "ports": outside(4, 5)}
    assert absorb(module) == {"output": 0, "a": 1, "b": 0}
    assert cells["m"]["connections"]["A0"] == [2]
    assert "ff" in cells


@pytest.mark.parametrize(
    ("change", "why"),
    [({"CEMUX": "CE"}, "an enable"), ({"CLKMUX": "INV"}, "the other edge")],
)
def test_a_register_of_another_kind_is_not_moved(change, why):
    cells = {"m": product([2], [3], [4]), "ff": flop(1, 4, 5, **change)}
    assert absorb({"cells": cells, "ports": outside(5)})["output"] == 0, why
    assert "ff" in cells


def test_an_output_that_is_used_before_its_register_keeps_it():
    cells = {"m": product([2], [3], [4]), "ff": flop(1, 4, 5)}
    assert absorb({"cells": cells, "ports": outside(4, 5)})["output"] == 0


def test_a_multiplier_has_one_clock():
    cells = {"a": flop(1, 2, 3), "m": product([3], ["0"], [4]), "p": flop(9, 4, 5)}
    counts = absorb({"cells": cells, "ports": outside(5)})
    assert counts["output"] + counts["a"] == 1


# ---- the flow


@pytest.mark.slow
def test_a_small_engine_is_placed_routed_and_packed(design, capsys):
    told = []
    made = bitstream.make(design, BOARDS["ulx3s"], clock=25, tell=lambda _, values: told.append(values["text"]))
    with capsys.disabled():  # the gate shows it
        print(f"\nthe small engine is routed at {made.fmax:.1f} MHz; {made.critical}")
    assert made.fmax >= made.clock == 25
    assert Path(made.file).read_bytes()[:2] == b"\xff\x00"  # how Lattice's files begin
    assert made.used["MULT18X18D"][0] == plan_multipliers(design)
    assert {"placing", "routing"} <= {text.split(" ")[0] for text in told}
    told.clear()
    assert bitstream.make(design, BOARDS["ulx3s"], clock=25, tell=lambda _, values: told.append(values["text"])) == made
    assert told == [f"{made.file} is up to date"]


def plan_multipliers(design):
    return json.loads((design / "design.json").read_text())["resources"]["dsps"]


def test_a_design_for_another_part_is_refused(program, tmp_path):
    emit(plan(program, "xczu3eg", lanes=LANES), program, tmp_path / "design")
    with pytest.raises(InputError, match=r"is for xczu3eg; ulx3s has lfe5u-45f or lfe5u-85f"):
        bitstream.make(tmp_path / "design", BOARDS["ulx3s"])


def test_a_clock_that_the_pll_does_not_make_is_refused(design):
    with pytest.raises(InputError, match=r"must be a multiple of 12\.5 from 25 to 200 MHz"):
        bitstream.make(design, BOARDS["ulx3s"], clock=99)


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("import os; os.kill(os.getpid(), 9)", "signal 9 ended it"),
        ("import sys; print('Info: placing'); sys.exit(3)", "it ended early"),
        ("import sys; print('ERROR: no bel left for MULT18X18D'); sys.exit(1)", "no bel left for MULT18X18D"),
    ],
)
def test_why_nothing_was_routed_is_said(tmp_path, monkeypatch, code, fault):
    monkeypatch.setattr(bitstream, "_tool", lambda _: [sys.executable, "-c", code])
    with pytest.raises(InputError, match=rf"could not place and route for ulx3s: {fault} \(.*nextpnr.log\)"):
        bitstream._routed(tmp_path, BOARDS["ulx3s"], "lfe5u-85f", 100, 1, lambda *_: None)
