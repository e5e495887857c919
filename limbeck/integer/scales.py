"""Scales: what one unit of each integer map stands for, chosen from calibration images, and the tables that follow."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from limbeck.errors import InputError
from limbeck.integer.fixed import MULTIPLIER_BITS, SHIFT_LIMIT, multipliers
from limbeck.integer.graph import (
    FloatAdd,
    FloatAveragePool,
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
    centred,
    evaluate,
    path_of,
    readers,
    unit_of,
)
from limbeck.integer.program import IMAGE

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
_VALUES = 1 << 24  # of the largest map at once
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
    """By path, the bits of a node's map and what one unit of it stands for: one scale, or one per channel."""

    formats: Formats
    bits: dict[str, int]
    scales: dict[str, Scale]

    def bits_of(self, name: str) -> int:
        return self.bits[path_of(name)]

    def scale_of(self, name: str) -> Scale:
        return self.scales[path_of(name)]


@dataclass
class _Seen:
    """What was seen of a map: each channel's largest magnitude, and pixels from all images."""

    largest: Tensor  # [channels]
    samples: list[Tensor] = field(default_factory=list)  # [pixels, channels] each


def _check_formats(formats: Formats, graph: Graph) -> None:
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


def _ends(graph: Graph) -> tuple[str, str]:
    """Return the first and the last convolution: few weights, and what they round is felt everywhere or at once."""
    convs = [node.path for node in graph if isinstance(node.op, FloatConv)]
    return convs[0], convs[-1]


# --- which maps have one format ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Chains:
    """Maps, by path, that must have one format because no arithmetic is between them; states are those that sums
    join."""

    of: dict[str, str]  # by path: the chain's first path
    states: frozenset[str]  # first paths of chains in which something is added

    def is_state(self, path: str) -> bool:
        return self.of[path] in self.states


def _chains(graph: Graph) -> _Chains:
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
    return _Chains({path: root(path) for path in parent}, frozenset(root(path) for path in summed))


def formatted(graph: Graph, formats: Formats) -> tuple[Graph, dict[str, int]]:
    """Return the graph with a narrowing wherever a map has more bits than its reader takes, and the bits by path.

    States get the states' bits, all other maps what their readers take; a table takes 8 whatever the formats say.
    """
    graph = _uncapped(graph)
    chains, bits = _chains(graph), {IMAGE: 8}
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
    """Return the graph with a rescaling behind each capped map that sums join: there saturation can't be the cap."""
    chains = _chains(graph)
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


def _needed(graph: Graph, chains: _Chains, formats: Formats, bits: dict[str, int], root: str) -> Iterator[int]:
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


# --- scales ----------------------------------------------------------------------------------------------------------


def plan(graph: Graph, images: Tensor, formats: Formats, ranges: Ranges) -> Plan:
    """Return the bits and scales for the graph, from uint8 calibration images as graph.pixels gives them."""
    ends = _ends(graph)
    graph, bits = formatted(graph, formats)
    _check_formats(formats, graph)
    formats = formats if formats.eight is not None else replace(formats, eight=ends)
    with torch.no_grad():
        seen = _observe(graph, images)
    return Plan(formats, bits, _scales(graph, formats, seen, bits, ranges))


def _scales(
    graph: Graph, formats: Formats, seen: dict[str, _Seen], bits: dict[str, int], ranges: Ranges
) -> dict[str, Scale]:
    chains = _chains(graph)
    takers = readers(graph)
    single = {node.path for node in graph if not _by_channel(node, takers, formats)}
    scales: dict[str, Scale] = {IMAGE: (1.0,)}  # pixels, whose scale is in the first weights
    scales |= _shared(graph, chains, seen, bits, ranges)
    for node in graph:
        path, root = node.path, chains.of[node.path]
        if path in scales:
            continue
        if root != path:  # pooled
            scales[path] = scales[root]
        elif isinstance(node.op, FloatConcat):
            parts = [(scales[path_of(name)], len(seen[path_of(name)].largest)) for name in node.inputs]
            scales[path] = tuple(s for scale, count in parts for s in (scale if len(scale) > 1 else scale * count))
        else:
            scales[path] = _scale(seen[path], bits[path], ranges, node, path not in single)
    return scales


def _by_channel(node: FloatNode, takers: dict[str, list[FloatNode]], formats: Formats) -> bool:
    """Whether a map may have a scale per channel: convolutions, and what treats channels apart, take it alone.

    Few-level weights can't afford it: they would round channels that differ in range by one unit.
    """
    if not isinstance(node.op, FloatConv | FloatScale | FloatAveragePool | FloatMaxPool | FloatConcat):
        return False

    def fits(taker: FloatNode) -> bool:
        match taker.op:
            case FloatConv():
                return formats.weight(taker.path) >= 8
            case FloatMaxPool() | FloatConcat():
                return _by_channel(taker, takers, formats)
            case FloatScale():
                return taker.inputs[0] == node.name
            case FloatAveragePool() | FloatMean():
                return True
            case _:
                return False

    return bool(takers[node.name]) and all(fits(taker) for taker in takers[node.name])


def _observe(graph: Graph, images: Tensor) -> dict[str, _Seen]:
    seen: dict[str, _Seen] = {}
    generator = torch.Generator().manual_seed(0)
    shortcuts = {node.name for node in graph if isinstance(node.op, FloatShortcut)}  # what they take is seen

    def see(name: str, x: Tensor) -> None:
        if name in shortcuts:
            return
        largest = x.abs().amax((0, 2, 3)).cpu()
        at = seen.setdefault(path_of(name), _Seen(largest))
        at.largest = torch.maximum(at.largest, largest)
        flat = x.movedim(1, -1).flatten(0, -2)
        count = min(len(flat), max(1, _SAMPLES * len(x) // (len(images) * x.shape[1])))
        chosen = torch.randint(len(flat), (count,), generator=generator)
        at.samples.append(flat[chosen.to(flat.device)].cpu())

    at_once = max(1, min(_BATCH, _VALUES // max(math.prod(node.shape) for node in graph)))
    for part in torch.split(images, at_once):
        evaluate(graph, centred(graph, part), see)
    return seen


def _scale(seen: _Seen, bits: int, ranges: Ranges, node: FloatNode, by_channel: bool) -> Scale:
    """Return what one unit of a map of so many bits should stand for."""
    high = (1 << (bits - 1)) - 1
    if bits > 8 or ranges == "minmax":
        clips = seen.largest * (WIDE_MARGIN if bits > 8 else 1)
        clips = clips if by_channel else clips.amax(0, keepdim=True)
    else:
        values = torch.cat(seen.samples).abs()
        values = values if by_channel else values.reshape(-1, 1)
        clips = _percentile(values) if ranges == "percentile" else _best(values, high)
    if isinstance(node.op, FloatConv) and node.op.cap is not None:
        clips = clips.clamp(max=node.op.cap)  # then saturation is the cap
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


def _shared(
    graph: Graph, chains: _Chains, seen: dict[str, _Seen], bits: dict[str, int], ranges: Ranges
) -> dict[str, Scale]:
    """Return the scales of states, one for each chain, and of their narrowings: powers of two of it."""
    scales: dict[str, Scale] = {}
    by_path = {node.path: node for node in graph}
    for root in dict.fromkeys(chains.of[path] for path in by_path):
        if root not in chains.states:
            continue
        states = [path for path in by_path if chains.of[path] == root]
        narrows = [
            path
            for path, node in by_path.items()
            if isinstance(node.op, FloatNarrow) and chains.of[path_of(node.inputs[0])] == root and path not in states
        ]
        high = (1 << (bits[root] - 1)) - 1
        least = STATE_MARGIN * max(float(seen[path].largest.max()) for path in states if path in seen) / high or 1.0
        wanted = {path: _scale(seen[path], bits[path], ranges, by_path[path], False)[0] for path in narrows}
        fits = {
            unit: [_narrowing(seen[path], wanted[path], bits[path], ranges, unit) for path in narrows]
            for unit in (least * 2.0 ** (i / _PER_OCTAVE) for i in range(_PER_OCTAVE))
        }
        unit, best = min(fits.items(), key=lambda fit: sum(misfit for misfit, _ in fit[1]))
        scales |= dict.fromkeys(states, (unit,))
        scales |= {path: (unit * 2.0**shift,) for path, (_, shift) in zip(narrows, best, strict=True)}
    return scales


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
    """The integers of a convolution in all of its evaluations, as float64 tensors that a gradient may flow through."""

    weight: Tensor  # [out, in / groups, kernel height, kernel width]
    offset: Tensor  # [evaluations, out]
    mult: Tensor  # [evaluations, out]
    shift: int
    border: Tensor | None  # [out, row classes, column classes]
    rows: tuple[int, ...]  # by output row: its class
    columns: tuple[int, ...]
    ticks: tuple[int, ...]  # by evaluation: how often the border is added


def together(graph: Graph) -> list[list[FloatNode]]:
    """Return the convolutions, those that share weights and constant maps in one list."""
    convs = [(node, node.op) for node in graph if isinstance(node.op, FloatConv)]
    maps = {node.path: id(conv.constant.map) for node, conv in convs if conv.constant is not None}
    found: dict[tuple[str, int, int], list[FloatNode]] = {}
    for node, conv in convs:
        constant = maps.get(node.path, 0) if conv.constant is None else id(conv.constant.map)
        found.setdefault((node.path, id(conv.weight), constant), []).append(node)
    return list(found.values())


def tables(convs: Sequence[FloatConv], in_scale: Scale, out_scale: Scale, weight_bits: int, whole: Round) -> Tables:
    """Return the integers of convolutions that share their weights (numerics.md §8); `whole` rounds, and decides what
    becomes of gradients."""
    conv = convs[0]
    scale, shift_by = (torch.stack([getattr(each, key) for each in convs]).double() for key in ("scale", "shift"))
    sign = torch.where(scale[0] < 0, -1.0, 1.0)
    gain = scale.abs().amax(0)
    # What is left of a channel's gain by evaluation: BatchNorm's statistics differ, its weight does not.
    relative = torch.where(gain > 0, scale.abs() / gain, 1.0).detach()
    goes_out = scale.new_tensor(out_scale)
    effective = conv.weight.double() * (sign * gain)[:, None, None, None] * _incoming(conv, in_scale)[..., None, None]
    high = (1 << (weight_bits - 1)) - 1
    largest = _weight_clips(effective.detach().abs().flatten(1), high) / high  # what a weight's unit must be at least
    mult, shift = _channel_multipliers(largest / goes_out)
    unit = goes_out * mult * 2.0**-shift  # so that this multiplier is exact
    tick, ticks = _ticks([each.constant.times if each.constant else 0.0 for each in convs])
    constant = next((each.constant.map for each in convs if each.constant), None)
    border, rows, columns = (None, (), ()) if constant is None else _classes(constant[0])
    return Tables(
        weight=whole((effective / unit[:, None, None, None]).clamp(-high - 0.25, high + 0.25)),
        offset=whole(shift_by / (unit * relative)),
        mult=torch.round(mult * relative),
        shift=shift,
        border=None if border is None else whole(border.double() * tick * (sign * gain / unit)[:, None, None]),
        rows=rows,
        columns=columns,
        ticks=ticks,
    )


def _incoming(conv: FloatConv, in_scale: Scale) -> Tensor:
    """Return what one unit of the input stands for, [1 or out, 1 or in / groups]."""
    scale = conv.weight.new_tensor(in_scale, dtype=torch.float64)
    if len(scale) == 1:
        return scale[:, None]
    pixels = conv.weight.shape[1] * conv.groups // len(scale)
    assert pixels == 1, "a map's channels are those of the weights"
    return scale.reshape(conv.groups, -1).repeat_interleave(len(conv.weight) // conv.groups, 0)


def _ticks(times: list[float]) -> tuple[float, tuple[int, ...]]:
    """Return (tick, how many of it each time is): the longest tick that fits all."""
    tick = unit_of([each for each in times if each]) if any(times) else 1.0
    if tick is None:
        raise InputError(f"constant maps are added {times} times, which have no common part; lower another net")
    return tick, tuple(round(each / tick) for each in times)


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


def _classes(constant: Tensor) -> tuple[Tensor, tuple[int, ...], tuple[int, ...]]:
    """Return (table [channels, row classes, column classes], class of each row, class of each column) of a map.

    Rows that differ by no more than float32's rounding are one class.
    """
    rows, columns = (_alike(constant.detach().movedim(axis, 0).flatten(1)) for axis in (1, 2))
    firsts = [[each.index(number) for number in range(max(each) + 1)] for each in (rows, columns)]
    return constant[:, firsts[0]][:, :, firsts[1]], rows, columns


def _alike(lines: Tensor) -> tuple[int, ...]:
    """Return a class for each line: numbered from the first, lines of one class are the same."""
    near = 1e-5 * float(lines.abs().max())
    firsts: list[Tensor] = []
    found = []
    for line in lines:
        number = next((i for i, first in enumerate(firsts) if float((line - first).abs().max()) <= near), len(firsts))
        firsts += [line] if number == len(firsts) else []
        found.append(number)
    return tuple(found)


def ratios(in_scale: Scale, out_scale: Scale, share: float, channels: int) -> tuple[np.ndarray, int]:
    """Return (mult [channels], shift) for sums that count `share` each: means, and products of two maps."""
    ratio = np.array(in_scale) * share / np.array(out_scale)
    mult, shift = multipliers(ratio)
    return np.broadcast_to(mult, (channels,)).astype(np.int64), shift


def narrowing(in_scale: Scale, out_scale: Scale) -> tuple[int, int]:
    """Return (factor, shift) of an Add that gives a map another unit: (1, shift) where that is a power of two."""
    ratio = in_scale[0] / out_scale[0]
    exact = -math.log2(ratio)
    if exact >= 0 and abs(exact - round(exact)) < 1e-9:
        return 1, round(exact)
    shift = min(SHIFT_LIMIT, max(0, math.floor(MULTIPLIER_BITS - 1 - math.log2(ratio))))
    return round(ratio * 2.0**shift), shift


def table_of(node: FloatNode, in_scale: Scale, out_scale: Scale, bits: int) -> Tensor:
    """Return the function's integers [256] for -128 to 127, float64, rounded and saturated."""
    assert isinstance(node.op, FloatTable)
    values = node.op.function(torch.arange(-128, 128, dtype=torch.float64) * in_scale[0]) / out_scale[0]
    half = 1 << (bits - 1)
    return torch.floor(values + 0.5).clamp(-half, half - 1)
