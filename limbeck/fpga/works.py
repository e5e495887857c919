"""A Program as the engine does it: a chain of works, each a pass over one map (docs/hardware.md §2)."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from limbeck.errors import InputError, assert_never
from limbeck.integer.program import (
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
    Shape,
    Simple,
)


@dataclass(frozen=True)
class Shortcut:
    """The state that a result is added to: every `stride`-th pixel of a map."""

    buffer: int
    shape: Shape
    stride: int


@dataclass(frozen=True, eq=False)
class Work:
    """One pass: [depthwise,] then dense sums, requantised, added to a shortcut; where the result goes.

    `path` names the layer's tables and is the same in every evaluation; `value` names the result as `trace` does.
    """

    path: str
    value: str
    layer: Conv | Pointwise | GlobalAverage
    depthwise: Depthwise | None
    evaluation: int
    shape: Shape  # of the map that comes in
    out: Shape
    image: bool
    depthwise_value: str = ""  # its name in `trace`
    pool: str = ""  # the result's 3x3/2 maxima are kept instead of it: their name in `trace`
    shortcut: Shortcut | None = None
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
    def kept(self) -> Shape:
        """The shape of what is written as map and state."""
        return _out(self.out, self.out[0], 2) if self.pool else self.out

    @property
    def stride(self) -> int:
        return self.depthwise.stride if self.depthwise else self.layer.stride if isinstance(self.layer, Conv) else 1

    @property
    def dense(self) -> bool:
        """Whether a sum runs over the nine places of a window."""
        return isinstance(self.layer, Conv) and self.layer.weight.shape[2:] == (3, 3)

    @property
    def stem(self) -> bool:
        """Whether it is the 7x7 convolution of the image."""
        return isinstance(self.layer, Conv) and self.layer.weight.shape[2:] == (7, 7)

    @property
    def values(self) -> set[int]:
        """The bits of its weights and of the maps that it makes."""
        weights = set() if isinstance(self.layer, GlobalAverage) else {self.layer.weight_bits}
        depthwise = {self.depthwise.weight_bits, self.depthwise.requant.bits} if self.depthwise else set()
        return weights | depthwise | (set() if self.drop is None else {self.map_bits})

    @property
    def from_sum(self) -> bool:
        return isinstance(self.layer, GlobalAverage)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image."""
        if isinstance(self.layer, GlobalAverage):
            return 0
        places = self.out[1] * self.out[2]
        depthwise = self.depthwise.weight.size if self.depthwise else 0
        return places * (self.layer.weight.size + depthwise)


@dataclass
class _Chain:
    works: list[Work] = field(default_factory=list)
    depthwise: tuple[Depthwise, str, Shape] | None = None  # waits for its pointwise, with its value and what it reads
    shape: Shape = (0, 0, 0)

    def last(self, **changes: object) -> None:
        self.works[-1] = replace(self.works[-1], **changes)  # type: ignore[arg-type]


def works_of(program: Program) -> tuple[Work, ...]:
    """Return the works of a surveyed program; InputError where the engine cannot do a layer."""
    size = program.input
    chain = _Chain(shape=(size.channels, size.height, size.width))
    for layer in program.layers:
        _layer(chain, layer)
    chain.last(score=True)
    if len(chain.works) < 2:
        raise InputError("a program of one layer needs no accelerator; the engine wants at least two")
    return tuple(chain.works)


def _layer(chain: _Chain, layer: Layer) -> None:
    match layer:
        case Residual():
            _residual(chain, layer)
        case Ode():
            _ode(chain, layer)
        case GlobalAverage():
            if not chain.works or chain.works[-1].pool:
                what = "a pooled map" if chain.works else "the image itself"
                raise InputError(f"{layer.name}: the engine cannot average {what}")
            chain.last(sum=True)
            _append(chain, Work(layer.name, layer.name, layer, None, 0, chain.shape, (chain.shape[0], 1, 1), False))
        case MaxPool():
            _pool(chain, layer)
        case _:
            _simple(chain, layer, layer.name, layer.name, 0)


def _pool(chain: _Chain, layer: MaxPool) -> None:
    if (layer.size, layer.stride, layer.padding) != (3, 2, 1):
        raise InputError(
            f"{layer.name}: a pool of {layer.size}x{layer.size} with stride {layer.stride} and padding "
            f"{layer.padding}; the accelerator pools 3x3 with stride 2 and padding 1"
        )
    last = chain.works[-1] if chain.works and chain.depthwise is None else None
    if last is None or not _is_plain(last):
        raise InputError(f"{layer.name}: the accelerator pools what a convolution with a ReLU gives")
    chain.last(pool=layer.name)
    chain.shape = chain.works[-1].kept


def _is_plain(work: Work) -> bool:
    """Return whether a work is a convolution and its ReLU, nothing of which is used yet."""
    used = work.pool or work.shortcut or work.from_sum or work.buffer is not None or work.drop is not None
    return not used and work.requant.relu


def _field(chain: _Chain, layers: Sequence[Simple], path: str, value: str, evaluation: int) -> None:
    for layer in layers:
        _simple(chain, layer, f"{path}.{layer.name}", f"{value}.{layer.name}", evaluation)
    if chain.depthwise is not None:
        raise InputError(f"{path}: its field ends with a depthwise layer; the accelerator wants a pointwise after it")


def _state(chain: _Chain, path: str) -> int:
    """Have the last result kept as state; return the buffer."""
    if not chain.works:
        raise InputError(f"{path}: a block cannot read the image itself; the accelerator wants a convolution before it")
    last = chain.works[-1]
    if last.buffer is None:
        chain.last(buffer=0)
    return last.buffer or 0


def _residual(chain: _Chain, block: Residual) -> None:
    buffer, shape = _state(chain, block.name), chain.shape
    if block.stride > 2:
        raise InputError(f"{block.name}: a stride of {block.stride} is too much; the accelerator knows 1 and 2")
    before = len(chain.works)
    _field(chain, block.field, block.name, block.name, 0)
    if len(chain.works) == before:
        raise InputError(f"{block.name}: its field has no convolution")
    same = block.stride == 1 and block.channels == shape[0]
    chain.last(
        shortcut=Shortcut(buffer, shape, block.stride),
        buffer=buffer if same else 1 - buffer,
        relu=block.relu,
        bits=block.bits,
        value=block.name,
    )


def _ode(chain: _Chain, block: Ode) -> None:
    if block.solver != "euler":
        raise InputError(f"{block.name}: the accelerator takes Euler steps, not {block.solver}'s; train with euler")
    buffer, shape = _state(chain, block.name), chain.shape
    for step in range(block.steps):
        value = f"{block.name}[{step}]"
        before = len(chain.works)
        _field(chain, block.field, block.name, value, step)
        if len(chain.works) == before:
            raise InputError(f"{block.name}: its field has no convolution")
        chain.last(shortcut=Shortcut(buffer, shape, 1), buffer=buffer, bits=block.bits, value=value)


def _simple(chain: _Chain, layer: Simple, path: str, value: str, evaluation: int) -> None:
    match layer:
        case Narrow():
            _drop(chain, layer.shift, layer.bits, path, value)
        case Depthwise():
            _check_window(path, layer.weight.shape[-1], layer.stride, layer.padding)
            if layer.requant.border is not None:
                raise InputError(f"{path}: a depthwise layer has no border in the accelerator")
            _check_free(chain, path)
            _read(chain, path)
            chain.depthwise = (layer, value, chain.shape)
            chain.shape = _out(chain.shape, chain.shape[0], layer.stride)
        case Pointwise() | Conv():
            _dense(chain, layer, path, value, evaluation)
        case _:
            assert_never(layer)


def _dense(chain: _Chain, layer: Conv | Pointwise, path: str, value: str, evaluation: int) -> None:
    shape, stride, depthwise, depthwise_value = chain.shape, 1, None, ""
    if isinstance(layer, Conv):
        if chain.works or layer.weight.shape[-1] != 7:
            _check_window(path, layer.weight.shape[-1], layer.stride, layer.padding)
        else:
            _check_stem(path, layer, shape)
        _check_free(chain, path)
        stride = layer.stride
    if chain.depthwise is not None:
        depthwise, depthwise_value, shape = chain.depthwise
    else:
        _read(chain, path)
    out = _out(chain.shape, len(layer.weight), stride)
    image = not chain.works
    chain.depthwise = None
    work = Work(path, value, layer, depthwise, evaluation, shape, out, image, depthwise_value)
    _append(chain, work)


def _append(chain: _Chain, work: Work) -> None:
    chain.works.append(work)
    chain.shape = work.out


def _read(chain: _Chain, path: str) -> None:
    """Have the last result written as the map that `path` reads."""
    if not chain.works:
        return
    last = chain.works[-1]
    if last.drop is None:
        chain.last(drop=0, map=last.pool or last.value, map_bits=last.bits or last.requant.bits)


def _drop(chain: _Chain, shift: int, bits: int, path: str, value: str) -> None:
    if not chain.works or chain.works[-1].drop is not None or chain.depthwise is not None:
        raise InputError(f"{path}: the accelerator narrows a map once, where it is written")
    chain.last(drop=shift, map=value, map_bits=bits)


def _check_free(chain: _Chain, path: str) -> None:
    if chain.depthwise is not None:
        raise InputError(f"{path}: it follows a depthwise layer; the accelerator wants a pointwise layer between them")


def _check_window(path: str, size: int, stride: int, padding: int) -> None:
    if (size, padding) != (3, 1) or stride not in (1, 2):
        raise InputError(
            f"{path}: a {size}x{size} kernel with stride {stride} and padding {padding}; the accelerator has 3x3 with "
            "stride 1 or 2 and padding 1, and 7x7 with stride 2 and padding 3 as the first layer"
        )


def _check_stem(path: str, layer: Conv, shape: Shape) -> None:
    if (layer.stride, layer.padding) != (2, 3) or shape[1] % 2 or shape[2] % 2:
        raise InputError(
            f"{path}: a 7x7 kernel with stride {layer.stride} and padding {layer.padding} on images "
            f"{shape[1]}x{shape[2]}; the accelerator has stride 2 and padding 3 on images of even sides"
        )


def _out(shape: Shape, channels: int, stride: int) -> Shape:
    return channels, -(-shape[1] // stride), -(-shape[2] // stride)
