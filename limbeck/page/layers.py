"""Layers of nets and of Programs, as the tables of a report."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from limbeck.integer.program import Add, Conv, Program, trace
from limbeck.integer.survey import Site, survey

IMAGES = 64  # that saturation is counted on, where maps are small
_MOST_VALUES = 1 << 24  # in one map of all images together
_AT_ONCE = 8


@dataclass(frozen=True)
class Row:
    """A layer of a Program."""

    path: str
    kind: str
    out: tuple[int, int, int]
    evaluations: int  # runs per image
    weights: int
    macs: int  # of one image, all evaluations
    formats: str  # "w8 a8 → 16": bits of the weights, of what comes in, of what goes out
    accumulator_bits: int  # proved; 0 where nothing is summed
    saturated: float | None  # share of values at an end of their range, a ReLU's zeros not counted


def rows(program: Program, images: NDArray[np.uint8] | None) -> tuple[Row, ...]:
    """Return the Program's layers in their order, all evaluations of one together; saturation is counted on uint8
    images [N, C, H, W], if given."""
    sites = survey(program)
    shares = {} if images is None else saturation(program, sites, images)
    layers: dict[str, list[Site]] = defaultdict(list)
    for site in sites:
        layers[site.node.path].append(site)
    return tuple(_row(path, every, shares.get(path)) for path, every in layers.items())


def _row(path: str, every: Sequence[Site], saturated: float | None) -> Row:
    return Row(
        path=path,
        kind=_kind(every[0]),
        out=every[0].out.shape,
        evaluations=len(every),
        weights=every[0].weights,
        macs=sum(site.macs for site in every),
        formats=every[0].formats.replace("->", "→"),
        accumulator_bits=max(site.accumulator_bits for site in every),
        saturated=saturated,
    )


def _kind(site: Site) -> str:
    match site.node.op:
        case Conv(groups=1):
            return "conv"
        case Conv(groups=groups):
            return "depthwise" if groups == site.out.shape[0] else f"conv, {groups} groups"
        case Add(factors=(_,)):
            return "rescale"
        case op:
            return type(op).__name__.lower()


def saturation(program: Program, sites: Sequence[Site], images: NDArray[np.uint8]) -> dict[str, float]:
    """Return the share of each layer's values that lie at an end of their range, over all evaluations."""
    by_name = {site.node.name: site for site in sites}
    ends: dict[str, int] = defaultdict(int)
    values: dict[str, int] = defaultdict(int)
    count = max(1, min(IMAGES, _MOST_VALUES // max(prod(site.out.shape) for site in sites)))
    for first in range(0, min(count, len(images)), _AT_ONCE):
        for name, ints in trace(program, images[first : min(first + _AT_ONCE, count)]):
            if site := by_name.get(name):
                ends[site.node.path] += site.saturated(ints)
                values[site.node.path] += ints.size
    return {path: ends[path] / number for path, number in values.items()}
