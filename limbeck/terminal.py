"""What a terminal shows of a result, as text: tables that fit it, and the command worth typing next."""

import re
import shlex
import textwrap
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

NARROWEST = 16  # characters that a column keeps, though the table be too wide
INDENT = 4  # of a column that goes below the others
NEXT = {
    "data": "limbeck teach --data {data} --out runs/teacher",
    "teach": "limbeck distill --data {data} --teachers {out} --out runs/student",
    "label": "limbeck distill --data {data} --labels {out} --out runs/student",
    "merge-labels": "limbeck info {out}",
    "verify-labels": "limbeck info {store}",
    "distill": "limbeck quantize {out} --data {data} --out {out}.program",
    "adapt": "limbeck report {out}",
    "evaluate": "limbeck report {model}",
    "steps": "limbeck bench {out} --data {data}",
    "quantize": "limbeck compile {out} --part xczu7ev --out {out}.design",
    "export": "limbeck bench {out} --data {data}",
    "predict": "limbeck serve {model}",
    "push": "limbeck info {run}",
    "compile": "limbeck simulate {out} --data photos/",
    "simulate": "limbeck report {design}",
    "report": "limbeck serve {run}",
    "bench": "limbeck report {models}",
    "serve": "limbeck report {models}",
    "zoo": "limbeck auto photos/ --for pi",
    "info": "limbeck zoo",
    "doctor": "limbeck demo",
    "demo": "limbeck auto photos/ --for pi",
}
"""After these verbs, what most people do; the braces are the verb's own keywords."""


def after(verb: str, values: Mapping[str, Any]) -> str:
    """Return the command worth typing after a verb that had these keywords; nothing where none is sure."""
    quoted = {name: _quoted(value) for name, value in values.items() if value not in (None, "", ())}
    try:
        return NEXT[verb].format_map(quoted)
    except KeyError:  # no such verb, or a keyword that was left out
        return ""


def _quoted(value: Any) -> str:  # noqa: ANN401 - whatever a verb takes
    return shlex.join(map(str, value)) if isinstance(value, list | tuple) else shlex.quote(str(value))


def table(rows: Sequence[tuple[str, ...]], width: int | None = None) -> str:
    """Return the rows in columns, each as wide as its longest cell; where that is more than `width`, the widest
    columns are folded between words, and where words are too long for that, the last column goes below the others.
    Nothing is cut, and no line ends in blanks."""
    columns = [[str(cell) for cell in column] for column in zip_longest(*rows, fillvalue="")]
    widths = [max(map(_cells, column)) for column in columns]
    least = [min(whole, max(NARROWEST, *map(_longest, column))) for whole, column in zip(widths, columns, strict=True)]
    if width and len(columns) > 2 and _whole(least) > width:
        above = (_line(cells, widths[:-1]) for cells in zip(*columns[:-1], strict=True))
        below = (_below(cell, width) for cell in columns[-1])
        return "".join(part for both in zip(above, below, strict=True) for part in both)
    while width and _whole(widths) > width and widths != least:
        free = [at for at, (wide, floor) in enumerate(zip(widths, least, strict=True)) if wide > floor]
        widths[max(free, key=widths.__getitem__)] -= 1
    return "".join(_line(cells, widths) for cells in zip(*columns, strict=True))


def _whole(widths: Sequence[int]) -> int:
    """Return the width of a line."""
    return 1 + sum(widths) + 2 * (len(widths) - 1)


def _longest(cell: str) -> int:
    return max(map(_cells, cell.split()), default=0)


def _below(cell: str, width: int) -> str:
    """Return a cell on lines of its own, none where it is empty."""
    lines = folded(cell, max(width - INDENT, NARROWEST)) if cell else ()
    return "".join(f"{' ' * INDENT}{line}\n" for line in lines)


def folded(line: str, width: int) -> list[str]:
    """Return the line folded between words; of a command so that the shell, to which it is copied, reads it as one."""
    if _cells(line) <= width:
        return [line]
    if not line.startswith("limbeck "):
        return textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False)
    lines = [""]
    for word in re.findall(r"(?:'[^']*'|[^\s'])+", line):
        if lines[-1] and _cells(f"{lines[-1]} {word} \\") > width:
            lines[-1] += " \\"
            lines.append(f"  {word}")
        else:
            lines[-1] += f" {word}" if lines[-1] else word
    return lines


def _cells(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)


def _line(cells: tuple[str, ...], widths: Sequence[int]) -> str:
    shown = ""
    for parts in zip_longest(*map(folded, cells, widths), fillvalue=""):
        padded = (part + " " * (width - _cells(part)) for part, width in zip(parts, widths, strict=True))
        shown += f" {'  '.join(padded)}".rstrip() + "\n"
    return shown
