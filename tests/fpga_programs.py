"""Small random programs that the accelerator can do, for tests and benchmarks/fpga.py."""

from dataclasses import dataclass

import numpy as np

from limbeck.integer.program import (
    Add,
    Border,
    Conv,
    GlobalAverage,
    Input,
    MaxPool,
    Node,
    Operation,
    Program,
    Requant,
    Shortcut,
)


@dataclass(frozen=True)
class Layer:
    """A layer that is drawn: its operation, for each evaluation where they differ."""

    name: str
    operations: tuple[Operation, ...]


class Maker:
    """Draws layers whose results use their range without always saturating, and places them in a graph."""

    def __init__(self, seed, state_bits=16, bits=8):
        self.rng = np.random.default_rng(seed)
        self.state_bits = state_bits
        self.bits = bits  # of maps, and of weights at most
        self.weight_bits = 8 if bits == 8 else int(self.rng.choice([8, 16]))
        self.unit = (1 << self.weight_bits - 8) * 50.0 * (1 << bits - 8) * 60  # a typical product
        self.count = 0
        self.tensors, self.nodes, self.last = {}, [], "input"

    def name(self, kind):
        self.count += 1
        return f"{kind}{self.count}"

    def key(self, kind, table):
        key = f"{kind}.{len(self.tensors)}"
        self.tensors[key] = np.asarray(table, np.int64)
        return key

    def weight(self, *shape):
        most = (1 << (self.weight_bits - 1)) - 1
        if self.rng.random() < 0.2:
            return self.key("weight", self.rng.choice([-most, most], shape))
        return self.key("weight", self.rng.integers(-most, most + 1, shape))

    def requants(self, channels, typical, bits, *, relu=False, evaluations=1):
        """Return a Requant for each evaluation; some share their offsets or their multipliers."""
        rows = self.rng.choice([1, evaluations])
        mult = self.rng.integers(1 << 12, 1 << 16, (self.rng.choice([1, evaluations]), channels))
        shift = int(np.clip(np.log2(typical * mult.mean() + 1) - bits + self.rng.integers(1, 4), 1, 40))
        offset = self.rng.integers(-int(typical), int(typical) + 1, (rows, channels))
        offsets, mults = (
            [self.key(kind, row) for row in table] for kind, table in (("offset", offset), ("mult", mult))
        )
        return [
            Requant(offsets[e % len(offsets)], mults[e % len(mults)], shift, bits, bool(relu))
            for e in range(evaluations)
        ]

    def borders(self, channels, height, width, typical, ticks, early=1):
        def classes(side):
            return tuple(early + 1 if i == side - 1 > early - 1 else min(i, early) for i in range(side))

        table = self.rng.integers(-int(typical), int(typical) + 1, (channels, early + 2, early + 2))
        key = self.key("border", table)
        return [Border(key, classes(height), classes(width), number) for number in ticks]

    def drawn(self, kind, weight, groups, stride, side, requants, borders=()):
        padding = (side // 2,) * 4
        operations = (
            Conv(weight, self.weight_bits, groups, stride, padding, requant, borders[e] if borders else None)
            for e, requant in enumerate(requants)
        )
        return Layer(self.name(kind), tuple(operations))

    def depthwise(self, shape, stride):
        channels = shape[0]
        requants = self.requants(channels, 2 * self.unit, self.bits, relu=self.rng.random() < 0.3)
        layer = self.drawn("dw", self.weight(channels, 1, 3, 3), channels, stride, 3, requants)
        return layer, (channels, -(-shape[1] // stride), -(-shape[2] // stride))

    def pointwise(self, shape, channels, bits, *, relu=False, ticks=(), stride=1):
        typical = self.unit * np.sqrt(shape[0])
        sides = -(-shape[1] // stride), -(-shape[2] // stride)
        borders = self.borders(channels, *sides, typical, ticks) if ticks else ()
        requants = self.requants(channels, typical, bits, relu=relu, evaluations=max(1, len(ticks)))
        weight = self.weight(channels, shape[0], 1, 1)
        return self.drawn("pw", weight, 1, stride, 1, requants, borders), (channels, *sides)

    def stem(self, shape, channels, bits, *, ticks):
        """Return a 7x7 convolution with stride 2, and the shape that comes out; sides are even."""
        out = (channels, shape[1] // 2, shape[2] // 2)
        typical = self.unit * np.sqrt(49 * shape[0])
        borders = self.borders(channels, *out[1:], typical, ticks or (0,), early=2)
        requants = self.requants(channels, typical, bits, relu=True)
        return self.drawn("stem", self.weight(channels, shape[0], 7, 7), 1, 2, 7, requants, borders), out

    def pool(self, shape):
        layer = Layer(self.name("pool"), (MaxPool(3, 2, (1, 1, 1, 1)),))
        return layer, (shape[0], -(-shape[1] // 2), -(-shape[2] // 2))

    def conv(self, shape, channels, bits, stride, *, relu=False, ticks=()):
        out = (channels, -(-shape[1] // stride), -(-shape[2] // stride))
        typical = self.unit * np.sqrt(9 * shape[0])
        borders = self.borders(channels, *out[1:], typical, ticks) if ticks else ()
        requants = self.requants(channels, typical, bits, relu=relu, evaluations=max(1, len(ticks)))
        return self.drawn("conv", self.weight(channels, shape[0], 3, 3), 1, stride, 3, requants, borders), out

    def separable(self, shape, channels, bits, stride=1, *, relu=False, ticks=()):
        """Return layers: depthwise and pointwise, or a dense convolution, or a pointwise alone."""
        kind = self.rng.random()
        if kind < 0.15 and stride == 1:
            layer, out = self.pointwise(shape, channels, bits, relu=relu, ticks=ticks)
            return (layer,), out
        if kind < 0.4:
            layer, out = self.conv(shape, channels, bits, stride, relu=relu, ticks=ticks)
            return (layer,), out
        first, middle = self.depthwise(shape, stride)
        second, out = self.pointwise(middle, channels, bits, relu=relu, ticks=ticks)
        return (first, second), out

    def narrow(self):
        shift = self.state_bits - self.bits + int(self.rng.integers(-2, 2))
        shift = max(0 if self.bits == 16 else 1, shift)
        return Layer(self.name("narrow"), (Add((1,), shift, self.bits, False),))

    def mean(self, shape, typical):
        (requant,) = self.requants(shape[0], typical, self.bits)
        return Layer(self.name("mean"), (GlobalAverage(requant),))

    def place(self, *layers, evaluation=None):
        """Append a node for each layer, the one on the other's map."""
        for layer in layers:
            name = layer.name if evaluation is None else f"{layer.name}[{evaluation}]"
            self.append(name, layer.operations[(evaluation or 0) % len(layer.operations)], self.last)

    def append(self, name, op, *inputs):
        self.nodes.append(Node(name, inputs, op, (1.0,)))
        self.last = name

    def block(self, shape):
        """Place a residual or ODE block on the last map, and return the shape that comes out."""
        kind = self.rng.integers(3)
        if kind < 2:
            steps = int(self.rng.integers(1, 4))
            ticks = tuple(range(steps)) if self.rng.random() < 0.6 else ()
            inner, middle = self.separable(shape, shape[0], self.bits, relu=True, ticks=ticks)
            outer, out = self.separable(middle, shape[0], self.state_bits, ticks=ticks)
            name, narrow = self.name("ode"), self.narrow()
            for step in range(steps):
                state = self.last
                self.place(narrow, *inner, *outer, evaluation=step)
                self.append(f"{name}[{step}]", Add((1, 1), 0, self.state_bits, False), state, self.last)
            return out
        stride = int(self.rng.integers(1, 3))
        channels = shape[0] + int(self.rng.integers(0, 6))
        inner, middle = self.separable(shape, channels, self.bits, stride, relu=True)
        outer, out = self.separable(middle, channels, self.state_bits)
        name, narrow = self.name("residual"), self.narrow()
        relu = bool(self.rng.random() < 0.7)
        state = self.last
        self.place(narrow, *inner, *outer)
        result = self.last
        if stride > 1 or channels > shape[0]:
            self.append(f"{name}.shortcut", Shortcut(stride, channels), state)
            state = self.last
        self.append(name, Add((1, 1), 0, self.state_bits, relu), result, state)
        return out

    def branch(self, shape, channels, stride, layers):
        """Return so many layers with such a result that is added to another: the first has the stride."""
        drawn, middle = [], shape
        for number in range(layers):
            last, step = number == layers - 1, stride if number == 0 else 1
            wide = channels if last else int(self.rng.integers(1, 13))
            bits = self.state_bits if last else self.bits
            relu = not last or self.rng.random() < 0.3
            if self.rng.random() < 0.5:
                layer, middle = self.pointwise(middle, wide, bits, relu=relu, stride=step)
                drawn.append(layer)
            else:
                several, middle = self.separable(middle, wide, bits, step, relu=relu)
                drawn += several
        return drawn, middle

    def projected(self, shape):
        """Place a block whose shortcut is a layer too, before or after the others; return the shape that comes out."""
        stride, channels = int(self.rng.integers(1, 3)), int(self.rng.integers(1, 13))
        branches = [self.branch(shape, channels, stride, layers)[0] for layers in (int(self.rng.integers(1, 4)), 1)]
        if self.rng.random() < 0.5:
            branches.reverse()
        self.place(self.narrow())
        map_, ends = self.last, []
        for layers in branches:
            self.last = map_
            self.place(*layers)
            ends.append(self.last)
        if self.rng.random() < 0.5:
            ends.reverse()
        self.append(self.name("projected"), Add((1, 1), 0, self.state_bits, bool(self.rng.random() < 0.7)), *ends)
        return (channels, -(-shape[1] // stride), -(-shape[2] // stride))

    def program(self, image, classes):
        return Program(Input(*image), self.tensors, tuple(self.nodes), tuple(map(str, range(classes))))


def random_program(seed, image, classes, *, state_bits=16, bits=8, blocks=2, stem=False, projected=False):
    """Return a program on images [channels, height, width] with a stem, some blocks, a mean and a dense layer.

    `stem`: it begins with a 7x7 convolution, and often a pool. `projected`: most blocks have a layer as shortcut.
    """
    m = Maker(seed, state_bits, bits)
    channels = int(m.rng.integers(1, 13))
    if stem:
        first, shape = m.stem(image, channels, state_bits, ticks=(1,) if m.rng.random() < 0.8 else ())
        m.place(first)
    else:
        first, shape = m.separable(image, channels, state_bits, int(m.rng.integers(1, 3)), relu=True, ticks=(1,))
        m.place(*first)
    if stem and m.rng.random() < 0.8:
        pool, shape = m.pool(shape)
        m.place(pool)
    for _ in range(int(m.rng.integers(1, blocks + 1))):
        shape = m.projected(shape) if projected and m.rng.random() < 0.8 else m.block(shape)
    last = state_bits
    if m.rng.random() < 0.3:  # a layer between blocks and head, from map to map
        narrow, (layer, shape) = m.narrow(), m.conv(shape, int(m.rng.integers(1, 9)), bits, 1, relu=True)
        m.place(narrow, layer)
        last = bits
    m.place(m.mean(shape, 2.0 ** (last - 2) * shape[1] * shape[2]))
    head, _ = m.pointwise((shape[0], 1, 1), classes, state_bits)
    m.place(head)
    return m.program(image, classes)
