"""A Program as the engine does it: a chain of works, each a pass over one map (docs/hardware.md §2)."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from limbeck.errors import InputError
from limbeck.integer.fixed import Ints
from limbeck.integer.program import (
    IMAGE,
    Add,
    Border,
    Conv,
    GlobalAverage,
    MaxPool,
    Node,
    Program,
    Requant,
    Shape,
    Shortcut,
)
from limbeck.integer.survey import survey


@dataclass(frozen=True)
class State:
    """What a result is added to: every `stride`-th pixel of a map that an earlier work kept."""

    buffer: int
    shape: Shape
    stride: int


@dataclass(frozen=True, eq=False)
class Work:
    """One pass: [depthwise,] then dense sums, requantised, added to a state; where the result goes.

    `path` names the layer and is the same in every evaluation; `value` names the result as `trace` does.
    """

    path: str
    value: str
    layer: Conv | GlobalAverage
    depthwise: Conv | None
    tensors: dict[str, Ints]  # the program's
    shape: Shape  # of the map that comes in
    out: Shape
    image: bool
    depthwise_value: str = ""  # its name in `trace`
    pool: str = ""  # the result's 3x3/2 maxima are kept instead of it: their name in `trace`
    shortcut: State | None = None
    buffer: int | None = None  # of the state memory that the result is written to
    relu: bool = False  # after the shortcut
    bits: int = 0  # that the sum with the shortcut saturates to; 0: those of the requantiser
    drop: int | None = None  # bits dropped from the result for the map; None: no map
    map_bits: int = 8
    map: str = ""  # the map's name in `trace`
    sum: bool = False  # the result is added up over the map
    score: bool = False

    @property
    def requant(self) -> Requant:
        return self.layer.requant

    @property
    def border(self) -> Border | None:
        """The border, where it is added at all."""
        border = self.layer.border if isinstance(self.layer, Conv) else None
        return border if border and border.ticks else None

    @property
    def result(self) -> str:
        """The name in `trace` of what is kept."""
        return self.pool or self.value

    @property
    def kept(self) -> Shape:
        """The shape of what is written as map and state."""
        return (self.out[0], -(-self.out[1] // 2), -(-self.out[2] // 2)) if self.pool else self.out

    @property
    def stride(self) -> int:
        conv = self.depthwise or self.layer
        return conv.stride if isinstance(conv, Conv) else 1

    @property
    def side(self) -> int:
        """The kernel's side, 0 of a mean."""
        return self.tensors[self.layer.weight].shape[-1] if isinstance(self.layer, Conv) else 0

    @property
    def dense(self) -> bool:
        """Whether a sum runs over the nine places of a window."""
        return self.side == 3

    @property
    def stem(self) -> bool:
        """Whether it is the 7x7 convolution of the image."""
        return self.side == 7

    @property
    def values(self) -> set[int]:
        """The bits of its weights and of the maps that it makes."""
        weights = {self.layer.weight_bits} if isinstance(self.layer, Conv) else set()
        depthwise = {self.depthwise.weight_bits, self.depthwise.requant.bits} if self.depthwise else set()
        return weights | depthwise | (set() if self.drop is None else {self.map_bits})

    @property
    def aside(self) -> bool:
        """Whether it makes a state alone, so that the pass after it reads the map that it reads."""
        return self.drop is None and not self.sum and not self.score

    @property
    def from_sum(self) -> bool:
        return isinstance(self.layer, GlobalAverage)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image."""
        convs = [conv for conv in (self.depthwise, self.layer) if isinstance(conv, Conv)]
        return self.out[1] * self.out[2] * sum(self.tensors[conv.weight].size for conv in convs)


@dataclass
class _Chain:
    program: Program
    shapes: dict[str, Shape]  # of the maps by name
    readers: dict[str, list[Node]]
    order: dict[str, int]
    works: list[Work] = field(default_factory=list)
    depthwise: Node | None = None  # waits for its pointwise
    place: int = 0  # of the next work
    short: dict[str, tuple[str, Shortcut]] = field(default_factory=dict)  # by its name: of what, and how

    @property
    def result(self) -> str:
        return self.works[-1].result if self.works else IMAGE

    def last(self, **changes: object) -> None:
        self.works[-1] = replace(self.works[-1], **changes)  # type: ignore[arg-type]


def works_of(program: Program) -> tuple[Work, ...]:
    """Return the works of a program; InputError where the engine cannot do a node."""
    sites = survey(program)
    readers = defaultdict(list)
    for node in program.nodes:
        for name in set(node.inputs):
            readers[name].append(node)
    image = program.input.channels, program.input.height, program.input.width
    shapes = {IMAGE: image, **{site.node.name: site.out.shape for site in sites}}
    chain = _Chain(program, shapes, readers, {node.name: number for number, node in enumerate(program.nodes)})
    for node in program.nodes:
        _node(chain, node)
    if len(chain.works) < 2:
        raise InputError("a program of one layer needs no accelerator; the engine needs at least two")
    if not isinstance(program.nodes[-1].op, Conv) or chain.depthwise is not None:
        raise InputError(f"{program.nodes[-1].name}: its map is the scores; the accelerator needs a dense layer there")
    chain.last(score=True)
    return tuple(chain.works)


def _node(chain: _Chain, node: Node) -> None:
    if isinstance(node.op, Shortcut):
        if node.op.stride > 2:
            raise InputError(f"{node.name}: a stride of {node.op.stride} is too large; the accelerator has 1 and 2")
        chain.short[node.name] = node.inputs[0], node.op
        return
    if chain.depthwise is not None and chain.depthwise.name not in node.inputs:
        raise InputError(f"{node.name}: it stands between a depthwise layer and the pointwise layer that takes it")
    match node.op:
        case Conv():
            _conv(chain, node, node.op)
        case Add(factors=(_,)):
            _narrow(chain, node, node.op)
        case Add():
            _sum(chain, node, node.op)
        case MaxPool():
            _pool(chain, node, node.op)
        case GlobalAverage():
            _mean(chain, node, node.op)
        case _:
            raise InputError(f"{node.name}: the accelerator has no {type(node.op).__name__} yet")


def _conv(chain: _Chain, node: Node, op: Conv) -> None:
    shape, weight = chain.shapes[node.inputs[0]], chain.program.tensors[op.weight].shape
    if _is_depthwise(chain, node, op, weight, shape):
        _check_window(node.name, op, weight[2:])
        if op.border is not None:
            raise InputError(f"{node.name}: a depthwise layer has no border in the accelerator")
        _check_free(chain, node)
        _read(chain, node, after=chain.readers[node.name])
        chain.depthwise = node
        return
    if op.groups > 1:
        raise InputError(f"{node.name}: a convolution of {op.groups} groups; the accelerator has dense and depthwise")
    if weight[2:] != (1, 1) or op.stride != 1:
        if not chain.works and weight[2:] == (7, 7):
            _check_stem(node.name, op, shape)
        elif weight[2:] != (1, 1) or op.stride != 2:
            _check_window(node.name, op, weight[2:])
        _check_free(chain, node)
    first, depthwise, value = chain.depthwise, None, ""
    if first is None:
        _read(chain, node, after=[node])
    else:
        shape, depthwise, value = chain.shapes[first.inputs[0]], first.op, first.name
    assert depthwise is None or isinstance(depthwise, Conv)
    chain.depthwise = None
    out = chain.shapes[node.name]
    tensors, image = chain.program.tensors, not chain.works
    chain.works.insert(chain.place, Work(node.path, node.name, op, depthwise, tensors, shape, out, image, value))


def _is_depthwise(chain: _Chain, node: Node, op: Conv, weight: tuple[int, ...], shape: Shape) -> bool:
    """Return whether each channel has its own kernel; of one channel, where a pointwise layer takes what it gives."""
    if not op.groups == weight[0] == shape[0]:
        return False
    after = [reader.op for reader in chain.readers[node.name]]
    pointwise = len(after) == 1 and isinstance(after[0], Conv) and _is_pointwise(chain, after[0])
    return shape[0] > 1 or (pointwise and op.border is None and weight[2:] == (3, 3))


def _is_pointwise(chain: _Chain, op: Conv) -> bool:
    return op.groups == 1 == op.stride and chain.program.tensors[op.weight].shape[2:] == (1, 1)


def _narrow(chain: _Chain, node: Node, op: Add) -> None:
    if op.factors != (1,) or op.relu:
        raise InputError(f"{node.name}: the accelerator narrows by bits; it has no factor and no ReLU there")
    if not chain.works or node.inputs[0] != chain.result or chain.depthwise is not None:
        raise InputError(f"{node.name}: it narrows {node.inputs[0]}; the accelerator has only the result just made")
    if chain.works[-1].drop is not None:
        raise InputError(f"{node.name}: the accelerator narrows a map once, where it is written")
    chain.last(drop=op.shift, map=node.name, map_bits=op.bits)


def _sum(chain: _Chain, node: Node, op: Add) -> None:
    """Add a state to the last result; of the two buffers the state's is used again where nothing else needs it."""
    if op.factors != (1, 1) or op.shift:
        raise InputError(
            f"{node.name}: a sum with factors {', '.join(map(str, op.factors))} and {op.shift} bits dropped; the "
            "accelerator adds two maps of one scale as they are: residual sums, Euler's and midpoint's steps"
        )
    given = [name for name in node.inputs if name != chain.result]
    if len(given) != 1 or not chain.works or _is_used(chain.works[-1]):
        raise InputError(f"{node.name}: the accelerator adds a map to the result of the convolution just made")
    name, how = chain.short.get(given[0], (given[0], Shortcut(1, chain.shapes[given[0]][0])))
    if name == IMAGE:
        raise InputError(f"{node.name}: it adds the image itself; the accelerator needs a convolution before it")
    source = next((number for number, work in enumerate(chain.works) if work.result == name), None)
    if source is None:
        raise InputError(f"{node.name}: it adds {name}, which the accelerator does not keep")
    shape, buffer = chain.shapes[name], _buffer(chain, node, source)
    same = how.stride == 1 and how.channels == shape[0] and not _stays(chain, name, node)
    chain.last(
        shortcut=State(buffer, shape, how.stride),
        buffer=buffer if same else 1 - buffer,
        relu=op.relu,
        bits=op.bits,
        value=node.name,
    )


def _stays(chain: _Chain, name: str, node: Node) -> bool:
    """Return whether a state is added again after `node`."""
    number = chain.order[node.name]
    return any(chain.order[each.name] > number and _adds(each) for each in chain.readers[name])


def _adds(node: Node) -> bool:
    return isinstance(node.op, Shortcut) or len(node.inputs) > 1


def _buffer(chain: _Chain, node: Node, source: int) -> int:
    """Return the state buffer that a work's result is in, having it kept; InputError where it is not there any more."""
    since, held = chain.works[source + 1 :], chain.works[source].buffer
    if held is None:
        busy = {work.buffer for work in since} | {work.shortcut.buffer for work in since if work.shortcut}
        held = next((buffer for buffer in (0, 1) if buffer not in busy), None)
        if held is not None:
            chain.works[source] = replace(chain.works[source], buffer=held)
    elif any(work.buffer == held for work in since):
        held = None
    if held is None:
        raise InputError(
            f"{node.name}: it adds {chain.works[source].result}; the accelerator keeps two states at a time"
        )
    return held


def _pool(chain: _Chain, node: Node, op: MaxPool) -> None:
    if op != MaxPool(3, 2, (1, 1, 1, 1)):
        raise InputError(
            f"{node.name}: a pool of {op.size}x{op.size} with stride {op.stride} and padding {_padding(op)}; "
            "the accelerator pools 3x3 with stride 2 and padding 1"
        )
    last = chain.works[-1] if chain.works and node.inputs[0] == chain.result else None
    if last is None or _is_used(last) or not last.requant.relu:
        raise InputError(f"{node.name}: the accelerator pools the output of a convolution with a ReLU")
    chain.last(pool=node.name)


def _mean(chain: _Chain, node: Node, op: GlobalAverage) -> None:
    if not chain.works or chain.works[-1].pool or node.inputs[0] != chain.result:
        what = "a pooled map" if chain.works and chain.works[-1].pool else node.inputs[0]
        raise InputError(f"{node.name}: the engine cannot average {what}, only the result just made")
    chain.last(sum=True)
    shape, out = chain.shapes[node.inputs[0]], chain.shapes[node.name]
    chain.works.append(Work(node.path, node.name, op, None, chain.program.tensors, shape, out, image=False))


def _is_used(work: Work) -> bool:
    """Return whether anything was made of a work's result already."""
    return bool(work.pool or work.shortcut or work.from_sum or work.sum or work.drop is not None)


def _read(chain: _Chain, node: Node, after: Sequence[Node]) -> None:
    """Have what `node` reads written as a map, and say where its work goes; `after` are the nodes that end that work.

    A map lives until the next one is written. What only makes a state, as a residual block's projection does, reads
    the map before that: wherever the graph has it, its work follows the one whose map it is.
    """
    name = node.inputs[0]
    chain.place = len(chain.works)
    if not chain.works and name == IMAGE:
        return
    last = chain.works[-1] if chain.works else None
    owner = next((number for number, work in enumerate(chain.works) if work.map == name), None)
    if owner is not None:
        since = chain.works[owner + 1 :]
        if all(work.aside and _is_state(chain, work.value) for work in since):
            return
        if all(_is_state(chain, each.name) for each in after) and not chain.works[owner].sum:
            chain.place = owner + 1
            return
    elif last is not None and last.drop is None and name == last.result:
        chain.last(drop=0, map=name, map_bits=last.bits or last.requant.bits)
        return
    raise InputError(
        f"{node.name}: it takes {name}; a pass of the accelerator takes the map of the pass before it, or an older one "
        "where its result is only added"
    )


def _is_state(chain: _Chain, name: str) -> bool:
    """Return whether a map is added to others and nothing else."""
    return bool(chain.readers[name]) and all(_adds(each) for each in chain.readers[name])


def _check_free(chain: _Chain, node: Node) -> None:
    if chain.depthwise is not None:
        raise InputError(
            f"{node.name}: it follows a depthwise layer; the accelerator needs a pointwise layer between them"
        )


def _check_window(path: str, op: Conv, kernel: tuple[int, ...]) -> None:
    if kernel != (3, 3) or op.padding != (1, 1, 1, 1) or op.stride not in (1, 2):
        raise InputError(
            f"{path}: a {kernel[0]}x{kernel[1]} kernel with stride {op.stride} and padding {_padding(op)}; the "
            "accelerator has 3x3 with stride 1 or 2 and padding 1, and 7x7 with stride 2 and padding 3 as first layer"
        )


def _check_stem(path: str, op: Conv, shape: Shape) -> None:
    if op.stride != 2 or op.padding != (3, 3, 3, 3) or shape[1] % 2 or shape[2] % 2:
        raise InputError(
            f"{path}: a 7x7 kernel with stride {op.stride} and padding {_padding(op)} on images "
            f"{shape[1]}x{shape[2]}; the accelerator has stride 2 and padding 3 on images of even sides"
        )


def _padding(op: Conv | MaxPool) -> str:
    return str(op.padding[0]) if len(set(op.padding)) == 1 else str(op.padding)
