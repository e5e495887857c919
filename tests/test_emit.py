"""A Design folder says the same thing everywhere: in its RTL, its memories and its manifest."""

import json
import subprocess
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest
from fpga_programs import random_program
from tools import need

from limbeck.cli import main
from limbeck.errors import InputError
from limbeck.fpga import driver, memories
from limbeck.fpga.emit import emit, hex_lines, identity, parameters
from limbeck.fpga.op import Lanes
from limbeck.fpga.plan import cycles, plan
from limbeck.integer import file
from limbeck.integer.program import run
from limbeck.verbs.compile import compile

IMAGE, CLASSES = (3, 8, 8), 4


@pytest.fixture(scope="module")
def made():
    program = random_program(4, IMAGE, CLASSES)
    return program, plan(program, "xczu7ev", lanes=Lanes(2, 4, 8))


@pytest.fixture(scope="module")
def design(made, tmp_path_factory):
    program, found = made
    out = tmp_path_factory.mktemp("emitted") / "design"
    emit(found, program, out)
    return out


def test_packed_words_give_their_fields_back():
    rng = np.random.default_rng(0)
    for bits in (1, 7, 8, 23, 24, 27):
        table = rng.integers(-(1 << (bits - 1)), max(1, 1 << (bits - 1)), (5, 9))
        words = memories.packed(table, bits)
        for row, word in zip(table, words, strict=True):
            value = int.from_bytes(word.astype("<u4").tobytes(), "little")
            assert [value >> (bits * i) & ((1 << bits) - 1) for i in range(9)] == [v & ((1 << bits) - 1) for v in row]


def test_memories_come_back_from_their_files(made, design):
    loaded = memories.memories(made[1])
    manifest = json.loads((design / "design.json").read_text())
    assert [m["select"] for m in manifest["memories"]] == [m.select for m in loaded]
    for memory, said in zip(loaded, manifest["memories"], strict=True):
        assert (driver.read_memory(design / said["file"], said["width"]) == memory.words).all()


def test_every_weight_is_in_the_memories_once(made):
    program, found = made
    by_lane = [m for m in memories.memories(found) if m.name.startswith("weight")]
    stored = sum(int(np.abs(m.words.view(np.int8).astype(int)).sum()) for m in by_lane)
    keys = {op.work.layer.weight for op in found.schedule.ops if not op.work.from_sum}
    assert stored == sum(int(np.abs(program.tensors[key]).sum()) for key in keys)


def test_a_design_holds_its_program_and_its_answers(made, design):
    program, found = made
    manifest = json.loads((design / "design.json").read_text())
    images = np.load(design / "golden" / "images.npy", allow_pickle=False)
    assert (np.load(design / "golden" / "scores.npy", allow_pickle=False) == run(program, images)).all()
    assert (run(file.load(design / "net.program"), images) == run(program, images)).all()
    assert manifest["cycles"] == {
        "latency": cycles(found, program).latency,
        "interval": cycles(found, program).interval,
    }
    assert f"32'h{manifest['identity']:08x}" in (design / "rtl" / "limbeck.v").read_text()
    assert (design / "driver.py").read_text() == (files("limbeck.fpga") / "driver.py").read_text()
    for template in ("README.md", "vivado/package.tcl", "vivado/synth.tcl", "rtl/limbeck.v"):
        assert "${" not in (design / template).read_text()


def test_equal_programs_give_equal_designs(made, design, tmp_path):
    program, found = made
    emit(found, program, tmp_path / "again")
    for path in design.rglob("*"):
        if path.is_file() and "build" not in str(path):
            assert path.read_bytes() == (tmp_path / "again" / path.relative_to(design)).read_bytes(), path


def test_what_is_there_is_not_overwritten(made, tmp_path):
    (tmp_path / "letters.txt").write_text("dear")
    with pytest.raises(InputError, match="exists; choose another"):
        emit(made[1], made[0], tmp_path)


def test_an_engine_takes_a_smaller_program_and_refuses_a_larger(made, tmp_path):
    program, found = made
    sizes = parameters(found, program)
    roomy = {**sizes, "AccW": 27, "WeightDepth": 4 * sizes["WeightDepth"], "XWords": 2 * sizes["XWords"]}
    emit(found, program, tmp_path / "fits", engine=roomy)
    assert json.loads((tmp_path / "fits" / "design.json").read_text())["identity"] == identity(roomy)
    with pytest.raises(InputError, match=r"the program needs MapDepth .*; the engine has 2"):
        emit(found, program, tmp_path / "small", engine={**sizes, "MapDepth": 2})
    with pytest.raises(InputError, match="the program needs Classes 4; the engine has 5"):
        emit(found, program, tmp_path / "other", engine={**sizes, "Classes": 5})


def test_an_engine_of_other_rtl_is_another(made, tmp_path, monkeypatch):
    program, found = made
    sizes = parameters(found, program)
    before = identity(sizes)
    emit(found, program, tmp_path / "d")
    file.save(program, tmp_path / "net.program")
    monkeypatch.setattr("limbeck.fpga.emit.rtl_version", lambda: "another")
    assert identity(sizes) != before
    with pytest.raises(InputError, match=r"d has the RTL of another version of Limbeck; compile it"):
        compile(str(tmp_path / "net.program"), out=str(tmp_path / "e"), engine=str(tmp_path / "d"))
    assert not (tmp_path / "e").exists()


def test_hexadecimal_words_have_all_their_digits():
    memory = memories.Memory("m", 0, 40, np.array([[1, 2], [0xFFFFFFFF, 0xFF]], np.uint32))
    assert hex_lines(memory) == "0200000001\nffffffffff\n"


def test_borders_with_more_classes_are_refused():
    with pytest.raises(InputError, match="its border has 4 classes; the accelerator has 3 per side"):
        memories.kinds(np.array([0, 1, 2, 3]), "layer")
    with pytest.raises(InputError, match="its border has 5 classes; the accelerator has 4 per side"):
        memories.kinds(np.array([0, 1, 2, 2, 3, 4]), "layer", early=2)
    assert memories.kinds(np.array([0, 1, 2, 2, 3]), "layer", early=2).tolist() == [0, 1, 2, 3]
    assert memories.kinds(np.array([0, 1, 3]), "layer", early=2).tolist() == [0, 1, 3, 3]
    assert memories.kinds(np.array([5, 1, 1, 1, 7]), "layer").tolist() == [5, 1, 7]
    assert memories.kinds(np.array([4]), "layer").tolist() == [4, 4, 4]


@pytest.mark.slow
@pytest.mark.parametrize("lanes", [(1, 4, 4), (2, 4, 8), (4, 8, 16)])
@pytest.mark.parametrize("stem", [False, True])
def test_verilator_has_nothing_to_say_of_the_rtl(made, tmp_path, lanes, stem):
    need("verilator")
    program = random_program(1, (3, 12, 16), CLASSES, stem=True) if stem else made[0]
    emit(replace(plan(program, "xczu7ev", lanes=Lanes(*lanes))), program, tmp_path / "d")
    rtl = tmp_path / "d" / "rtl"
    sources = [str(path) for path in sorted(rtl.glob("*.sv"))]
    command = ["verilator", "--lint-only", "-Wall", "-Wno-fatal", "--top-module", "limbeck", f"-I{rtl}", *sources]
    done = subprocess.run([*command, str(rtl / "limbeck.v")], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("stem", [False, True])
def test_yosys_reads_the_rtl(design, tmp_path, stem):
    need("yosys")
    if stem:
        program = random_program(1, (3, 12, 16), CLASSES, stem=True)
        emit(plan(program, "xczu7ev", lanes=Lanes(2, 4, 8)), program, tmp_path / "d")
        design = tmp_path / "d"
    read = "read_verilog -sv -I rtl rtl/*.sv; read_verilog rtl/limbeck.v"
    script = f"{read}; hierarchy -check -top limbeck; proc; check -assert"
    done = subprocess.run(["yosys", "-q", "-p", script], cwd=design, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]


def test_icarus_reads_the_rtl(design, tmp_path):
    need("iverilog")
    sources = [str(path) for path in sorted((design / "rtl").glob("*.sv"))]
    command = ["iverilog", "-g2012", f"-I{design / 'rtl'}", "-s", "limbeck", "-o", str(tmp_path / "out"), *sources]
    done = subprocess.run([*command, str(design / "rtl" / "limbeck.v")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]


def test_compile_explores(made, tmp_path, capsys):
    file.save(made[0], tmp_path / "net.program")
    argv = ["compile", str(tmp_path / "net.program"), "--part", "xczu3eg", "--out", str(tmp_path / "d"), "--explore"]
    assert main(argv) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1].removeprefix("--result "))
    assert told["lanes"] == json.loads((tmp_path / "d" / "design.json").read_text())["lanes"]
    intervals = [choice["interval"] for choice in told["choices"]]
    assert intervals == sorted(intervals, reverse=True)
    assert intervals[-1] == told["cycles"]["interval"]


def test_compile_refuses_with_a_sentence(tmp_path, capsys):
    assert main(["compile", str(tmp_path / "none.program"), "--out", str(tmp_path / "d")]) == 2
    assert "none.program is missing" in capsys.readouterr().err
