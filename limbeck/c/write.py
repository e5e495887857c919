"""The C file and its header as text: a Program is all that they are made of."""

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from limbeck.c.kernels import Kernels, Parts, identifier
from limbeck.c.memory import Memory, plan, steps
from limbeck.integer.program import IMAGE, WHITE, Conv, Program, image_extent, run
from limbeck.integer.survey import Site, survey
from limbeck.runs import OPEN_SEAL
from limbeck.version import __version__

TEMPLATES = Path(__file__).parent / "templates"
SELFTESTS = 3  # images
_WIDE = 112


@dataclass(frozen=True)
class Written:
    """The text of a net in C, and what it needs of a device."""

    source: str  # its seal still open
    header: str  # its seal still open too
    name: str  # prefix of all that the file defines
    tables: int  # bytes of constant tables, without code
    arena: int  # bytes
    memory: Memory
    largest: str  # the name of the largest table


def write(program: Program, name: str) -> Written:
    """Return the program in C; `name` begins all names that the linker sees. InputError for a node that can't be
    written."""
    name = identifier(name)
    sites = survey(program)
    order = tuple(steps(sites))
    memory, parts = plan(image_extent(program), order), Parts()
    kernels = Kernels(program, memory, parts)
    body: list[str] = []
    for step in order:
        said = [f"    {_comment(_said(site))}" for site in (step.site, step.sum) if site is not None]
        body += ["", *said, *(f"    {line}" for line in kernels.call(step))]
    places, arena = _scratch(parts, memory.size)
    last = sites[-1]
    words = {"name": name, "NAME": name.upper()}
    parts.piece("scores", tag=_short(last.out.bits), x=_type(last.out.bits), NAME=name.upper())
    functions = [filled(f"{piece.template}.c", dict(piece.words)) for piece in parts.pieces]
    prelude = filled("prelude.c", {**words, "simd": filled("simd.c", {})})
    source = "\n".join(
        [
            _top(program, name, memory, arena, parts.bytes),
            prelude,
            *places,
            *functions,
            "/* ---- tables ---- */\n",
            *(f"{table}\n" for table in parts.tables.values()),
            "/* ---- the net ---- */\n",
            _run(program, name, memory, body, last),
            _selftest(program, name),
        ]
    )
    return Written(
        source, _header(program, name, arena, parts.bytes, last), name, parts.bytes, arena, memory, parts.largest
    )


def filled(template: str, words: dict[str, str]) -> str:
    """Return the template's text, with what stands for its @words@."""
    text = (TEMPLATES / template).read_text(encoding="utf-8")
    return re.sub(r"@(\w+)@", lambda found: words[found[1]], text)


def _short(bits: int) -> str:
    return {8: "s8", 16: "s16", 24: "s32"}[bits]


def _type(bits: int) -> str:
    return {8: "int8_t", 16: "int16_t", 24: "int32_t"}[bits]


def _scratch(parts: Parts, size: int) -> tuple[list[str], int]:
    """Return the definitions of where windows are gathered and where pixels lie that are added at once, behind the
    maps where a tile is one pixel, and the size of the arena."""
    behind, beside = [], []
    for name, lengths in (("window", parts.windows), ("some", parts.some)):
        most = 0
        for short, length in lengths.items():
            macro, bits = f"{name.upper()}_{short}", int(short[1:])
            behind.append(f"#define {macro} {short.upper()}({size})")
            beside += [f"static int{bits}_t {name}_{short}[TILE * {length}];", f"#define {macro} {name}_{short}"]
            most = max(most, length * bits // 8)
        size += -(-most // 8) * 8
    comment = "/* windows are gathered, and some pixels added, behind the maps */"
    lines = [f"#if TILE == 1 {comment}", *behind, "#else", *beside, "#endif", ""]
    return lines if behind else [], size


def _comment(text: str) -> str:
    return f"/* {text} */"


def _plain(text: str) -> str:
    """Return a name that can stand in a comment: printable ASCII, and no end of it."""
    return re.sub(r"[^ -~]|[*\\?]", "_", text)


def _said(site: Site) -> str:
    """Return a node in words: its name, its operation, its maps."""
    op = site.node.op
    what = type(op).__name__
    if isinstance(op, Conv):
        groups = " depthwise" if op.groups == site.ins[0].shape[0] else f" in {op.groups} groups"
        what += (groups if op.groups > 1 else "") + (f", stride {op.stride}" if op.stride > 1 else "")
    maps = " and ".join("x".join(map(str, extent.shape)) for extent in site.ins)
    return _plain(f"{site.node.name}: {what}, {maps} -> {'x'.join(map(str, site.out.shape))}, {site.formats}")


def _top(program: Program, name: str, memory: Memory, arena: int, tables: int) -> str:
    i = program.input
    origin = program.lineage.get("tag")
    made = f" from {_plain(str(origin))}" if origin else ""
    lines = [
        f"{name}.c: a classifier in integers, C99, written by Limbeck {__version__}{made}.",
        f"{i.channels}x{i.height}x{i.width} pixels, {len(program.classes)} classes; {tables:,} bytes of tables, "
        f"{arena:,} bytes of RAM beside the stack.",
        "Every score is that of the Program, which is at the end of this file: docs/numerics.md of Limbeck is its "
        "meaning. One thread at a time: maps lie in one static arena.",
        f"With -DLIMBECK_SELFTEST it has a main that compares {SELFTESTS} images and returns 0, or 1.",
    ]
    wrapped = [part for line in [*lines, OPEN_SEAL] for part in textwrap.wrap(line, _WIDE)]
    return "\n".join(["/*", *(f" * {line}" for line in wrapped), " */"])


def _run(program: Program, name: str, memory: Memory, body: list[str], last: Site) -> str:
    pixels = program.input.channels * program.input.height * program.input.width
    short, image = _short(last.out.bits), memory.places[IMAGE]
    return "\n".join(
        [
            f"int {name}_run(const uint8_t *pixels, int32_t *scores)",
            "{",
            "    int k;",
            f"    for (k = 0; k < {pixels}; k++)",
            f"        S8({image})[k] = (int8_t)(pixels[k] - 128);",
            *body,
            "",
            f"    return best_of_{short}({short.upper()}({memory.places[last.node.name]}), scores);",
            "}\n",
            f"const char *const {name}_classes[{name.upper()}_CLASSES] = {{",
            *(f"    {_string(each)}," for each in program.classes),
            "};\n",
        ]
    )


def _string(text: str) -> str:
    """Return the text as a C string in UTF-8."""
    plain = set(range(32, 127)) - set(b'"\\?')
    return f'"{"".join(chr(b) if b in plain else f"{chr(92)}{b:03o}" for b in text.encode("utf-8", "replace"))}"'


def selftest_images(program: Program) -> NDArray[np.uint8]:
    """Return the images of the self-test: noise of a linear congruential generator, [N, channels, height, width]."""
    i = program.input
    count = SELFTESTS * i.channels * i.height * i.width
    state, found = 1, np.empty(count, np.uint8)
    for k in range(count):
        state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
        found[k] = state >> 24
    return np.ascontiguousarray(found.reshape(SELFTESTS, i.height, i.width, i.channels).transpose(0, 3, 1, 2))


def _selftest(program: Program, name: str) -> str:
    scores = run(program, selftest_images(program))
    rows = [f"        {{{', '.join(map(str, row))}}}," for row in scores.tolist()]
    return filled("selftest.c", {"name": name, "NAME": name.upper(), "images": str(SELFTESTS), "rows": "\n".join(rows)})


def _header(program: Program, name: str, arena: int, tables: int, last: Site) -> str:
    i = program.input
    kind = {1: "grey", 3: "red, green, blue"}.get(i.channels, f"{i.channels} channels")
    crop = "the whole image" if i.crop_pct == 1 else f"the middle {100 * i.crop_pct:g}% of the shorter side"
    deep = f" Before, values v of a grey picture of 16 bits become min(255, (255 v + {i.white // 2}) / {i.white})."
    low, high = -(1 << (last.out.bits - 1)), (1 << (last.out.bits - 1)) - 1
    words = {
        "name": name, "NAME": name.upper(), "classes": str(len(program.classes)), "channels": str(i.channels),
        "height": str(i.height), "width": str(i.width), "kind": kind, "crop": crop, "filter": i.interpolation,
        "white": "" if i.white == WHITE else deep,
        "arena": str(arena), "tables": str(tables), "scale": repr(float(program.scale)), "low": f"{low:,}",
        "high": f"{high:,}", "version": __version__, "seal": OPEN_SEAL,
    }  # fmt: skip
    return filled("header.c", words)
