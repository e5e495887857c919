"""limbeck compile: what it says of a design is what the plan and Yosys say, beside what the part has."""

import json
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
from fpga_programs import random_program

from limbeck.cli import main
from limbeck.errors import InputError
from limbeck.fpga import synth
from limbeck.fpga.parts import PARTS
from limbeck.fpga.plan import plan, resources, trade_offs
from limbeck.fpga.schedule import cycles
from limbeck.fpga.synth import Registers, Synthesis
from limbeck.fpga.timing import Timing
from limbeck.integer.file import save
from limbeck.verbs.compile import compile

COUNTED = Synthesis("xczu3eg", 100, 54.5, 0, 7056, 9000, Registers(96, 95, 94, 93, 80), Timing(150, 250, 400, "3 ns"))


@pytest.fixture
def program(tmp_path):
    made = random_program(2, (3, 16, 16), 10)
    save(made, tmp_path / "net.program")
    return made, str(tmp_path / "net.program")


@pytest.mark.slow
def test_every_choice_has_the_figures_of_its_plan(program, tmp_path):
    found = compile(program[1], out=str(tmp_path / "d"), part="xczu3eg", explore=True, clock=250)
    plans = trade_offs(program[0], "xczu3eg")
    assert len(found.choices) == len(plans) > 3
    for choice, p in zip(found.choices, plans, strict=True):
        need = resources(p)
        assert (choice.dsps, choice.brams, choice.urams, choice.luts) == (need.dsps, need.brams, need.urams, need.luts)
        assert choice.interval == cycles(p.schedule).interval
        assert choice.rate == 250e6 / choice.interval
    assert "at 250 MHz (the clock is assumed)" in dict(found.rows())["images/s"]


@pytest.mark.slow
def test_the_choices_are_drawn_with_the_design_among_them(program, tmp_path):
    found = compile(program[1], out=str(tmp_path / "d"), part="xczu3eg", lanes=(2, 8, 8), explore=True)
    assert found.picture.endswith("/explore.svg")
    own = cycles(plan(program[0], "xczu3eg", lanes=found.lanes).schedule).interval
    assert own not in [choice.interval for choice in found.choices]  # a slower engine was asked for
    assert ET.parse(found.picture).getroot().tag.endswith("svg")
    assert not compile(program[1], out=str(tmp_path / "e"), part="xczu3eg").picture


def test_what_yosys_counts_stands_beside_what_the_part_has(program, tmp_path, monkeypatch):
    monkeypatch.setattr(synth, "synthesise", lambda _: COUNTED)
    found = compile(program[1], out=str(tmp_path / "d"), part="xczu3eg", synth=True)
    rows, part = dict(found.rows()), PARTS["xczu3eg"]
    assert rows["DSP by Yosys"] == f"100 of {part.dsps} (28%)"
    assert rows["BRAM by Yosys"] == f"54.5 of {part.brams} (25%)"
    whole = replace(found, synthesis=replace(COUNTED, brams=54.0))
    assert dict(whole.rows())["BRAM by Yosys"].startswith("54 of")
    assert "URAM by Yosys" not in rows  # the part has none, the design neither
    assert rows["LUT by Yosys"] == "7,056 of 70,560 (10%)"
    assert rows["registers"] == "96 A, 95 B, 94 M, 93 P of 100 DSPs; 80 cascaded"
    assert rows["clock"] == "150 to 400 MHz, 250 with typical wires (an estimate without placement)"
    assert rows["longest path"] == "3 ns"
    assert json.loads(json.dumps(found.to_json()))["synthesis"]["timing"]["typical"] == 250


@pytest.mark.parametrize("clock", [0, -5, 1001, float("nan")])
def test_a_clock_that_no_part_has_is_refused(program, tmp_path, clock):
    with pytest.raises(InputError, match=r"--clock is .*; it must lie above 0 and be at most 1000 MHz"):
        compile(program[1], out=str(tmp_path / "d"), clock=clock)


def test_a_missing_yosys_ends_in_a_sentence(program, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(synth, "find_spec", lambda _: None)
    monkeypatch.setattr(synth, "which", lambda _: None)
    assert main(["compile", program[1], "--out", str(tmp_path / "d"), "--synth"]) == 2
    assert "pip install 'limbeck[synth]'" in capsys.readouterr().err


def test_a_board_that_lacks_the_part_is_refused(program, tmp_path, capsys):
    assert main(["compile", program[1], "--out", str(tmp_path / "d"), "--part", "xczu3eg", "--board", "ulx3s"]) == 2
    assert "--board ulx3s does not come with xczu3eg; choose --part lfe5u-45f or lfe5u-85f" in capsys.readouterr().err
    assert not (tmp_path / "d").exists()
