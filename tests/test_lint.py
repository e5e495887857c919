"""The RTL is elaborated without a word by slang's and by Yosys' own front end, the DSP48E2 and its twin alike."""

import re
import subprocess
import sys

import pytest
from fpga_programs import random_program
from test_rtl_mac_chain import DSP48E2
from tools import need

from limbeck.fpga.emit import emit
from limbeck.fpga.op import Lanes
from limbeck.fpga.plan import plan

need("pyosys")

pytestmark = pytest.mark.slow

READERS = {  # slang also looks into branches that a parameter switches off
    "slang": "read_slang -Wno-shift-count-overflow --top limbeck {define} --blackboxed-module DSP48E2 -I rtl "
    "{files} {more}",
    "verilog": "read_verilog -sv {define} -I rtl {files} {more}",
}
RUN = "import sys; from pyosys import libyosys; d = libyosys.Design(); [d.run_pass(p) for p in sys.argv[1:]]"


def said(design, *passes):
    """Return what Yosys says of these passes."""
    command = [sys.executable, "-c", RUN, *passes]
    done = subprocess.run(command, cwd=design, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module", params=[(1, 4, 4), (2, 8, 16)])
def design(request, tmp_path_factory):
    program = random_program(4, (3, 8, 8), 4)
    out = tmp_path_factory.mktemp("lint") / "design"
    emit(plan(program, "xczu7ev", lanes=Lanes(*request.param)), program, out)
    (out / "dsp48e2.v").write_text(DSP48E2)
    return out


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("primitive", [False, True])
def test_a_front_end_has_nothing_to_say_of_the_rtl(design, reader, primitive):
    files = " ".join(sorted(str(path.relative_to(design)) for path in design.glob("rtl/*.*v")))
    define, more = ("-DLIMBECK_DSP48E2", "dsp48e2.v") if primitive else ("", "")
    read = READERS[reader].format(define=define, more=more, files=files)
    code, text = said(design, read, "hierarchy -check -top limbeck", "proc", "check -assert")
    assert code == 0, text[-500:]
    told = re.findall(r"(?m)^.*(?:[Ww]arning|ERROR):.*$", text)
    assert [line for line in told if "with list of registers" not in line] == []  # how small arrays are made
    assert "Found and reported 0 problems" in text


@pytest.mark.parametrize("reader", READERS)
def test_a_mistake_is_told(design, reader):
    broken = design / "broken.sv"
    broken.write_text(
        "module limbeck (input wire [3:0] a, output wire [3:0] b);\n  missing u (.a(a), .b(b));\nendmodule\n"
    )
    code, text = said(
        design, READERS[reader].format(define="", files="broken.sv", more=""), "hierarchy -check -top limbeck"
    )
    assert code != 0
    assert "missing" in text
