"""What Yosys counted is counted right, a design goes through it, and what is not there is said."""

import pytest
from rtl import RTL
from tools import need

from limbeck.errors import InputError
from limbeck.fpga import synth
from limbeck.fpga.parts import PARTS
from limbeck.fpga.synth import Registers, counted

pytestmark = pytest.mark.slow

ZU7EV = PARTS["xczu7ev"]


def cell(kind, parameters=(), **pins):
    """Return a cell; pins in capitals are inputs where their value is a list, outputs where it is a tuple."""
    directions = {name: "input" if isinstance(wires, list) else "output" for name, wires in pins.items()}
    connections = {name: list(wires) for name, wires in pins.items()}
    return {"type": kind, "parameters": dict(parameters), "port_directions": directions, "connections": connections}


def test_cells_are_counted_by_kind():
    kinds = {"DSP48E2": 3, "FDRE": 4, "FDSE": 1, "LUT2": 5, "LUT6": 2, "RAM32M16": 3, "RAMB18E2": 5, "RAMB36E2": 7,
             "SRL16E": 2, "SRLC32E": 1, "URAM288": 6, "CARRY4": 9, "MUXF7": 8, "INV": 7}  # fmt: skip
    cells = {f"{kind} {i}": cell(kind) for kind, count in kinds.items() for i in range(count)}
    found = counted(cells, ZU7EV)
    assert (found.dsps, found.brams, found.urams, found.luts, found.ffs) == (3, 9.5, 6, 5 + 2 + 24 + 3, 5)


def test_registers_and_cascades_of_dsps_are_counted():
    one, none = {f"{name}REG": "0" * 31 + "1" for name in "ABMP"}, {f"{name}REG": "0" * 32 for name in "ABMP"}
    cells = {
        "first": cell("DSP48E2", one, PCIN=["0"] * 48),
        "second": cell("DSP48E2", {**one, "AREG": "0" * 30 + "10"}, PCIN=[*range(2, 50)]),
        "bare": cell("DSP48E2", {**none, "PREG": "1"}, PCIN=["x"] * 48),
    }
    assert counted(cells, ZU7EV).registers == Registers(a=2, b=2, m=2, p=3, cascaded=1)


CHAIN = """
module limbeck (input wire aclk, input wire [215:0] a, input wire [63:0] w, output wire [47:0] p);
  mac_chain #(.Taps(8), .Skew(0)) u_chain (.clk_i(aclk), .a_i(a), .w_i(w), .p_o(p));
endmodule
"""


def test_a_chain_of_multipliers_is_registered_and_cascaded(tmp_path):
    need("pyosys")
    (tmp_path / "rtl").mkdir()
    for name in ("mac_chain.sv", "dsp_mac.sv", "delay.sv"):
        (tmp_path / "rtl" / name).write_text((RTL / name).read_text())
    (tmp_path / "rtl" / "limbeck.v").write_text(CHAIN)
    (tmp_path / "design.json").write_text('{"part": "xczu7ev"}')
    found = synth.synthesise(tmp_path)
    assert found.dsps == 8
    assert found.registers == Registers(8, 8, 8, 8, cascaded=7)
    assert (found.brams, found.urams) == (0, 0)
    assert found.timing is not None
    assert found.timing.slow <= found.timing.typical <= found.timing.fast
    (tmp_path / "rtl" / "mac_chain.sv").write_text("module mac_chain; endmodule\n")
    with pytest.raises(InputError, match="yosys could not synthesise"):
        synth.synthesise(tmp_path)


def test_without_yosys_the_remedy_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(synth, "find_spec", lambda _: None)
    monkeypatch.setattr(synth, "which", lambda _: None)
    with pytest.raises(InputError, match=r"pip install 'limbeck\[synth\]' or apt-get install yosys"):
        synth.synthesise(tmp_path)
