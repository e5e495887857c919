"""Scales: what one unit of each integer map stands for, chosen from calibration images, and the tables that follow."""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from limbeck.errors import InputError
from limbeck.integer.fixed import MULTIPLIER_BITS, multipliers
from limbeck.integer.graph import (
    FloatConv,
    FloatLayer,
    FloatMean,
    FloatNarrow,
    FloatOde,
    FloatPool,
    FloatResidual,
    centred,
    evaluate,
    walk,
)

Ranges = Literal["minmax", "percentile", "mse"]
Round = Callable[[Tensor], Tensor]
Scale = tuple[float, ...]

SCORE_BITS = 16
PERCENTILE = 99.99
STATE_MARGIN = 1.25  # of the largest state seen: saturation there is felt in all later steps
WIDE_MARGIN = 2.0  # of the largest value seen, for 16-bit maps: a bit is cheaper than saturation
CHANNEL_FLOOR = 2.0**-8  # of the largest channel's range: a channel that hardly moves needs no finer scale
MULT_FLOOR = 1 << 7  # else a weak channel's multipliers are too coarse to tell its evaluations apart
_SAMPLES = 1 << 17  # values kept a map
_BATCH = 64
_PER_OCTAVE = 16  # state scales tried


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


@dataclass(frozen=True)
class Plan:
    """By layer path, the bits of its map and what one unit of it stands for: one scale, or one a channel."""

    formats: Formats
    bits: dict[str, int]
    scales: dict[str, Scale]
    in_scales: dict[str, Scale]  # of the map that comes in


@dataclass
class _Seen:
    """What was seen of a map: each channel's largest magnitude, and pixels from all images."""

    largest: Tensor  # [channels]
    samples: list[Tensor] = field(default_factory=list)  # [pixels, channels] each


def _check_formats(formats: Formats, layers: Sequence[FloatLayer]) -> None:
    """Raise InputError where the formats can't be, or name no layer."""
    for name, bits, choices in (
        ("weight bits", formats.weight_bits, (4, 8, 16)),
        ("activation bits", formats.activation_bits, (8, 16)),
        ("state bits", formats.state_bits, (8, 16, 24)),
    ):
        if bits not in choices:
            raise InputError(f"{name} is {bits}; it must be one of {', '.join(map(str, choices))}")
    paths = [path for path, _ in walk(layers)]
    if max([formats.activation_bits, *(16 for _ in formats.wide)]) > formats.state_bits:
        raise InputError(f"states of {formats.state_bits} bits can't give wider activations; raise the state bits")
    for what, names in (("make wide", formats.wide), ("keep at 8 bits", formats.eight or ())):
        for name in names:
            if not any(_named(path, (name,)) for path in paths):
                raise InputError(f"there is no layer {name} to {what}; there are {', '.join(paths)}")


def _ends(layers: Sequence[FloatLayer]) -> tuple[str, str]:
    """Return the first and the last convolution: few weights, and what they round is felt everywhere or at once."""
    convs = [path for path, layer in walk(layers) if isinstance(layer, FloatConv)]
    return convs[0], convs[-1]


def plan(layers: Sequence[FloatLayer], images: Tensor, formats: Formats, ranges: Ranges) -> Plan:
    """Return the bits and scales for the layers, from uint8 calibration images as graph.pixels gives them."""
    _check_formats(formats, layers)
    formats = formats if formats.eight is not None else replace(formats, eight=_ends(layers))
    with torch.no_grad():
        seen = _observe(layers, images)
    bits = _bits(layers, formats)
    by_channel = {path for path, taker in _between(layers) if formats.weight(taker) >= 8}
    wanted = {path: _scale(seen[path], bits[path], ranges, layer, path in by_channel) for path, layer in walk(layers)}
    scales = _shared(layers, wanted, seen, bits, ranges)
    return Plan(formats, bits, scales, incoming(layers, scales))


def _between(layers: Sequence[FloatLayer]) -> Iterator[tuple[str, str]]:
    """Yield the paths of maps that only one convolution takes, and its own: its weights can take a scale a channel.

    Few-level weights can't afford to: they would round channels that differ in range by one unit.
    """
    previous: tuple[str, FloatLayer | None] = ("", None)
    for path, layer in walk(layers):
        if isinstance(layer, FloatConv) and isinstance(previous[1], FloatConv):
            yield previous[0], path
        previous = path, layer


def incoming(layers: Sequence[FloatLayer], scales: dict[str, Scale]) -> dict[str, Scale]:
    """Return what one unit of each layer's input stands for."""
    found: dict[str, Scale] = {}
    last: Scale = (1.0,)  # pixels, whose scale is in the first weights
    for layer in layers:
        found[layer.name] = last
        if isinstance(layer, FloatResidual | FloatOde):
            inner = last
            for part in layer.field:
                path = f"{layer.name}.{part.name}"
                found[path], inner = inner, scales[path]
        last = scales[layer.name]
    return found


def _observe(layers: Sequence[FloatLayer], images: Tensor) -> dict[str, _Seen]:
    seen: dict[str, _Seen] = {}
    generator = torch.Generator().manual_seed(0)

    def see(path: str, x: Tensor) -> None:
        largest = x.abs().amax((0, 2, 3)).cpu()
        at = seen.setdefault(re.sub(r"\[\d+\]", "", path), _Seen(largest))
        at.largest = torch.maximum(at.largest, largest)
        flat = x.movedim(1, -1).flatten(0, -2)
        count = min(len(flat), max(1, _SAMPLES * len(x) // (len(images) * x.shape[1])))
        chosen = torch.randint(len(flat), (count,), generator=generator)
        at.samples.append(flat[chosen.to(flat.device)].cpu())

    for part in torch.split(images, _BATCH):
        evaluate(layers, centred(layers, part), see)
    return seen


def _scale(seen: _Seen, bits: int, ranges: Ranges, layer: FloatLayer, by_channel: bool) -> Scale:
    """Return what one unit of a map of so many bits should stand for."""
    high = (1 << (bits - 1)) - 1
    if isinstance(layer, FloatConv) and layer.cap is not None:
        return (layer.cap / high,)  # then saturation is the cap
    if bits > 8 or ranges == "minmax":
        clips = seen.largest * (WIDE_MARGIN if bits > 8 else 1)
        clips = clips if by_channel else clips.amax(0, keepdim=True)
    else:
        values = torch.cat(seen.samples).abs()
        values = values if by_channel else values.reshape(-1, 1)
        clips = _percentile(values) if ranges == "percentile" else _best(values, high)
    top = float(clips.amax()) or 1.0
    return tuple((clips.clamp(min=top * CHANNEL_FLOOR) / high).tolist())


def _percentile(values: Tensor) -> Tensor:
    return torch.from_numpy(np.percentile(values.numpy(), PERCENTILE, axis=0))


def _best(values: Tensor, high: int) -> Tensor:
    """Return the clips [channels] of least mean squared error of rounding and clipping, of values [N, channels]."""
    largest = values.amax(0)
    best, least = largest, torch.full_like(largest, math.inf)
    for share in range(8, 41):
        unit = largest * (share / 40 / high)
        error = _error(values, unit, high)
        best, least = torch.where(error < least, unit * high, best), torch.minimum(error, least)
    return best


def _error(values: Tensor, unit: Tensor, high: int) -> Tensor:
    """Return the squared error [channels] of rounding magnitudes [N, channels] to units, over their squares."""
    rounded = (values / unit.clamp(min=1e-12)).add_(0.5).floor_().clamp_(max=high).mul_(unit)
    return rounded.sub_(values).square_().sum(0) / values.square().sum(0).clamp(min=1e-30)


def _bits(layers: Sequence[FloatLayer], formats: Formats) -> dict[str, int]:
    """Return the bits of each map: what its consumer takes, the state's bits on the way to and in blocks."""
    bits: dict[str, int] = {}
    after = SCORE_BITS
    for layer in reversed(layers):
        match layer:
            case FloatResidual() | FloatOde():
                inner = formats.state_bits
                for part in reversed(layer.field):
                    path = f"{layer.name}.{part.name}"
                    bits[path] = _or_wide(part, path, inner, formats)
                    inner = formats.input(path) if isinstance(part, FloatConv) else inner
                bits[layer.name] = after = formats.state_bits
            case FloatPool():
                bits[layer.name] = after
            case FloatConv():
                bits[layer.name], after = after, formats.input(layer.name)
            case FloatMean():
                bits[layer.name], after = _or_wide(layer, layer.name, after, formats), formats.activation_bits
            case FloatNarrow():
                bits[layer.name], after = _or_wide(layer, layer.name, after, formats), formats.state_bits
    return bits


def _or_wide(layer: FloatLayer, path: str, bits: int, formats: Formats) -> int:
    """Return the bits of a narrowing or a mean: as its consumer takes them, or 16 where it is itself named wide."""
    return 16 if isinstance(layer, FloatNarrow | FloatMean) and formats.is_wide(path) else bits


def _shared(
    layers: Sequence[FloatLayer],
    wanted: dict[str, Scale],
    seen: dict[str, _Seen],
    bits: dict[str, int],
    ranges: Ranges,
) -> dict[str, Scale]:
    """Return the scales: one for all states of a chain of blocks, powers of two of it for their narrowings."""
    scales = dict(wanted)
    for states, narrows in _chains(layers):
        high = (1 << (bits[states[0]] - 1)) - 1
        least = STATE_MARGIN * max(float(seen[path].largest.max()) for path in states) / high or 1.0
        fits = {
            unit: [_narrowing(seen[path], wanted[path][0], bits[path], ranges, unit) for path in narrows]
            for unit in (least * 2.0 ** (i / _PER_OCTAVE) for i in range(_PER_OCTAVE))
        }
        unit, best = min(fits.items(), key=lambda fit: sum(misfit for misfit, _ in fit[1]))
        scales |= dict.fromkeys(states, (unit,))
        scales |= {path: (unit * 2.0**shift,) for path, (_, shift) in zip(narrows, best, strict=True)}
    last = None
    for layer in layers:
        if isinstance(layer, FloatPool):
            assert last is not None
            scales[layer.name] = scales[last]
        last = layer.name
    return scales


def _chains(layers: Sequence[FloatLayer]) -> Iterator[tuple[list[str], list[str]]]:
    """Yield the paths of the states and of the narrowings of each unbroken chain of blocks."""
    states: list[str] = []
    narrows: list[str] = []
    blocks = False
    for layer in (*layers, None):
        match layer:
            case FloatResidual() | FloatOde():
                blocks = True
                states += [layer.name, f"{layer.name}.{layer.field[-1].name}"]
                narrows += [f"{layer.name}.{part.name}" for part in layer.field if isinstance(part, FloatNarrow)]
            case FloatPool():
                states.append(layer.name)
            case FloatNarrow():
                narrows.append(layer.name)
            case _:
                if blocks:
                    yield states, narrows
                states, narrows, blocks = [] if layer is None else [layer.name], [], False


def _narrowing(seen: _Seen, wanted: float, bits: int, ranges: Ranges, unit: float) -> tuple[float, int]:
    """Return (misfit, shift) of the best narrowing of states of this unit to `bits` bits.

    By mean squared error, relative to the signal, where that was asked for; else the octaves to the next power of two
    that doesn't clip what the wanted scale would not.
    """
    exact = math.log2(wanted / unit)
    if ranges != "mse" or bits > 8:
        shift = max(0, math.ceil(exact - 1e-9))
        return (shift - exact) ** 2, shift
    values = torch.cat(seen.samples).reshape(-1, 1).abs()
    shifts = {max(0, math.floor(exact)), max(0, math.ceil(exact))}
    high = (1 << (bits - 1)) - 1
    return min((float(_error(values, torch.tensor(unit * 2.0**shift), high)), shift) for shift in sorted(shifts))


# --- tables ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tables:
    """A convolution's integers, as float64 tensors that a gradient may flow through."""

    weight: Tensor  # [out, in / groups, kernel, kernel]
    offset: Tensor  # [1 or evaluations, out]
    mult: Tensor
    shift: int
    border: Tensor | None  # [out, row classes, column classes]


def tables(conv: FloatConv, in_scale: Scale, out_scale: Scale, weight_bits: int, whole: Round) -> Tables:
    """Return the convolution's integers (numerics.md §8); `whole` rounds, and decides what becomes of gradients."""
    scale = conv.scale.double()
    sign = torch.where(scale[0] < 0, -1.0, 1.0)
    gain = scale.abs().amax(0)
    # What is left of a channel's gain by evaluation: BatchNorm's statistics differ, its weight does not.
    relative = torch.where(gain > 0, scale.abs() / gain, 1.0).detach()
    comes_in, goes_out = scale.new_tensor(in_scale), scale.new_tensor(out_scale)
    comes_in = comes_in[:, None] if conv.groups > 1 else comes_in
    effective = conv.weight.double() * (sign * gain)[:, None, None, None] * comes_in[..., None, None]
    high = (1 << (weight_bits - 1)) - 1
    largest = _weight_clips(effective.detach().abs().flatten(1), high) / high  # what a weight's unit must be at least
    mult, shift = _channel_multipliers(largest / goes_out)
    unit = goes_out * mult * 2.0**-shift  # so that this multiplier is exact
    return Tables(
        weight=whole((effective / unit[:, None, None, None]).clamp(-high - 0.25, high + 0.25)),
        offset=whole(conv.shift.double() / (unit * relative)),
        mult=torch.round(mult * relative),
        shift=shift,
        border=_border(conv, sign * gain / unit, whole),
    )


def _weight_clips(magnitudes: Tensor, high: int) -> Tensor:
    """Return where each channel's weights [out, taps] may be clipped: few levels are better spent on the many."""
    return magnitudes.amax(1) if high >= 127 else _best(magnitudes.T, high)


def _channel_multipliers(least: Tensor) -> tuple[Tensor, int]:
    """Return the least multipliers, and their shift, that give each channel at least this ratio."""
    if not float(least.max()) > 0:
        return torch.full_like(least, 1 << (MULTIPLIER_BITS - 1)), MULTIPLIER_BITS - 1
    _, shift = multipliers(least.cpu().numpy() * (1 + 2.0**-MULTIPLIER_BITS))  # room to round up
    shift = max(0, shift)
    return torch.ceil(least * 2.0**shift).clamp(MULT_FLOOR, (1 << MULTIPLIER_BITS) - 1), shift


def _border(conv: FloatConv, factor: Tensor, whole: Round) -> Tensor | None:
    constant = conv.constant
    if constant is None:
        return None
    rows = [constant.rows.index(number) for number in range(max(constant.rows) + 1)]
    columns = [constant.columns.index(number) for number in range(max(constant.columns) + 1)]
    return whole(constant.map.double()[:, rows][:, :, columns] * factor[:, None, None])


def mean_ratio(pixels: int, in_scale: Scale, out_scale: Scale) -> tuple[int, int]:
    """Return (mult, shift) of a global average."""
    mult, shift = multipliers(np.array([in_scale[0] / (pixels * out_scale[0])]))
    return int(mult[0]), shift
