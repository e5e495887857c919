"""ONNX files: pixels in, logits out, and all that a stranger must know in their metadata. Needs the extra `export`."""

import importlib
import json
import math
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.errors import InputError, first_line
from limbeck.images.views import WHITE
from limbeck.nets.classifier import Classifier, Lineage, whiter
from limbeck.nets.count import count
from limbeck.nets.outside import Answer, Cost, outside
from limbeck.runs import OPEN_SEAL, SEAL, read_sealed, sealed

OPSET = 18  # what torch's exporter writes without converting, and what runtimes have had since 2023
FORMAT = "1"
EIGHT_BITS = ["Conv", "Gemm", "MatMul"]  # sums stay float32: an ODE's state is rounded by no step, as in a Program
_BATCH = 32
_MOST_IMAGES = 1 << 30  # in a batch; torch 2.6 can't guard its own bound
_OLDER = "; torch 2.6 needs other versions: pip install 'onnxscript==0.5.0' 'onnx_ir==0.1.12'"
_LIMIT = 1 << 24  # bytes of metadata
_CONTROL = {"Loop", "Scan", "If"}
_LARGE_MAP = 1 << 10  # values
_MOST_VALUES = 1 << 28  # of a map, for one image: a gibibyte


def needed(path: str | Path) -> Any:  # noqa: ANN401 - a module without types
    """Return the module onnxruntime; InputError with the remedy where the extra is not installed."""
    try:
        for name in ("onnx", "onnxscript"):
            importlib.import_module(name)
        return importlib.import_module("onnxruntime")
    except ImportError as error:
        raise InputError(f"{path} needs the package {error.name}: pip install 'limbeck[export]'") from error


def export(classifier: Classifier, path: Path) -> None:
    """Write the float net to `path`: "images" uint8 [batch, channels, size, size] in, "logits" [batch, classes] out.

    Normalisation is in the graph. Classes, input and lineage are JSON in the metadata. InputError where torch can't
    trace the net.
    """
    needed(path)
    seen = classifier.input
    images = torch.zeros(2, *seen.shape, dtype=torch.uint8)  # 1 would be taken for a constant
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = torch.onnx.export(
                classifier.eval(), (images,), dynamo=True, opset_version=OPSET, external_data=False, verbose=False,
                optimize=True,  # torch 2.6 doesn't by itself
                input_names=["images"], output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim("batch", max=_MOST_IMAGES)},),
            )  # fmt: skip
    except (torch.onnx.OnnxExporterError, RuntimeError) as error:
        remedy = _OLDER if torch.__version__.startswith("2.6.") else ""
        raise InputError(f"{classifier.name} can't be written as ONNX: {first_line(error)}{remedy}") from error
    assert made is not None
    made.save(str(path), external_data=False)
    _finish(path, description(classifier))


def description(classifier: Classifier) -> dict[str, str]:
    """Return what a stranger must know of the net: each value JSON."""
    seen = classifier.input
    table = count(classifier.net, seen.shape)
    values = {
        "name": classifier.name,
        "classes": classifier.classes,
        "input": {
            "size": seen.size,
            "channels": seen.channels,
            "interpolation": seen.interpolation,
            "crop_pct": seen.crop_pct,
            **whiter(seen),
        },
        "lineage": asdict(classifier.lineage),
        "cost": {"parameters": table.parameters, "macs": table.macs},
    }
    return {"limbeck": FORMAT, **{key: json.dumps(value, ensure_ascii=False) for key, value in values.items()}}


def _finish(path: Path, description: dict[str, str]) -> None:
    """Put the description into the file, and out of it where on whose machine it was traced; make it small."""
    import onnx

    model = onnx.load(path)
    _compact(model)
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output, model.graph):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    model.ClearField("metadata_props")
    onnx.helper.set_model_props(model, {**description, SEAL: OPEN_SEAL})
    model.producer_name, model.graph.name = "limbeck", "classifier"
    model.doc_string = (
        "images: uint8 RGB or grey, [batch, channels, size, size], not normalised; logits: float32, in the order of "
        "the metadata's classes"
    )
    path.write_bytes(sealed(model.SerializeToString()))


def _compact(model: Any) -> None:  # noqa: ANN401 - a ModelProto
    """Keep each constant map, of time above all, as the rows and columns in it that differ, and where they belong:
    runtimes put them there once, when they load the file."""
    from onnx import helper, numpy_helper

    graph, kept, gathers = model.graph, [], []
    for tensor in graph.initializer:
        small = table = numpy_helper.to_array(tensor)
        places: list[NDArray[np.int64]] = []
        if table.ndim == 4 and table.size >= _LARGE_MAP:
            for axis in (2, 3):
                lines = np.moveaxis(small, axis, 0).reshape(small.shape[axis], -1)
                _, firsts, line_of = np.unique(lines, axis=0, return_index=True, return_inverse=True)
                small, places = np.take(small, firsts, axis), [*places, line_of.reshape(-1)]
        if 2 * small.size > table.size:
            kept.append(tensor)
            continue
        rows, columns = (f"{tensor.name}.{axis}" for axis in ("rows", "columns"))
        kept.append(numpy_helper.from_array(np.ascontiguousarray(small), f"{tensor.name}.small"))
        kept += [numpy_helper.from_array(p, name) for p, name in zip(places, (rows, columns), strict=True)]
        gathers.append(helper.make_node("Gather", [f"{tensor.name}.small", rows], [f"{tensor.name}.tall"], axis=2))
        gathers.append(helper.make_node("Gather", [f"{tensor.name}.tall", columns], [tensor.name], axis=3))
    nodes = [*gathers, *graph.node]
    for field, values in (("initializer", kept), ("node", nodes)):
        graph.ClearField(field)
        getattr(graph, field).extend(values)


def quantise(source: Path, path: Path, images: Tensor) -> None:
    """Write the file `source` of `export` in 8 bits to `path`: int8 weights, one scale per channel, and uint8 inputs of
    convolutions and dense layers, from the least to the largest value that uint8 `images` [N, channels, size, size]
    showed: no bit is left to negatives that a ReLU never gives, and onnxruntime makes ReLU and its rounding one.

    Weights are in [-64, 64]: x86 processors without VNNI add two products of 8 bits in 16, which saturates beyond
    (onnxruntime's documentation, "Quantize ONNX models", on reduce_range)."""
    needed(path)
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    description = {prop.key: prop.value for prop in onnx.load(source).metadata_props}
    with tempfile.TemporaryDirectory() as folder:
        folded = Path(folder) / "folded.onnx"
        quant_pre_process(str(source), str(folded), skip_symbolic_shape=True)
        quantize_static(
            str(folded), str(path), _Images(images), quant_format=QuantFormat.QDQ, per_channel=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, op_types_to_quantize=EIGHT_BITS,
            calibrate_method=CalibrationMethod.MinMax, reduce_range=True,
            # 8-bit logits would have ties
            extra_options={"OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"]},
        )  # fmt: skip
    _finish(path, description)


class _Images:
    """What onnxruntime reads calibration images from."""

    def __init__(self, images: Tensor) -> None:
        self.parts: Iterator[Tensor] = iter(torch.split(images, _BATCH))

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        part = next(self.parts, None)
        return None if part is None else {"images": part.numpy()}


def session(path: str | Path) -> Any:  # noqa: ANN401 - an InferenceSession, which has no types
    """Return the file ready to run on the CPU, with torch's number of threads; InputError where that can't be."""
    runtime = needed(path)
    data = read_sealed(path)
    _check_modest(data, path)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # what goes wrong is raised
    try:
        return runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no base of their own
        raise InputError(f"{path} is not a usable ONNX file: {first_line(error)}") from error


def _check_modest(data: bytes, path: str | Path) -> None:
    """Refuse, before anything is allocated, a model that loops, has weights elsewhere, or whose values are huge."""
    import onnx

    try:
        model = onnx.load_from_string(data)
        known = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        nodes = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    except Exception as error:  # protobuf's and onnx's errors are of their own kinds
        raise InputError(f"{path} is not a usable ONNX file: {first_line(error)}") from error
    if endless := sorted({node.op_type for node in nodes} & _CONTROL):
        raise InputError(f"{path} has a {endless[0]}, which no net of limbeck export has; it was not run")
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        raise InputError(f"{path} has weights in other files; limbeck export writes them into the file")
    for value in (*known.value_info, *known.output):
        sides = [axis.dim_value for axis in value.type.tensor_type.shape.dim if axis.dim_value > 0]
        if math.prod(sides) > _MOST_VALUES:
            raise InputError(f"{path} computes a map of {math.prod(sides):,} values; the limit is {_MOST_VALUES:,}")


def load(path: str | Path) -> Classifier:
    """Return the net in a file that `export` or `quantise` wrote, to be run by onnxruntime on the CPU with torch's
    number of threads; InputError where it is none, broken or hostile."""
    opened = session(path)

    def answer(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = opened.run(None, {"images": images})[0]
        return logits

    made = described(answer, opened.get_modelmeta().custom_metadata_map, str(path))
    shape = made.input.shape
    given = [("images", "tensor(uint8)", list(shape))] == [(i.name, i.type, i.shape[1:]) for i in opened.get_inputs()]
    got = [("tensor(float)", [len(made.classes)])] == [(o.type, o.shape[1:]) for o in opened.get_outputs()]
    if not given or not got:
        raise InputError(f"{path} has other inputs or outputs than its metadata says")
    return made


def described(
    answer: Answer, metadata: dict[str, str], path: str, *, engine: str = "onnxruntime", kind: str = "ONNX"
) -> Classifier:
    """Return the Classifier that a `description` describes; InputError where it doesn't describe one."""
    if metadata.get("limbeck") == "qonnx":
        raise InputError(f"{path} is QONNX, for FINN and hls4ml; give the Program that it was made of")
    if metadata.get("limbeck") != FORMAT or sum(map(len, metadata.values())) > _LIMIT:
        raise InputError(f"{path} does not say what its classes are and what it takes; limbeck export writes that")
    try:
        known = {key: json.loads(metadata[key]) for key in ("name", "classes", "input", "lineage", "cost")}
        classes, seen, cost = tuple(map(str, known["classes"])), known["input"], known["cost"]
        made = outside(
            answer, engine=engine, name=f"{kind} of {known['name']}", classes=classes, size=int(seen["size"]),
            channels=int(seen["channels"]), interpolation=str(seen["interpolation"]),
            crop_pct=float(seen["crop_pct"]), white=int(seen.get("white", WHITE)), lineage=Lineage(
                str(known["lineage"].get("tag", path)), data=str(known["lineage"]["data"]),
                sha256=str(known["lineage"]["sha256"]),
            ),
            cost=Cost(int(cost["parameters"]), int(cost["macs"])),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError, AttributeError) as error:
        raise InputError(f"{path} has broken metadata ({type(error).__name__}: {error}); export it again") from error
    if not 0 < len(classes) == len(set(classes)):
        raise InputError(f"{path}: classes must be different names")
    return made
