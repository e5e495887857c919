"""Which kernel computes each node, with which tables: functions from templates/, structs and calls as text."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from limbeck.c.memory import Memory, Step
from limbeck.errors import InputError, assert_never
from limbeck.integer.fixed import Ints
from limbeck.integer.program import (
    Add,
    AveragePool,
    Border,
    Concat,
    Conv,
    Extent,
    GlobalAverage,
    MaxPool,
    Program,
    Requant,
    Scale,
    Shortcut,
    Table,
    windows,
)
from limbeck.integer.survey import Site

BLOCK = 16  # outputs, or channels, per block
_TAPS = 64  # most taps of a depthwise window; larger ones become grouped convolutions
_SLIDE = """\
#if defined(VNNI)
            const __mmask16 used = (__mmask16)((1u << n) - 1u);
            if (f->rows == 3 && f->columns == 3 && f->stride == 1)
                slide(f, x, row, column, count, weight, first, used, 1, sums);
            else if (f->rows == 3 && f->columns == 3)
                slide(f, x, row, column, count, weight, first, used, f->stride, sums);
            else
#endif
"""
_TYPES = {8: "int8_t", 16: "int16_t", 24: "int32_t", 32: "int32_t", 64: "int64_t"}
_SHORT = {8: "s8", 16: "s16", 24: "s32", 32: "s32", 64: "s64"}


class Piece(NamedTuple):
    """A template and what stands in it for its @words@."""

    template: str
    words: tuple[tuple[str, str], ...]


@dataclass
class Parts:
    """What the file is made of, in the order of its making; what is asked for twice is made once."""

    pieces: dict[Piece, None] = field(default_factory=dict)
    tables: dict[str, str] = field(default_factory=dict)  # definitions by name
    named: dict[Any, str] = field(default_factory=dict)  # names by a table's content or key
    sizes: dict[str, int] = field(default_factory=dict)  # bytes per table
    windows: dict[str, int] = field(default_factory=dict)  # values of the longest window, by type
    some: dict[str, int] = field(default_factory=dict)  # most channels of a map that is never held whole, by type

    def piece(self, template: str, **words: str) -> None:
        self.pieces[Piece(template, tuple(words.items()))] = None

    def table(self, key: str, values: NDArray[Any], kind: str) -> str:
        """Return the name of a constant table, which is written once for each key."""
        return self._define((key, kind), key, values, kind)

    def classes(self, name: str, values: tuple[int, ...]) -> str:
        """Return the name of a table of border classes, which is written once for equal ones."""
        return self._define(values, name, np.array(values), "uint16_t")

    def _define(self, same: Any, key: str, values: NDArray[Any], kind: str) -> str:  # noqa: ANN401 - whatever hashes
        if same not in self.named:
            name = self.named[same] = self.fresh(key)
            self.tables[name] = f"static const {kind} {name}[{values.size}] = {{\n{_numbers(values)}\n}};"
            self.sizes[name] = values.size * int(re.sub(r"\D", "", kind)) // 8
        return self.named[same]

    @property
    def bytes(self) -> int:
        return sum(self.sizes.values())

    @property
    def largest(self) -> str:
        return max(self.sizes, key=self.sizes.__getitem__)

    def fresh(self, key: str) -> str:
        """Return an identifier that no table has yet."""
        plain = identifier(key)
        name, count = plain, 2
        while name in self.tables:
            name, count = f"{plain}_{count}", count + 1
        self.tables[name] = ""
        return name


def identifier(name: str) -> str:
    """Return the name in letters that C knows."""
    plain = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_")
    return plain if re.match(r"[a-zA-Z]", plain) else f"net_{plain}"


def _numbers(values: NDArray[Any]) -> str:
    flat = [_number(value) for value in values.reshape(-1).tolist()]
    lines, line = [], "   "
    for number in flat:
        if len(line) + len(number) > 116:
            lines.append(line)
            line = "   "
        line += f" {number},"
    return "\n".join([*lines, line])


def _number(value: int) -> str:
    """Return the literal; what needs 64 bits says so."""
    if -(2**31) < value < 2**31:
        return str(value)
    return f"INT64_C({value})" if value > -(2**63) else "INT64_MIN"


@dataclass(frozen=True)
class Kernels:
    """Writes the nodes of one program, one by one, into `parts`."""

    program: Program
    memory: Memory
    parts: Parts

    def call(self, step: Step) -> list[str]:  # noqa: PLR0911 - a case each
        """Return the statements that compute the step; its functions and tables go into `parts`."""
        site, op = step.site, step.site.node.op
        xs = [_at(self.memory.places[name], extent) for name, extent in step.reads]
        y = _at(self.memory.places[step.name], step.last.out)
        match op:
            case Conv():
                return self._convolved(op, step, xs, y)
            case Add():
                call, ends = self._add(op, site)
                return [f"{call}{', '.join(map(_term, xs, op.factors))}, {y}, {prod(site.out.shape)}, {ends});"]
            case Scale():
                return [self._scale(op, site, xs, y)]
            case Table():
                kind = _TYPES[site.out.bits]
                self.parts.piece("table", tag=_SHORT[site.out.bits], y=kind)
                table = self.parts.table(op.table, self.program.tensors[op.table], kind)
                return [f"table_{_SHORT[site.out.bits]}({table}, {xs[0]}, {y}, {prod(site.out.shape)});"]
            case MaxPool():
                return [self._max_pool(op, site, xs[0], y)]
            case AveragePool():
                sides = (op.size, op.size, op.stride, op.padding[0], op.padding[2])
                every = windows(op, site.ins[0].shape)[1] if op.inside else 0
                return [self._average(op.requant, site, sides, every, xs[0], y)]
            case GlobalAverage():
                height, width = site.ins[0].shape[1:]
                return [self._average(op.requant, site, (height, width, 1, 0, 0), 0, xs[0], y)]
            case Concat():
                return self._concat(site, xs, y)
            case Shortcut():
                return [self._shortcut(op, site, xs[0], y)]
            case _:
                return assert_never(op)

    # --- what several operations share -----------------------------------------------------------------------------

    def _sums(self, site: Site, requant: Requant) -> int:
        """Return the bits of the node's sums: 32 where they and all that §3 makes of them fit."""
        split = _split(requant)
        most = site.bound * int(self.program.tensors[requant.mult].max()) + (1 << requant.shift)
        return 32 if site.bound < 1 << 31 and requant.shift > 0 and (most >> split) + 1 < 1 << 31 else 64

    def _requant(self, requant: Requant, bits: int) -> str:
        """Return the initialiser of a struct requant."""
        offset = self.parts.table(requant.offset, self.program.tensors[requant.offset], _TYPES[bits])
        mult = self.parts.table(requant.mult, self.program.tensors[requant.mult], "uint16_t")
        split = _split(requant)
        shift = f"{split}, {requant.shift - split}" if bits == 32 else f"{requant.shift}"
        return f"{{{offset}, {mult}, {shift}, {', '.join(map(str, ends(requant.bits, requant.relu)))}}}"

    def _finish(self, bits: int, out: Extent) -> str:
        """Return the tag of the function that ends sums."""
        tag = f"{_SHORT[out.bits]}_{bits}"
        self.parts.piece(f"scaled_{bits}")
        if bits == 32:
            store = {8: "cvtepi32_storeu_epi8", 16: "cvtepi32_storeu_epi16", 24: "storeu_epi32"}[out.bits]
            self.parts.piece("finish_32", tag=tag, y=_TYPES[out.bits], store=store)
        else:
            self.parts.piece("finish_64", tag=tag, y=_TYPES[out.bits])
        return tag

    def _struct(self, site: Site, kind: str, fields: Sequence[str]) -> str:
        name = self.parts.fresh(site.node.name)
        self.parts.tables[name] = f"static const struct {kind} {name} = {{\n    " + ",\n    ".join(fields) + ",\n};"
        return name

    # --- the operations --------------------------------------------------------------------------------------------

    def _conv(self, op: Conv, site: Site) -> str:
        """Return the call, but for its maps and pixels."""
        weight, taken = self.program.tensors[op.weight], site.ins[0]
        bits, by = self._sums(site, op.requant), 16 if op.weight_bits == 16 else 8
        depthwise = op.groups == len(weight) == taken.shape[0] and prod(weight.shape[2:]) <= _TAPS
        border, fields = self._border(op.border, site, bits)
        finish = self._finish(bits, site.out)
        tag = "_".join([_SHORT[taken.bits], f"w{by}", finish, *([border] if border else [])])
        words = {"tag": tag, "a": str(bits), "x": _TYPES[taken.bits], "w": _TYPES[by], "y": _TYPES[site.out.bits]}
        kinds = {"x": _TYPES[taken.bits], "w": _TYPES[by]}
        self.parts.piece("conv", a=str(bits))
        line = ""
        if border:
            self.parts.piece("border", tag=f"{border}_{bits}", a=str(bits), b=_TYPES[int(border[1:])])
            indent = " " * (12 if depthwise else 16)
            line = f"{indent}border_{border}_{bits}(c, pixel, first, n, sums, count);\n"
        if depthwise:
            weigh, slide = f"{_SHORT[taken.bits]}_w{by}_{bits}", ""
            self.parts.piece("taps")
            if weigh == "s8_w8_32":
                self.parts.piece("weigh_8")
                self.parts.piece("slide")
                slide = _SLIDE
            else:
                self.parts.piece("weigh", tag=weigh, a=str(bits), **kinds)
            self.parts.piece("depthwise", **words, finish=finish, border=line, weigh=weigh, slide=slide)
            table = np.moveaxis(weight[:, 0], 0, -1)  # [rows, columns, channels]
        else:
            dot = f"{_SHORT[taken.bits]}_w{by}_{bits}"
            self.parts.piece("gather", tag=_SHORT[taken.bits], x=_TYPES[taken.bits])
            if dot == "s8_w8_32":
                self.parts.piece("dot_8")
            else:
                self.parts.piece("dot", tag=dot, a=str(bits), **kinds)
            self.parts.piece("dense", **words, finish=finish, border=line, dot=dot, xs=_SHORT[taken.bits])
            table = blocked(weight, op.groups)
            length = -(-prod(weight.shape[1:]) // 4) * 4
            self.parts.windows[_SHORT[taken.bits]] = max(self.parts.windows.get(_SHORT[taken.bits], 0), length)
        name = self.parts.table(op.weight, table, _TYPES[by])
        sides = (*weight.shape[2:], op.stride, op.padding[0], op.padding[2])
        first = [_frame(taken, sides, site.out), f"{op.groups}, {len(weight)}", name]
        struct = self._struct(site, f"conv_{bits}", [*first, self._requant(op.requant, bits), *fields])
        return f"{'depthwise' if depthwise else 'conv'}_{tag}(&{struct}"

    def _convolved(self, op: Conv, step: Step, xs: Sequence[str], y: str) -> list[str]:
        """Return the call for the whole map; with a sum behind it the loop over some pixels, added at once."""
        site = step.site
        outs, pixels, short = site.out.shape[0], prod(site.out.shape[1:]), _SHORT[site.out.bits]
        if step.sum is None:
            return [f"{self._conv(op, site)}, {xs[0]}, 0, {pixels}, {y});"]
        add = step.sum.node.op
        assert isinstance(add, Add)
        self.parts.some[short] = max(self.parts.some.get(short, 0), outs)
        conv, (call, ends) = self._conv(op, site), self._add(add, step.sum)
        others = iter(xs[1:])
        terms = [f"SOME_{short}" if name == site.node.name else f"{next(others)} + k" for name in step.sum.node.inputs]
        return [
            f"for (k = 0; k < {pixels * outs}; k += TILE * {outs}) {{",
            f"    const int n = smaller(TILE, {pixels} - k / {outs});",
            f"    {conv}, {xs[0]}, k / {outs}, n, SOME_{short});",
            f"    {call}{', '.join(map(_term, terms, add.factors))}, {y} + k, n * {outs}, {ends});",
            "}",
        ]

    def _border(self, border: Border | None, site: Site, bits: int) -> tuple[str, list[str]]:
        """Return the short name of the border table's type, "" where there is none, and its part of the struct."""
        if border is None or border.ticks == 0:
            return "", ["0, 0, 0, 0, 0"]
        values = self.program.tensors[border.table]
        kind = next(b for b in (8, 16, 32, 64) if b == 64 or np.abs(values).max() < 1 << (b - 1))
        table = self.parts.table(border.table, values.transpose(1, 2, 0), _TYPES[kind])
        rows, columns = (
            self.parts.classes(f"{site.node.path}_{what}", classes)
            for what, classes in (("rows", border.rows), ("columns", border.columns))
        )
        return f"b{kind}", [f"{table}, {rows}, {columns}, {values.shape[2]}, {border.ticks}"]

    def _add(self, op: Add, site: Site) -> tuple[str, str]:
        """Return the call up to its terms, and what ends it."""
        bits = 32 if op.shift < 31 and site.bound + ((1 << op.shift) >> 1) < 1 << 31 else 64
        tag = "_".join([*(_SHORT[extent.bits] for extent in site.ins), _SHORT[site.out.bits], str(bits)])
        kinds = [_TYPES[extent.bits] for extent in site.ins]
        self.parts.piece(
            "add", tag=tag, a=str(bits), y=_TYPES[site.out.bits],
            terms=", ".join(f"const {kind} *x{place}, int32_t factor{place}" for place, kind in enumerate(kinds)),
            sum=" + ".join(f"(int{bits}_t)x{place}[k] * factor{place}" for place in range(len(kinds))),
        )  # fmt: skip
        return f"add_{tag}(", f"{op.shift}, {', '.join(map(str, ends(op.bits, op.relu)))}"

    def _scale(self, op: Scale, site: Site, xs: Sequence[str], y: str) -> str:
        bits, (x, gate) = self._sums(site, op.requant), site.ins
        finish = self._finish(bits, site.out)
        tag = f"{_SHORT[x.bits]}_{_SHORT[gate.bits]}_{finish}"
        words = {"x": _TYPES[x.bits], "g": _TYPES[gate.bits], "y": _TYPES[site.out.bits]}
        self.parts.piece("scale", a=str(bits))
        self.parts.piece("gate", tag=tag, a=str(bits), **words, finish=finish)
        sides = f"{x.shape[0]}, {prod(x.shape[1:])}"
        struct = self._struct(site, f"scale_{bits}", [sides, self._requant(op.requant, bits)])
        return f"scale_{tag}(&{struct}, {xs[0]}, {xs[1]}, {y});"

    def _average(self, requant: Requant, site: Site, sides: Sequence[int], every: int, x: str, y: str) -> str:
        bits, taken = self._sums(site, requant), site.ins[0]
        finish = self._finish(bits, site.out)
        tag = f"{_SHORT[taken.bits]}_{finish}"
        self.parts.piece("average", a=str(bits))
        words = {"x": _TYPES[taken.bits], "y": _TYPES[site.out.bits]}
        self.parts.piece("mean", tag=tag, a=str(bits), **words, finish=finish)
        if every >= 1 << 31:
            raise InputError(f"{site.node.path}: the C file has no mean of windows of {every} parts; limit 2**31")
        fields = [_frame(taken, sides, site.out), str(every), self._requant(requant, bits)]
        return f"average_{tag}(&{self._struct(site, f'average_{bits}', fields)}, {x}, {y});"

    def _max_pool(self, op: MaxPool, site: Site, x: str, y: str) -> str:
        short = _SHORT[site.out.bits]
        self.parts.piece("largest", tag=short, x=_TYPES[site.out.bits])
        sides = (op.size, op.size, op.stride, op.padding[0], op.padding[2])
        return f"largest_{short}(&{self._framed(site, sides)}, {x}, {y});"

    def _concat(self, site: Site, xs: Sequence[str], y: str) -> list[str]:
        calls, first = [], 0
        for x, extent in zip(xs, site.ins, strict=True):
            tag = f"{_SHORT[extent.bits]}_{_SHORT[site.out.bits]}"
            self.parts.piece("part", tag=tag, x=_TYPES[extent.bits], y=_TYPES[site.out.bits])
            sizes = f"{prod(extent.shape[1:])}, {extent.shape[0]}, {first}, {site.out.shape[0]}"
            calls.append(f"part_{tag}({x}, {y}, {sizes});")
            first += extent.shape[0]
        return calls

    def _shortcut(self, op: Shortcut, site: Site, x: str, y: str) -> str:
        short = _SHORT[site.out.bits]
        self.parts.piece("shortcut", tag=short, x=_TYPES[site.out.bits])
        struct = self._framed(site, (1, 1, op.stride, 0, 0))
        return f"shortcut_{short}(&{struct}, {site.out.shape[0]}, {x}, {y});"

    def _framed(self, site: Site, sides: Sequence[int]) -> str:
        name = self.parts.fresh(site.node.name)
        self.parts.tables[name] = f"static const struct frame {name} = {_frame(site.ins[0], sides, site.out)};"
        return name


def _split(requant: Requant) -> int:
    """Return how many lower bits of a product are taken by themselves: 16, fewer where one of them rounds."""
    return min(16, requant.shift - 1)


def ends(bits: int, relu: bool) -> tuple[int, int]:
    """Return the least and the largest value of a map."""
    return 0 if relu else -(1 << (bits - 1)), (1 << (bits - 1)) - 1


def blocked(weight: Ints, groups: int) -> Ints:
    """Return weights [out, in / groups, rows, columns] as dot.c reads them: for each group blocks of up to BLOCK
    outputs, [taps / 4, outputs, 4], outputs and taps filled up to fours with zeros."""
    taps = weight.transpose(0, 2, 3, 1).reshape(groups, len(weight) // groups, -1)
    taps = np.pad(taps, [(0, 0), (0, -taps.shape[1] % 4), (0, -taps.shape[2] % 4)])
    quads = taps.reshape(*taps.shape[:2], -1, 4)
    blocks = [
        group[first : first + BLOCK].swapaxes(0, 1).reshape(-1)
        for group in quads
        for first in range(0, len(group), BLOCK)
    ]
    return np.concatenate(blocks)


def _frame(taken: Extent, sides: Sequence[int], out: Extent) -> str:
    numbers = (*taken.shape, *sides, *out.shape[1:])
    return "{" + ", ".join(str(int(number)) for number in numbers) + "}"


def _at(place: int, extent: Extent) -> str:
    return f"{_SHORT[extent.bits].upper()}({place})"


def _term(x: str, factor: int) -> str:
    return f"{x}, {factor}"
