"""The ports keep to AXI4-Lite and AXI4-Stream with other people's masters, whatever is sent and whenever it stops."""

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from fpga_programs import random_program
from tools import need

from limbeck.fpga.emit import emit
from limbeck.fpga.op import Lanes
from limbeck.fpga.plan import plan
from limbeck.integer.program import run

need("cocotb", "cocotbext.axi", "iverilog")

pytestmark = pytest.mark.slow

IMAGE, CLASSES, IMAGES = (1, 3, 4), 2, 6
STEM_IMAGE = (1, 6, 4)
BENCH = Path(__file__).parent / "axi_bench.py"
LAWS = [line.split()[2].split("(")[0] for text in [BENCH.read_text()] for line in text.split("@cocotb.test()\n")[1:]]
RUNNER = """
import sys
from pathlib import Path
from cocotb_tools.runner import get_runner
runner = get_runner("icarus")
rtl = Path("design/rtl")
runner.build(sources=[*sorted(rtl.glob("*.sv")), rtl / "limbeck.v"], includes=[rtl], hdl_toplevel="limbeck",
             timescale=("1ns", "1ps"), build_args=["-g2012"])
runner.test(hdl_toplevel="limbeck", test_module="axi_bench", test_dir=str(Path.cwd()),
            results_xml=str(Path("results.xml").resolve()), test_filter=sys.argv[1])
"""


def broken_laws(folder, laws="", change=lambda text: text, *, stem=False):
    """Return what each broken law says, by name, of a small design; `change` is made to the text of its top.

    `laws` is a part of the names of those to try. `stem`: of one whose first layer is a 7x7."""
    image = STEM_IMAGE if stem else IMAGE
    program = random_program(1, image, CLASSES, blocks=1, stem=stem)
    emit(plan(program, "xczu3eg", lanes=Lanes(1, 4, 4)), program, folder / "design")
    top = folder / "design" / "rtl" / "limbeck.v"
    top.write_text(change(top.read_text()))
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, *image), dtype=np.uint8)
    np.save(folder / "images.npy", images)
    np.save(folder / "scores.npy", run(program, images))
    path = os.pathsep.join([str(BENCH.parent), str(BENCH.parents[1])])
    done = subprocess.run(
        [sys.executable, "-c", RUNNER, laws],
        env={**os.environ, "PYTHONPATH": path, "COCOTB_RANDOM_SEED": "1"},
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (folder / "results.xml").exists(), (done.stdout + done.stderr)[-2000:]
    cases = list(ET.parse(folder / "results.xml").iter("testcase"))
    assert {case.get("name") for case in cases} == {law for law in LAWS if laws in law}
    return {case.get("name"): found.get("message") for case in cases if (found := case.find("failure")) is not None}


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    return broken_laws(tmp_path_factory.mktemp("axi"))


@pytest.mark.parametrize("law", LAWS)
def test_the_ports_keep(broken, law):
    assert broken.get(law, "") == ""


def test_a_stem_sends_nothing_undefined(tmp_path):
    assert broken_laws(tmp_path, "stalls_on_every_channel", stem=True) == {}


MISTAKES = {
    "answers: withdrawn": ("m_axis_tvalid", "inner && !(count == 3'd5 && !m_axis_tready)", "an_answer_waits"),
    "answers: changed": ("m_axis_tdata", "inner ^ {31'd0, !m_axis_tready}", "an_answer_waits"),
    "b: without its write": ("s_axi_bvalid", "inner || (aresetn && count == 3'd5)", "address_and_data"),
    "r: valid in reset": ("s_axi_rvalid", "inner || !aresetn", "address_and_data"),
    "r: valid is undefined": ("s_axi_rvalid", "inner || (aresetn && count == 3'd5 ? 1'bx : 1'b0)", "address_and_data"),
}


@pytest.mark.parametrize("breach", MISTAKES)
def test_a_port_that_does_not_is_seen(tmp_path, breach):
    name, value, law = MISTAKES[breach]

    def change(text):
        wide = "[31:0] " if name.endswith("tdata") else ""
        more = f"  wire {wide}inner;\n  reg [2:0] count = 0;\n  always @(posedge aclk) count <= count + 1;\n"
        text = text.replace(f".{name}({name})", f".{name}(inner)")
        return text.replace(");\n  accelerator", f");\n{more}  assign {name} = {value};\n  accelerator")

    (said,) = broken_laws(tmp_path, law, change).values()
    assert breach in said
