"""How much noise rounding adds to a net, node by node: which node to make wide."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from limbeck.integer.extract import extract
from limbeck.integer.graph import FloatNarrow, FloatNode, Graph, apply, centred, evaluate, pixels
from limbeck.integer.program import IMAGE, Add, Node, Program, trace
from limbeck.integer.qat import QuantisedNet
from limbeck.integer.survey import Site, survey
from limbeck.nets.classifier import Classifier

_IMAGES = 16  # at once: all of their maps are held


@dataclass(frozen=True)
class LayerNoise:
    """How well a node's integers stand for the float net's values, over all images and evaluations."""

    path: str
    formats: str  # "w8 a8 -> 16": weights, what comes in, what goes out
    accumulator_bits: int  # proved; 0 where nothing is summed
    saturated: float  # share of values at an end of their range, a ReLU's zeros not counted
    snr: float  # dB, of the map against the float net's: all noise so far
    own_snr: float  # dB, against the float operation applied to the same integers: this node's noise alone


@dataclass
class _Sums:
    site: Site
    values: int = 0
    saturated: int = 0
    signal: float = 0.0
    noise: float = 0.0
    own: float = 0.0


@torch.no_grad()
def noise(classifier: Classifier, program: Program, images: Tensor) -> tuple[LayerNoise, ...]:
    """Return the noise of each node that rounds, in the order in which they run, from uint8 images [N, C, H, W].

    `classifier` is what `program` was lowered from. The node with the lowest own_snr is the first to make wide.
    """
    plain = classifier.net.inner if isinstance(classifier.net, QuantisedNet) else classifier
    graph = extract(plain)
    sites = {site.node.name: site for site in survey(program)}
    sums: dict[str, _Sums] = {}
    for part in torch.split(pixels(plain, images), _IMAGES):
        _add(sums, graph, sites, program, part)
    return tuple(_noise(path, each) for path, each in sums.items())


def _add(sums: dict[str, _Sums], graph: Graph, sites: dict[str, Site], program: Program, images: Tensor) -> None:
    floats: dict[str, Tensor] = {}
    evaluate(graph, centred(graph, images), floats.__setitem__)
    nodes = {node.name: node for node in graph}
    made: dict[str, Tensor] = {}  # what the integers stand for
    for name, ints in trace(program, images.cpu().numpy()):
        y = torch.from_numpy(ints).to(floats[IMAGE])
        if name == IMAGE:
            made[name] = y
            continue
        node = sites[name].node
        made[name] = y * y.new_tensor(node.scale)[:, None, None]
        source = nodes.get(name) or FloatNode(name, node.inputs, FloatNarrow(), sites[name].out.shape)
        floats.setdefault(name, floats[node.inputs[0]])  # a narrowing, which the float net doesn't have
        if not _rounds(node):
            continue
        own = apply(source, [made[each] for each in node.inputs])
        at = sums.setdefault(node.path, _Sums(sites[name]))
        _count(at, sites[name].saturated(ints), made[name], floats[name], own)


def _rounds(node: Node) -> bool:
    match node.op:
        case Add(factors):
            return len(factors) == 1
        case op:
            return hasattr(op, "bits") or hasattr(op, "requant")


def _count(sums: _Sums, saturated: int, y: Tensor, whole_net: Tensor, own: Tensor) -> None:
    sums.values += y.numel()
    sums.saturated += saturated
    sums.signal += float(whole_net.double().square().sum())
    sums.noise += float((whole_net - y).double().square().sum())
    sums.own += float((own - y).double().square().sum())


def _noise(path: str, sums: _Sums) -> LayerNoise:
    return LayerNoise(
        path,
        sums.site.formats,
        sums.site.accumulator_bits,
        sums.saturated / sums.values,
        _decibels(sums.signal, sums.noise),
        _decibels(sums.signal, sums.own),
    )


def _decibels(signal: float, noise: float) -> float:
    if not noise:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf
