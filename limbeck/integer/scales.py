"""Scales: what one unit of each integer map stands for, chosen from calibration images, and the tables that follow."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from limbeck.integer.formats import Chains, Formats, chains_of, check_formats, ends_of, formatted
from limbeck.integer.graph import (
    FloatAveragePool,
    FloatConcat,
    FloatConv,
    FloatMaxPool,
    FloatMean,
    FloatNarrow,
    FloatNode,
    FloatScale,
    FloatShortcut,
    Graph,
    centred,
    evaluate,
    path_of,
    readers,
)
from limbeck.integer.program import IMAGE

Ranges = Literal["minmax", "percentile", "mse"]
Round = Callable[[Tensor], Tensor]
Scale = tuple[float, ...]

SCORE_BITS = 16
PERCENTILE = 99.99
STATE_MARGIN = 1.25  # of the largest state seen: saturation there is felt in all later steps
WIDE_MARGIN = 2.0  # of the largest value seen, for 16-bit maps: a bit is cheaper than saturation
CHANNEL_FLOOR = 2.0**-8  # of the largest channel's range: a nearly constant channel needs no finer scale
OFFSET_BITS = 40  # of an offset at most: a channel whose weights are almost zero gets coarser ones
MULT_FLOOR = 1 << 7  # else a weak channel's multipliers are too coarse to tell its evaluations apart
_SAMPLES = 1 << 17  # values kept per map
_BATCH = 64
_VALUES = 1 << 24  # of the largest map at once
_PER_OCTAVE = 16  # state scales tried


@dataclass(frozen=True)
class Plan:
    """By path, the bits of a node's map, what one unit of it stands for, one scale or one per channel, and the mean of
    each of its channels in the float net, [channels]."""

    formats: Formats
    bits: dict[str, int]
    scales: dict[str, Scale]
    means: dict[str, Tensor]

    def bits_of(self, name: str) -> int:
        return self.bits[path_of(name)]

    def scale_of(self, name: str) -> Scale:
        return self.scales[path_of(name)]

    def mean_of(self, name: str) -> Tensor | None:
        return self.means.get(path_of(name))


@dataclass
class _Seen:
    """What was observed of a map: each channel's largest magnitude and sum, and pixels from all images."""

    largest: Tensor  # [channels]
    total: Tensor  # of all pixels, [channels]
    pixels: int = 0
    samples: list[Tensor] = field(default_factory=list)  # [pixels, channels] each


def plan(graph: Graph, images: Tensor, formats: Formats, ranges: Ranges) -> Plan:
    """Return the bits and scales for the graph, from uint8 calibration images as graph.pixels gives them."""
    ends = ends_of(graph)
    graph, bits = formatted(graph, formats)
    check_formats(formats, graph)
    formats = formats if formats.eight is not None else replace(formats, eight=ends)
    with torch.no_grad():
        seen = _observe(graph, images)
    means = {path: each.total / each.pixels for path, each in seen.items()}
    return Plan(formats, bits, _scales(graph, formats, seen, bits, ranges), means)


def _scales(
    graph: Graph, formats: Formats, seen: dict[str, _Seen], bits: dict[str, int], ranges: Ranges
) -> dict[str, Scale]:
    chains = chains_of(graph)
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
    """Whether a map may have a scale per channel: only operations that treat channels separately, or fold it, read it.

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
    shortcuts = {node.name for node in graph if isinstance(node.op, FloatShortcut)}  # their inputs are observed

    def see(name: str, x: Tensor) -> None:
        if name in shortcuts:
            return
        largest = x.abs().amax((0, 2, 3)).cpu()
        at = seen.setdefault(path_of(name), _Seen(largest, torch.zeros(len(largest), dtype=torch.float64)))
        at.largest = torch.maximum(at.largest, largest)
        flat = x.movedim(1, -1).flatten(0, -2)
        at.total += flat.sum(0, dtype=torch.float64).cpu()
        at.pixels += len(flat)
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
    largest = seen.largest if by_channel else seen.largest.amax(0, keepdim=True)
    clips = largest * (WIDE_MARGIN if bits > 8 else _share(seen, largest, ranges, high))
    if isinstance(node.op, FloatConv) and node.op.cap is not None:
        clips = clips.clamp(max=node.op.cap)  # then saturation is the cap
    top = float(clips.amax()) or 1.0
    return tuple((clips.clamp(min=top * CHANNEL_FLOOR) / high).tolist())


def _share(seen: _Seen, largest: Tensor, ranges: Ranges, high: int) -> float:
    """Return how much of its largest value each channel keeps: one share for all, since a channel has too few samples
    to choose its own."""
    if ranges == "minmax":
        return 1.0
    shares = (torch.cat(seen.samples).abs() / largest.clamp(min=1e-30)).reshape(-1, 1)
    if ranges == "percentile":
        return float(np.percentile(shares.numpy(), PERCENTILE))
    return float(best_clips(torch.cat([shares, shares.new_ones(1, 1)]), high))


def best_clips(values: Tensor, high: int) -> Tensor:
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
    graph: Graph, chains: Chains, seen: dict[str, _Seen], bits: dict[str, int], ranges: Ranges
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

    By mean squared error, relative to the signal, where `ranges` is "mse"; else the octaves to the next power of two
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
