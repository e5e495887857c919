"""Runs a block of the accelerator in Icarus: a bench prints, a test reads."""

import subprocess
from importlib.resources import files

from tools import need

RTL = files("limbeck.fpga") / "rtl"


def run_bench(folder, bench, blocks, *, vectors=None, defines=(), more=()):
    """Return the words of each line that the module `bench` prints; `vectors` are rows of hexadecimal words."""
    need("iverilog")
    (folder / "bench.sv").write_text(bench)
    if vectors is not None:
        (folder / "vectors.mem").write_text("\n".join(vectors))
    sources = [str(RTL / f"{block}.sv") for block in blocks]
    command = ["iverilog", "-g2012", f"-I{RTL}", *(f"-D{d}" for d in defines), "-s", "bench", "-o", "bench.vvp"]
    subprocess.run([*command, "bench.sv", *sources, *map(str, more)], cwd=folder, check=True, capture_output=True)
    done = subprocess.run(["vvp", "-n", "bench.vvp"], cwd=folder, check=True, capture_output=True, text=True)
    return [line.split() for line in done.stdout.splitlines() if line and not line.startswith("bench.sv")]


def words(value, bits):
    """Return a signed number as hexadecimal digits of so many bits."""
    return f"{value & ((1 << bits) - 1):0{-(-bits // 4)}x}"
