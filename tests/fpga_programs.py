"""Small random programs that the accelerator can do, for tests and benchmarks/fpga.py."""

import numpy as np

from limbeck.integer.program import (
    Border,
    Conv,
    Depthwise,
    GlobalAverage,
    Input,
    MaxPool,
    Narrow,
    Ode,
    Pointwise,
    Program,
    Requant,
    Residual,
)


class Maker:
    """Draws layers whose results use their range without always saturating."""

    def __init__(self, seed, state_bits=16, bits=8):
        self.rng = np.random.default_rng(seed)
        self.state_bits = state_bits
        self.bits = bits  # of maps, and of weights at most
        self.weight_bits = 8 if bits == 8 else int(self.rng.choice([8, 16]))
        self.unit = (1 << self.weight_bits - 8) * 50.0 * (1 << bits - 8) * 60  # a typical product
        self.count = 0

    def name(self, kind):
        self.count += 1
        return f"{kind}{self.count}"

    def weight(self, *shape):
        most = (1 << (self.weight_bits - 1)) - 1
        if self.rng.random() < 0.2:
            return self.rng.choice([-most, most], shape)
        return self.rng.integers(-most, most + 1, shape)

    def requant(self, channels, typical, bits, *, relu=False, border=None, evaluations=1):
        rows = self.rng.choice([1, evaluations])
        mult = self.rng.integers(1 << 12, 1 << 16, (self.rng.choice([1, evaluations]), channels))
        shift = int(np.clip(np.log2(typical * mult.mean() + 1) - bits + self.rng.integers(1, 4), 1, 40))
        offset = self.rng.integers(-int(typical), int(typical) + 1, (rows, channels))
        return Requant(offset, mult, shift, bits, relu, (1.0,), border)

    def border(self, channels, height, width, typical, ticks):
        def classes(side):
            return np.array([0 if i == 0 else 2 if i == side - 1 else 1 for i in range(side)])

        table = self.rng.integers(-int(typical), int(typical) + 1, (channels, 3, 3))
        return Border(table, classes(height), classes(width), ticks)

    def depthwise(self, shape, stride):
        channels = shape[0]
        requant = self.requant(channels, 2 * self.unit, self.bits, relu=self.rng.random() < 0.3)
        layer = Depthwise(self.name("dw"), self.weight(channels, 3, 3), self.weight_bits, stride, 1, requant)
        return layer, (channels, -(-shape[1] // stride), -(-shape[2] // stride))

    def pointwise(self, shape, channels, bits, *, relu=False, ticks=()):
        typical = self.unit * np.sqrt(shape[0])
        border = self.border(channels, shape[1], shape[2], typical, ticks) if ticks else None
        requant = self.requant(channels, typical, bits, relu=relu, border=border, evaluations=max(1, len(ticks)))
        return Pointwise(self.name("pw"), self.weight(channels, shape[0]), self.weight_bits, requant), (
            channels,
            *shape[1:],
        )

    def stem(self, shape, channels, bits, *, ticks):
        """Return a 7x7 convolution with stride 2, and the shape that comes out; sides are even."""

        def classes(side):
            return np.array([min(i, 2) if i < side - 1 else 3 for i in range(side)])

        out = (channels, shape[1] // 2, shape[2] // 2)
        typical = self.unit * np.sqrt(49 * shape[0])
        table = self.rng.integers(-int(typical), int(typical) + 1, (channels, 4, 4))
        border = Border(table, classes(out[1]), classes(out[2]), ticks) if ticks else None
        requant = self.requant(channels, typical, bits, relu=True, border=border)
        return Conv(self.name("stem"), self.weight(channels, shape[0], 7, 7), self.weight_bits, 2, 3, requant), out

    def pool(self, shape):
        return MaxPool(self.name("pool"), 3, 2, 1), (shape[0], -(-shape[1] // 2), -(-shape[2] // 2))

    def conv(self, shape, channels, bits, stride, *, relu=False, ticks=()):
        out = (channels, -(-shape[1] // stride), -(-shape[2] // stride))
        typical = self.unit * np.sqrt(9 * shape[0])
        border = self.border(channels, *out[1:], typical, ticks) if ticks else None
        requant = self.requant(channels, typical, bits, relu=relu, border=border, evaluations=max(1, len(ticks)))
        return Conv(self.name("conv"), self.weight(channels, shape[0], 3, 3), self.weight_bits, stride, 1, requant), out

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
        return Narrow(self.name("narrow"), max(0 if self.bits == 16 else 1, shift), self.bits)

    def block(self, shape):
        """Return a residual or ODE block on the state, and the shape that comes out."""
        kind = self.rng.integers(3)
        if kind < 2:
            steps = int(self.rng.integers(1, 4))
            ticks = tuple(range(steps)) if self.rng.random() < 0.6 else ()
            inner, middle = self.separable(shape, shape[0], self.bits, relu=True, ticks=ticks)
            outer, out = self.separable(middle, shape[0], self.state_bits, ticks=ticks)
            return Ode(self.name("ode"), (self.narrow(), *inner, *outer), steps, "euler", self.state_bits), out
        stride = int(self.rng.integers(1, 3))
        channels = shape[0] + int(self.rng.integers(0, 6))
        inner, middle = self.separable(shape, channels, self.bits, stride, relu=True)
        outer, out = self.separable(middle, channels, self.state_bits)
        field = (self.narrow(), *inner, *outer)
        relu = bool(self.rng.random() < 0.7)
        return Residual(self.name("residual"), field, stride, channels, relu, self.state_bits), out


def random_program(seed, image, classes, *, state_bits=16, bits=8, blocks=2, stem=False):
    """Return a program on images [channels, height, width] with a stem, some blocks, a mean and a dense layer.

    `stem`: it begins with a 7x7 convolution, and often a pool.
    """
    m = Maker(seed, state_bits, bits)
    channels = int(m.rng.integers(1, 13))
    if stem:
        first, shape = m.stem(image, channels, state_bits, ticks=(1,) if m.rng.random() < 0.8 else ())
        layers = [first]
    else:
        first, shape = m.separable(image, channels, state_bits, int(m.rng.integers(1, 3)), relu=True, ticks=(1,))
        layers = [*first]
    if stem and m.rng.random() < 0.8:
        pool, shape = m.pool(shape)
        layers.append(pool)
    for _ in range(int(m.rng.integers(1, blocks + 1))):
        block, shape = m.block(shape)
        layers.append(block)
    if m.rng.random() < 0.3:  # a layer between blocks and head, from map to map
        narrow, (layer, shape) = m.narrow(), m.conv(shape, int(m.rng.integers(1, 9)), bits, 1, relu=True)
        layers += [narrow, layer]
    last = bits if isinstance(layers[-1], Conv) else state_bits
    typical = 2.0 ** (last - 2) * shape[1] * shape[2]
    layers.append(GlobalAverage(m.name("mean"), m.requant(shape[0], typical, bits)))
    head, _ = m.pointwise((shape[0], 1, 1), classes, state_bits)
    layers.append(head)
    size = Input(image[0], image[1], image[2])
    return Program(size, tuple(layers), tuple(map(str, range(classes))))
