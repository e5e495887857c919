"""Why uniform fixed point collapses: the formats that the dsODENet lab has published, on a trained net of the family.

    OMP_NUM_THREADS=1 python benchmarks/legacy.py --run runs/dsodenet20-0 --images 256

One format for all values and one for all parameters, half of their bits fraction, as in HLS code with ap_fixed:
weights, BatchNorm's scale and shift, products and sums dropped to it (AP_TRN) and saturated (AP_SAT), every product by
itself. Beside it the same with rounding, and with only the parameters or only the values so coarse (the others have 22
bits of fraction, rounded). Then the error of the maps, as a share of their spread: its mean, which truncation has and
rounding has not, and its deviation. Last the same net as a Program of 8 bits. Prints tables and, last, one JSON line.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from limbeck.deploy.comparison import sample
from limbeck.images.sources import open_source
from limbeck.integer.extract import extract
from limbeck.integer.graph import (
    FloatAdd,
    FloatConv,
    FloatMean,
    FloatNode,
    FloatShortcut,
    Graph,
    centred,
    evaluate,
    pixels,
    shortcut,
)
from limbeck.integer.lower import lower
from limbeck.integer.program import predict
from limbeck.nets import zoo
from limbeck.training.sets import balanced

# bits and bits of fraction, of values and of parameters; what is published names the bits alone
WIDTHS = {
    **{f"{v}-{p}": (v, v // 2, p, p // 2) for v, p in ((32, 32), (28, 28), (24, 24), (24, 20), (20, 20), (24, 16))},
    "20-16": (20, 10, 16, 8),
    "16-16": (16, 8, 16, 8),
    "24-20, parameters with 16 bits before the point": (24, 12, 20, 4),
    "24-16, parameters with 16 bits before the point": (24, 12, 16, 0),
    "Q20, 32 bits": (32, 20, 32, 20),
}
Rounding = Literal["half_up", "truncate"]


@dataclass(frozen=True)
class Format:
    """Signed `bits`-bit integers that stand for multiples of 2**-fraction."""

    bits: int
    fraction: int
    rounding: Rounding = "half_up"  # or "truncate", towards minus infinity (AP_TRN)

    def saturated(self, x: Tensor) -> Tensor:
        """Return x clipped to what the bits hold (AP_SAT)."""
        half = 1 << (self.bits - 1)
        return x.clamp(-half, half - 1)

    def encoded(self, x: Tensor) -> Tensor:
        """Return the integers that stand for x."""
        scaled = torch.ldexp(x.double(), torch.tensor(self.fraction)) + (0.5 if self.rounding == "half_up" else 0)
        return self.saturated(scaled.floor()).to(torch.int64)


FINE = Format(36, 22)


class Pair(NamedTuple):
    """The formats of maps and of parameters."""

    values: Format
    params: Format


def main() -> None:
    """Measure all formats and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True)
    parser.add_argument("--data", default="/usr/share/datasets/fashion-mnist")
    parser.add_argument("--images", type=int, default=256)
    given = parser.parse_args()
    torch.set_num_threads(1)
    net = zoo.load(given.run).eval()
    source = balanced(open_source(given.data, "val"), given.images, 0)
    images, labels = source.pixels, torch.as_tensor(source.labels)
    with torch.no_grad():
        graph = extract(net.double())
        graph = (_on_normalised(graph[0], net), *graph[1:])
        x = normalised(net, images)
        floats: dict[str, Tensor] = {}
        whole = evaluate(graph, x, floats.__setitem__)
        found: dict[str, dict[str, float]] = {"float": {"top1": share(whole, labels)}}
        print(f"float: {found['float']['top1']:.1f}% of {len(labels)} images")
        print(
            "| format | truncated | rounded | truncated parameters alone | truncated values alone |\n"
            "|---|---:|---:|---:|---:|"
        )
        for name, widths in WIDTHS.items():
            found[name] = row(graph, x, labels, *widths)
            print(f"| {name} | " + " | ".join(f"{found[name][key]:.1f}" for key in found[name]) + " |", flush=True)
        for name in ("24-20", "16-16"):
            errors(graph, x, floats, name)
        parameters(graph)
        program = lower(net.float(), sample(net, open_source(given.data, "train"), 512, 0))
        eight = torch.from_numpy(predict(program, pixels(net, images).numpy()))
        found["Program, 8 bits"] = {"top1": 100 * float((eight == labels).double().mean())}
    print(f"Program, 8 bits, a scale a channel: {found['Program, 8 bits']['top1']:.1f}%")
    print("--result " + json.dumps(found))


def row(graph: Graph, x: Tensor, labels: Tensor, *widths: int) -> dict[str, float]:
    """Return top-1 in per cent, truncated, rounded, and truncated in one half alone."""
    cut, rounded = pair(*widths, "truncate"), pair(*widths, "half_up")
    cases = {
        "truncated": cut,
        "rounded": rounded,
        "parameters": Pair(FINE, cut.params),
        "values": Pair(cut.values, FINE),
    }
    return {name: share(fixed(graph, x, case), labels) for name, case in cases.items()}


def pair(bits: int, fraction: int, param_bits: int, param_fraction: int, rounding: Rounding) -> Pair:
    return Pair(Format(bits, fraction, rounding), Format(param_bits, param_fraction, rounding))


def share(logits: Tensor, labels: Tensor) -> float:
    return 100 * float((logits.argmax(1) == labels).double().mean())


# --- normalisation before the first layer, where such hardware has it ----------------------------------------------


def _on_normalised(first: FloatNode, net: zoo.Classifier) -> FloatNode:
    """Return the first layer for normalised pixels less their mean level, whose weights are as trained."""
    assert isinstance(first.op, FloatConv)
    gain = 1 / (255 * first.op.weight.new_tensor(net.input.std))
    return replace(first, op=replace(first.op, weight=first.op.weight / gain[:, None, None]))


def normalised(net: zoo.Classifier, images: Tensor) -> Tensor:
    graph = extract(net)
    assert isinstance(graph[0].op, FloatConv)
    gain = 1 / (255 * graph[0].op.weight.new_tensor(net.input.std))
    return centred(graph, pixels(net, images)) * gain[:, None, None]


# --- fixed point -----------------------------------------------------------------------------------------------------


def fixed(graph: Graph, x: Tensor, formats: Pair, see: Callable[[str, Tensor], None] | None = None) -> Tensor:
    """Return the logits of the net in fixed point, in units of the values' format; `see` hears of maps as numbers."""
    unit = 2.0**-formats.values.fraction

    def told(name: str, z: Tensor) -> None:
        if see is not None:
            see(name, z.double() * unit)

    def apply(node: FloatNode, maps: list[Tensor]) -> Tensor:
        z = maps[0]
        match node.op:
            case FloatAdd(factors, relu):
                total = formats.values.saturated(sum(round(f) * each for f, each in zip(factors, maps, strict=True)))
                return total.clamp(min=0) if relu else total
            case FloatMean():
                return torch.div(z.sum((2, 3), keepdim=True), z[0, 0].numel(), rounding_mode="floor")
            case FloatShortcut() as op:
                return shortcut(z, op)
            case FloatConv() as op:
                return conv(op, z, formats)
            case op:
                raise NotImplementedError(type(op).__name__)

    return evaluate(graph, formats.values.encoded(x), told, apply)


def conv(layer: FloatConv, z: Tensor, formats: Pair) -> Tensor:
    """Return the layer's map: every product dropped to the values' format, then BatchNorm's in turn."""
    values, params = formats
    acc = products(params.encoded(layer.weight), z, layer, params.fraction, values.rounding)
    if layer.constant is not None:
        acc = acc + values.encoded(layer.constant.times * layer.constant.map)
    acc = values.saturated(acc)
    scale, shift = params.encoded(layer.scale), params.encoded(layer.shift)
    y = dropped(acc * scale[:, None, None], params.fraction, values.rounding)
    y = values.saturated(y + dropped_to(shift, params, values)[:, None, None])
    return y.clamp(min=0) if layer.relu else y


def products(weight: Tensor, z: Tensor, layer: FloatConv, bits: int, rounding: Rounding) -> Tensor:
    """Return the sums of products, int64 [N, out, height, width], `bits` dropped of each product."""
    (top, bottom, left, right), size = layer.padding, weight.shape[-1]
    z = torch.nn.functional.pad(z, (left, right, top, bottom))
    height, width = ((side - size) // layer.stride + 1 for side in z.shape[2:])
    acc = z.new_zeros(len(z), len(weight), height, width)
    for row in range(size):
        for column in range(size):
            tap = z[:, :, row :: layer.stride, column :: layer.stride][:, :, :height, :width]
            if layer.groups > 1:
                acc += dropped(tap * weight[:, 0, row, column, None, None], bits, rounding)
                continue
            for channel in range(tap.shape[1]):
                product = tap[:, channel, None] * weight[:, channel, row, column, None, None]
                acc += dropped(product, bits, rounding)
    return acc


def dropped(x: Tensor, bits: int, rounding: Rounding) -> Tensor:
    """Return x / 2**bits, rounded half up or truncated, in place."""
    return (x.add_((1 << bits) >> 1) if rounding == "half_up" else x).bitwise_right_shift_(bits)


def dropped_to(x: Tensor, form: Format, other: Format) -> Tensor:
    """Return integers of one format in another."""
    by = form.fraction - other.fraction
    return dropped(x.clone(), by, other.rounding) if by > 0 else x << -by


# --- why -----------------------------------------------------------------------------------------------------------


def errors(graph: Graph, x: Tensor, floats: dict[str, Tensor], name_of_format: str) -> None:
    """Print the error of each block's map in `widths`, as a share of the map's spread."""
    found = {}
    for rounding in ("truncate", "half_up"):
        seen: dict[str, Tensor] = {}
        fixed(graph, x, pair(*WIDTHS[name_of_format], rounding), seen.__setitem__)
        found[rounding] = seen
    print(f"\n| map, {name_of_format} | truncated: mean | deviation | rounded: mean | deviation |")
    print("|---|---:|---:|---:|---:|")
    for name, whole in floats.items():
        if "narrow" not in name and ("." not in name or name.startswith("head")):
            cells = []
            for seen in found.values():
                off = (seen[name] - whole) / whole.std()
                cells += [f"{float(off.mean()):+.3f}", f"{float(off.std()):.3f}"]
            print(f"| {name} | " + " | ".join(cells) + " |")
    print(flush=True)


def parameters(graph: Graph) -> None:
    """Print how large the net's numbers are beside a unit of 10 bits of fraction."""
    convs = [*{node.path: node.op for node in graph if isinstance(node.op, FloatConv)}.values()]
    weights = torch.cat([layer.weight.flatten() for layer in convs])
    scales = torch.cat([layer.scale.flatten() for layer in convs]).abs()
    unit = 2.0**-10
    few = 100 * float((weights.abs() < unit).double().mean())
    print(
        f"weights: median {float(weights.abs().median()):.4f}, {few:.1f}% under a unit of 10 bits of fraction; "
        f"BatchNorm's scales: {float(scales.min()):.4f} to {float(scales.max()):.2f}"
    )


if __name__ == "__main__":
    begun = time.process_time()
    main()
    print(f"{time.process_time() - begun:.0f} CPU-s")
