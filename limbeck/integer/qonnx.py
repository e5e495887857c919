"""A Program as QONNX, the language of FINN and hls4ml: integers carried by floats, each rounding a Quant node.

numerics.md §12 says how near it is. Needs the extra `export`.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import assert_never
from limbeck.integer.program import (
    STAGES,
    ZERO_POINT,
    Border,
    Conv,
    Depthwise,
    GlobalAverage,
    Layer,
    MaxPool,
    Narrow,
    Ode,
    Pointwise,
    Program,
    Requant,
    Residual,
    Simple,
    Weighted,
)
from limbeck.integer.survey import Site, survey
from limbeck.runs import OPEN_SEAL, SEAL, sealed

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

DOMAIN = "qonnx.custom_op.general"
OPSET = 13
_IR = 8  # the first with functions in a model
# What Quant does, for runtimes that don't know it: FINN, hls4ml and the qonnx package do, and pass over this.
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
    """Return the program's QONNX. ODE blocks are unrolled; maps have the names of program.trace."""
    from onnx import StringStringEntryProto, TensorAnnotation, TensorProto, helper, parser

    made = _Graph({site.path: site for site in survey(program)})
    pixels = made.add("Sub", ["images", made.constant("zero_point", np.float32(ZERO_POINT))])
    x = made.quant(pixels, 8, name="input")
    *layers, last = program.layers
    for layer in layers:
        x = _layer(made, layer, x)
    assert isinstance(last, Pointwise)
    _scores(made, last, x, program.scale)
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
    said = {"classes": program.classes, "input": asdict(program.input), "lineage": program.lineage}
    helper.set_model_props(
        model, {"limbeck": "qonnx", **{key: json.dumps(value, ensure_ascii=False) for key, value in said.items()}}
    )
    return model


def _tensor(name: str, table: NDArray[np.float32]) -> Any:  # noqa: ANN401 - TensorProto
    from onnx import numpy_helper

    return numpy_helper.from_array(table, name)


@dataclass
class _Graph:
    """Nodes so far, and the constants that they take, by name."""

    sites: dict[str, Site]
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
        self, x: str, weight: str, size: tuple[int, int], stride: int = 1, padding: int = 0, groups: int = 1
    ) -> str:
        """Append a convolution that says all about itself: not all tools know ONNX's defaults."""
        strides, pads = [stride] * 2, [padding] * 4
        return self.add(
            "Conv", [x, weight], group=groups, kernel_shape=list(size), strides=strides, pads=pads, dilations=[1, 1]
        )

    def quant(self, x: str, bits: int, *, signed: bool = True, narrow: bool = False, name: str = "") -> str:
        """Round and saturate to whole numbers of so many bits."""
        takes = [x, self.constant("one", 1.0), self.constant("zero", 0.0), self.constant(f"bits_{bits}", float(bits))]
        marks = {"signed": int(signed), "narrow": int(narrow), "rounding_mode": "ROUND"}
        return self.add("Quant", takes, name=name, domain=DOMAIN, **marks)

    def saturated(self, x: str, bits: int, relu: bool, name: str) -> str:
        """Round and saturate a map; after a ReLU the codes that are left have no sign, as FINN wants it."""
        if relu:
            return self.quant(self.add("Relu", [x]), bits - 1, signed=False, name=name)
        return self.quant(x, bits, name=name)


def _layer(made: _Graph, layer: Layer, x: str) -> str:
    match layer:
        case Residual():
            return _residual(made, layer, x)
        case Ode():
            return _ode(made, layer, x)
        case MaxPool():
            side, pads = [layer.size] * 2, [layer.padding] * 4
            return made.add("MaxPool", [x], name=layer.name, kernel_shape=side, strides=[layer.stride] * 2, pads=pads)
        case GlobalAverage():
            total = _sum(made, layer, x)
            return _requantised(made, layer.requant, total, layer.name, layer.name, 0)
        case _:
            return _simple(made, layer, x, layer.name, layer.name, 0)


def _sum(made: _Graph, layer: GlobalAverage, x: str) -> str:
    """Return the sum of the map as a depthwise convolution with ones: exact, where GlobalAveragePool would divide."""
    channels, height, width = made.sites[layer.name].shape
    ones = made.quant(made.constant(f"{layer.name}.ones", np.ones((channels, 1, height, width))), 2, narrow=True)
    return made.conv(x, ones, (height, width), groups=channels)


def _field(made: _Graph, block: Residual | Ode, x: str, seen_as: str, evaluation: int) -> str:
    for layer in block.field:
        x = _simple(made, layer, x, f"{block.name}.{layer.name}", f"{seen_as}.{layer.name}", evaluation)
    return x


def _residual(made: _Graph, block: Residual, x: str) -> str:
    k = _field(made, block, x, block.name, 0)
    total = made.add("Add", [_shortcut(made, block, x), k])
    return made.saturated(total, block.bits, block.relu, block.name)


def _shortcut(made: _Graph, block: Residual, x: str) -> str:
    """Return the shortcut: where it strides or appends channels, as a convolution with ones, which all tools have."""
    channels = made.sites[block.name].shape[0]
    if block.stride == 1 and block.channels == channels:
        return x
    ones = np.eye(block.channels, channels)[:, :, None, None]
    weight = made.quant(made.constant(f"{block.name}.shortcut", ones), 2, narrow=True)
    return made.conv(x, weight, (1, 1), block.stride)


def _ode(made: _Graph, block: Ode, state: str) -> str:
    stages = STAGES[block.solver]
    for step in range(block.steps):
        start = end = state
        for stage, (a, b) in enumerate(stages):
            evaluation, last = step * len(stages) + stage, stage == len(stages) - 1
            seen_as = f"{block.name}[{evaluation}]"
            k = _field(made, block, start, seen_as, evaluation)
            start = state if last else _stepped(made, block, state, k, a, seen_as)
            end = _stepped(made, block, end, k, b, seen_as if last else "")
        state = end
    return state


def _stepped(made: _Graph, block: Ode, z: str, k: str, times: int, name: str) -> str:
    """Return saturate(z + times · k)."""
    if times == 0:
        return z
    k = k if times == 1 else made.add("Mul", [k, made.constant(f"times_{times}", float(times))])
    return made.quant(made.add("Add", [z, k]), block.bits, name=name)


def _simple(made: _Graph, layer: Simple, x: str, path: str, seen_as: str, evaluation: int) -> str:
    match layer:
        case Narrow():
            if layer.shift:
                x = made.add("Mul", [x, made.constant(f"{path}.unit", 2.0**-layer.shift)])
                # Quant rounds halves to even; half a unit of what is dropped makes them go up, and moves nothing else
                x = made.add("Add", [x, made.constant(f"{path}.up", 2.0 ** -(layer.shift + 1))])
            return made.quant(x, layer.bits, name=seen_as)
        case Conv() | Depthwise() | Pointwise():
            acc = _convolved(made, layer, x, path)
            return _requantised(made, layer.requant, acc, path, seen_as, evaluation)
        case _:
            return assert_never(layer)


def _convolved(made: _Graph, layer: Weighted, x: str, path: str) -> str:
    table, groups, stride, padding = layer.weight, 1, 1, 0
    match layer:
        case Pointwise():
            table = table[:, :, None, None]
        case Depthwise():
            table, groups, stride, padding = table[:, None], len(table), layer.stride, layer.padding
        case Conv():
            stride, padding = layer.stride, layer.padding
    # one Quant for each use: FINN folds it into its convolution's weights, and wants no other to take them
    weight = made.quant(made.constant(f"{path}.weight", table), layer.weight_bits, narrow=True)
    return made.conv(x, weight, table.shape[2:], stride, padding, groups)


def _requantised(made: _Graph, requant: Requant, acc: str, path: str, seen_as: str, evaluation: int) -> str:
    """Append what follows a sum: a number a channel as a BatchNormalization, which all tools have, not Mul and Add."""
    row, offsets = evaluation % len(requant.mult), evaluation % len(requant.offset)
    ratio = requant.mult[row] * 2.0**-requant.shift
    beta = requant.offset[offsets] * ratio
    if requant.border is not None:
        acc = _bordered(made, requant.border, acc, path, evaluation)
    scaled = made.add(
        "BatchNormalization",
        [
            acc,
            made.constant(f"{path}.ratio.{row}", ratio),
            made.constant(f"{path}.offset.{row}.{offsets}", beta),
            made.constant(f"zeros_{len(ratio)}", 0 * ratio),
            made.constant(f"ones_{len(ratio)}", 0 * ratio + 1),
        ],
        epsilon=0.0,
    )
    return made.saturated(scaled, requant.bits, requant.relu, seen_as)


def _bordered(made: _Graph, border: Border, acc: str, path: str, evaluation: int) -> str:
    """Return the accumulators with their border table, a number a place."""
    ticks = border.ticks[evaluation % len(border.ticks)]
    table = ticks * border.table[:, border.rows][:, :, border.columns][None]
    return made.add("Add", [acc, made.constant(f"{path}.border.{ticks}", table)]) if table.any() else acc


def _scores(made: _Graph, layer: Pointwise, x: str, scale: float) -> None:
    """Append the dense layer, whose result is not rounded: thresholds of 16 bits would be large and of no use."""
    requant = layer.requant
    flat = made.add("Flatten", [x])
    weight = made.quant(made.constant(f"{layer.name}.weight", layer.weight.T), layer.weight_bits, narrow=True)
    acc = made.add("MatMul", [flat, weight])
    acc = made.add("Add", [acc, made.constant(f"{layer.name}.offset", requant.offset[0])])
    ratio = requant.mult[0] * (2.0**-requant.shift * scale)
    made.add("Mul", [acc, made.constant(f"{layer.name}.ratio", ratio)], name="logits")
