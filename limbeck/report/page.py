"""The page: values in, one HTML file's text out. It asks nobody for anything, and holds no script."""

import math
from dataclasses import dataclass, field

from jinja2 import Environment, PackageLoader, StrictUndefined

from limbeck.learn.evaluate import Evaluation
from limbeck.nets.count import Table
from limbeck.report import accelerator, charts, diagram
from limbeck.report.accelerator import Pass
from limbeck.report.artefacts import Design, History
from limbeck.report.layers import Row
from limbeck.report.lineage import Command, Cost, Origin
from limbeck.report.story import Tile
from limbeck.report.values import ROLES, Adaptation, Mistake, Net, Teachers


@dataclass(frozen=True)
class Curves:
    """A run's history."""

    name: str
    verb: str
    history: History


@dataclass(frozen=True)
class Wrong:
    """What a net gets wrong."""

    name: str
    data: str
    found: Evaluation
    mistakes: tuple[Mistake, ...]


@dataclass(frozen=True)
class Layers:
    """The layers of a net, or of a Program."""

    name: str
    model: str
    table: Table | None
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Chip:
    """A design and where its cycles go."""

    name: str
    design: Design
    passes: tuple[Pass, ...]


@dataclass(frozen=True)
class Page:
    """All that the page says. What is empty has no section, and `missing` says what would bring it."""

    title: str
    lead: str
    about: str  # by what, of what
    tiles: tuple[Tile, ...]
    nets: tuple[Net, ...]
    timed: str  # how latency was measured; empty where it was not
    curves: tuple[Curves, ...] = ()
    wrong: Wrong | None = None
    teachers: Teachers | None = None
    layers: tuple[Layers, ...] = ()
    chips: tuple[Chip, ...] = ()
    adaptations: tuple[Adaptation, ...] = ()
    costs: tuple[Cost, ...] = ()
    origins: tuple[Origin, ...] = ()
    commands: tuple[Command, ...] = ()
    notes: tuple[str, ...] = ()
    missing: tuple[tuple[str, str], ...] = field(default=())  # section, what would bring it


def render(page: Page) -> str:
    """Return the page as HTML. Whatever runs say is escaped."""
    environment = Environment(
        loader=PackageLoader("limbeck.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {
        "share": share, "count": count, "size": size, "time": time, "brief": brief, "points": points,
    }  # fmt: skip
    return environment.get_template("report.html").render(
        page=page, charts=charts, engine=diagram.engine, accelerator=accelerator, roles=ROLES,
        pictured=pictured(page.nets),
    )  # fmt: skip


@dataclass(frozen=True)
class Pictured:
    """Points of the nets that have a share, against their size and, where it was measured, their latency."""

    size: tuple[charts.Point, ...]
    latency: tuple[charts.Point, ...]


def pictured(nets: tuple[Net, ...]) -> Pictured:
    """Return the nets as points of pictures."""
    sized = [charts.Point(n.name, n.role, float(max(n.bytes, 1)), n.top1, n.range) for n in nets if n.top1 is not None]
    timed = [
        charts.Point(n.name, n.role, n.seconds, n.top1, n.range)
        for n in nets
        if n.top1 is not None and n.seconds is not None
    ]
    return Pictured(tuple(sized), tuple(timed))


NARROW = "\N{NARROW NO-BREAK SPACE}"


def share(value: float | None, digits: int = 1) -> str:
    """Return a share in per cent; a dash where there is none."""
    return "–" if value is None or not math.isfinite(value) else f"{100 * value:.{digits}f}{NARROW}%"


def points(value: float, digits: int = 1) -> str:
    """Return a difference of shares in percentage points, with its sign."""
    return f"{100 * value:+.{digits}f}".replace("-", "\N{MINUS SIGN}")


def count(value: float | None) -> str:
    """Return a whole number with commas; a dash where there is none."""
    return "–" if value is None else f"{value:,.0f}"


def size(value: int) -> str:
    """Return bytes with a decimal prefix."""
    power = min(max(int(math.log10(max(value, 1)) // 3), 0), 4)
    return f"{value / 1000**power:.{0 if power == 0 else 1}f}{NARROW}{('B', 'kB', 'MB', 'GB', 'TB')[power]}"


def time(seconds: float | None) -> str:
    """Return a time as people say it; a dash where there is none."""
    match seconds:
        case None:
            return "–"
        case _ if seconds < 1e-3:
            return f"{seconds * 1e6:.0f}{NARROW}µs"
        case _ if seconds < 1:
            return f"{seconds * 1e3:.2f}{NARROW}ms"
        case _ if seconds < 120:
            return f"{seconds:.1f}{NARROW}s"
        case _:
            return f"{seconds / 60:,.1f}{NARROW}min"


def brief(text: str, most: int = 12) -> str:
    """Return the first characters of a digest."""
    return text[:most]
