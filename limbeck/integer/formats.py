"""How many bits each map has: what users set, what readers take, and which maps must share a format."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from limbeck.errors import InputError
from limbeck.integer.graph import (
    FloatAdd,
    FloatConcat,
    FloatConv,
    FloatMaxPool,
    FloatMean,
    FloatNarrow,
    FloatNode,
    FloatScale,
    FloatShortcut,
    FloatTable,
    Graph,
    path_of,
)
from limbeck.integer.program import IMAGE

SCORE_BITS = 16


@dataclass(frozen=True)
class Formats:
    """Bits of weights, of activations and of states. Layers named in `wide`, or in a block named there, have 16-bit
    weights and take 16-bit maps; narrowings and means named there give 16-bit maps. Where weights have 4 bits, those
    of layers named in `eight` have 8; None: the first and the last layer."""

    weight_bits: int = 8
    activation_bits: int = 8
    state_bits: int = 16
    wide: tuple[str, ...] = ()
    eight: tuple[str, ...] | None = None

    def weight(self, path: str) -> int:
        if self.is_wide(path):
            return 16
        return max(8, self.weight_bits) if _named(path, self.eight or ()) else self.weight_bits

    def input(self, path: str) -> int:
        return 16 if self.is_wide(path) else self.activation_bits

    def is_wide(self, path: str) -> bool:
        return _named(path, self.wide)


def _named(path: str, names: tuple[str, ...]) -> bool:
    """Return whether the layer, or the block that it is in, is named."""
    return any(path == name or path.startswith(f"{name}.") for name in names)


def check_formats(formats: Formats, graph: Graph) -> None:
    """Raise InputError where the formats can't be, or name no layer."""
    for name, bits, choices in (
        ("weight bits", formats.weight_bits, (4, 8, 16)),
        ("activation bits", formats.activation_bits, (8, 16)),
        ("state bits", formats.state_bits, (8, 16, 24)),
    ):
        if bits not in choices:
            raise InputError(f"{name} is {bits}; it must be one of {', '.join(map(str, choices))}")
    if max([formats.activation_bits, *(16 for _ in formats.wide)]) > formats.state_bits:
        raise InputError(f"states of {formats.state_bits} bits can't give wider activations; raise the state bits")
    paths = list(dict.fromkeys(node.path for node in graph))
    for what, names in (("make wide", formats.wide), ("keep at 8 bits", formats.eight or ())):
        for name in names:
            if not any(_named(path, (name,)) for path in paths):
                raise InputError(f"there is no layer {name} to {what}; there are {', '.join(paths)}")


def ends_of(graph: Graph) -> tuple[str, str]:
    """Return the first and the last convolution: they have few weights, and their rounding errors matter most."""
    convs = [node.path for node in graph if isinstance(node.op, FloatConv)]
    return convs[0], convs[-1]


# --- which maps have one format ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Chains:
    """Maps, by path, that must have one format because no arithmetic is between them; states are those that sums
    join."""

    of: dict[str, str]  # by path: the chain's first path
    states: frozenset[str]  # first paths of chains in which something is added

    def is_state(self, path: str) -> bool:
        return self.of[path] in self.states


def chains_of(graph: Graph) -> Chains:
    parent = {IMAGE: IMAGE, **{node.path: node.path for node in graph}}

    def root(path: str) -> str:
        while parent[path] != path:
            path = parent[path]
        return path

    def join(node: FloatNode) -> None:
        order = list(parent)
        for name in node.inputs:
            first, second = sorted((root(node.path), root(path_of(name))), key=order.index)
            parent[second] = first

    for node in graph:
        if isinstance(node.op, FloatAdd | FloatMaxPool | FloatShortcut):
            join(node)
    summed = [node.path for node in graph if isinstance(node.op, FloatAdd)]
    concats = [node for node in graph if isinstance(node.op, FloatConcat)]
    for _ in concats:  # a concatenation of states is one: until nothing changes
        for node in concats:
            around = {root(path) for path in (node.path, *map(path_of, node.inputs))}
            if around & {root(path) for path in summed}:
                join(node)
    return Chains({path: root(path) for path in parent}, frozenset(root(path) for path in summed))


def formatted(graph: Graph, formats: Formats) -> tuple[Graph, dict[str, int]]:
    """Return the graph with a narrowing wherever a map has more bits than its reader takes, and the bits by path.

    States get the states' bits, all other maps what their readers take; a table takes 8 whatever the formats say.
    """
    graph = _uncapped(graph)
    chains, bits = chains_of(graph), {IMAGE: 8}
    for node in reversed(graph):
        root = chains.of[node.path]
        taken = _needed(graph, chains, formats, bits, root)
        bits[root] = formats.state_bits if chains.is_state(root) else max(taken, default=formats.activation_bits)
    found = {node.path: bits[chains.of[node.path]] for node in graph}
    found |= {node.path: 16 for node in graph if _own_width(node, formats)}
    made: list[FloatNode] = []
    narrowed: dict[tuple[str, int], str] = {}
    for node in graph:
        inputs = list(node.inputs)
        for place, name in enumerate(inputs):
            limit = _limit(node, formats)
            path = path_of(name)
            if limit is None or name == IMAGE or not (chains.is_state(path) or found[path] > max(limit, _hard(node))):
                continue
            if (name, limit) not in narrowed:
                source = next(each for each in graph if each.name == name)
                narrow = FloatNode(f"{node.name}.narrow", (name,), FloatNarrow(), source.shape)
                found[narrow.path] = 16 if formats.is_wide(narrow.path) and _hard(node) > 8 else limit
                made.append(narrow)
                narrowed[name, limit] = narrow.name
            inputs[place] = narrowed[name, limit]
        made.append(replace(node, inputs=tuple(inputs)))
    return tuple(made), found


def _uncapped(graph: Graph) -> Graph:
    """Return the graph with a rescaling after each capped map of a chain with sums, where saturation can't cap it."""
    chains = chains_of(graph)
    names = {
        node.name: f"{node.name}.capped"
        for node in graph
        if isinstance(node.op, FloatConv) and node.op.cap is not None and chains.is_state(node.path)
    }
    made: list[FloatNode] = []
    for node in graph:
        made.append(replace(node, inputs=tuple(names.get(name, name) for name in node.inputs)))
        if node.name in names:
            made.append(FloatNode(names[node.name], (node.name,), FloatNarrow(), node.shape))
    return tuple(made)


def _own_width(node: FloatNode, formats: Formats) -> bool:
    return isinstance(node.op, FloatMean) and formats.is_wide(node.path)


def _limit(node: FloatNode, formats: Formats) -> int | None:
    """Return the bits of what a node takes; None where it takes any."""
    match node.op:
        case FloatConv() | FloatScale():
            return formats.input(node.path)
        case FloatTable():
            return 8
        case _:
            return None


def _hard(node: FloatNode) -> int:
    """Return the bits that a node's input can't exceed."""
    return 8 if isinstance(node.op, FloatTable) else 16


def _needed(graph: Graph, chains: Chains, formats: Formats, bits: dict[str, int], root: str) -> Iterator[int]:
    """Yield the bits that the readers of a chain's maps take."""
    if chains.of[graph[-1].path] == root:
        yield SCORE_BITS
    for node in graph:
        if any(chains.of[path_of(name)] == root for name in node.inputs):
            limit = _limit(node, formats)
            if limit is not None:
                yield limit
            elif isinstance(node.op, FloatConcat) and chains.of[node.path] != root:
                yield bits[chains.of[node.path]]
