"""The accelerator as a picture: what a pixel passes on its way to a score."""

from markupsafe import Markup

from limbeck.artefacts.readers import Design
from limbeck.page.charts import WIDE
from limbeck.page.svg import picture, tag, text

_LEFT, _RIGHT = 14.0, 252.0  # of the column of blocks
_STEP, _HIGH = 66.0, 46.0


def engine(found: Design, head: str) -> Markup:
    """Return the block diagram of a design, with its lanes; `head` is the arrowheads' id, one of its own in a page."""
    lanes = found.lanes
    channels, height, width = found.program.input.channels, found.program.input.height, found.program.input.width
    pointwise, depthwise = found.multipliers
    blocks = (
        ("image banks", f"{channels} × {height} × {width} pixels, 8 bits"),
        ("window", f"3 × 3 around {_plural(lanes.pixels, 'pixel')}, {lanes.inputs} channels"),
        ("depthwise", f"{depthwise:,} multipliers: {lanes.pixels} × {lanes.inputs} × 9"),
        ("pointwise", f"{pointwise:,} multipliers: {lanes.pixels} × {lanes.inputs} × {lanes.outputs}"),
        ("result", f"{found.accumulator_bits}-bit sums, scaled, rounded, saturated"),
        ("scores", f"{len(found.program.classes)} classes, the largest named"),
    )
    parts = [_arrowhead(head)]
    for place, (name, what) in enumerate(blocks):
        y = 6 + place * _STEP
        parts.append(_block(_LEFT, y, _RIGHT - _LEFT, name, what, "block" if name != "scores" else "block end"))
        if place:
            parts.append(_arrow(f"M{(_LEFT + _RIGHT) / 2:g} {y - _STEP + _HIGH + 2:g}V{y - 3:g}", head))
    window, result = 6 + _STEP, 6 + 4 * _STEP
    x, y = 276.0, 6 + 2 * _STEP
    parts.append(_memory(x, y, "maps", f"3 × {found.map_words:,}", "words"))
    parts.append(_memory(x, y + 86, "state", f"{found.state_words:,} words", f"{found.state_bits} bits"))
    parts.append(_arrow(f"M{x + 46:g} {y - 2:g}V{window + 14:g}H{_RIGHT + 3:g}", head))  # maps are read by the window
    parts.append(_arrow(f"M{_RIGHT + 2:g} {result + 12:g}H{x - 12:g}V{y + 38:g}H{x - 3:g}", head, both=True))
    parts.append(_arrow(f"M{_RIGHT + 2:g} {result + 26:g}H{x + 40:g}V{y + 86 + 58:g}", head, both=True))
    title = f"Block diagram: pixels pass {', '.join(name for name, _ in blocks)}"
    return picture(WIDE, 6 + 5 * _STEP + _HIGH + 8, title, *parts, class_="chart diagram")


def _plural(count: int, thing: str) -> str:
    return f"{count} {thing}{'s' if count > 1 else ''}"


def _block(x: float, y: float, width: float, name: str, what: str, class_: str) -> Markup:
    box = tag("rect", x=x, y=y, width=width, height=_HIGH, rx=4, class_=class_)
    return tag("g", box, text(x + 12, y + 19, name, "block-name"), text(x + 12, y + 35, what, "block-what"))


def _memory(x: float, y: float, name: str, *lines: str) -> Markup:
    box = tag("rect", x=x, y=y, width=78, height=56, rx=4, class_="block memory")
    said = [text(x + 10, y + 33 + 14 * i, words, "block-what") for i, words in enumerate(lines)]
    return tag("g", box, text(x + 10, y + 18, name, "block-name"), *said)


def _arrow(d: str, head: str, *, both: bool = False) -> Markup:
    end = f"url(#{head})"
    return tag("path", d=d, class_="arrow", marker_end=end, marker_start=end if both else None)


def _arrowhead(name: str) -> Markup:
    head = tag("path", d="M0 0L7 3.5L0 7z", class_="head")
    shape = tag("marker", head, id=name, viewBox="0 0 7 7", refX=6, refY=3.5, markerWidth=7, markerHeight=7,
                orient="auto-start-reverse")  # fmt: skip
    return tag("defs", shape)
