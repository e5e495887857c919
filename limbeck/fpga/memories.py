"""What the engine's memories hold: weights, tables and micro-ops as words of 32-bit pieces, low bits first."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import InputError
from limbeck.fpga.contract import MicroOp, Select, packed_op, width
from limbeck.fpga.op import Op
from limbeck.fpga.plan import Plan, widths
from limbeck.fpga.schedule import Key, kernel_key, mult_key, offset_key, table_key, weight_key
from limbeck.integer.fixed import Ints
from limbeck.integer.program import GlobalAverage, Requant

Pieces = NDArray[np.uint32]  # [words, pieces]


@dataclass(frozen=True, eq=False)
class Memory:
    """One memory's words; `select` is its number in the MEMORY register."""

    name: str
    select: int
    width: int  # bits of a word
    words: Pieces


def memories(plan: Plan) -> tuple[Memory, ...]:
    """Return all that is loaded before a run."""
    ops, lanes, wide = plan.schedule.ops, plan.lanes, widths(plan)
    made = [
        _ops("front", Select.FRONT, [op.front for op in ops]),
        _ops("back", Select.BACK, [op.back for op in ops]),
        _ops("result", Select.RESULT, [op.result for op in ops]),
        Memory("kernel", Select.KERNEL, wide["kernel"], packed(_filled(plan, "kernel", _kernels), plan.value_bits)),
        Memory("table", Select.TABLE, wide["table"], _tables(plan)),
        Memory(
            "offset", Select.OFFSET, wide["offset"], packed(_filled(plan, "offset", _offsets), plan.accumulator_bits)
        ),
        Memory("mult", Select.MULT, wide["mult"], packed(_filled(plan, "mult", _mults), 16)),
    ]
    weights = _filled(plan, "weight", _weights).reshape(-1, lanes.inputs, lanes.outputs)
    for lane in range(lanes.inputs):
        made.append(
            Memory(f"weight{lane}", Select.WEIGHT + lane, wide["weight"], packed(weights[:, lane], plan.value_bits))
        )
    return tuple(memory for memory in made if len(memory.words))


def packed(fields: Ints, bits: int) -> Pieces:
    """Return words [words, pieces] of fields [words, fields]: `bits` bits each, two's complement, low ones first."""
    ones = (fields[:, :, None] >> np.arange(bits)) & 1
    flat = ones.reshape(len(fields), fields.shape[1] * bits).astype(np.uint8)
    padded = np.pad(flat, [(0, 0), (0, -flat.shape[1] % 32)])
    return np.packbits(padded, axis=1, bitorder="little").view("<u4").reshape(len(fields), padded.shape[1] // 32)


def _ops(name: str, select: int, ops: Sequence[MicroOp]) -> Memory:
    bits = width(type(ops[0]))
    pieces = -(-bits // 32)
    words = [packed_op(op).to_bytes(4 * pieces, "little") for op in ops]
    return Memory(name, select, bits, np.frombuffer(b"".join(words), "<u4").reshape(-1, pieces))


Made = Iterator[tuple[Key, Ints]]  # a stretch of a memory and its rows of fields
Make = Callable[[Plan, Op], Made]


def _filled(plan: Plan, name: str, make: Make) -> Ints:
    bases, rows = plan.schedule.bases[name], []
    made: dict[Key, Ints] = {}
    for op in plan.schedule.ops:
        for key, fields in make(plan, op):
            made.setdefault(key, fields)
    for key in sorted(bases, key=lambda key: bases[key]):
        rows.append(made[key])
    return np.concatenate(rows) if rows else np.zeros((0, 1), np.int64)


def _weights(plan: Plan, op: Op) -> Made:
    """Yield [out groups · groups, input lane · output lane]."""
    layer, lanes = op.work.layer, plan.lanes
    if isinstance(layer, GlobalAverage):
        return
    weight = op.work.tensors[layer.weight]
    weight = weight.reshape(*weight.shape[:2], -1)  # [out, in, places]
    if op.work.image and (op.work.dense or op.work.stem):
        flat = _padded(
            _image_words(op, weight, lanes.inputs), (op.pace.out_groups * lanes.outputs, op.pace.groups * lanes.inputs)
        )
        grouped = flat.reshape(op.pace.out_groups, lanes.outputs, op.pace.groups, lanes.inputs).transpose(0, 2, 3, 1)
    else:
        shape = (op.pace.out_groups * lanes.outputs, op.read.words * lanes.inputs, weight.shape[2])
        grouped = _padded(weight, shape).reshape(op.pace.out_groups, lanes.outputs, op.read.words, lanes.inputs, -1)
        grouped = grouped.transpose(0, 2, 4, 3, 1)
    yield weight_key(op.work), grouped.reshape(-1, lanes.inputs * lanes.outputs)


def _image_words(op: Op, weight: Ints, inputs: int) -> Ints:
    """Return weights [out, values] place by place, channel by channel; three rows of a stem begin a new word."""
    flat = weight.transpose(0, 2, 1).reshape(len(weight), -1)
    if not op.work.stem:
        return flat
    three = 3 * 7 * weight.shape[1]
    rows = _padded(flat, (len(weight), 3 * three)).reshape(len(weight), 3, three)
    return _padded(rows, (len(weight), 3, op.pace.taps * inputs)).reshape(len(weight), -1)[:, : op.pace.groups * inputs]


def _kernels(plan: Plan, op: Op) -> Made:
    layer = op.work.depthwise
    if layer is not None:
        weight = op.work.tensors[layer.weight]
        padded = _padded(weight.reshape(len(weight), 9), (op.read.words * plan.lanes.inputs, 9))
        yield kernel_key(layer), padded.reshape(op.read.words, -1)


def _tables(plan: Plan) -> Pieces:
    """Return words of offset and multiplier by lane: fields of two widths, so packed bit by bit."""
    width, inputs = plan.accumulator_bits, plan.lanes.inputs

    def make(_plan: Plan, op: Op) -> Made:
        if op.work.depthwise is None:
            return
        requant = op.work.depthwise.requant
        both = np.stack([op.work.tensors[requant.offset], _mult(requant, op.work.tensors)], 1)
        lanes = _padded(both, (op.read.words * inputs, 2))
        bits = [(lanes[:, field, None] >> np.arange(size)) & 1 for field, size in ((0, width), (1, 16))]
        yield table_key(requant), np.concatenate(bits, 1).reshape(op.read.words, -1)

    return packed(_filled(plan, "table", make), 1)


def _offsets(plan: Plan, op: Op) -> Made:
    """Yield [row classes · column kinds · words, column class · lane]."""
    border, tensors = op.work.border, op.work.tensors
    offset = tensors[op.work.requant.offset][:, None, None] + np.zeros((1, 1, 3), np.int64)
    if border is not None:
        rows = kinds(border.rows, op.work.path, early=2 if op.work.stem else 1)
        columns = kinds(border.columns, op.work.path, early=2 if op.work.stem else 1)
        if op.work.stem:
            columns = np.array([_first(columns, plan.lanes.pixels), columns[[2, 2, 3]]]).ravel()
        offset = offset[..., :1] + border.ticks * tensors[border.table][:, rows][:, :, columns]
    padded = _padded(offset, (op.written.words * plan.lanes.inputs, *offset.shape[1:]))
    by_word = padded.reshape(op.written.words, plan.lanes.inputs, offset.shape[1], -1, 3).transpose(2, 3, 0, 4, 1)
    yield offset_key(op.work), by_word.reshape(-1, 3 * plan.lanes.inputs)


def _first(columns: Ints, pixels: int) -> Ints:
    """Return the classes of a stem's first columns: those of the first word's pixels or, of one pixel, two words'."""
    return columns[[0, 1, 1]] if pixels == 1 else columns[[0, 1, 2]]


def _mults(plan: Plan, op: Op) -> Made:
    requant = op.work.requant
    padded = _padded(_mult(requant, op.work.tensors), (op.written.words * plan.lanes.inputs,))
    yield mult_key(requant), padded.reshape(op.written.words, -1)


def _mult(requant: Requant, tensors: dict[str, Ints]) -> Ints:
    mult = tensors[requant.mult]
    return mult if requant.shift else 2 * mult  # the engine shifts by at least one


def kinds(classes: Sequence[int], path: str, early: int = 1) -> Ints:
    """Return the classes of a side's first `early` places, of the inner and of the last; InputError where they vary."""
    last = len(classes) - 1
    inner = classes[early:last] if last > early else classes[min(early, last) :][:1]
    if len(np.unique(inner)) != 1:
        raise InputError(
            f"{path}: its border has {len(np.unique(classes))} classes; the accelerator has {early + 2} per side"
        )
    return np.array([*(classes[min(place, last)] for place in range(early)), inner[0], classes[last]])


def _padded(table: Ints, shape: tuple[int, ...]) -> Ints:
    padded: Ints = np.pad(table, [(0, wanted - have) for wanted, have in zip(shape, table.shape, strict=True)])
    return padded
