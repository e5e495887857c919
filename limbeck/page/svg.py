"""Small SVG pieces: elements whose text is escaped, scales, ticks. Colours are classes, so that the page decides; a
picture that leaves the page takes them along."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from xml.etree import ElementTree

from markupsafe import Markup

LIGHT = {
    "paper": "#fcfbf8", "raised": "#f4f2ec", "ink": "#1c2024", "muted": "#5a6068", "rule": "#dcd8cd", "grid": "#e8e5dc",
    "accent": "#1d5f86", "warm": "#a9471a", "soft": "#777e86",
}  # fmt: skip
DARK = {
    "paper": "#15171a", "raised": "#1e2125", "ink": "#e9e6df", "muted": "#a3a8ae", "rule": "#363a40", "grid": "#2a2e33",
    "accent": "#82bde0", "warm": "#eb9a6b", "soft": "#7f868e",
}  # fmt: skip
SANS = '"Inter", "Segoe UI", Roboto, "Helvetica Neue", "Lato", "Liberation Sans", Arial, sans-serif'

GLYPH = 6.6  # px: what a character of the charts' 12 px type takes, on average
MIDDLE = 4.2  # px from a line's middle down to the baseline of its type


def tag(name: str, *content: str, **attributes: object) -> Markup:
    """Return an element. Attributes: `class_` is class, `_` is -, numbers have two decimals, None is left out."""
    said = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _short(value))
        for key, value in attributes.items()
        if value is not None
    )
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), said, Markup("").join(content))


def _short(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def text(x: float, y: float, said: str, class_: str = "", anchor: str = "start") -> Markup:
    """Return a line of type whose baseline is y."""
    return tag("text", said, x=x, y=y, class_=class_ or None, text_anchor=None if anchor == "start" else anchor)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def path(points: Iterable[tuple[float, float]], class_: str) -> Markup:
    """Return the line through the points."""
    moves = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return tag("path", d=f"M{moves}", class_=class_)


def dots(points: Iterable[tuple[float, float]], class_: str) -> Markup:
    """Return many round dots as one path: lines of no length with round ends."""
    return tag("path", d="".join(f"M{x:.1f} {y:.1f}h0" for x, y in points), class_=f"dots {class_}")


def picture(width: float, height: float, title: str, *content: str, class_: str = "chart") -> Markup:
    """Return a whole picture, as wide as its place; `title` is its text for screen readers."""
    return tag(
        "svg", tag("title", title), *content,
        viewBox=f"0 0 {width:g} {height:g}", class_=class_, role="img", style=f"--width:{width:g}px",
    )  # fmt: skip


def palette(colours: Mapping[str, str]) -> str:
    """Return the colours as CSS variables."""
    return " ".join(f"--{name}: {colour};" for name, colour in colours.items())


def standalone(drawn: Markup, heading: str, note: str = "") -> str:
    """Return a picture as a file of its own under a heading: it brings its style, light and, where the viewer asks for
    it, dark. Variables are written out, since not every viewer of SVG knows them."""
    root = ElementTree.fromstring(drawn)
    width, height = (float(v) for v in root.attrib["viewBox"].split()[2:])
    wide, top = max(width, GLYPH * 1.2 * len(heading), GLYPH * len(note)) + 32, 58 if note else 42
    box = f"{wide:.0f}", f"{height + top + 16:.0f}"
    place = {"viewBox": f"-16 {-top} {box[0]} {box[1]}", "width": box[0], "height": box[1]}
    root.attrib |= {"xmlns": "http://www.w3.org/2000/svg", **place}
    del root.attrib["style"]
    style = ElementTree.Element("style")
    style.text = _style()
    added = [tag("rect", x=-16, y=-top, width=box[0], height=box[1], class_="ground"),
             text(0, 22 - top, heading, "heading"), text(0, 40 - top, note, "note")]  # fmt: skip
    for position, element in enumerate([style, *map(ElementTree.fromstring, added)], start=1):
        root.insert(position, element)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _style() -> str:
    """Return the charts' style with its colours in it, those of the dark mode after those of the light one."""
    rules = (
        (files("limbeck.page") / "templates" / "charts.css").read_text(encoding="utf-8").replace("var(--sans)", SANS)
    )
    coloured = "".join(rule for rule in re.findall(r"[^{}]+\{[^{}]*\}", rules) if "var(--" in rule)
    light, dark = (_painted(text, colours) for text, colours in ((rules, LIGHT), (coloured, DARK)))
    return f"{light}@media (prefers-color-scheme: dark) {{{dark}\n}}\n"


def _painted(rules: str, colours: Mapping[str, str]) -> str:
    return re.sub(r"var\(--(\w+)\)", lambda found: colours[found[1]], rules)


def short(name: str, most: int = 22) -> str:
    """Return the name, its middle left out where it is longer than `most` characters."""
    if len(name) <= most:
        return name
    head = (most - 1) * 2 // 3
    return f"{name[:head]}…{name[len(name) - (most - 1 - head) :]}"


@dataclass(frozen=True)
class Scale:
    """Values from `low` to `high`, drawn from `start` to `end`; logarithmic if `log`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = ((math.log10(v) for v in (self.low, self.high, value)) if self.log else
                         (self.low, self.high, value))  # fmt: skip
        share = (at - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)

    def ticks(self, most: int = 5) -> list[float]:
        """Return round values inside, at most about `most`."""
        found = _decades(self.low, self.high, most) if self.log else []
        return found if len(found) > 1 else _rounds(self.low, self.high, most)


def _rounds(low: float, high: float, most: int) -> list[float]:
    if high <= low:
        return [low]
    raw = (high - low) / most
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * m for m in (1, 2, 2.5, 5, 10) if unit * m >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _decades(low: float, high: float, most: int) -> list[float]:
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        found = [f * 10.0**e for e in exponents for f in factors if low <= f * 10.0**e <= high]
        if len(found) <= most:
            break
    thin = -(-len(found) // most) if found else 1
    return found[::thin]


def around(values: Sequence[float], *, share: float = 0.08, log: bool = False) -> tuple[float, float]:
    """Return a range that holds the values, with some room; never empty."""
    low, high = min(values), max(values)
    if log:
        room = max((high / low) ** share, 1.35)
        return low / room, high * room
    room = (high - low) * share or abs(high) * 0.05 or 1.0
    return low - room, high + room
