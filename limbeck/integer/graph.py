"""A trained net as a list of float layers: what `lower` rounds. The only place that knows modules."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from timm.layers.adaptive_avgmax_pool import SelectAdaptivePool2d
from timm.layers.classifier import ClassifierHead
from torch import Tensor, nn

from limbeck.errors import InputError
from limbeck.integer.program import STAGES, ZERO_POINT, Shape
from limbeck.nets.norm import BatchNorm, StepBatchNorm
from limbeck.nets.ode import Solver, times
from limbeck.nets.odenet import Block, OdeBlock, OdeFunction, OdeNet, TimedConv
from limbeck.nets.zoo import Classifier


class LowerError(InputError):
    """The net can't be made a program: which module, and why."""


@dataclass(frozen=True)
class Constant:
    """What a constant map, seen by a padded convolution, adds before the affine: ticks · map, by evaluation."""

    map: Tensor  # [channels, height, width]
    rows: tuple[int, ...]  # [height]: which rows are alike, numbered from the top
    columns: tuple[int, ...]  # [width]
    ticks: tuple[int, ...]


@dataclass(frozen=True)
class FloatConv:
    """y = (conv(x) + ticks · constant) · scale + shift, then ReLU, then a cap. Rows: by evaluation, or one for all."""

    name: str
    weight: Tensor  # [out, in / groups, kernel, kernel]
    stride: int
    padding: int
    groups: int  # 1, or the channels: depthwise
    scale: Tensor  # [1 or evaluations, out]
    shift: Tensor
    relu: bool = False
    cap: float | None = None  # of a ReLU6
    constant: Constant | None = None


@dataclass(frozen=True)
class FloatNarrow:
    """Where a state is rounded to an activation; in floats, nothing happens."""

    name: str


@dataclass(frozen=True)
class FloatPool:
    """Max-pooling."""

    name: str
    size: int
    stride: int
    padding: int


@dataclass(frozen=True)
class FloatMean:
    """The mean over the map, [channels, 1, 1]."""

    name: str
    channels: int
    pixels: int  # of the map that comes in


@dataclass(frozen=True)
class FloatResidual:
    """relu(shortcut(z) + field(z)), option A's shortcut."""

    name: str
    field: tuple["FloatSimple", ...]
    stride: int
    channels: int
    relu: bool


@dataclass(frozen=True)
class FloatOde:
    """z after `steps` steps; the field's last affine holds the part of h that leaves program.STAGES whole."""

    name: str
    field: tuple["FloatSimple", ...]
    steps: int
    solver: Solver


FloatSimple = FloatConv | FloatNarrow
FloatLayer = FloatSimple | FloatPool | FloatMean | FloatResidual | FloatOde
See = Callable[[str, Tensor], None]

# By solver: the part of h in k (one number a stage), and how many ticks of time a step has.
_PARTS: dict[Solver, tuple[tuple[float, ...], int]] = {
    "euler": ((1,), 1),
    "midpoint": ((1 / 2, 1), 2),
    "heun": ((1 / 2, 1 / 2), 1),
    "rk4": ((1 / 6, 1 / 6, 1 / 6, 1 / 6), 2),
}


# --- what the float layers compute -------------------------------------------------------------------------------

FloatPlain = FloatSimple | FloatPool | FloatMean
Apply = Callable[[str, FloatPlain, Tensor, int], Tensor]  # (path, layer, map [N, C, H, W], evaluation) -> map
Add = Callable[[FloatResidual | FloatOde, Tensor], Tensor]  # what becomes of a block's sum


def apply(path: str, layer: FloatPlain, x: Tensor, evaluation: int) -> Tensor:
    """Return the layer's map of x."""
    match layer:
        case FloatNarrow():
            return x
        case FloatPool():
            return F.max_pool2d(x, layer.size, layer.stride, layer.padding)
        case FloatMean():
            return x.mean((2, 3), keepdim=True)
        case FloatConv():
            acc = F.conv2d(x, layer.weight, None, layer.stride, layer.padding, groups=layer.groups)
            if layer.constant is not None:
                ticks = layer.constant.ticks
                acc = acc + ticks[evaluation % len(ticks)] * layer.constant.map
            row = evaluation % len(layer.scale)
            y = acc * layer.scale[row][:, None, None] + layer.shift[row][:, None, None]
            return y.clamp(0, layer.cap) if layer.relu else y


def add(block: FloatResidual | FloatOde, total: Tensor) -> Tensor:
    """Return the block's sum, after its ReLU if it has one."""
    return F.relu(total) if isinstance(block, FloatResidual) and block.relu else total


def evaluate(layers: Sequence[FloatLayer], x: Tensor, see: See, apply: Apply = apply, add: Add = add) -> Tensor:
    """Return the logits [N, classes] of pixels - 128, telling `see` every map under its name in program.trace."""
    see("input", x)
    for layer in layers:
        match layer:
            case FloatResidual():
                k = _field(layer, layer.name, x, 0, see, apply)
                x = add(layer, _shortcut(layer, x) + k)
                see(layer.name, x)
            case FloatOde():
                x = _ode(layer, x, see, apply, add)
            case _:
                x = apply(layer.name, layer, x, 0)
                see(layer.name, x)
    return x[:, :, 0, 0]


def _field(block: FloatResidual | FloatOde, seen_as: str, x: Tensor, evaluation: int, see: See, apply: Apply) -> Tensor:
    for layer in block.field:
        x = apply(f"{block.name}.{layer.name}", layer, x, evaluation)
        see(f"{seen_as}.{layer.name}", x)
    return x


def _shortcut(block: FloatResidual, x: Tensor) -> Tensor:
    return F.pad(x[:, :, :: block.stride, :: block.stride], (0, 0, 0, 0, 0, block.channels - x.shape[1]))


def _ode(block: FloatOde, state: Tensor, see: See, apply: Apply, add: Add) -> Tensor:
    stages = STAGES[block.solver]
    for step in range(block.steps):
        start = end = state
        for stage, (a, b) in enumerate(stages):
            evaluation = step * len(stages) + stage
            seen_as = f"{block.name}[{evaluation}]"
            k = _field(block, seen_as, start, evaluation, see, apply)
            start, end = add(block, state + a * k), add(block, end + b * k)
            see(seen_as, end if stage == len(stages) - 1 else start)
        state = end
    return state


def walk(layers: Sequence[FloatLayer]) -> Iterator[tuple[str, FloatLayer]]:
    """Yield all layers with their paths, those of a field before their block."""
    for layer in layers:
        if isinstance(layer, FloatResidual | FloatOde):
            yield from ((f"{layer.name}.{inner.name}", inner) for inner in layer.field)
        yield layer.name, layer


def centred(layers: Sequence[FloatLayer], images: Tensor) -> Tensor:
    """Return uint8 images as the first layer takes them: minus 128, in the type of its weights."""
    first = layers[0]
    assert isinstance(first, FloatConv)
    return images.to(first.weight.dtype) - ZERO_POINT


def pixels(classifier: Classifier, images: Tensor) -> Tensor:
    """Return uint8 images [N, channels, size, size] as a program takes them: what `prepare` gives, not normalised."""
    values = (classifier.prepare(images).float() - classifier.shift) / classifier.scale
    return values.round().clamp(0, 255).to(torch.uint8)


# --- modules to float layers -------------------------------------------------------------------------------------


def extract(classifier: Classifier) -> tuple[FloatLayer, ...]:
    """Return the float layers of the net, from pixels - 128 to the logits in the order of its classes.

    Normalisation is folded into the first layer, BatchNorm (its running statistics) into convolutions. Gradients
    flow from the layers to the net's parameters. LowerError where a module has no integer layer.
    """
    size = classifier.input.size
    builder = _Builder((classifier.input.channels, size, size))
    builder.add(classifier.net, "")
    layers = builder.layers
    if not layers or not isinstance(layers[0], FloatConv):
        raise LowerError("the net doesn't begin with a convolution, so its normalisation can't be folded")
    layers[0] = _with_pixels(layers[0], classifier)
    last = layers[-1]
    if not isinstance(last, FloatConv) or builder.shape != (len(classifier.classes), 1, 1):
        raise LowerError(f"the net ends with a map {builder.shape}; it must end with a score for each class")
    if classifier.order is not None:
        order = classifier.order
        layers[-1] = replace(last, weight=last.weight[order], scale=last.scale[:, order], shift=last.shift[:, order])
    return tuple(_narrowed(layers))


class _Builder:
    """The layers so far, and the shape of the map that the last one gives."""

    def __init__(self, shape: Shape) -> None:
        self.layers: list[FloatLayer] = []
        self.shape = shape

    def add(self, module: nn.Module, path: str) -> None:  # noqa: C901, PLR0912 - a case a module
        match module:
            case OdeBlock():
                self.layers.append(_ode_block(module, path, self.shape))
            case Block():
                self.layers.append(_residual(module, path))
                self.shape = _out(self.shape, module.norm2.num_features, 3, module.stride, 1)
            case OdeNet() | nn.Sequential() | ClassifierHead() | SelectAdaptivePool2d():
                for name, child in module.named_children():
                    self.add(child, f"{path}.{name}" if path else name)
            case nn.Conv2d():
                conv = _conv(module, path)
                self.layers.append(conv)
                self.shape = _out(self.shape, len(conv.weight), conv.weight.shape[2], conv.stride, conv.padding)
            case nn.Linear():
                self._needs_pixel(path, "a dense layer")
                self.layers.append(_linear(module, path))
                self.shape = (module.out_features, 1, 1)
            case _ if type(module) in (nn.BatchNorm2d, BatchNorm):
                self._replace_last(path, lambda conv: _normed(conv, module))
            case nn.ReLU():
                self._replace_last(path, lambda conv: replace(conv, relu=True))
            case nn.ReLU6():
                self._replace_last(path, lambda conv: replace(conv, relu=True, cap=6.0))
            case nn.MaxPool2d():
                self._add_pool(module, path)
            case nn.AdaptiveAvgPool2d() if module.output_size in (1, (1, 1)):
                self.layers.append(FloatMean(path, self.shape[0], self.shape[1] * self.shape[2]))
                self.shape = (self.shape[0], 1, 1)
            case nn.Flatten():
                self._needs_pixel(path, "flattening")
            case nn.Identity() | nn.Dropout() | nn.Dropout2d():
                pass
            case _:
                raise LowerError(
                    f"{path or 'the net'} is a {type(module).__name__}, which has no integer layer; there are "
                    "convolution, BatchNorm, ReLU, max-pooling, global average, linear and the ODE family's blocks"
                )

    def _add_pool(self, module: nn.MaxPool2d, path: str) -> None:
        square = all(isinstance(v, int) for v in (module.kernel_size, module.stride, module.padding))
        if not square or module.dilation != 1 or module.ceil_mode:
            raise LowerError(f"{path}: max-pooling must be square, without dilation or ceil_mode")
        pool = FloatPool(path, int(module.kernel_size), int(module.stride), int(module.padding))  # type: ignore[arg-type]
        self.layers.append(pool)
        self.shape = _out(self.shape, self.shape[0], pool.size, pool.stride, pool.padding)

    def _replace_last(self, path: str, change: Callable[[FloatConv], FloatConv]) -> None:
        last = self.layers[-1] if self.layers else None
        if not isinstance(last, FloatConv) or last.relu:
            raise LowerError(f"{path} doesn't follow a convolution, so it can't be folded into one")
        self.layers[-1] = change(last)

    def _needs_pixel(self, path: str, what: str) -> None:
        if self.shape[1:] != (1, 1):
            raise LowerError(f"{path}: {what} of a map {self.shape}; only after a global average pool")


def _out(shape: Shape, channels: int, size: int, stride: int, padding: int) -> Shape:
    height, width = ((side + 2 * padding - size) // stride + 1 for side in shape[1:])
    return channels, height, width


def _conv(module: nn.Conv2d, name: str) -> FloatConv:
    size, stride, padding = set(module.kernel_size), set(module.stride), module.padding
    depthwise = module.groups == module.in_channels == module.out_channels and module.groups > 1
    plain = module.padding_mode == "zeros" and set(module.dilation) == {1} and not isinstance(padding, str)
    if not plain or len({*padding}) * len(size) * len(stride) != 1 or (module.groups > 1 and not depthwise):
        raise LowerError(
            f"{name}: a convolution must be square, padded with zeros, without dilation, and dense or depthwise"
        )
    ones = module.weight.new_ones(1, module.out_channels)
    bias = 0 * ones if module.bias is None else module.bias[None]
    return FloatConv(name, module.weight, module.stride[0], int(padding[0]), module.groups, ones, bias)


def _linear(module: nn.Linear, name: str) -> FloatConv:
    ones = module.weight.new_ones(1, module.out_features)
    bias = 0 * ones if module.bias is None else module.bias[None]
    return FloatConv(name, module.weight[:, :, None, None], 1, 0, 1, ones, bias)


def _affine(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Return BatchNorm's scale and shift, [1 or evaluations, channels], by its running statistics."""
    assert isinstance(norm, nn.BatchNorm2d | StepBatchNorm)
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:
        raise LowerError("a BatchNorm has no running statistics; train it with track_running_stats")
    mean, variance = mean.view(-1, mean.shape[-1]), variance.view(-1, variance.shape[-1])
    weight = 1 if norm.weight is None else norm.weight
    scale = weight * torch.rsqrt(variance + norm.eps)
    return scale, (0 if norm.bias is None else norm.bias) - mean * scale


def _normed(conv: FloatConv, norm: nn.Module, h: Tensor | float = 1) -> FloatConv:
    """Return conv followed by a BatchNorm, the result times h."""
    scale, shift = _affine(norm)
    return replace(conv, scale=conv.scale * scale * h, shift=(conv.shift * scale + shift) * h)


def _last_normed(
    parts: list[FloatConv], norm: nn.Module, h: Tensor | float = 1, *, relu: bool = False
) -> list[FloatConv]:
    return [*parts[:-1], replace(_normed(parts[-1], norm, h), relu=relu)]


def _parts(module: nn.Module, name: str) -> list[FloatConv]:
    """Return a convolution of the family, dense or separable, as layers."""
    if isinstance(module, nn.Conv2d):
        return [_conv(module, name)]
    return [_conv(part, f"{name}.{part_name}") for part_name, part in module.named_children()]  # type: ignore[arg-type]


def _residual(block: Block, path: str) -> FloatResidual:
    first = _last_normed(_parts(block.conv1, "conv1"), block.norm1, relu=True)
    last = _last_normed(_parts(block.conv2, "conv2"), block.norm2)
    field: tuple[FloatSimple, ...] = (FloatNarrow("narrow"), *first, *last)
    return FloatResidual(path, field, block.stride, block.norm2.num_features, relu=True)


def _ode_block(block: OdeBlock, path: str, shape: Shape) -> FloatOde:
    f: OdeFunction = block.f
    parts, ticks_a_step = _PARTS[block.solver]
    ticks = tuple(round(t * block.steps * ticks_a_step) for t in times(block.steps, block.solver))
    a_tick = 1 / (block.steps * ticks_a_step)
    h = block.h * f.norm2.weight.new_tensor(parts * block.steps)[:, None]
    first = _last_normed(_timed(f.conv1, "conv1", shape, a_tick, ticks), f.norm1, relu=True)
    last = _last_normed(_timed(f.conv2, "conv2", shape, a_tick, ticks), f.norm2, h)
    field: tuple[FloatSimple, ...] = (FloatNarrow("narrow"), *first, *last)
    return FloatOde(path, field, block.steps, block.solver)


def _timed(conv: TimedConv, name: str, shape: Shape, a_tick: float, ticks: tuple[int, ...]) -> list[FloatConv]:
    """Return the convolution's layers; time, one map the same at every tick but for its size, joins the last."""
    *head, last = _parts(conv.space, name)
    if conv.time is not None:
        ones = last.weight.new_full((1, 1, *shape[1:]), a_tick)
        rows, columns = (alike(side, 3, 1, 1) for side in shape[1:])
        last = replace(last, constant=Constant(conv.time(ones)[0], rows, columns, ticks))
    return [*head, last]


def _with_pixels(conv: FloatConv, classifier: Classifier) -> FloatConv:
    """Return the first layer for pixels - 128 in place of (pixel / 255 - mean) / std, borders included."""
    mean, std = (conv.weight.new_tensor(v)[:, None, None] for v in (classifier.input.mean, classifier.input.std))
    size = classifier.input.size
    zero = ((ZERO_POINT / 255 - mean) / std).expand(-1, size, size)[None]
    constant = F.conv2d(zero, conv.weight, None, conv.stride, conv.padding, groups=conv.groups)[0]
    rows = alike(size, conv.weight.shape[2], conv.stride, conv.padding)
    gain = 1 / (255 * std)
    weight = conv.weight * (gain[:, None] if conv.groups > 1 else gain)
    return replace(conv, weight=weight, constant=Constant(constant, rows, rows, (1,)))


def alike(side: int, kernel: int, stride: int, padding: int) -> tuple[int, ...]:
    """Return a class for each output row (or column): rows of one class have the same taps outside the map."""
    starts = range(-padding, side + padding - kernel + 1, stride)
    outside = [(max(0, -start), max(0, start + kernel - side)) for start in starts]
    numbers = {taps: number for number, taps in enumerate(dict.fromkeys(outside))}
    return tuple(numbers[taps] for taps in outside)


def _narrowed(layers: list[FloatLayer]) -> Iterator[FloatLayer]:
    """Yield the layers with a narrowing between a block's state and a convolution."""
    state = False
    for layer in layers:
        match layer:
            case FloatConv():
                if state:
                    yield FloatNarrow(f"{layer.name}.narrow")
                state = False
            case FloatMean():
                state = False
            case FloatResidual() | FloatOde():
                state = True
        yield layer
