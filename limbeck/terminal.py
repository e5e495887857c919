"""What a terminal shows of a result, as text: tables that fit it, and the command worth typing next."""

import shlex
import textwrap
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

NARROWEST = 16  # characters that a column keeps, though the table be too wide
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
    said = {name: _quoted(value) for name, value in values.items() if value not in (None, "", ())}
    try:
        return NEXT[verb].format_map(said)
    except KeyError:  # no such verb, or a keyword that was left out
        return ""


def _quoted(value: Any) -> str:  # noqa: ANN401 - whatever a verb takes
    return shlex.join(map(str, value)) if isinstance(value, list | tuple) else shlex.quote(str(value))


def table(rows: Sequence[tuple[str, ...]], width: int | None = None) -> str:
    """Return the rows in columns, each as wide as its longest cell; where that is more than `width`, the widest
    columns are folded between words. Nothing is cut, and no line ends in blanks."""
    columns = [[str(cell) for cell in column] for column in zip_longest(*rows, fillvalue="")]
    widths = [max(map(_cells, column)) for column in columns]
    while width and 1 + sum(widths) + 2 * (len(widths) - 1) > width and max(widths) > NARROWEST:
        widths[widths.index(max(widths))] -= 1
    return "".join(_line(cells, widths) for cells in zip(*columns, strict=True))


def _cells(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)


def _line(cells: tuple[str, ...], widths: Sequence[int]) -> str:
    folded = [
        textwrap.wrap(cell, width, break_long_words=False, break_on_hyphens=False) if _cells(cell) > width else [cell]
        for cell, width in zip(cells, widths, strict=True)
    ]
    shown = ""
    for parts in zip_longest(*folded, fillvalue=""):
        padded = (part + " " * (width - _cells(part)) for part, width in zip(parts, widths, strict=True))
        shown += f" {'  '.join(padded)}".rstrip() + "\n"
    return shown
