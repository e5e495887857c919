"""Any classifier that verbs take: a run, a tag, weights, a Program, an ONNX, ExecuTorch or C file, a Design."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from limbeck.artefacts.kinds import kind_of, named_kind
from limbeck.errors import InputError
from limbeck.training.adaptation.adapted import ADAPTED, adapted_to

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from limbeck.integer.program import Program
    from limbeck.nets.classifier import Classifier, Lineage
    from limbeck.nets.outside import Cost


def load_model(spec: str) -> "Classifier":  # noqa: PLR0911 - a case each
    """Return the net that `spec` names: a .program file run by numpy, a .c file of Limbeck's by the C compiler, an
    .onnx file by onnxruntime, a .pte file by ExecuTorch, a Design's folder simulated by Verilator, DESIGN@/dev/LINE the
    board behind a serial line, else as zoo.load has it. InputError where it can't be used."""
    from limbeck.nets import executorch, onnx, zoo

    folder, at, line = spec.rpartition("@/dev/")
    if at and is_design(folder):
        return _board(Path(folder), f"/dev/{line}")
    match named_kind(spec):
        case "Design":
            return _design(Path(spec))
        case "Program":
            return _program(spec)
        case "C file":
            return _c_file(spec)
        case _ if spec.endswith(".c"):  # which no run or tag does
            return _c_file(spec)
        case "ONNX file":
            return _called(onnx.load(spec), spec)
        case "ExecuTorch file":
            return _called(executorch.load(spec), spec)
        case _:
            return zoo.load(spec)


def is_design(spec: str) -> bool:
    """Return whether `spec` is a folder that limbeck compile wrote."""
    return kind_of(spec) == "Design"


def program_of(design: str) -> Path:
    """Return the Program that a Design was made of."""
    return Path(design) / "net.program"


def _program(path: str) -> "Classifier":
    """Return the Program in the file as a Classifier whose logits are its scores, in their unit."""
    from limbeck.integer.file import load
    from limbeck.integer.program import run

    program = load(path)
    return _integers(program, path, lambda images: run(program, images), engine="numpy", name="Program")


def _c_file(path: str) -> "Classifier":
    """Return the compiled net as a Classifier: its scores, one image at a time, in one thread."""
    from limbeck.c.artefact import load
    from limbeck.c.running import opened

    program, written = load(Path(path))
    return _integers(program, path, opened(program, written), engine="C", name="C file")


def _design(folder: Path) -> "Classifier":
    """Return the simulated hardware as a Classifier; each batch resets it and loads its memories."""
    from limbeck.fpga.design import read
    from limbeck.fpga.driver import Accelerator
    from limbeck.fpga.simulate import build, running

    known = read(folder)
    simulator = build(folder)

    def scores(images: "NDArray[np.uint8]") -> "NDArray[np.int64]":
        with running(simulator) as port:
            return Accelerator(port, folder).run(images)[0]

    return _integers(known.program, str(folder), scores, engine="Verilator", name="Design")


def _board(folder: Path, device: str) -> "Classifier":
    """Return the board behind a serial line as a Classifier; its memories are loaded at once."""
    from limbeck.fpga.design import read
    from limbeck.fpga.driver import Accelerator, DriverError
    from limbeck.fpga.serial import SerialError, SerialPort, open_line

    known = read(folder)
    try:
        board = Accelerator(SerialPort(open_line(device), known.program.input.channels), folder)
    except (SerialError, DriverError) as error:
        raise InputError(f"{folder}@{device}: {error}") from error

    def scores(images: "NDArray[np.uint8]") -> "NDArray[np.int64]":
        try:
            return board.run(images)[0]
        except (SerialError, DriverError) as error:
            raise InputError(f"{folder}@{device}: {error}") from error

    return _integers(known.program, f"{folder}@{device}", scores, engine="board", name="Board")


def _integers(
    program: "Program",
    path: str,
    scores: "Callable[[NDArray[np.uint8]], NDArray[np.int64]]",
    *,
    engine: str,
    name: str,
) -> "Classifier":
    """Return what computes a Program's integer scores as a Classifier."""
    import numpy as np

    from limbeck.nets.outside import outside

    seen = program.input
    if seen.height != seen.width:
        raise InputError(f"{path} takes {seen.height} x {seen.width} pixels; only squares are cut from images")

    def answer(images: "NDArray[np.uint8]") -> "NDArray[np.float32]":
        return (scores(images) * program.scale).astype(np.float32)

    return outside(
        answer, engine=engine, name=name, classes=program.classes, size=seen.width, channels=seen.channels,
        interpolation=seen.interpolation, crop_pct=seen.crop_pct, white=seen.white, cost=_cost(program),
        lineage=_lineage(program, path),
    )  # fmt: skip


def _lineage(program: "Program", path: str) -> "Lineage":
    """Return where a Program's weights come from, under its own name."""
    from limbeck.nets.classifier import Lineage

    data, sha256, tag = (str(program.lineage.get(key, "")) for key in ("data", "sha256", "tag"))
    return Lineage(_tag(tag, path), data=data, sha256=sha256)


def _called(net: "Classifier", path: str) -> "Classifier":
    """Return the net of an exported file under the file's name."""
    net.lineage = replace(net.lineage, tag=_tag(net.lineage.tag, path))
    return net


def _tag(tag: str, path: str) -> str:
    """Return the tag of a file made of the net `tag`: the file's name, and what the net was adapted to."""
    target = adapted_to(tag)
    return f"{path}{ADAPTED}{target}" if target else path


def _cost(program: "Program") -> "Cost":
    from limbeck.integer.program import Conv
    from limbeck.integer.survey import survey
    from limbeck.nets.outside import Cost

    sites = survey(program)
    shared = {site.node.op.weight: site.weights for site in sites if isinstance(site.node.op, Conv)}
    return Cost(sum(shared.values()), sum(site.macs for site in sites))
