"""What each call of a trace became, and the nodes so far."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from limbeck.integer.graph import (
    FloatAdd,
    FloatConv,
    FloatNode,
    FloatOp,
    FloatShortcut,
    FloatTable,
    affine_conv,
    path_of,
)
from limbeck.integer.program import IMAGE, Padding, Shape
from limbeck.integer.trace import Call, LowerError, Ref, Trace, constants
from limbeck.nets.classifier import Classifier


@dataclass(frozen=True)
class Map:
    """A node's map."""

    name: str


@dataclass(frozen=True, eq=False)
class Affine:
    """gain · map + offset, by channel, which a convolution can absorb."""

    name: str
    gain: Tensor  # [channels]
    offset: Tensor


@dataclass(frozen=True)
class Function:
    """A function of each of a map's values."""

    name: str
    function: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Sum:
    """The sum of factor · map."""

    terms: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Padded:
    """What a call gave, with zeros around it."""

    of: Ref
    padding: Padding


@dataclass(frozen=True)
class Strided:
    """Every `rows`-th row and `columns`-th column of a map."""

    name: str
    rows: int
    columns: int


@dataclass(frozen=True, eq=False)
class Resampled:
    """A map whose rows and columns are each mixed by a matrix [new, old]: an adaptive average of a small map."""

    name: str
    rows: Tensor
    columns: Tensor


Value = Map | Affine | Function | Sum | Padded | Strided | Resampled

_WAY_OUT = (
    "distil it into a net that has one (resnet18, mobilenetv2_100, efficientnet_lite0, dsodenet20, ...), "
    "or export it in floats: limbeck export --format onnx"
)


class Builder:
    """The nodes so far, and what each call of the trace became."""

    def __init__(self, classifier: Classifier, recorded: Trace) -> None:
        self.calls = recorded.calls
        self.uses = recorded.uses()
        self.constants = constants(recorded.calls, classifier.net)
        self.classifier = classifier
        self.nodes: dict[str, FloatNode] = {}
        self.values: dict[int, Value] = {}

    def refused(self, call: Call, why: str) -> LowerError:
        """Return the error that says which operation, where, why, and what can be done."""
        where = path_of(call.path) or "the net"
        reason = f": {why}" if why else ""
        return LowerError(f"{where} computes {call.op}, which has no integer form{reason}; {_WAY_OUT}")

    def node(self, call: Call, what: str, inputs: Sequence[str], op: FloatOp, shape: Shape | None = None) -> Map:
        """Append a node, named after its module, and by `what` it does where that has several parts."""
        name = (call.path if call.leaf or not what else f"{call.path}.{what}".lstrip(".")) or what or "sum"
        name = f"{name}#{len(self.nodes)}"  # `_named` numbers those alone that meet another
        self.nodes[name] = FloatNode(name, tuple(inputs), op, shape or _shape(call))
        return Map(name)

    def shape(self, name: str) -> Shape:
        seen = self.classifier.input
        return (seen.channels, seen.size, seen.size) if name == IMAGE else self.nodes[name].shape

    def once(self, ref: Ref) -> bool:
        return self.uses[ref.number] == 1

    def own_conv(self, ref: Ref) -> tuple[str, FloatConv] | None:
        """Return the convolution that gave this if nothing else reads its map and it may still be changed."""
        value = self.values[ref.number]
        node = self.nodes.get(value.name) if isinstance(value, Map) else None
        if node is None or not isinstance(node.op, FloatConv) or node.op.relu or not self.once(ref):
            return None
        return node.name, node.op

    def put(self, name: str, op: FloatOp) -> Map:
        self.nodes[name] = replace(self.nodes[name], op=op)
        return Map(name)

    def take(self, ref: Ref) -> str:
        """Return the name of the node that gives what this call gave; it is made where there is none yet."""
        value, call = self.values[ref.number], self.calls[ref.number]
        if isinstance(value, Map):
            return value.name
        made = self.made(value, call)
        self.values |= {number: made for number, each in self.values.items() if each is value}
        return made.name

    def made(self, value: Value, call: Call) -> Map:
        match value:
            case Map():
                return value
            case Affine(name, gain, offset):
                return self.node(call, "affine", [name], affine_conv(gain, offset), self.shape(name))
            case Function(name, function):
                return self.node(call, "table", [name], FloatTable(function), self.shape(name))
            case Sum(terms):
                return self.sum(call, terms)
            case Strided(name, rows, columns):
                if rows != columns:
                    raise self.refused(call, "rows and columns are taken in different strides")
                channels = self.shape(name)[0]
                return self.node(call, "shortcut", [name], FloatShortcut(rows, channels))
        padded = isinstance(value, Padded)
        raise self.refused(
            call, "no convolution takes the zeros around it" if padded else "to more pixels than there are"
        )

    def sum(self, call: Call, terms: tuple[tuple[str, float], ...], relu: bool = False) -> Map:
        shape = self.shape(terms[0][0])
        if len(terms) > 1:
            names = [name for name, _ in terms]
            return self.node(call, "", names, FloatAdd(tuple(factor for _, factor in terms), relu), shape)
        (name, factor), like = terms[0], next(iter(self.constants.values()))
        gain = like.new_full((shape[0],), factor)
        return self.node(call, "scaled", [name], replace(affine_conv(gain, 0 * gain), relu=relu), shape)

    def constant(self, call: Call, ref: Ref) -> Tensor:
        if not isinstance(ref, Ref) or ref.number not in self.constants:
            raise self.refused(call, "its weights depend on the image")
        return self.constants[ref.number]

    def check_channels(self, call: Call, name: str, gain: Tensor) -> None:
        if len(gain) != self.shape(name)[0]:
            raise self.refused(call, f"{len(gain)} channels beside a map {self.shape(name)}")


def _shape(call: Call) -> Shape:
    channels, height, width = (*call.shape[1:], 1, 1)[:3]
    return channels, height, width


def same(values: Sequence[int]) -> int | None:
    """Return the number that all of these are."""
    return values[0] if len({*values}) == 1 else None
