"""Layers of nets and of Programs, as the tables of a report."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limbeck.integer.program import Conv, Depthwise, Ode, Pointwise, Program, Residual, trace
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
    evaluations: int  # runs an image
    weights: int
    macs: int  # of one image, all evaluations
    formats: str  # "w8 a8 → 16": bits of the weights, of what comes in, of what goes out
    accumulator_bits: int  # proved; 0 where nothing is summed
    saturated: float | None  # share of values at an end of their range, a ReLU's zeros not counted


def rows(program: Program, images: NDArray[np.uint8] | None) -> tuple[Row, ...]:
    """Return the Program's layers in their order; saturation is counted on uint8 images [N, C, H, W], if given."""
    sites = survey(program)
    shares = {} if images is None else saturation(program, sites, images)
    return tuple(_row(site, shares.get(site.path)) for site in sites)


def _row(site: Site, saturated: float | None) -> Row:
    layer = site.layer
    weighted = isinstance(layer, Conv | Depthwise | Pointwise)
    weights = layer.weight.size if isinstance(layer, Conv | Depthwise | Pointwise) else 0
    bits = f"w{layer.weight_bits} " if isinstance(layer, Conv | Depthwise | Pointwise) else ""
    return Row(
        path=site.path,
        kind=f"{layer.solver}, {layer.steps} steps" if isinstance(layer, Ode) else type(layer).__name__.lower(),
        out=site.out_shape,
        evaluations=site.evaluations,
        weights=weights,
        macs=weights * site.out_shape[1] * site.out_shape[2] * site.evaluations if weighted else 0,
        formats=f"{bits}a{_width(site.largest)} → {_width(site.out_largest)}",
        accumulator_bits=site.accumulator_bits,
        saturated=saturated,
    )


def _width(largest: int) -> int:
    """Return the bits of a map whose magnitudes reach 2**(bits - 1), or one less after a ReLU."""
    return (largest - 1).bit_length() + 1


def saturation(program: Program, sites: tuple[Site, ...], images: NDArray[np.uint8]) -> dict[str, float]:
    """Return the share of each layer's values that lie at an end of their range, over all evaluations."""
    halves = {site.path: 1 << (_width(site.out_largest) - 1) for site in sites}
    largest = max(site.out_shape[0] * site.out_shape[1] * site.out_shape[2] for site in sites)
    ends: dict[str, int] = defaultdict(int)
    values: dict[str, int] = defaultdict(int)
    count = max(1, min(IMAGES, _MOST_VALUES // largest))
    for first in range(0, min(count, len(images)), _AT_ONCE):
        for name, ints in trace(program, images[first : min(first + _AT_ONCE, count)]):
            head, bracket, rest = name.partition("[")  # "layer1[2].conv1": evaluation 2
            path = head + rest.partition("]")[2] if bracket else name
            if path in halves:
                ends[path] += int((ints >= halves[path] - 1).sum() + (ints <= -halves[path]).sum())
                values[path] += ints.size
    return {path: ends[path] / number for path, number in values.items()}


def blocks(program: Program) -> int:
    """Return how many ODE and residual blocks there are."""
    return sum(isinstance(layer, Ode | Residual) for layer in program.layers)
