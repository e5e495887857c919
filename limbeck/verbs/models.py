"""Any classifier that a verb can ask: a run, a tag, a file of weights, a Program, an ONNX file."""

from typing import TYPE_CHECKING

from limbeck.errors import InputError

if TYPE_CHECKING:
    from limbeck.integer.program import Program
    from limbeck.nets.classifier import Classifier
    from limbeck.nets.outside import Cost


def load_model(spec: str) -> "Classifier":
    """Return the net that `spec` names: a .program file run by numpy, an .onnx file by onnxruntime, else as
    zoo.load has it. InputError where it can't be used."""
    if spec.endswith(".program"):
        return _program(spec)
    if spec.endswith(".onnx"):
        from limbeck.nets import onnx

        return onnx.load(spec)
    from limbeck.nets import zoo

    return zoo.load(spec)


def _program(path: str) -> "Classifier":
    """Return the Program in the file as a Classifier whose logits are its scores, in their unit."""
    import numpy as np
    from numpy.typing import NDArray

    from limbeck.integer.file import load
    from limbeck.integer.program import run
    from limbeck.nets.classifier import Lineage
    from limbeck.nets.outside import outside

    program = load(path)
    seen = program.input
    if seen.height != seen.width:
        raise InputError(f"{path} takes {seen.height} x {seen.width} pixels; only squares are cut from images")

    def answer(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return (run(program, images) * program.scale).astype(np.float32)

    return outside(
        answer, engine="numpy", name="Program", classes=program.classes, size=seen.width, channels=seen.channels,
        interpolation=seen.interpolation, crop_pct=seen.crop_pct, cost=_cost(program),
        lineage=Lineage(path, data=str(program.lineage.get("data", ""))),
    )  # fmt: skip


def _cost(program: "Program") -> "Cost":
    from limbeck.integer.program import Conv, Depthwise, Pointwise
    from limbeck.integer.survey import survey
    from limbeck.nets.outside import Cost

    weights = macs = 0
    for site in survey(program):
        if isinstance(site.layer, Conv | Depthwise | Pointwise):
            weights += site.layer.weight.size
            macs += site.layer.weight.size * site.out_shape[1] * site.out_shape[2] * site.evaluations
    return Cost(weights, macs)
