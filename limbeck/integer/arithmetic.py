"""Sums, products and functions of one value: what they do to the nodes so far."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from limbeck.integer.builder import Affine, Builder, Function, Map, Sum, Value
from limbeck.integer.graph import Constant, FloatAdd, FloatConv, FloatNarrow, FloatScale, FloatTable, affine_conv
from limbeck.integer.trace import Call, Ref, apply_call


def affine(made: Builder, call: Call, ref: Ref, gain: Tensor, offset: Tensor) -> Value:
    """Return gain · value + offset, by channel."""
    if (found := made.own_conv(ref)) is not None:
        name, conv = found
        made.check_channels(call, name, gain)
        return made.put(name, replace(conv, scale=conv.scale * gain, shift=conv.shift * gain + offset))
    value = made.values[ref.number]
    if isinstance(value, Affine):
        made.check_channels(call, value.name, gain)
        return Affine(value.name, value.gain * gain, value.offset * gain + offset)
    name = made.take(ref)
    made.check_channels(call, name, gain)
    return Affine(name, gain, offset)


def relu(made: Builder, call: Call, cap: float | None) -> Value:
    ref = call.arguments["self"]
    if (found := made.own_conv(ref)) is not None:
        return made.put(found[0], replace(found[1], relu=True, cap=cap))
    value = made.values[ref.number]
    match value:
        case Sum(terms) if made.once(ref) and cap is None and len(terms) > 1:
            return made.sum(made.calls[ref.number], terms, relu=True)
        case Affine(name, gain, offset):
            conv = replace(affine_conv(gain, offset), relu=True, cap=cap)
            return made.node(call, "affine", [name], conv, made.shape(name))
        case Map(name) if cap is None:
            op = made.nodes[name].op
            if isinstance(op, FloatConv | FloatAdd) and op.relu:
                return value
            return made.node(call, "relu", [name], FloatNarrow(relu=True), made.shape(name))
        case _:
            return function(made, call)


def arithmetic(made: Builder, call: Call) -> Value:
    """A sum, difference, product or quotient: of maps, or with what is the same for all images."""
    given = call.arguments
    left, right = given["self"], given["other"]
    maps = [v for v in (left, right) if isinstance(v, Ref) and not made.calls[v.number].constant]
    if len(maps) == 2:
        return product(made, call) if call.op == "mul" else total(made, call)
    other = left if isinstance(left, Ref) and left != maps[0] else right
    number = made.constant(call, other) if isinstance(other, Ref) else float(other)
    alpha = given.get("alpha", 1)
    if call.op == "div" and (given.get("rounding_mode") or left != maps[0]):
        return function(made, call)
    if call.op in ("add", "sub"):
        flipped = call.op == "sub" and left != maps[0]  # constant - map
        number = number if flipped or call.op == "add" else -1 * number
        number = number if alpha == 1 or flipped else alpha * number if isinstance(number, float) else number
        return added(made, call, maps[0], number, alpha, -1.0 if flipped else 1.0)
    return multiplied(made, call, maps[0], 1 / number if call.op == "div" else number)


def added(made: Builder, call: Call, ref: Ref, number: Tensor | float, alpha: float, sign: float) -> Value:
    """Return sign · value + number, where a map is still to be multiplied by alpha."""
    shape = made.calls[ref.number].shape
    if isinstance(number, Tensor) and number.numel() > 1 and alpha != 1 and not _is_map(number, shape):
        number = alpha * number
    if isinstance(number, Tensor) and _is_map(number, shape):
        found = made.own_conv(ref)
        if found is None or sign != 1 or found[1].constant is not None:
            raise made.refused(call, "a constant map is added to what no convolution gives")
        name, conv = found
        plain = bool((conv.scale == 1).all()) and not bool(conv.shift.any())
        if not plain:  # the constant comes after the affine
            weight = conv.weight * conv.scale[:, None, None, None]
            conv = replace(conv, weight=weight, scale=torch.ones_like(conv.scale))
        return made.put(name, replace(conv, constant=Constant(number, float(alpha))))
    if (vector := by_channel(made, ref, number)) is not None:
        return affine(made, call, ref, torch.full_like(vector, sign), vector)
    return function(made, call)


def multiplied(made: Builder, call: Call, ref: Ref, number: Tensor | float) -> Value:
    value = made.values[ref.number]
    single = not isinstance(number, Tensor) or number.numel() == 1
    if single and made.own_conv(ref) is None and not isinstance(value, Affine):
        factor = float(number)
        match value:
            case Sum(terms) if made.once(ref):
                return Sum(tuple((name, factor * each) for name, each in terms))
            case Map(name) if not isinstance(made.nodes[name].op, FloatTable):
                return Sum(((name, factor),))
            case _:
                return function(made, call)
    if (vector := by_channel(made, ref, number)) is not None:
        return affine(made, call, ref, vector, torch.zeros_like(vector))
    return function(made, call)


def by_channel(made: Builder, ref: Ref, number: Tensor | float) -> Tensor | None:
    """Return the number as a vector [channels] that a map can be changed by; None where it is one number for a map
    that nothing can be folded into."""
    value, shape = made.values[ref.number], made.calls[ref.number].shape
    channels = shape[1]
    if isinstance(number, Tensor) and number.numel() == channels and _channel_axis(number, shape):
        return number.reshape(-1)
    if isinstance(number, Tensor) and number.numel() > 1:
        raise made.refused(made.calls[ref.number], f"it meets a constant {tuple(number.shape)}")
    if made.own_conv(ref) is None and not isinstance(value, Affine):
        return None
    like = next(iter(made.constants.values()))
    return like.new_ones(channels) * number


def total(made: Builder, call: Call) -> Value:
    given = call.arguments
    refs = given["self"], given["other"]
    if made.calls[refs[0].number].shape != made.calls[refs[1].number].shape or call.op == "div":
        raise made.refused(call, "of maps of different shapes" if call.op != "div" else "a quotient of maps")
    if all(isinstance(made.values[ref.number], Function) for ref in refs) and one_base(made, refs):
        return function(made, call)
    alpha = float(given.get("alpha", 1)) * (-1 if call.op == "sub" else 1)
    terms: dict[str, float] = {}
    for ref, factor in zip(refs, (1.0, alpha), strict=True):
        value = made.values[ref.number]
        inner = value.terms if isinstance(value, Sum) and made.once(ref) else ((made.take(ref), 1.0),)
        for name, each in inner:
            terms[name] = terms.get(name, 0.0) + factor * each
    places = {name: place for place, name in enumerate(made.nodes)}
    return Sum(tuple(sorted(terms.items(), key=lambda term: places[term[0]])))


def product(made: Builder, call: Call) -> Value:
    left, right = call.arguments["self"], call.arguments["other"]
    if one_base(made, (left, right)):
        return function(made, call)
    if _pixel(made.calls[left.number]) and not _pixel(made.calls[right.number]):
        left, right = right, left
    if not _pixel(made.calls[right.number]):
        raise made.refused(call, "a product of two maps")
    return made.node(call, "scale", [made.take(left), made.take(right)], FloatScale(), made.shape(made.take(left)))


def one_base(made: Builder, refs: Iterable[Ref]) -> bool:
    """Whether all are functions of the values of one map, at least one of them more than the map itself."""
    values = [made.values[ref.number] for ref in refs]
    bases = [base(made, ref) for ref in refs]
    return len({*bases}) == 1 and None not in bases and any(isinstance(v, Function) for v in values)


def base(made: Builder, ref: Ref) -> str | None:
    match made.values[ref.number]:
        case Map(name) | Function(name, _):
            return name
        case Sum(terms) if len(terms) == 1:
            return terms[0][0]
        case _:
            return None


def function(made: Builder, call: Call) -> Value:
    """A function of each value of one map."""
    refs = [v for v in call.arguments.values() if isinstance(v, Ref)]
    if not all(made.calls[r.number].constant for r in refs if r.number not in made.values):
        raise made.refused(call, "")
    maps = [ref for ref in refs if ref.number in made.values]
    single = all(made.constants[r.number].numel() == 1 for r in refs if r.number not in made.values)
    if len({base(made, ref) for ref in maps}) != 1 or base(made, maps[0]) is None:
        if len(maps) != 1:
            raise made.refused(call, "of two maps")
        made.take(maps[0])
    if not single:
        raise made.refused(call, "with a number by channel")
    inner = {ref.number: function_of(made, ref) for ref in maps}
    fixed = {r.number: made.constants[r.number] for r in refs if r.number not in made.values}

    def function(x: Tensor) -> Tensor:
        return apply_call(call, lambda ref: inner[ref.number](x) if ref.number in inner else fixed[ref.number].to(x))

    return Function(cast(str, base(made, maps[0])), function)


def function_of(made: Builder, ref: Ref) -> Callable[[Tensor], Tensor]:
    match made.values[ref.number]:
        case Function(_, function):
            return function
        case Sum(((_, factor),)):
            return lambda x: factor * x
        case _:
            return lambda x: x


def _pixel(call: Call) -> bool:
    return all(side == 1 for side in call.shape[2:])


def _is_map(number: Tensor, shape: tuple[int, ...]) -> bool:
    """Whether a constant differs from pixel to pixel."""
    return number.shape == (1, *shape[1:]) and number.shape[-2:] != (1, 1)


def _channel_axis(number: Tensor, shape: tuple[int, ...]) -> bool:
    """Whether the one axis of a constant, broadcast against a map, is that of channels."""
    axes = [axis - number.ndim for axis, side in enumerate(number.shape) if side > 1]
    return not axes or axes == [1 - len(shape)]
