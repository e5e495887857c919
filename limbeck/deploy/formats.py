"""A classifier in each of the formats that it can run in, for limbeck bench."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from limbeck.artefacts.models import is_design, load_model, program_of
from limbeck.deploy.design import compile_program
from limbeck.deploy.export import export
from limbeck.deploy.quantise import Quantising, quantise
from limbeck.deploy.simulate import Simulated, simulate
from limbeck.errors import InputError
from limbeck.fpga.parts import PartName
from limbeck.runs import Tell
from limbeck.training.settings import Loading, Training

if TYPE_CHECKING:
    import torch

    from limbeck.nets.classifier import Classifier

Format = Literal["pytorch", "compile", "onnx", "onnx-int8", "program", "c", "hardware"]
FORMATS: tuple[Format, ...] = get_args(Format)


@dataclass(frozen=True, eq=False)
class Made:
    """A classifier in a format, ready to be evaluated; hardware outputs what its Program does, and was simulated."""

    model: str
    format: Format
    net: "Classifier"
    size: int  # bytes of the file of weights
    simulated: Simulated | None = None


@dataclass(frozen=True)
class Workshop:
    """Where formats are made, and of what."""

    folder: Path  # for files that are not kept
    data: str | None
    device: "torch.device"
    part: PartName
    images: int  # to simulate
    calibration: int
    loading: Loading
    tell: Tell


def formats_of(model: str) -> tuple[Format, ...]:
    """Return the formats that `model` is in, or can be brought into."""
    if model.endswith(".program"):
        return ("program", "c", "hardware")
    if model.endswith(".c"):
        return ("c",)
    if model.endswith(".onnx"):
        return ("onnx-int8",) if _is_quantised(model) else ("onnx",)
    return ("hardware",) if is_design(model) else FORMATS


def _is_quantised(path: str) -> bool:
    from limbeck.nets.onnx import needed

    needed(path)
    import onnx

    if not Path(path).is_file():
        raise InputError(f"{path} is missing")
    try:
        return any(node.op_type == "QuantizeLinear" for node in onnx.load(path, load_external_data=False).graph.node)
    except Exception as error:  # protobuf's errors are of its own kind
        raise InputError(f"{path} is not a usable ONNX file; limbeck export writes them") from error


def make(model: str, format: Format, shop: Workshop) -> Made:
    """Return `model` in the format; InputError or VerificationError where that can't be."""
    match format:
        case "pytorch" | "compile":
            return _in_torch(model, format, shop)
        case "c":
            return _in_c(model, shop)
        case "hardware":
            return _simulated(model, shop)
        case "program":
            path = _program(model, shop)
        case "onnx" | "onnx-int8":
            path = Path(model) if model.endswith(".onnx") else _exported(model, format, shop)
    return Made(model, format, load_model(str(path)), path.stat().st_size)


def _in_torch(model: str, format: Format, shop: Workshop) -> Made:
    """Return the net as evaluate runs it, or compiled; its size is that of its weights as a run keeps them."""
    from limbeck.nets import zoo

    net = load_model(model)
    weights = Path(model) / "model.safetensors"
    if not weights.is_file():
        zoo.save(net, shop.folder / "weights")
        weights = shop.folder / "weights" / "model.safetensors"
    ready = zoo.freeze(net.to(shop.device), dtype="float32", compile=format == "compile")
    return Made(model, format, ready, weights.stat().st_size)


def _place(model: str, suffix: str, shop: Workshop) -> Path:
    """Return the file for what is made of `model`."""
    safe = "".join(letter if letter.isalnum() else f"_{ord(letter)}_" for letter in model)
    return shop.folder / f"{safe[-100:]}{suffix}"


def _needed(shop: Workshop, what: str) -> str:
    if shop.data is None:
        raise InputError(f"{what} needs --data: its scales are chosen from training images")
    return shop.data


def _exported(model: str, format: Literal["onnx", "onnx-int8"], shop: Workshop) -> Path:
    path = _place(model, f"-{format}.onnx", shop)
    if format == "onnx-int8":
        _needed(shop, format)
    export(model, str(path), format, shop.data, calibration=shop.calibration, loading=shop.loading, tell=shop.tell)
    return path


def _program(model: str, shop: Workshop) -> Path:
    """Return the model's Program, made once."""
    if model.endswith(".program"):
        return Path(model)
    path = _place(model, ".program", shop)
    if not path.exists():
        how, training = Quantising(calibration=shop.calibration), Training(**vars(shop.loading))
        quantise(model, _needed(shop, "a Program"), str(path), how, training, tell=shop.tell)
    return path


def _in_c(model: str, shop: Workshop) -> Made:
    """Return the model's Program in C, compiled; its size is that of its tables."""
    from limbeck.c.artefact import load

    path = Path(model)
    if not model.endswith(".c"):
        path = _place(model, ".c", shop)
        export(str(_program(model, shop)), str(path), "c", shop.data, loading=shop.loading, tell=shop.tell)
    return Made(model, "c", load_model(str(path)), load(path)[1].tables)


def _simulated(model: str, shop: Workshop) -> Made:
    """Return what a Design does in Verilator: the model's own, or one that is compiled of its Program."""
    from limbeck.fpga.simulate import available

    if shop.data is None:
        raise InputError("hardware needs --data: images to simulate")
    if missing := available():
        raise InputError(f"hardware is simulated: {missing}")
    design = model
    if not is_design(model):
        program, design = _program(model, shop), str(_place(model, ".design", shop))
        compile_program(str(program), design, part=shop.part, tell=shop.tell)
    found = simulate(design, shop.data, shop.images, loading=shop.loading, tell=shop.tell)
    held = program_of(design)
    return Made(model, "hardware", load_model(str(held)), held.stat().st_size, found)
