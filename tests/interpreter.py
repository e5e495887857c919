"""An interpreter of Programs, written from docs/numerics.md alone: int64, a loop a place, nothing shared with `run`."""

from math import lcm

import numpy as np


def interpret(program, image, sums=None):
    """Return all maps by name of one uint8 image [C, H, W]; in `sums`, if given, each node's largest sum, in parts."""
    maps = {"input": image.astype(np.int64) - 128}
    for node in program.nodes:
        taken = [maps[name] for name in node.inputs]
        operation = OPERATIONS[type(node.op).__name__]
        seen = []
        maps[node.name] = operation(node.op, program.tensors, taken, seen.append)
        if sums is not None and seen:
            sums[node.name] = max(sums.get(node.name, 0), *seen)
    return maps


def round_shift(x, shift):
    return x if shift == 0 else (x + 2 ** (shift - 1)) // 2**shift


def sat(x, bits):
    return np.minimum(np.maximum(x, -(2 ** (bits - 1))), 2 ** (bits - 1) - 1)


def requantised(requant, tensors, a, magnitudes, see):
    """§3. `magnitudes` are the sums of the magnitudes of what was added up to a."""
    offset, mult = tensors[requant.offset], tensors[requant.mult]
    y = np.empty_like(a)
    for c in range(len(a)):
        total = a[c] + offset[c]
        see(int(magnitudes[c].max() + abs(offset[c])))
        y[c] = sat(round_shift(total * mult[c], requant.shift), requant.bits)
    return np.maximum(y, 0) if requant.relu else y


def places(side, before, after, size, stride):
    """Yield each output place, and the first place of its window."""
    for place in range((side + before + after - size) // stride + 1):
        yield place, place * stride - before


def windows(x, height, width, stride, padding):
    """Yield (i, j, window, inside) for each output place: the values, 0 outside, and which of them are inside."""
    _, h, w = x.shape
    top, bottom, left, right = padding
    for i, row in places(h, top, bottom, height, stride):
        for j, column in places(w, left, right, width, stride):
            window = np.zeros((len(x), height, width), np.int64)
            inside = np.zeros((height, width), bool)
            for u in range(height):
                for v in range(width):
                    if 0 <= row + u < h and 0 <= column + v < w:
                        window[:, u, v] = x[:, row + u, column + v]
                        inside[u, v] = True
            yield i, j, window, inside


def out_sides(x, height, width, stride, padding):
    top, bottom, left, right = padding
    return (x.shape[1] + top + bottom - height) // stride + 1, (x.shape[2] + left + right - width) // stride + 1


def conv(op, tensors, taken, see):
    (x,), weight = taken, tensors[op.weight]
    out, share, height, width = weight.shape
    a = np.zeros((out, *out_sides(x, height, width, op.stride, op.padding)), np.int64)
    magnitudes = np.zeros_like(a)
    for i, j, window, _ in windows(x, height, width, op.stride, op.padding):
        for o in range(out):
            first = o // (out // op.groups) * share
            products = weight[o] * window[first : first + share]
            a[o, i, j], magnitudes[o, i, j] = products.sum(), np.abs(products).sum()
            if op.border is not None:
                table = tensors[op.border.table]
                more = op.border.ticks * table[o, op.border.rows[i], op.border.columns[j]]
                a[o, i, j] += more
                magnitudes[o, i, j] += abs(more)
    return requantised(op.requant, tensors, a, magnitudes, see)


def add(op, _tensors, taken, see):
    terms = [factor * x for factor, x in zip(op.factors, taken, strict=True)]
    see(int(sum(np.abs(term) for term in terms).max()))
    y = sat(round_shift(sum(terms), op.shift), op.bits)
    return np.maximum(y, 0) if op.relu else y


def scale(op, tensors, taken, see):
    x, vector = taken
    a = x * vector[:, :1, :1]
    return requantised(op.requant, tensors, a, np.abs(a), see)


def table(op, tensors, taken, _see):
    return tensors[op.table][taken[0] + 128]


def max_pool(op, _tensors, taken, _see):
    (x,) = taken
    y = np.empty((len(x), *out_sides(x, op.size, op.size, op.stride, op.padding)), np.int64)
    for i, j, window, inside in windows(x, op.size, op.size, op.stride, op.padding):
        y[:, i, j] = window[:, inside].max(1)
    return y


def average_pool(op, tensors, taken, see):
    (x,) = taken
    every = list(windows(x, op.size, op.size, op.stride, op.padding))
    multiple = lcm(*(int(inside.sum()) for _, _, _, inside in every))
    a = np.zeros((len(x), *out_sides(x, op.size, op.size, op.stride, op.padding)), np.int64)
    magnitudes = np.zeros_like(a)
    for i, j, window, inside in every:
        factor = multiple // int(inside.sum()) if op.inside else 1
        a[:, i, j] = window.sum((1, 2)) * factor
        magnitudes[:, i, j] = np.abs(window).sum((1, 2)) * factor
    return requantised(op.requant, tensors, a, magnitudes, see)


def global_average(op, tensors, taken, see):
    (x,) = taken
    a, magnitudes = (each.sum((1, 2)).reshape(-1, 1, 1) for each in (x, np.abs(x)))
    return requantised(op.requant, tensors, a, magnitudes, see)


def concat(_op, _tensors, taken, _see):
    return np.concatenate(taken)


def shortcut(op, _tensors, taken, _see):
    (x,) = taken
    y = np.zeros((op.channels, (x.shape[1] - 1) // op.stride + 1, (x.shape[2] - 1) // op.stride + 1), np.int64)
    for c in range(len(x)):
        for i in range(y.shape[1]):
            for j in range(y.shape[2]):
                y[c, i, j] = x[c, i * op.stride, j * op.stride]
    return y


OPERATIONS = {
    "Conv": conv, "Add": add, "Scale": scale, "Table": table, "MaxPool": max_pool, "AveragePool": average_pool,
    "GlobalAverage": global_average, "Concat": concat, "Shortcut": shortcut,
}  # fmt: skip
