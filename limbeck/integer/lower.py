"""Trained net to Program: the only bridge (numerics.md §8)."""

import json
from dataclasses import asdict
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from limbeck.errors import InputError
from limbeck.integer.extract import extract
from limbeck.integer.fixed import Ints
from limbeck.integer.formats import Formats, formatted
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
    pixels,
)
from limbeck.integer.program import (
    IMAGE,
    Add,
    AveragePool,
    Border,
    Concat,
    Conv,
    GlobalAverage,
    Input,
    MaxPool,
    Node,
    Operation,
    Program,
    Requant,
    Scale,
    Shape,
    Shortcut,
    Table,
    windows,
)
from limbeck.integer.qat import QuantisedNet, whole
from limbeck.integer.scales import Plan, Ranges, plan
from limbeck.integer.survey import survey
from limbeck.integer.tables import narrowing, ratios, table_of, tables, together
from limbeck.integer.trace import LowerError
from limbeck.nets.classifier import Classifier

_FOLDING_TOLERANCE = 1e-3  # of the largest logit: float32's rounding when a deep net's sums are taken in another order
_CHECKED_IMAGES = 8


def lower(
    classifier: Classifier,
    images: Tensor,
    *,
    weight_bits: int = 8,
    activation_bits: int = 8,
    state_bits: int = 16,
    wide: tuple[str, ...] = (),
    eight: tuple[str, ...] | None = None,
    ranges: Ranges = "mse",
) -> Program:
    """Return the classifier as a Program, its scales chosen from uint8 calibration `images` [N, channels, H, W].

    Layers in `wide` (module paths, or what they begin with) get 16-bit weights and inputs. A net made by
    qat.prepare_qat keeps the scales that it was trained with. LowerError where an operation has no integer form,
    InputError where the formats can't be or an accumulator could overflow.
    """
    formats = Formats(weight_bits, activation_bits, state_bits, wide, eight)
    with torch.no_grad():
        graph, chosen = _planned(classifier, images, formats, ranges)
        size = classifier.input.size
        made = _Lowered(formatted(graph, chosen.formats)[0], chosen, (classifier.input.channels, size, size))
        program = Program(
            Input(
                classifier.input.channels,
                size,
                size,
                _resize(classifier),
                classifier.input.crop_pct,
                classifier.input.white,
            ),
            made.tensors,
            tuple(made.nodes),
            classifier.classes,
            json.loads(json.dumps(asdict(classifier.lineage))),
        )
    survey(program)
    return program


def _planned(classifier: Classifier, images: Tensor, formats: Formats, ranges: Ranges) -> tuple[Graph, Plan]:
    if isinstance(classifier.net, QuantisedNet):
        return classifier.net.graph(), classifier.net.plan
    if not len(images):
        raise InputError("there are no images to calibrate with; give at least one")
    graph = extract(classifier)
    _check_folding(classifier, graph, pixels(classifier, images[:_CHECKED_IMAGES]))
    return graph, plan(graph, pixels(classifier, images), formats, ranges)


def _check_folding(classifier: Classifier, graph: Graph, images: Tensor) -> None:
    """Raise LowerError where the graph is not the net: its path depends on the image, or on what it did before."""
    training = classifier.training
    logits = classifier.eval()(images)
    classifier.train(training)
    folded = evaluate(graph, centred(graph, images), lambda _path, _map: None)
    error = float((folded - logits).abs().max())
    if not error <= _FOLDING_TOLERANCE * max(1.0, float(logits.abs().max())):
        raise LowerError(f"the folded layers differ from the net by {error:.3g} in a logit; it can't be lowered")


def _resize(classifier: Classifier) -> Literal["bilinear", "bicubic"]:
    return "bicubic" if classifier.input.interpolation == "bicubic" else "bilinear"


class _Lowered:
    """The nodes and tensors of a graph's Program."""

    def __init__(self, graph: Graph, plan: Plan, image: Shape) -> None:
        self.plan = plan
        self.tensors: dict[str, Ints] = {}
        self.shapes: dict[str, Shape] = {IMAGE: image, **{node.name: node.shape for node in graph}}
        self.convs = self.lowered_convs(graph)
        self.nodes = [Node(n.name, n.inputs, self.operation(n), self.scale(n)) for n in graph]

    def scale(self, node: FloatNode) -> tuple[float, ...]:
        return self.plan.scale_of(node.name)

    def operation(self, node: FloatNode) -> Operation:  # noqa: C901, PLR0911 - one case per operation
        plan, scale, bits = self.plan, self.scale(node), self.plan.bits_of(node.name)
        comes_in, shape = plan.scale_of(node.inputs[0]), self.shapes[node.inputs[0]]
        match node.op:
            case FloatConv():
                return self.convs[node.name]
            case FloatAdd(factors, relu):
                return Add(tuple(round(factor) for factor in factors), 0, bits, relu)
            case FloatNarrow(relu):
                factor, shift = narrowing(comes_in, scale)
                return Add((factor,), shift, bits, relu)
            case FloatTable():
                values = table_of(node, comes_in, scale, bits)
                return Table(self.keep(f"{node.path}.table", _ints(values)), bits)
            case FloatScale():
                gate = plan.scale_of(node.inputs[1])[0]
                return Scale(self.requant(node, comes_in, gate))
            case FloatMaxPool(size, stride, padding):
                return MaxPool(size, stride, padding)
            case FloatAveragePool(size, stride, padding, inside):
                pool = AveragePool(size, stride, padding, inside, self.requant(node, comes_in, 1 / size**2))
                if not inside:
                    return pool
                share = 1 / windows(pool, shape)[1]
                return AveragePool(size, stride, padding, inside, self.requant(node, comes_in, share))
            case FloatMean():
                return GlobalAverage(self.requant(node, comes_in, 1 / (shape[1] * shape[2])))
            case FloatConcat():
                return Concat()
            case FloatShortcut(stride, channels):
                return Shortcut(stride, channels)

    def requant(self, node: FloatNode, comes_in: tuple[float, ...], share: float) -> Requant:
        channels = node.shape[0]
        mult, shift = ratios(comes_in, self.scale(node), share, channels)
        return Requant(
            self.keep(f"{node.path}.offset", np.zeros(channels, np.int64)),
            self.keep(f"{node.path}.mult", mult),
            shift,
            self.plan.bits_of(node.name),
            False,
        )

    def keep(self, key: str, table: Ints) -> str:
        """Return the key under which a table lies: its own, or that of an equal one of the same node's."""
        names = (key, *(f"{key}[{n}]" for n in range(1, len(self.tensors) + 2)))
        name = next(n for n in names if n not in self.tensors or np.array_equal(self.tensors[n], table))
        self.tensors.setdefault(name, table)
        return name

    def lowered_convs(self, graph: Graph) -> dict[str, Conv]:
        found: dict[str, Conv] = {}
        for nodes in together(graph):
            first, path, plan = nodes[0], nodes[0].path, self.plan
            convs = [node.op for node in nodes if isinstance(node.op, FloatConv)]
            weight_bits = plan.formats.weight(path)
            (name,) = first.inputs
            made = tables(convs, plan.scale_of(name), self.scale(first), weight_bits, whole, plan.mean_of(name))
            weight = self.keep(f"{path}.weight", _ints(made.weight))
            table = None if made.border is None else self.keep(f"{path}.border", _ints(made.border))
            for node, conv, offset, mult, ticks in zip(nodes, convs, made.offset, made.mult, made.ticks, strict=True):
                requant = Requant(
                    self.keep(f"{path}.offset", _ints(offset)),
                    self.keep(f"{path}.mult", _ints(mult)),
                    made.shift,
                    plan.bits_of(node.name),
                    conv.relu,
                )
                border = None if table is None or not ticks else Border(table, made.rows, made.columns, ticks)
                found[node.name] = Conv(weight, weight_bits, conv.groups, conv.stride, conv.padding, requant, border)
        return found


def _ints(table: Tensor) -> Ints:
    return table.detach().cpu().numpy().astype(np.int64)
