"""limbeck simulate, evaluate and predict of a design: the simulated hardware's answers, held to the Program's."""

import shutil

import numpy as np
import pytest
from fpga_programs import random_program
from PIL import Image
from tools import need

from limbeck.cli import main
from limbeck.errors import InputError, VerificationError
from limbeck.fpga import simulate as fpga
from limbeck.fpga.emit import emit, seal
from limbeck.fpga.op import Lanes
from limbeck.fpga.plan import cycles, plan
from limbeck.images.source import spaced
from limbeck.images.sources import open_source
from limbeck.integer.program import run
from limbeck.verbs.evaluate import evaluate
from limbeck.verbs.predict import predict
from limbeck.verbs.simulate import simulate

need("verilator", "g++", "make")

pytestmark = pytest.mark.slow

DATA = "digits:optdigits"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a program of the digits' classes, its plan and its design, whose simulator is built."""
    program = random_program(5, (1, 28, 28), 10)
    found = plan(program, "xczu7ev", lanes=Lanes(4, 4, 8))
    design = tmp_path_factory.mktemp("verbs") / "design"
    emit(found, program, design)
    fpga.build(design)
    return program, found, str(design)


def broken(design, folder):
    """Return a copy of a design with the weights of one lane in another."""
    shutil.copytree(design, folder)
    (folder / "memories" / "weight0.mem").write_bytes((folder / "memories" / "weight1.mem").read_bytes())
    seal(folder)
    return str(folder)


def test_simulate_says_how_often_the_hardware_is_right(made):
    program, found, design = made
    told = simulate(design, data=DATA, images=5, split="test")
    source = open_source(DATA, "test")
    chosen = spaced(len(source), 5)
    called = run(program, source.pixels[chosen].numpy()).argmax(1)
    assert told.top1 == np.mean(called == source.labels[chosen].numpy())
    assert (told.images, told.scores) == (5, 50)
    assert (told.latency, told.interval) == (cycles(found, program).latency, cycles(found, program).interval)


def test_a_design_is_evaluated_on_images_of_all_classes_with_its_program_beside_it(made, tmp_path):
    program, found, design = made
    told = evaluate(design, data=DATA, split="test", images=40, batch=16, out=str(tmp_path / "out"))
    source = open_source(DATA, "test")
    chosen = spaced(len(source), 40)
    called = run(program, source.pixels[chosen].numpy()).argmax(1)
    assert told.evaluation.top1 == np.mean(called == source.labels[chosen].numpy())
    (beside,) = told.teachers
    assert beside.name.endswith("net.program")
    assert (beside.top1, beside.agreement) == (told.evaluation.top1, 1.0)
    rows = dict(told.rows())
    assert rows[f"Program {beside.name}"].startswith("top-1")
    assert f"{cycles(found, program).interval:,} cycles per image at an assumed 200 MHz" in rows["images/s"]


def test_hardware_that_is_not_its_program_ends_with_3(made, tmp_path, capsys):
    wrong = broken(made[2], tmp_path / "wrong")
    with pytest.raises(VerificationError, match=r"of 60 simulated scores differ from its Program's"):
        evaluate(wrong, data=DATA, images=6)
    assert main(["evaluate", wrong, "--data", DATA, "--images", "6"]) == 3
    assert "differ from its Program's" in capsys.readouterr().err


def test_predict_says_of_a_design_what_it_says_of_its_program(made, tmp_path):
    names = [str(tmp_path / f"{i}.png") for i in range(3)]
    for name, pixels in zip(names, open_source(DATA, "test").pixels[:3], strict=True):
        Image.fromarray(pixels[0].numpy()).save(name)
    assert predict(made[2], tuple(names)).named == predict(f"{made[2]}/net.program", tuple(names)).named


def test_no_images_are_refused(made):
    for verb in (simulate, evaluate):
        with pytest.raises(InputError, match="--images is 0; it must be at least 1"):
            verb(made[2], data=DATA, images=0)
