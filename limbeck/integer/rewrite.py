"""What is done to a whole graph: sums of two with whole factors, names, the order of its outputs."""

import re
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from math import lcm
from typing import Any, cast

import torch
from torch import Tensor

from limbeck.integer.graph import FloatAdd, FloatConv, FloatNode, Graph, affine_conv, readers
from limbeck.integer.program import IMAGE
from limbeck.integer.trace import LowerError


def whole_factors(nodes: dict[str, FloatNode]) -> dict[str, FloatNode]:
    """Make the factors of all sums whole numbers: the remaining scale goes into the convolution that gives the
    map, or into one of its own."""
    nodes = dict(nodes)
    takers = readers(tuple(nodes.values()))
    for name, node in list(nodes.items()):
        found = [nodes[taker.name] for taker in takers[name]]
        if not isinstance(node.op, FloatConv) or node.op.relu or not found:
            continue
        if not all(isinstance(taker.op, FloatAdd) for taker in found):
            continue
        unit = unit_of([f for taker in found for f in _factors_of(taker, name)])
        if unit is not None and unit != 1:
            nodes[name] = replace(node, op=replace(node.op, scale=node.op.scale * unit, shift=node.op.shift * unit))
            for taker in found:
                factors = [
                    f / unit if each == name else f for each, f in zip(taker.inputs, _factors(taker), strict=True)
                ]
                nodes[taker.name] = replace(taker, op=replace(cast(FloatAdd, taker.op), factors=tuple(factors)))
    made: dict[str, FloatNode] = {}
    like = next(node.op.weight for node in nodes.values() if isinstance(node.op, FloatConv))
    for node in nodes.values():
        if isinstance(node.op, FloatAdd):
            inputs, factors = list(node.inputs), [float(round(f)) for f in node.op.factors]
            for place, exact in enumerate(node.op.factors):
                if abs(exact - factors[place]) > 1e-6 * abs(exact) or not factors[place]:
                    name, shape = f"{node.name}.scaled{place}", node.shape
                    gain = like.new_full((shape[0],), exact)
                    made[name] = FloatNode(name, (inputs[place],), affine_conv(gain, 0 * gain), shape)
                    inputs[place], factors[place] = name, 1.0
            node = replace(node, inputs=tuple(inputs), op=replace(node.op, factors=tuple(factors)))  # noqa: PLW2901
        made[node.name] = node
    return made


def _factors(node: FloatNode) -> tuple[float, ...]:
    return cast(FloatAdd, node.op).factors


def _factors_of(node: FloatNode, name: str) -> list[float]:
    return [factor for each, factor in zip(node.inputs, _factors(node), strict=True) if each == name]


def unit_of(factors: list[float]) -> float | None:
    """Return the largest number of which all factors are whole multiples; None where there is no such."""
    least = min(abs(factor) for factor in factors)
    if not least:
        return None
    shares = [Fraction(abs(factor) / least).limit_denominator(12) for factor in factors]
    near = all(abs(float(s) * least - abs(f)) <= 1e-6 * abs(f) for s, f in zip(shares, factors, strict=True))
    return least / lcm(*(share.denominator for share in shares)) if near else None


def binary(nodes: dict[str, FloatNode]) -> list[FloatNode]:
    """Split sums of more than two maps: each takes the next map as soon as there is one, as an ODE's solver does."""
    after: dict[str, list[FloatNode]] = {}
    made: list[FloatNode] = []
    for node in nodes.values():
        if not isinstance(node.op, FloatAdd) or len(node.inputs) == 2:
            made.append(node)
            continue
        *firsts, last = zip(node.inputs, node.op.factors, strict=True)
        (so_far, factor), *rest = firsts
        for place, (name, each) in enumerate(rest):
            part = FloatNode(f"{node.name}.part{place}", (so_far, name), FloatAdd((factor, each)), node.shape)
            after.setdefault(name, []).append(part)
            so_far, factor = part.name, 1.0
        made.append(replace(node, inputs=(so_far, last[0]), op=FloatAdd((factor, last[1]), node.op.relu)))
    return [each for node in made for each in (node, *after.get(node.name, []))]


def ordered(nodes: list[FloatNode], last: str) -> Graph:
    """Return the nodes that the last one depends on, and it at the end."""
    by_name, wanted, left = {node.name: node for node in nodes}, set(), [last]
    while left:
        name = left.pop()
        if name != IMAGE and name not in wanted:
            wanted.add(name)
            left += by_name[name].inputs
    if not wanted:
        raise LowerError("the net's output does not depend on the image; it can't be lowered")
    return tuple(node for node in nodes if node.name in wanted)


def named(graph: Graph) -> Graph:
    """Return the graph with its nodes named by their modules, numbered where several have one name."""
    plain = {node.name: re.sub(r"#\d+", "", node.name) for node in graph}
    count, met = Counter(plain.values()), Counter[str]()
    names = {IMAGE: IMAGE}
    for old, name in plain.items():
        names[old] = f"{name}[{met[name]}]" if count[name] > 1 else name
        met[name] += 1
    return tuple(replace(n, name=names[n.name], inputs=tuple(names[each] for each in n.inputs)) for n in graph)


def in_order(graph: Graph, order: Tensor) -> Graph:
    """Return the graph with its outputs in another order."""
    last = graph[-1]
    if not isinstance(last.op, FloatConv):
        like = next(node.op.weight for node in graph if isinstance(node.op, FloatConv))
        eye = torch.eye(last.shape[0], dtype=like.dtype, device=like.device)[order][:, :, None, None]
        conv = FloatConv(eye, 1, 1, (0, 0, 0, 0), eye.new_ones(len(eye)), eye.new_zeros(len(eye)))
        return (*graph, FloatNode(f"{last.name}.order", (last.name,), conv, last.shape))
    constant = last.op.constant and replace(last.op.constant, map=last.op.constant.map[:, order])
    changed: dict[str, Any] = {key: getattr(last.op, key)[order] for key in ("weight", "scale", "shift")}
    return (*graph[:-1], replace(last, op=replace(last.op, constant=constant, **changed)))
