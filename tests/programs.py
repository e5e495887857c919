"""Random Programs of all operations and formats, whose scores depend on the image."""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from limbeck.errors import InputError
from limbeck.integer.program import (
    Add,
    AveragePool,
    Border,
    Concat,
    Conv,
    Extent,
    GlobalAverage,
    Input,
    MaxPool,
    Node,
    Program,
    Requant,
    Scale,
    Shortcut,
    Table,
    out_extent,
    run,
)
from limbeck.integer.survey import survey

TRIES = 100


@dataclass
class Maker:
    """Draws nodes, one after the other; `extreme` takes weights, tables and pixels from the ends of their ranges."""

    rng: np.random.Generator
    extreme: bool

    def __post_init__(self):
        self.tensors, self.nodes, self.extents = {}, [], {}
        self.size = Input(*(int(self.rng.integers(1, high)) for high in (4, 8, 8)))
        self.extents["input"] = Extent((self.size.channels, self.size.height, self.size.width), 8, 128)

    def maybe(self, share=0.5):
        return self.rng.random() < share

    def of(self, *choices):
        return choices[self.rng.integers(len(choices))]

    def key(self, kind, table):
        name = f"{kind}{len(self.tensors)}"
        self.tensors[name] = np.asarray(table, np.int64)
        return name

    def values(self, high, shape):
        """Return integers up to `high` in magnitude."""
        high = int(high)
        if self.extreme:
            return self.rng.choice([-high, high], shape)
        return self.rng.integers(-high, high + 1, shape)

    def requant(self, channels, typical, bits=None):
        """Return a Requant of sums of this magnitude that uses its range."""
        bits = bits or self.of(8, 8, 16, 16, 24)
        mult = self.rng.integers(1 << 12, 1 << 16, channels)
        if self.extreme:
            mult = self.rng.choice([1 << 15, 65_535], channels)
        if self.maybe(0.1):
            mult[0] = 0
        shift = int(np.clip(np.log2(typical * mult.mean() + 1) - bits + self.rng.integers(1, 4), 0, 46))
        offset = self.key("offset", self.values(min(typical, 1 << 40), channels))
        return Requant(offset, self.key("mult", mult), shift, bits, bool(self.maybe(0.4)))

    def append(self, op, *inputs, name=None):
        name = name or f"{type(op).__name__.lower()}{len(self.nodes)}"
        out = out_extent(op, self.tensors, [self.extents[each] for each in inputs])
        self.nodes.append(Node(name, inputs, op, (1.0,)))
        self.extents[name] = out
        return name

    def like(self, wanted):
        """Return a map of which `wanted` holds, seldom an old one, or None."""
        found = [name for name, extent in self.extents.items() if wanted(extent)]
        recent = found[-3:] if self.maybe(0.7) else found
        return self.of(*recent) if found else None

    def padding(self, height, width):
        pads = [int(self.rng.integers(0, side)) for side in (height, height, width, width)]
        return tuple(pads) if self.maybe(0.3) else ((height - 1) // 2,) * 2 + ((width - 1) // 2,) * 2

    def fits(self, extent, height, width, padding):
        return extent.shape[1] + sum(padding[:2]) >= height and extent.shape[2] + sum(padding[2:]) >= width

    def conv(self, x=None, out=None, kernel=None):
        x = x or self.like(lambda extent: extent.bits <= 16)
        extent = self.extents[x]
        channels = extent.shape[0]
        height, width = kernel or self.of((1, 1), (1, 1), (3, 3), (3, 3), (5, 5), (2, 2), (1, 3), (4, 2))
        padding, stride = self.padding(height, width), int(self.of(1, 1, 1, 2, 3))
        if not self.fits(extent, height, width, padding):
            return None
        groups = 1 if out else int(self.of(*(g for g in range(1, channels + 1) if channels % g == 0)))
        out = out or groups * int(self.rng.integers(1, 6 // groups + 2))
        bits = int(self.of(4, 8, 8, 16))
        high = (1 << (bits - 1)) - 1
        share = channels // groups
        weight = self.key("weight", self.values(high, (out, share, height, width)))
        typical = high * 2.0 ** (extent.bits - 2) * np.sqrt(share * height * width)
        op = Conv(weight, bits, groups, stride, padding, self.requant(out, typical))
        sides = out_extent(op, self.tensors, [extent]).shape[1:]
        return self.append(replace(op, border=self.border(out, sides, typical) if self.maybe(0.3) else None), x)

    def border(self, channels, sides, typical):
        classes = [int(self.rng.integers(1, 4)) for _ in sides]
        table = self.key("border", self.values(typical, (channels, *classes)))
        rows, columns = (
            tuple(map(int, self.rng.integers(0, number, side))) for number, side in zip(classes, sides, strict=True)
        )
        return Border(table, rows, columns, int(self.rng.integers(0, 4)))

    def again(self):
        """Another evaluation of a convolution: its weights and border, other tables and ticks."""
        first = self.of(*(node for node in self.nodes if isinstance(node.op, Conv)), None)
        if first is None:
            return None
        shape = self.extents[first.inputs[0]].shape
        x = self.like(lambda extent: extent.shape == shape and extent.bits <= 16)
        op = first.op
        if op.border is not None:
            op = replace(op, border=replace(op.border, ticks=op.border.ticks + 1))
        if self.maybe():
            typical = float(np.abs(self.tensors[op.requant.offset]).mean()) + 1
            op = replace(op, requant=self.requant(len(self.tensors[op.weight]), typical))
        return self.append(op, x, name=f"{first.name}[{len(self.nodes)}]")

    def add(self):
        x = self.like(lambda _: True)
        extent = self.extents[x]
        others = [self.like(lambda other: other.shape == extent.shape) for _ in range(self.rng.integers(0, 3))]
        factors = tuple(int(f) for f in self.rng.integers(*self.of((1, 2), (1, 7), (-9, 10)), len(others) + 1))
        if self.extreme and self.maybe():
            factors = tuple(int(f) for f in self.rng.choice([-65_535, 65_535], len(factors)))
        bits = self.of(8, 16, 24)
        typical = max(1, sum(map(abs, factors))) * 2.0 ** (extent.bits - 2)
        shift = int(np.clip(np.log2(typical) - bits + self.rng.integers(1, 4), 0, 46))
        return self.append(Add(factors, shift, bits, bool(self.maybe(0.4))), x, *others)

    def scale(self):
        x = self.like(lambda extent: extent.bits <= 16)
        channels = self.extents[x].shape[0]
        if self.maybe(0.7):
            gate = self.mean(x)
        else:
            gate = self.like(lambda extent: extent.shape == (channels, 1, 1) and extent.bits <= 16)
        if gate is None:
            return None
        typical = 2.0 ** (self.extents[x].bits + self.extents[gate].bits - 4)
        return self.append(Scale(self.requant(channels, typical)), x, gate)

    def mean(self, x=None, bits=None):
        x = x or self.like(lambda _: True)
        channels, height, width = self.extents[x].shape
        typical = 2.0 ** (self.extents[x].bits - 2) * np.sqrt(height * width)
        return self.append(GlobalAverage(self.requant(channels, typical, bits or self.of(8, 16))), x)

    def table(self):
        x = self.like(lambda extent: extent.bits == 8)
        if x is None:
            return None
        bits = self.of(8, 16)
        values = self.rng.integers(-(1 << bits - 1), 1 << bits - 1, 256)
        return self.append(Table(self.key("table", np.sort(values) if self.maybe() else values), bits), x)

    def pool(self):
        x, size, stride = self.like(lambda _: True), int(self.of(1, 2, 3, 4)), int(self.of(1, 2, 3))
        padding = self.padding(size, size)
        if not self.fits(self.extents[x], size, size, padding):
            return None
        if self.maybe():
            return self.append(MaxPool(size, stride, padding), x)
        inside = bool(self.maybe())
        requant = self.requant(
            self.extents[x].shape[0], 2.0 ** (self.extents[x].bits - 2) * size * (9 if inside else 1)
        )
        return self.append(AveragePool(size, stride, padding, inside, requant), x)

    def concat(self):
        x = self.like(lambda _: True)
        sides = self.extents[x].shape[1:]
        others = [self.like(lambda extent: extent.shape[1:] == sides) for _ in range(self.rng.integers(1, 3))]
        return self.append(Concat(), x, *others)

    def shortcut(self):
        x = self.like(lambda _: True)
        return self.append(Shortcut(int(self.of(1, 2, 3)), self.extents[x].shape[0] + int(self.rng.integers(3))), x)

    def program(self):
        """Return a program of some nodes; what none of them takes goes through its mean to the scores."""
        self.conv()
        for _ in range(self.rng.integers(2, 10)):
            kinds = self.conv, self.conv, self.again, self.add, self.scale, self.table, self.pool, self.concat
            self.of(*kinds, self.shortcut)()
        taken = {name for node in self.nodes for name in node.inputs}
        ends = [name for name in self.extents if name not in taken and name != "input"] or ["input"]
        means = [self.mean(name, 8 if self.maybe() else 16) for name in ends]
        x = self.append(Concat(), *means) if len(means) > 1 else means[0]
        classes = int(self.rng.integers(2, 5))
        self.conv(x, classes, (1, 1))
        return Program(self.size, self.tensors, tuple(self.nodes), tuple("abcd"[:classes]))


def images_for(program, count, rng, *, extreme=False):
    shape = count, program.input.channels, program.input.height, program.input.width
    return (rng.choice([0, 255], shape) if extreme else rng.integers(0, 256, shape)).astype(np.uint8)


def is_telling(program, images):
    """Return whether scores differ from image to image, and most of them are not at an end of their range."""
    scores = run(program, images)
    half = 1 << (program.nodes[-1].op.requant.bits - 1)
    saturated = ((scores >= half - 1) | (scores <= -half)).mean()
    return bool(np.ptp(scores, 0).max() > 0 and saturated <= 0.5)


@cache
def random_program(seed, extreme):
    """Return (program, two images): the first that survey takes and whose scores tell images apart."""
    rng = np.random.default_rng([seed, extreme])
    for _ in range(TRIES):
        program = Maker(rng, extreme).program()
        try:
            survey(program)
        except InputError as error:
            if "accumulators need" not in str(error):
                raise
            continue
        images = images_for(program, 8, rng, extreme=extreme)
        if is_telling(program, images):
            return program, images[:2]
    raise AssertionError(f"seed {seed}: no program in {TRIES} tries")
