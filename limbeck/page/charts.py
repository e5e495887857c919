"""Charts: values in, SVG out. Nothing depends on colour alone; colours are the page's, light or dark."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle

from markupsafe import Markup

from limbeck.learn.evaluate import Bin, Evaluation
from limbeck.page.svg import GLYPH, MIDDLE, Scale, around, dots, line, path, picture, short, tag, text
from limbeck.page.values import Change, Cloud, Role

WIDE = 360.0  # px: the width of a chart that a phone shows unscaled
MOST_NAMED = 12  # points with their names beside them; where there are more, they have numbers
MOST_CELLS, MOST_ROWS = 30, 60  # classes of a confusion matrix with counts in its cells, with names
_SHADES = 8  # shades of a confusion matrix of many classes
MOST_POINTS = 400  # most points per curve, and per domain of a cloud
_SHARES = ("accuracy", "top1", "top5", "agreement")  # what the names of shares end in
Box = tuple[float, float, float, float]  # left, top, right, bottom
Format = Callable[[float], str]


@dataclass(frozen=True)
class Point:
    """A net in a picture: where it is, and the interval of its share."""

    name: str
    role: Role | None  # None where nets have no roles
    x: float
    share: float
    range: tuple[float, float] | None


@dataclass(frozen=True)
class Engine:
    """An engine in a picture: its DSPs, images/s, and its share of each of the part's resources, 1 being all."""

    name: str
    dsps: int
    rate: float
    shares: Mapping[str, float]


def trade_off(points: Sequence[Point], title: str, axis: str, unit: str) -> Markup:
    """Return top-1 against something that costs, which is positive and on a logarithmic axis."""
    height, left, bottom = 300.0, 44.0, 262.0
    xs = Scale(*around([p.x for p in points], log=True), left, WIDE - 10, log=True)
    spread = [v for p in points for v in (p.range or (p.share, p.share))]
    ys = Scale(*around(spread), bottom, 14)
    drawn = [_axis_x(xs, bottom, lambda v: _amount(v, unit), axis), _axis_y(ys, left, WIDE - 10, _percent)]
    at = [(xs(p.x), ys(p.share)) for p in points]
    taken, frame = [(x - 7, y - 7, x + 7, y + 7) for x, y in at], (left + 2, 4.0, WIDE, bottom - 4)
    names, marks = [], []
    for point, (x, _) in zip(points, at, strict=True):
        if point.range is not None:
            drawn.append(line(x, ys(point.range[0]), x, ys(point.range[1]), "whisker"))
            taken.append((x - 1, ys(point.range[1]), x + 1, ys(point.range[0])))
    for place, (point, (x, y)) in enumerate(zip(points, at, strict=True), start=1):
        written = short(point.name, 20) if len(points) <= MOST_NAMED else str(place)
        hint = tag("title", f"{point.name}: {_percent(point.share)}, {_amount(point.x, unit)}")
        names += _beside(written, x, y, taken, frame, always=len(points) <= MOST_NAMED)
        marks.append(tag("g", hint, mark(point.role, x, y)))
    return picture(WIDE, height, title, *drawn, *names, *marks)


def mark(role: Role | None, x: float, y: float) -> Markup:
    """Return the sign of a role; each has its own shape."""
    match role:
        case None:
            return tag("circle", cx=x, cy=y, r=4, class_="mark net")
        case "teacher":
            return tag("circle", cx=x, cy=y, r=5, class_="mark teacher")
        case "labels" | "program":
            return tag("rect", x=x - 4.5, y=y - 4.5, width=9, height=9, class_=f"mark {role}")
        case "distilled":
            return _polygon(((x, y - 6.5), (x + 6.5, y), (x, y + 6.5), (x - 6.5, y)), "mark distilled")
        case "adapted":
            return _polygon(((x, y - 6), (x + 6, y + 5), (x - 6, y + 5)), "mark adapted")
        case "onnx":
            return _polygon(((x - 6, y - 5), (x + 6, y - 5), (x, y + 6)), "mark onnx")


def _polygon(corners: Iterable[tuple[float, float]], class_: str) -> Markup:
    return tag("polygon", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in corners), class_=class_)


def _beside(name: str, x: float, y: float, taken: list[Box], frame: Box, *, always: bool) -> list[Markup]:
    """Return the name beside its point, where it covers least of what is there already and of what is outside of the
    frame, and take its place; none where it would cover something, unless it must be there always."""
    width = GLYPH * len(name)
    places = [
        ("start", x + 10, y + dy) for dy in (MIDDLE, -7.0, 15.0)
    ] + [("end", x - 10, y + dy) for dy in (MIDDLE, -7.0, 15.0)] + [
        ("middle", x, y - 11.0), ("middle", x, y + 19.0), ("middle", x, y - 24.0), ("middle", x, y + 32.0),
    ]  # fmt: skip
    boxes = [_box(anchor, px, py, width) for anchor, px, py in places]
    cost = [sum(_overlap(b, other) for other in taken) + 50 * _outside(b, frame) + i for i, b in enumerate(boxes)]
    best = cost.index(min(cost))
    if not always and min(cost) >= len(boxes):
        return []
    taken.append(boxes[best])
    anchor, px, py = places[best]
    return [text(px, py, name, "name", anchor)]


def _box(anchor: str, x: float, y: float, width: float) -> Box:
    left = {"start": x, "end": x - width, "middle": x - width / 2}[anchor]
    return left, y - 10, left + width, y + 3


def _overlap(one: Box, other: Box) -> float:
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return wide * high if wide > 0 and high > 0 else 0.0


def _outside(box: Box, frame: Box) -> float:
    return sum(max(0.0, past) for past in (frame[0] - box[0], frame[1] - box[1], box[2] - frame[2], box[3] - frame[3]))


def engines(points: Sequence[Engine], chosen: int, title: str) -> Markup:
    """Return images/s over DSPs, both logarithmic, above the shares of the part's resources over DSPs; the engine that
    was chosen has another mark."""
    left, right, middle, bottom = 56.0, WIDE - 14, 214.0, 376.0
    xs = Scale(*around([float(p.dsps) for p in points], log=True), left, right, log=True)
    ys = Scale(*around([p.rate for p in points], log=True), middle, 14, log=True)
    most = max(share for point in points for share in point.shares.values())
    shares = Scale(0, max(most * 1.05, 0.01), bottom, middle + 24)
    at = [(xs(p.dsps), ys(p.rate)) for p in points]
    taken, frame = [(x - 6, y - 6, x + 6, y + 6) for x, y in at], (left + 2, 4.0, WIDE, middle - 2)
    parts = [_axis_y(ys, left, right, _plain_count), _axis_y(shares, left, right, _percent, 4)]
    parts += [line(left, middle, right, middle, "axis"), path(at, "curve")]
    names, marks = [], []
    for place in sorted(range(len(points)), key=lambda i: i != chosen):  # the chosen one's name must have room
        point, (x, y) = points[place], at[place]
        hint = tag("title", f"{point.name}: {point.dsps:,} DSPs, {point.rate:,.0f} images/s")
        names += _beside(point.name, x, y, taken, frame, always=place == chosen)
        marks.append(tag("g", hint, mark("distilled" if place == chosen else None, x, y)))
    parts += [*names, *marks[::-1]]
    for place, name in enumerate(points[chosen].shares):
        style = "solid-1" if not place else f"dash-{place}"
        lane = [(x, shares(point.shares[name])) for point, (x, _) in zip(points, at, strict=True)]
        parts.append(_drawn(lane, f"curve {style}"))
        parts += _key(name, style, left + 60 * place, bottom + 52)
    parts += [_axis_x(xs, bottom, _plain_count, "DSPs")]
    return picture(WIDE, bottom + 60, title, *parts)


def _drawn(points: Sequence[tuple[float, float]], class_: str) -> Markup:
    """Return a line through the points, or the one point."""
    return path(points, class_) if len(points) > 1 else dots(points, class_)


def _key(name: str, style: str, x: float, y: float) -> list[Markup]:
    """Return a line of a legend."""
    return [line(x, y - 4, x + 20, y - 4, f"curve {style}"), text(x + 25, y, name, "name-of")]


def _plain_count(value: float) -> str:
    return f"{value:,.0f}"


def _axis_x(scale: Scale, y: float, said: Format, name: str, most: int = 5) -> Markup:
    parts: list[Markup] = []
    ticks = [v for v in scale.ticks(most) if scale.low <= v <= scale.high]
    for value in ticks:
        x = scale(value)
        parts += [line(x, y, x, y + 4, "tick"), text(x, y + 15, said(value), "figure", "middle")]
    base = line(scale.start, y, scale.end, y, "axis")
    return tag("g", base, *parts, text((scale.start + scale.end) / 2, y + 31, name, "name-of", "middle"))


def _axis_y(scale: Scale, left: float, right: float, said: Format, most: int = 5) -> Markup:
    parts: list[Markup] = []
    for value in scale.ticks(most):
        y = scale(value)
        parts += [line(left, y, right, y, "grid"), text(left - 6, y + MIDDLE, said(value), "figure", "end")]
    return tag("g", *parts)


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %".replace("-", "\N{MINUS SIGN}")


def _amount(value: float, unit: str) -> str:
    """Return bytes or seconds with a prefix."""
    if unit == "B":
        power = min(max(int(math.log10(value) // 3), 0), 4)
        return f"{value / 1000**power:.3g} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"
    power = min(max(-int(math.log10(value) // 3), 0), 3)
    return f"{value * 1000**power:.3g} {('s', 'ms', 'µs', 'ns')[power]}"


# ---- training ---------------------------------------------------------------------------------------------


def curves(history: Sequence[Mapping[str, float]], title: str) -> Markup:
    """Return the curves of rows that hold "epoch": shares above, losses below, each with its legend. Held-out figures
    are solid."""
    rows = [{name: value for name, value in row.items() if math.isfinite(value)} for row in history]
    named = [name for name in dict.fromkeys(n for row in rows for n in row) if name not in ("epoch", "lr")]
    named.sort(key=lambda name: (not name.startswith("val_"), name != "loss"))  # what matters first, if there are many
    shares = [name for name in named if name.endswith(_SHARES)][:4]
    losses = [name for name in named if not name.endswith(_SHARES)][:4]
    parts: list[Markup] = []
    top = 0.0
    for panel in (shares, losses):
        if panel:
            parts += _panel(rows, panel, top, _percent if panel is shares else _plain)
            top += 150 + 15 * -(-len(panel) // 2)
    return picture(WIDE, max(top, 20), title, *parts)


def _panel(rows: Sequence[Mapping[str, float]], panel: Sequence[str], top: float, said: Format) -> Iterator[Markup]:
    left, bottom = 44.0, top + 112
    epochs = [row["epoch"] for row in rows]
    xs = Scale(min(epochs), max(epochs), left, WIDE - 12)
    values = [row[name] for row in rows for name in panel if name in row]
    high = _usual(values)
    ys = Scale(*around([min(value, high) for value in values], share=0.06), bottom, top + 10)
    if high < max(values):
        yield text(left + 6, top + 8, f"↑ {_plain(max(values))}", "figure")
    yield _axis_y(ys, left, WIDE - 12, said, 4)
    yield line(left, bottom, WIDE - 12, bottom, "axis")
    for value in {v for v in xs.ticks(6) if v == int(v)}:
        yield text(xs(value), bottom + 14, f"{value:g}", "figure", "middle")
    styles = cycle(("dash-1", "dash-2", "dash-3", "dash-4"))
    solid = cycle(("solid-1", "solid-2"))
    for place, name in enumerate(panel):
        style = next(solid) if name.startswith("val_") else next(styles)
        points = [(xs(row["epoch"]), ys(min(row[name], high))) for row in _thin(rows) if name in row]
        yield _drawn(points, f"curve {style}")
        x, y = left + (place % 2) * 158, bottom + 31 + 15 * (place // 2)
        yield from _key(short(_spelt(name), 20), style, x, y)


def _thin(rows: Sequence[Mapping[str, float]]) -> Sequence[Mapping[str, float]]:
    return rows[:: -(-len(rows) // MOST_POINTS)]


def _spelt(name: str) -> str:
    words = [{"val": "held-out", "top1": "top-1", "nll": "NLL"}.get(word, word) for word in name.split("_")]
    return " ".join(words)


def _usual(values: Sequence[float]) -> float:
    """Return the largest value; where it towers over nine tenths of them, as in a first epoch, twice their largest."""
    high, most = max(values), sorted(values)[9 * (len(values) - 1) // 10]
    return 2 * most if 0 < 4 * most < high else high


def _plain(value: float) -> str:
    shown = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return shown.replace("-", "\N{MINUS SIGN}")


# ---- what a net gets wrong, and how sure it is --------------------------------------------------------------


def confusion(found: Evaluation, title: str) -> Markup:
    """Return the confusion matrix: rows true, columns predicted, as dark as the root of their share of the row, so that
    a mistake of 1% can be seen. Mistakes have a colour of their own; up to MOST_CELLS classes have counts."""
    count = len(found.classes)
    names = [short(name, 12) for name in found.classes] if count <= MOST_ROWS else []
    label = max(GLYPH * max((len(name) for name in names), default=0) + 8, 20)
    slanted = max((len(name) for name in names), default=0) > 2
    cell = max(24.0, min(30.0, (WIDE - label) / count)) if count <= MOST_CELLS else 13.0 if names else 600 / count
    top = label if slanted else 18.0
    parts: list[Markup] = []
    for i, name in enumerate(names):
        x, y = label + cell * (i + 0.5), top + cell * (i + 0.5)
        turn = f"rotate(-90 {x + MIDDLE:.1f} {top - 5:.1f})" if slanted else None
        parts += [
            text(label - 6, y + MIDDLE, name, "figure", "end"),
            tag("text", name, x=x + (MIDDLE if slanted else 0), y=top - 5, class_="figure", transform=turn,
                text_anchor="start" if slanted else "middle"),
        ]  # fmt: skip
    side = label + cell * count
    drawn = _cells(found, label, top, cell) if count <= MOST_CELLS else _shades(found, label, top, cell)
    return picture(side, top + cell * count, title, *parts, *drawn, class_="chart matrix")


def _cells(found: Evaluation, left: float, top: float, side: float) -> Iterator[Markup]:
    for i, row in enumerate(found.confusion.tolist()):
        for j, images in enumerate(row):
            yield _cell(left + side * j, top + side * i, side, images, sum(row), right=i == j)


def _shades(found: Evaluation, left: float, top: float, side: float) -> Iterator[Markup]:
    """Yield the cells that hold images as a path per shade, each cell at least a pixel."""
    frame = side * len(found.classes)
    yield tag("rect", x=left, y=top, width=frame, height=frame, class_="none")
    rows = found.counts().tolist()
    wide = f"{max(side, 1.0):.3g}"
    shades: dict[tuple[bool, int], list[str]] = {}
    for i, j, images in found.pairs.tolist():
        shade = math.ceil(_SHADES * math.sqrt(images / rows[i]))
        square = f"M{left + side * j:.1f} {top + side * i:.1f}h{wide}v{wide}h-{wide}z"
        shades.setdefault((i == j, shade), []).append(square)
    for (right, shade), squares in sorted(shades.items()):
        yield tag("path", d="".join(squares), class_="right" if right else "wrong", fill_opacity=shade / _SHADES)


def _cell(x: float, y: float, side: float, images: int, of: int, *, right: bool) -> Markup:
    strength = math.sqrt(images / of) if of else 0.0
    box = tag(
        "rect", x=x + 0.5, y=y + 0.5, width=side - 1, height=side - 1, rx=2,
        class_="none" if not images else "right" if right else "wrong",
        fill_opacity=0.15 + 0.75 * strength if images else None,
    )  # fmt: skip
    if not images:
        return box
    strong = "count strong" if strength > 0.62 else "count"
    return box + text(x + side / 2, y + side / 2 + MIDDLE, str(images), strong, "middle")


def reliability(bins: Sequence[Bin], title: str, side: float = 176.0) -> Markup:
    """Return accuracy against confidence, a dot as large as its bin's share of the images, its way from the dashed
    diagonal drawn."""
    left, bottom = 40.0, side - 26
    ends = Scale(0, 1, left, side - 6), Scale(0, 1, bottom, bottom - (side - 6 - left))
    xs, ys = ends
    filled = [b for b in bins if b.images]
    images = sum(b.images for b in filled)
    parts = [_axis_y(ys, left, side - 6, _round_percent, 2), line(left, bottom, side - 6, bottom, "axis")]
    parts += [text(xs(v), bottom + 14, _round_percent(v), "figure", "middle") for v in (0, 0.5)]
    parts += [text(side - 2, bottom + 14, "100 %", "figure", "end")]
    parts += [line(xs(0), ys(0), xs(1), ys(1), "ideal")]
    parts += [line(xs(b.confidence), ys(b.confidence), xs(b.confidence), ys(b.accuracy), "stem") for b in filled]
    for b in filled:
        hint = tag("title", f"{b.images} images, confidence {b.confidence:.1%}, accuracy {b.accuracy:.1%}")
        radius = 2 + 5 * math.sqrt(b.images / images)
        parts.append(tag("circle", hint, cx=xs(b.confidence), cy=ys(b.accuracy), r=radius, class_="bin"))
    return picture(side, bottom + 20, title, *parts)


def _round_percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share else "0"


# ---- adaptation -------------------------------------------------------------------------------------------


def changes(rows: Sequence[Change], title: str, *, better: bool) -> Markup:
    """Return a line per class: a ring before, a dot after. Where more is `better`, a fall has a colour of its own."""
    left, step = min(GLYPH * max(len(short(row.name, 16)) for row in rows) + 10, 120), 20.0
    top, bottom = 8.0, 8 + step * len(rows)
    most = 1.0 if better else min(1.0, 1.1 * max(max(row.before, row.after) for row in rows))
    xs = Scale(0, most, left, WIDE - 20)
    ticks = xs.ticks(4)
    parts = [line(xs(v), top, xs(v), bottom, "grid") for v in ticks]
    parts += [text(xs(v), bottom + 14, _round_percent(v), "figure", "middle") for v in ticks]
    for place, (name, before, after) in enumerate(rows):
        y = top + step * (place + 0.5)
        fell = " fell" if better and after < before else ""
        hint = tag("title", f"{name}: {before:.1%} before, {after:.1%} after")
        parts.append(
            tag("g", hint, text(left - 8, y + MIDDLE, short(name, 16), "name", "end"),
                line(xs(before), y, xs(after), y, f"change{fell}"),
                tag("circle", cx=xs(before), cy=y, r=4, class_=f"before{fell}"),
                tag("circle", cx=xs(after), cy=y, r=4.5, class_=f"after{fell}"))
        )  # fmt: skip
    return picture(WIDE, bottom + 20, title, *parts)


def cloud(found: Cloud, title: str) -> Markup:
    """Return a net's features in two directions: source small rings' colour, target the accent's."""
    every = [*found.source, *found.target]
    pad = 10.0
    xs = Scale(*around([x for x, _ in every], share=0.03), pad, WIDE - pad)
    ys = Scale(*around([y for _, y in every], share=0.03), 250 - pad, pad)
    place = [[(xs(x), ys(y)) for x, y in points[:MOST_POINTS]] for points in (found.source, found.target)]
    frame = tag("rect", x=0.5, y=0.5, width=WIDE - 1, height=249, rx=4, class_="frame")
    crosses = [p for x, y in place[1] for p in (f"M{x - 2.4:.1f} {y - 2.4:.1f}l4.8 4.8m0-4.8l-4.8 4.8",)]
    return picture(WIDE, 250, title, frame, dots(place[0], "source"), tag("path", d="".join(crosses), class_="target"))
