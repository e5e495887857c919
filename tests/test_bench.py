"""limbeck bench: its figures are evaluate's, the files' and the plan's; what has none is a row that says why."""

import csv
import json
from pathlib import Path

import pytest
import torch
from tools import need

from limbeck import cli
from limbeck.deploy import benchmark as verb
from limbeck.deploy import formats
from limbeck.errors import InputError
from limbeck.fpga import simulate
from limbeck.nets import onnx
from limbeck.runs import read_json
from limbeck.training.settings import Training
from limbeck.verbs.bench import bench
from limbeck.verbs.compile import compile
from limbeck.verbs.evaluate import evaluate
from limbeck.verbs.export import export
from limbeck.verbs.quantize import quantize
from limbeck.verbs.teach import teach

pytestmark = pytest.mark.slow

DATA = "digits:optdigits"
FEW = {"batch": (1, 50), "rounds": 1}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Return a folder with a run, and its ONNX file, Program and Design."""
    root = tmp_path_factory.mktemp("bench")
    settings = Training(epochs=1, batch=40, limit=80)
    teach(data=DATA, model="resnet8", arguments=("width=4",), out=str(root / "run"), training=settings)
    run = str(root / "run")
    export(run, out=str(root / "x.onnx"), data=DATA)
    quantize(run, data=DATA, out=str(root / "x.program"), calibration=32)
    compile(str(root / "x.program"), out=str(root / "design"), lanes=(2, 4, 8))
    return root


@pytest.fixture(scope="module")
def measured(place):
    models = tuple(str(place / name) for name in ("run", "x.onnx", "x.program"))
    return bench(models, data=DATA, formats=("pytorch", "onnx", "program"), **FEW)


def line(found, model, form):
    (one,) = [row for row in found.lines if (Path(row.model).name, row.format) == (model, form)]
    return one


@pytest.mark.slow
@pytest.mark.parametrize(("model", "form"), [("run", "pytorch"), ("x.onnx", "onnx"), ("x.program", "program")])
def test_accuracy_is_what_evaluate_says(place, measured, model, form):
    assert line(measured, model, form).top1 == evaluate(str(place / model), data=DATA).evaluation.top1


def test_a_run_makes_the_same_files_as_the_verbs(measured):
    assert line(measured, "run", "onnx").top1 == line(measured, "x.onnx", "onnx").top1
    assert abs(line(measured, "run", "onnx").size - line(measured, "x.onnx", "onnx").size) <= 64  # the folder's name


@pytest.mark.parametrize(
    ("model", "form", "file"),
    [
        ("run", "pytorch", "run/model.safetensors"),
        ("x.onnx", "onnx", "x.onnx"),
        ("x.program", "program", "x.program"),
    ],
)
def test_a_size_is_the_files(place, measured, model, form, file):
    assert line(measured, model, form).size == (place / file).stat().st_size


def test_percentiles_are_in_order_and_every_figure_is_there(measured):
    assert [one.format for one in measured.lines] == ["pytorch", "onnx", "program", "onnx", "program"]
    for one in measured.lines:
        assert 0 < one.p50 <= one.p95
        assert one.images_per_second > 0
        assert not one.simulated
        assert one.note == ""
    assert measured.problem == ""


def test_every_format_takes_its_turn_in_every_round(monkeypatch):
    clock = iter(range(10**6))
    monkeypatch.setattr(verb.time, "perf_counter", lambda: next(clock))
    told: list[str] = []
    makes = [formats.Made(name, "pytorch", None, 0) for name in "ab"]
    calls = {one: (lambda n=one.model: told.append(n), lambda n=one.model: told.append(n.upper())) for one in makes}
    found = verb._turns(calls, 2, lambda *_: None)
    turn = ["a"] * 11 + ["A"] + ["b"] * 11 + ["B"]  # the first is not counted
    assert told == turn * 2
    assert [(len(one), len(many)) for one, many in found.values()] == [(20, 2)] * 2


def test_accuracy_is_measured_on_as_many_images_as_asked(place):
    found = bench((str(place / "run"),), data=DATA, formats=("pytorch",), images=50, **FEW)
    assert found.images == 50
    assert (found.lines[0].top1 * 50) == pytest.approx(round(found.lines[0].top1 * 50))
    with pytest.raises(InputError, match="--images is 301, but must be from 1 to the 300 of"):
        bench((str(place / "run"),), data=DATA, images=301)


def test_without_data_there_is_speed_alone(place):
    found = bench((str(place / "run"),), formats=("pytorch", "onnx-int8", "program", "hardware"), **FEW)
    assert found.lines[0].top1 is None
    assert found.lines[0].p50 > 0
    assert all("needs --data" in one.note and one.size is None for one in found.lines[1:])


def test_a_missing_extra_is_a_row_that_says_what_brings_it(place, monkeypatch):
    def missing(path) -> None:
        raise InputError(f"{path} needs the package onnx: pip install 'limbeck[export]'")

    monkeypatch.setattr(onnx, "needed", missing)
    found = bench((str(place / "run"),), formats=("pytorch", "onnx"), **FEW)
    assert "pip install 'limbeck[export]'" in line(found, "run", "onnx").note
    assert line(found, "run", "onnx").p50 is None
    assert line(found, "run", "pytorch").p50 > 0
    assert found.problem == ""


def test_where_verilator_is_missing_hardware_is_a_row_that_says_so(place, monkeypatch):
    monkeypatch.setattr(simulate, "available", lambda: "verilator not found; apt-get install verilator g++ make")
    found = bench((str(place / "x.program"),), data=DATA, images=10, **FEW)
    assert line(found, "x.program", "hardware").note.endswith("apt-get install verilator g++ make")
    assert line(found, "x.program", "program").p50 > 0


def test_a_net_that_does_not_compile_is_a_row(place, monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("C++ compiler not found\nmore")

    monkeypatch.setattr(torch, "compile", lambda net, **_: Fails(fails))
    found = bench((str(place / "run"),), formats=("pytorch", "compile"), **FEW)
    assert line(found, "run", "compile").note == "torch.compile: C++ compiler not found"


class Fails(torch.nn.Module):
    def __init__(self, call) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.call = call

    def forward(self, images):
        return self.call(images)


def test_a_compiled_net_gets_whole_batches_only(place, monkeypatch):
    """Another size would be compiled anew, which takes minutes."""
    seen: list[int] = []

    def compiled(net, **_):
        net.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
        return net

    monkeypatch.setattr(torch, "compile", compiled)
    found = bench((str(place / "run"),), data=DATA, formats=("pytorch", "compile"), batch=(1, 70), rounds=1)
    assert set(seen) == {1, 70}
    assert line(found, "run", "compile").top1 == line(found, "run", "pytorch").top1


def test_a_model_of_which_nothing_can_be_measured_is_a_problem(place, capsys):
    assert cli.main(["bench", str(place / "run"), str(place / "gone"), "--formats", "pytorch", "--rounds", "1"]) == 2
    out, err = capsys.readouterr()
    assert [str(place / "run"), "pytorch"] in [row.split()[:2] for row in out.splitlines()]  # the others are shown
    assert err.splitlines()[-1].startswith(f"limbeck bench: {place / 'gone'}: ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"formats": ("tflite",)}, "'tflite' is no format; choose from pytorch, compile, onnx"),
        ({"formats": ("onnx",)}, "comes as program, c, hardware only"),
        ({"batch": (0, 8)}, "--batch is 0; it must be at least 1"),
        ({"threads": 0}, "--threads is 0"),
        ({"clock": 0.0}, "--clock is 0.0; give MHz above 0"),
        ({"out": "x.txt"}, "--out x.txt must end in .json, .csv, .md"),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments, words):
    with pytest.raises(InputError) as refused:
        bench(("x.program",), **arguments)
    assert words in str(refused.value)
    with pytest.raises(InputError, match="name a model"):
        bench(())


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_are_as_told_and_afterwards_as_before(threads):
    from threadpoolctl import threadpool_info

    before = torch.get_num_threads()
    with verb.threads_of(threads):
        assert torch.get_num_threads() == threads
        assert {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"} <= {threads, 1}
    assert torch.get_num_threads() == before


def test_the_files_say_what_the_table_says(place, tmp_path):
    found = bench((str(place / "x.program"),), formats=("program",), out=str(tmp_path / "b.json"), **FEW)
    assert json.loads((tmp_path / "b.json").read_text()) == json.loads(json.dumps(found.to_json()))
    (row,) = csv.DictReader(verb._csv(found).splitlines())
    assert (row["format"], int(row["size"])) == ("program", found.lines[0].size)
    heading, _, first, *_ = verb._markdown(found).splitlines()
    assert heading.count("|") == first.count("|") == 9


@pytest.mark.slow
def test_simulated_hardware_has_the_planned_cycles_and_the_programs_accuracy(place):
    need("verilator", "g++", "make")
    models = (str(place / "x.program"), str(place / "design"))
    wanted = ("program",), ("hardware",)
    program = bench(models[:1], data=DATA, formats=wanted[0], **FEW).lines[0]
    found = bench(models[1:], data=DATA, formats=wanted[1], clock=100.0, simulated=4, **FEW).lines[0]
    cycles = read_json(place / "design" / "design.json")["cycles"]
    assert found.simulated
    assert found.top1 == program.top1
    assert found.size == program.size
    assert found.p50 == found.p95 == cycles["latency"] / 100e3
    assert found.images_per_second == 100e6 / cycles["interval"]
    assert f"{cycles['latency']:,} cycles" in found.note
