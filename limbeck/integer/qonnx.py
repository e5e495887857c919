"""A Program as QONNX, the language of FINN and hls4ml: integers carried by floats, each rounding a Quant node.

numerics.md §12 says how near it is. Needs the extra `export`.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from limbeck.integer.fixed import Ints
from limbeck.integer.program import (
    IMAGE,
    ZERO_POINT,
    Add,
    AveragePool,
    Border,
    Concat,
    Conv,
    GlobalAverage,
    MaxPool,
    Padding,
    Program,
    Requant,
    Scale,
    Shortcut,
    Table,
    windows,
)
from limbeck.integer.survey import Site, survey
from limbeck.runs import OPEN_SEAL, SEAL, sealed

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

DOMAIN = "qonnx.custom_op.general"
OPSET = 13
_IR = 8  # the first with functions in a model
# What Quant does, for runtimes that don't know it: FINN, hls4ml and the qonnx package do, and ignore this.
_QUANT = """
<domain: "qonnx.custom_op.general", opset_import: ["": 13]>
Quant <signed, narrow, rounding_mode> (x, scale, zero, bits) => (y)
{
    one = Constant <value_float: float = 1.0> ()
    two = Constant <value_float: float = 2.0> ()
    signed_int = Constant <value_int: int = @signed> ()
    narrow_int = Constant <value_int: int = @narrow> ()
    is_signed = Cast <to: int = 1> (signed_int)
    is_narrow = Cast <to: int = 1> (narrow_int)
    is_unsigned = Sub (one, is_signed)
    kept = Sub (bits, is_signed)
    codes = Pow (two, kept)
    end = Sub (codes, one)
    left_out = Mul (is_unsigned, is_narrow)
    high = Sub (end, left_out)
    last = Sub (bits, one)
    half = Pow (two, last)
    lowest = Sub (is_narrow, half)
    low = Mul (is_signed, lowest)
    units = Div (x, scale)
    moved = Add (units, zero)
    above = Max (moved, low)
    inside = Min (above, high)
    whole = Round (inside)
    back = Sub (whole, zero)
    y = Mul (back, scale)
}
"""


def save(program: Program, path: str | Path) -> None:
    """Write `program` to `path`: "images" float32 [1, channels, height, width], whole numbers from 0 to 255, in,
    "logits" [1, classes] out, which are the program's scores before they are rounded, times its scale."""

    model = graph(program)
    model.metadata_props.add(key=SEAL, value=OPEN_SEAL)
    Path(path).write_bytes(sealed(model.SerializeToString()))


def graph(program: Program) -> "ModelProto":
    """Return the program's QONNX; maps have the names of program.trace."""
    from onnx import StringStringEntryProto, TensorAnnotation, TensorProto, helper, parser

    made = _Graph(program.tensors)
    pixels = made.add("Sub", ["images", made.constant("zero_point", np.float32(ZERO_POINT))])
    made.quant(pixels, 8, name=IMAGE)
    *sites, last = survey(program)
    for site in sites:
        _node(made, site)
    _scores(made, last, program.scale)
    shape = (1, program.input.channels, program.input.height, program.input.width)
    body = helper.make_graph(
        made.nodes,
        "program",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, (1, len(program.classes)))],
        [_tensor(name, table) for name, table in made.constants.items()],
    )
    pixel_type = StringStringEntryProto(key="finn_datatype", value="UINT8")
    body.quantization_annotation.append(
        TensorAnnotation(tensor_name="images", quant_parameter_tensor_names=[pixel_type])
    )
    imports = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)]
    function = parser.parse_function(_QUANT)
    model = helper.make_model(
        body, opset_imports=imports, functions=[function], producer_name="limbeck", ir_version=_IR
    )
    described = {"classes": program.classes, "input": asdict(program.input), "lineage": program.lineage}
    helper.set_model_props(
        model, {"limbeck": "qonnx", **{key: json.dumps(value, ensure_ascii=False) for key, value in described.items()}}
    )
    return model


def _tensor(name: str, table: NDArray[np.float32]) -> Any:  # noqa: ANN401 - TensorProto
    from onnx import numpy_helper

    return numpy_helper.from_array(table, name)


@dataclass
class _Graph:
    """Nodes so far, and the constants that they take, by name."""

    tensors: dict[str, Ints]
    nodes: "list[NodeProto]" = field(default_factory=list)
    constants: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    def add(self, kind: str, takes: list[str], *, name: str = "", domain: str = "", **attributes: Any) -> str:  # noqa: ANN401
        """Append a node and return the name of what it gives."""
        from onnx import helper

        name = name or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, takes, [name], name, domain=domain, **attributes))
        return name

    def constant(self, name: str, table: Any) -> str:  # noqa: ANN401 - what numpy takes
        """Return the name of a constant, kept once."""
        self.constants.setdefault(name, np.asarray(table, np.float32))
        return name

    def conv(
        self,
        x: str,
        weight: str,
        size: tuple[int, ...],
        stride: int = 1,
        padding: Padding = (0, 0, 0, 0),
        groups: int = 1,
    ) -> str:
        """Append a convolution with every attribute written out: not all tools know ONNX's defaults."""
        return self.add(
            "Conv", [x, weight], group=groups, kernel_shape=list(size), strides=[stride] * 2, pads=_pads(padding),
            dilations=[1, 1],
        )  # fmt: skip

    def ones(
        self, x: str, channels: int, size: tuple[int, int], stride: int = 1, padding: Padding = (0, 0, 0, 0)
    ) -> str:
        """Append the sums of windows as a depthwise convolution with ones: exact, where a pool would divide."""
        table = self.constant(f"ones_{channels}_{size[0]}_{size[1]}", np.ones((channels, 1, *size)))
        return self.conv(x, self.quant(table, 2, narrow=True), size, stride, padding, channels)

    def quant(self, x: str, bits: int, *, signed: bool = True, narrow: bool = False, name: str = "") -> str:
        """Round and saturate to whole numbers of so many bits."""
        takes = [x, self.constant("one", 1.0), self.constant("zero", 0.0), self.constant(f"bits_{bits}", float(bits))]
        marks = {"signed": int(signed), "narrow": int(narrow), "rounding_mode": "ROUND"}
        return self.add("Quant", takes, name=name, domain=DOMAIN, **marks)

    def saturated(self, x: str, bits: int, relu: bool, name: str) -> str:
        """Round and saturate a map; after a ReLU the remaining codes are unsigned, as FINN requires."""
        if relu:
            return self.quant(self.add("Relu", [x]), bits - 1, signed=False, name=name)
        return self.quant(x, bits, name=name)


def _pads(padding: Padding) -> list[int]:
    top, bottom, left, right = padding
    return [top, left, bottom, right]


def _node(made: _Graph, site: Site) -> None:  # noqa: C901 - one case per operation
    name, inputs, shape = site.node.name, list(site.node.inputs), site.ins[0].shape
    match site.node.op:
        case Conv() as op:
            _requantised(made, op.requant, _convolved(made, op, inputs[0], op.weight), name)
        case Add() as op:
            _sum(made, op, inputs, name)
        case Scale(requant):
            _requantised(made, requant, made.add("Mul", inputs), name)
        case Table(table):
            moved = made.add("Add", [*inputs, made.constant("table_start", 128.0)])
            place = made.add("Cast", [moved], to=7)  # int64
            made.add("Gather", [made.constant(table, made.tensors[table]), place], name=name, axis=0)
        case MaxPool(size, stride, padding):
            sides, strides = [size] * 2, [stride] * 2
            made.add("MaxPool", inputs, name=name, kernel_shape=sides, strides=strides, pads=_pads(padding))
        case AveragePool(size, stride, padding, inside, requant) as op:
            total = made.ones(inputs[0], shape[0], (size, size), stride, padding)
            if inside:
                counts, common = windows(op, shape)
                total = made.add("Mul", [total, made.constant(f"{name}.places", common // counts)])
            _requantised(made, requant, total, name)
        case GlobalAverage(requant):
            _requantised(made, requant, made.ones(inputs[0], shape[0], shape[1:]), name)
        case Concat():
            made.add("Concat", inputs, name=name, axis=1)
        case Shortcut(stride, channels):  # a convolution with ones, which all tools know
            eye = made.constant(f"{name}.ones", np.eye(channels, shape[0])[:, :, None, None])
            made.add("Identity", [made.conv(inputs[0], made.quant(eye, 2, narrow=True), (1, 1), stride)], name=name)


def _sum(made: _Graph, op: Add, inputs: list[str], name: str) -> None:
    """Append an Add: its factors, its sum, its shift and its ReLU."""
    terms = [
        x if factor == 1 else made.add("Mul", [x, made.constant(f"times_{factor}", float(factor))])
        for x, factor in zip(inputs, op.factors, strict=True)
    ]
    total = terms[0]
    for term in terms[1:]:
        total = made.add("Add", [total, term])
    if op.shift:
        total = made.add("Mul", [total, made.constant(f"shift_{op.shift}", 2.0**-op.shift)])
        # Quant rounds halves to even; half a unit of what is dropped rounds them up, and changes nothing else
        total = made.add("Add", [total, made.constant(f"up_{op.shift}", 2.0 ** -(op.shift + 1))])
    made.saturated(total, op.bits, op.relu, name)


def _convolved(made: _Graph, op: Conv, x: str, key: str) -> str:
    table = made.tensors[key]
    # one Quant for each use: FINN folds it into its convolution's weights, which nothing else may read
    weight = made.quant(made.constant(key, table), op.weight_bits, narrow=True)
    acc = made.conv(x, weight, table.shape[2:], op.stride, op.padding, op.groups)
    return acc if op.border is None else _bordered(made, op.border, acc)


def _requantised(made: _Graph, requant: Requant, acc: str, name: str) -> None:
    """Append what follows a sum: a BatchNormalization, which all tools know, not Mul and Add, and the rounding."""
    ratio = made.tensors[requant.mult] * 2.0**-requant.shift
    scaled = made.add(
        "BatchNormalization",
        [
            acc,
            made.constant(f"{name}.ratio", ratio),
            made.constant(f"{name}.offset", made.tensors[requant.offset] * ratio),
            made.constant(f"zeros_{len(ratio)}", 0 * ratio),
            made.constant(f"ones_{len(ratio)}", 0 * ratio + 1),
        ],
        epsilon=0.0,
    )
    made.saturated(scaled, requant.bits, requant.relu, name)


def _bordered(made: _Graph, border: Border, acc: str) -> str:
    """Return the accumulators with their border table, one number per pixel."""
    table = border.ticks * made.tensors[border.table][:, border.rows][:, :, border.columns][None]
    return made.add("Add", [acc, made.constant(f"{border.table}.{border.ticks}", table)]) if table.any() else acc


def _scores(made: _Graph, site: Site, scale: float) -> None:
    """Append the last node. A dense layer's result is not rounded: thresholds of 16 bits would be useless."""
    op, (x, *_) = site.node.op, site.node.inputs
    unit = made.constant("scores.unit", scale)
    if not isinstance(op, Conv) or op.groups > 1 or op.border or made.tensors[op.weight][0].shape != site.ins[0].shape:
        _node(made, site)
        made.add("Mul", [made.add("Flatten", [site.node.name]), unit], name="logits")
        return
    weight = made.tensors[op.weight].reshape(len(made.tensors[op.weight]), -1).T
    flat = made.add("Flatten", [x])
    table = made.quant(made.constant(op.weight, weight), op.weight_bits, narrow=True)
    acc = made.add("MatMul", [flat, table])
    acc = made.add("Add", [acc, made.constant(op.requant.offset, made.tensors[op.requant.offset])])
    ratio = made.tensors[op.requant.mult] * (2.0**-op.requant.shift * scale)
    made.add("Mul", [acc, made.constant("scores.ratio", ratio)], name="logits")
