"""What NNgen's accelerators take for the same layers: cycles of its own Verilog in simulation, results compared.

python benchmarks/peers_fpga.py "4@16 c8 d p16" --par-in 8 --par-out 8 --bus 64

in an environment of its own (pip install nngen setuptools; iverilog beside it). The layers stand on a square
map, 8 bits each: "4@16" is 4 channels of 16 x 16 pixels, c8 a 3x3 convolution to 8 channels, d a depthwise 3x3 (NNgen
has none: a convolution whose weights are 0 off the diagonal), p16 a pointwise convolution to 16. All with a ReLU.

`cycles` are from the start command to the end: weights and maps are read from a model of a DRAM and written to it.
`computing` are those of them in which a convolution's stream of operands is busy: what would be left were all on chip.
Multipliers are the multiplying streams in the Verilog, those of the scales left out.
"""

import argparse
import json
import math
import os
import re
import subprocess
import tempfile
from pathlib import Path

import nngen as ng
import numpy as np
import veriloggen as vg
from veriloggen import simulation
from veriloggen import thread as vthread
from veriloggen.types import axi

CHUNK = 64


def layers(spec, par_in, par_out):
    """Return the input, the output and the useful multiplications of the layers that `spec` names."""
    rng = np.random.default_rng(0)

    def variable(name, shape, dtype, low, high):
        made = ng.variable(dtype=dtype, shape=shape, name=name)
        made.set_value(rng.integers(low, high, shape))
        return made

    first, *names = spec.split()
    channels, side = map(int, first.split("@"))
    x = out = ng.placeholder(dtype=ng.int8, shape=(1, side, side, channels), name="x")
    macs = 0
    for number, name in enumerate(names):
        wide = int(name[1:] or channels)
        taps = 1 if name[0] == "p" else 3
        weight = variable(f"w{number}", (wide, taps, taps, channels), ng.int8, -127, 128)
        if name[0] == "d":
            weight.set_value(weight.value * np.eye(wide, dtype=int)[:, None, None, :])
        bias = variable(f"b{number}", (wide,), ng.int32, -99, 100)
        scale = variable(f"s{number}", (wide,), ng.int8, 1, 9)
        out = ng.conv2d(
            out, weight, (1, 1, 1, 1), bias=bias, scale=scale, rshift_out=12, act_func=ng.relu, dtype=ng.int8,
            sum_dtype=ng.int32, par_ich=min(par_in, channels), par_och=min(par_out, wide),
        )  # fmt: skip
        macs += side * side * wide * taps * taps * (1 if name[0] == "d" else channels)
        channels = wide
    return x, out, macs


def up(value):
    return math.ceil(value / CHUNK) * CHUNK


def bench(made, x, out, bus):
    """Return the Verilog of the accelerator and a bench that runs it once; writes memory.out."""
    values = np.random.default_rng(1).integers(-128, 128, x.shape)
    wanted = ng.eval([out], x=values)[0]
    weights = ng.export_ndarray([out], CHUNK)
    weights_at = up(x.addr + x.memory_size)
    wanted_at = up(weights_at + len(weights))
    scratch_at = up(wanted_at + out.memory_size)
    memory = np.zeros([1 << 20], dtype=np.int64)
    words = max(1, bus // 8)
    axi.set_memory(memory, values, 8, 8, x.addr, words)
    memory[weights_at : weights_at + len(weights)] = weights
    axi.set_memory(memory, wanted, 8, 8, wanted_at, words)
    axi.to_memory_image("memory.out", memory, datawidth=8)

    m = vg.Module("test")
    params, ports = m.copy_params(made), m.copy_sim_ports(made)
    clk, resetn = ports["CLK"], ports["RESETN"]
    rst = m.Wire("RST")
    rst.assign(vg.Not(resetn))
    dram = axi.AxiMemoryModel(
        m, "memory", clk, rst, bus, mem_datawidth=8, mem_addrwidth=20, memimg="memory.out", memimg_name="memory.out",
        memimg_datawidth=8,
    )  # fmt: skip
    dram.connect(ports, "maxi")
    saxi = vthread.AXIMLite(m, "_saxi", clk, rst, noio=True)
    saxi.connect(ports, "saxi")
    now, computing = m.Reg("now", 32, initval=0), m.Reg("computing", 32, initval=0)
    vg.Seq(m, "tick", clk, rst)(now.inc())
    same = m.Reg("same", 1, initval=1)

    def control():
        for _ in range(100):
            pass
        ng.sim.set_global_addrs(saxi, scratch_at)
        began, busy = now.value, computing.value
        ng.sim.start(saxi)
        ng.sim.wait(saxi)
        took, busy = now.value - began, computing.value - busy
        same.value = 1
        for i in range(out.memory_size // 8):
            if dram.read_word(i, out.addr, 64) != dram.read_word(i, wanted_at, 64):
                same.value = 0
        print("figures %d %d %d" % (took, busy, same.value))  # noqa: UP031 - becomes Verilog
        vthread.finish()

    vthread.Thread(m, "control", clk, rst, control).start()
    m.Instance(made, "uut", params=m.connect_params(made), ports=m.connect_ports(made))
    del params
    simulation.setup_clock(m, clk)
    simulation.setup_reset(m, resetn, m.make_reset(), period=100, polarity="low").add(
        vg.Delay(100_000_000), vg.Systask("finish")
    )
    return m.to_verilog()


def watched(text):
    """Return the bench with a count of the cycles in which a convolution's stream is busy."""
    busy = sorted(set(re.findall(r"wire (_stream_conv2d_\d+_busy);", text)))
    watch = f"if ({' || '.join(f'uut.{name}' for name in busy)}) computing <= computing + 1;"
    head, end, tail = text.partition("endmodule")  # the bench comes first
    return f"{head}  initial computing = 0;\n  always @(posedge CLK) {watch}\n{end}{tail}"


def figures(text):
    """Return cycles, cycles of computing, and whether the result was right, as Icarus says."""
    Path("test.v").write_text(watched(text))
    subprocess.run(["iverilog", "-o", "test.vvp", "-s", "test", "test.v"], check=True)
    done = subprocess.run(["vvp", "-n", "test.vvp"], check=True, capture_output=True, text=True)
    found = re.search(r"figures\s+(\d+)\s+(\d+)\s+(\d+)", done.stdout)
    if found is None:
        raise SystemExit(f"the simulation did not end: {done.stdout[-500:]}")
    return {"cycles": int(found[1]), "computing": int(found[2]), "right": found[3] == "1"}


def multipliers(text):
    """Return the multipliers of the accelerator: instances of its modules that multiply two 8-bit operands."""
    return len(set(re.findall(r"wire _(mul_\d+)_busy;", text)))


def main():
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("layers")
    parser.add_argument("--par-in", type=int, default=8)
    parser.add_argument("--par-out", type=int, default=8)
    parser.add_argument("--bus", type=int, default=64, help="bits of the memory bus")
    parser.add_argument("--keep", help="a folder for the Verilog")
    options = parser.parse_args()
    folder = Path(options.keep or tempfile.mkdtemp()).resolve()
    folder.mkdir(exist_ok=True)
    os.chdir(folder)
    x, out, macs = layers(options.layers, options.par_in, options.par_out)
    made = ng.to_veriloggen([out], "peer", silent=True, config={"maxi_datawidth": options.bus})
    text = bench(made, x, out, options.bus)
    asked = {"layers": options.layers, "par": [options.par_in, options.par_out], "bus": options.bus}
    print(json.dumps({**asked, "macs": macs, "multipliers": multipliers(text), **figures(text)}))


if __name__ == "__main__":
    main()
