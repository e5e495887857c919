"""What Yosys counted is counted right, a design goes through it, and what is not there is said."""

import pytest
from fpga_programs import random_program

from limbeck.errors import InputError
from limbeck.fpga import synth
from limbeck.fpga.emit import emit
from limbeck.fpga.parts import PARTS
from limbeck.fpga.plan import Lanes, plan, resources
from limbeck.fpga.synth import Registers, counted

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


@pytest.mark.skipif(synth.available() != "", reason=synth.available())
def test_a_design_is_synthesised(tmp_path):
    program = random_program(4, (3, 8, 8), 4)
    found = plan(program, "xczu3eg", lanes=Lanes(2, 4, 4))
    emit(found, program, tmp_path / "d")
    counts = synth.synthesise(tmp_path / "d")
    assert counts.dsps == resources(found).dsps
    chained = counts.registers.a
    assert chained == counts.registers.b == counts.registers.m == counts.registers.p
    assert counts.registers.cascaded > chained / 2
    assert counts.timing is not None
    assert 50 < counts.timing.slow < counts.timing.typical < counts.timing.fast < 800
    (tmp_path / "d" / "rtl" / "window.sv").write_text("module window; endmodule\n")
    with pytest.raises(InputError, match="yosys could not synthesise"):
        synth.synthesise(tmp_path / "d")


def test_without_yosys_the_remedy_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(synth, "find_spec", lambda _: None)
    monkeypatch.setattr(synth, "which", lambda _: None)
    with pytest.raises(InputError, match=r"pip install 'limbeck\[synth\]' or apt-get install yosys"):
        synth.synthesise(tmp_path)
