"""What rounding did to a net, layer by layer: which one to make wide."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from limbeck.integer.fixed import Ints
from limbeck.integer.graph import (
    FloatConv,
    FloatLayer,
    FloatMean,
    FloatNarrow,
    apply,
    centred,
    evaluate,
    extract,
    pixels,
    walk,
)
from limbeck.integer.program import (
    Conv,
    Depthwise,
    GlobalAverage,
    MaxPool,
    Narrow,
    Ode,
    Pointwise,
    Program,
    Residual,
    Simple,
    trace,
)
from limbeck.integer.qat import QuantisedNet
from limbeck.integer.scales import Scale
from limbeck.integer.survey import Site, survey
from limbeck.nets.zoo import Classifier

_IMAGES = 16  # at once: all of their maps are held


@dataclass(frozen=True)
class LayerNoise:
    """How well a layer's integers stand for the float net's values, over all images and evaluations."""

    path: str
    formats: str  # "w8 a8 -> 16": weights, what comes in, what goes out
    accumulator_bits: int  # proved; 0 where nothing is summed
    saturated: float  # share of values at an end of their range, a ReLU's zeros not counted
    snr: float  # dB, of the map against the float net's: all noise so far
    own_snr: float  # dB, against the float layer applied to the same integers: this layer's noise alone


@dataclass
class _Sums:
    values: int = 0
    saturated: int = 0
    signal: float = 0.0
    noise: float = 0.0
    own: float = 0.0


@torch.no_grad()
def noise(classifier: Classifier, program: Program, images: Tensor) -> tuple[LayerNoise, ...]:
    """Return the noise of each layer that rounds, in the order in which they run, from uint8 images [N, C, H, W].

    `classifier` is what `program` was lowered from. The layer with the lowest own_snr is the first to make wide.
    """
    plain = classifier.net.inner if isinstance(classifier.net, QuantisedNet) else classifier
    layers = extract(plain)
    sites = {site.path: site for site in survey(program)}
    sums: dict[str, _Sums] = {}
    for part in torch.split(pixels(plain, images), _IMAGES):
        _add(sums, layers, program, sites, part)
    return tuple(_noise(site, sums[path]) for path, site in sites.items() if path in sums)


def _add(
    sums: dict[str, _Sums], layers: Sequence[FloatLayer], program: Program, sites: dict[str, Site], images: Tensor
) -> None:
    floats: dict[str, Tensor] = {}
    evaluate(layers, centred(layers, images), floats.__setitem__)
    by_path, scales = dict(walk(layers)), dict(_scales(program))
    x = floats["input"]
    for name, ints in trace(program, images.cpu().numpy()):
        path, evaluation = _place(name)
        y = torch.from_numpy(ints).to(x) * x.new_tensor(scales[path])[:, None, None]
        layer = by_path.get(path)
        if isinstance(layer, FloatConv | FloatNarrow | FloatMean):
            own = apply(path, layer, x, evaluation)
            _count(sums.setdefault(path, _Sums()), _at_ends(ints, sites[path]), y, floats[name], own)
        x = y


def _scales(program: Program) -> Iterator[tuple[str, Scale]]:
    """Yield what one unit of each map stands for, by path."""
    scale: Scale = (1.0,)
    yield "input", scale
    for layer in program.layers:
        match layer:
            case Residual() | Ode():
                for inner in layer.field:
                    scale = _out_scale(inner, scale)
                    yield f"{layer.name}.{inner.name}", scale
            case _:
                scale = _out_scale(layer, scale)
        yield layer.name, scale


def _out_scale(layer: Simple | MaxPool | GlobalAverage, in_scale: Scale) -> Scale:
    match layer:
        case Narrow():
            return (in_scale[0] * 2.0**layer.shift,)
        case MaxPool():
            return in_scale
        case _:
            return layer.requant.scale


def _at_ends(ints: Ints, site: Site) -> int:
    half = 1 << (_width(site.out_largest) - 1)
    return int((ints >= half - 1).sum() + (ints <= -half).sum())


def _place(name: str) -> tuple[str, int]:
    """Return the path and the evaluation that trace's name tells."""
    found = re.search(r"\[(\d+)\]", name)
    return (name.replace(found[0], ""), int(found[1])) if found else (name, 0)


def _count(sums: _Sums, saturated: int, y: Tensor, whole_net: Tensor, own: Tensor) -> None:
    sums.values += y.numel()
    sums.saturated += saturated
    sums.signal += float(whole_net.double().square().sum())
    sums.noise += float((whole_net - y).double().square().sum())
    sums.own += float((own - y).double().square().sum())


def _noise(site: Site, sums: _Sums) -> LayerNoise:
    return LayerNoise(
        site.path,
        _formats(site),
        site.accumulator_bits,
        sums.saturated / sums.values,
        _decibels(sums.signal, sums.noise),
        _decibels(sums.signal, sums.own),
    )


def _decibels(signal: float, noise: float) -> float:
    if not noise:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf


def _formats(site: Site) -> str:
    weights = f"w{site.layer.weight_bits} " if isinstance(site.layer, Conv | Depthwise | Pointwise) else ""
    return f"{weights}a{_width(site.largest)} -> {_width(site.out_largest)}"


def _width(largest: int) -> int:
    """Return the bits of a map whose magnitudes reach 2**(bits - 1), or one less after a ReLU."""
    return (largest - 1).bit_length() + 1
