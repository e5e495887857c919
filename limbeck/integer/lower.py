"""Trained net to Program: the only bridge (numerics.md §8)."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from limbeck.errors import InputError
from limbeck.integer.fixed import Ints
from limbeck.integer.graph import (
    FloatConv,
    FloatLayer,
    FloatMean,
    FloatNarrow,
    FloatOde,
    FloatPool,
    FloatResidual,
    FloatSimple,
    LowerError,
    centred,
    evaluate,
    extract,
    pixels,
)
from limbeck.integer.program import (
    Border,
    Conv,
    Depthwise,
    GlobalAverage,
    Input,
    Layer,
    MaxPool,
    Narrow,
    Ode,
    Pointwise,
    Program,
    Requant,
    Residual,
    Simple,
)
from limbeck.integer.qat import QuantisedNet, whole
from limbeck.integer.scales import Formats, Plan, Ranges, Tables, mean_ratio, plan, tables
from limbeck.integer.survey import survey
from limbeck.nets.zoo import Classifier

_FOLDING_TOLERANCE = 1e-3  # of the largest logit: float32's rounding, in another order, through a deep net
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

    Layers in `wide` (paths as in the report, or blocks) get 16-bit weights and inputs. A net made by
    qat.prepare_qat keeps the scales that it was trained with. LowerError where a module has no integer layer,
    InputError where the formats can't be or an accumulator could overflow.
    """
    formats = Formats(weight_bits, activation_bits, state_bits, wide, eight)
    with torch.no_grad():
        layers, chosen = _planned(classifier, images, formats, ranges)
        size = classifier.input.size
        program = Program(
            Input(classifier.input.channels, size, size, _resize(classifier), classifier.input.crop_pct),
            _lowered(layers, chosen),
            classifier.classes,
            json.loads(json.dumps(asdict(classifier.lineage))),
        )
    survey(program)
    return program


def _planned(
    classifier: Classifier, images: Tensor, formats: Formats, ranges: Ranges
) -> tuple[tuple[FloatLayer, ...], Plan]:
    if isinstance(classifier.net, QuantisedNet):
        return classifier.net.layers(), classifier.net.plan
    if not len(images):
        raise InputError("there are no images to calibrate with; give at least one")
    layers = extract(classifier)
    _check_folding(classifier, layers, pixels(classifier, images[:_CHECKED_IMAGES]))
    return layers, plan(layers, pixels(classifier, images), formats, ranges)


def _check_folding(classifier: Classifier, layers: Sequence[FloatLayer], images: Tensor) -> None:
    """Raise LowerError where the layers are not the net: its forward does something that its modules don't show."""
    training = classifier.training
    logits = classifier.eval()(images)
    classifier.train(training)
    folded = evaluate(layers, centred(layers, images), lambda _path, _map: None)
    error = float((folded - logits).abs().max())
    if not error <= _FOLDING_TOLERANCE * max(1.0, float(logits.abs().max())):
        raise LowerError(f"the folded layers differ from the net by {error:.3g} in a logit; it can't be lowered")


def _resize(classifier: Classifier) -> Literal["bilinear", "bicubic"]:
    return "bicubic" if classifier.input.interpolation == "bicubic" else "bilinear"


def _lowered(layers: Sequence[FloatLayer], plan: Plan) -> tuple[Layer, ...]:
    return tuple(_layer(layer, plan) for layer in layers)


def _layer(layer: FloatLayer, plan: Plan) -> Layer:
    bits = plan.bits[layer.name]
    match layer:
        case FloatResidual():
            field = _field(layer, plan)
            return Residual(layer.name, field, layer.stride, layer.channels, layer.relu, bits)
        case FloatOde():
            return Ode(layer.name, _field(layer, plan), layer.steps, layer.solver, bits)
        case FloatPool():
            return MaxPool(layer.name, layer.size, layer.stride, layer.padding)
        case FloatMean():
            return GlobalAverage(layer.name, _mean_requant(layer, plan))
        case _:
            return _simple(layer, layer.name, plan)


def _field(block: FloatResidual | FloatOde, plan: Plan) -> tuple[Simple, ...]:
    return tuple(_simple(layer, f"{block.name}.{layer.name}", plan) for layer in block.field)


def _mean_requant(layer: FloatMean, plan: Plan) -> Requant:
    scale = plan.scales[layer.name]
    mult, shift = mean_ratio(layer.pixels, plan.in_scales[layer.name], scale)
    channels = layer.channels
    zeros = np.zeros((1, channels), np.int64)
    return Requant(zeros, zeros + mult, shift, plan.bits[layer.name], False, scale)


def _simple(layer: FloatSimple, path: str, plan: Plan) -> Simple:
    in_scale, scale, bits = plan.in_scales[path], plan.scales[path], plan.bits[path]
    if isinstance(layer, FloatNarrow):
        return Narrow(layer.name, round(math.log2(scale[0] / in_scale[0])), bits)
    weight_bits = plan.formats.weight(path)
    made = tables(layer, in_scale, scale, weight_bits, whole)
    offset, mult, weight = (_ints(table) for table in (made.offset, made.mult, made.weight))
    requant = Requant(offset, mult, made.shift, bits, layer.relu, scale, _border(layer, made))
    if layer.groups > 1:
        return Depthwise(layer.name, weight[:, 0], weight_bits, layer.stride, layer.padding, requant)
    if weight.shape[2:] == (1, 1) and layer.stride == 1 and layer.padding == 0:
        return Pointwise(layer.name, weight[:, :, 0, 0], weight_bits, requant)
    return Conv(layer.name, weight, weight_bits, layer.stride, layer.padding, requant)


def _border(layer: FloatConv, made: Tables) -> Border | None:
    if made.border is None or layer.constant is None:
        return None
    rows, columns = np.array(layer.constant.rows), np.array(layer.constant.columns)
    return Border(_ints(made.border), rows, columns, layer.constant.ticks)


def _ints(table: Tensor) -> Ints:
    return table.detach().cpu().numpy().astype(np.int64)
