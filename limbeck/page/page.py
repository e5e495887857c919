"""The page: values in, one HTML file's text out. It loads nothing and holds no script."""

from dataclasses import dataclass, field

from jinja2 import Environment, PackageLoader, StrictUndefined

from limbeck.artefacts.readers import Design, History
from limbeck.learn.evaluate import Evaluation
from limbeck.nets.count import Table
from limbeck.page import accelerator, charts, diagram, svg, words
from limbeck.page.accelerator import Pass
from limbeck.page.layers import Row
from limbeck.page.lineage import Command, Cost, Origin
from limbeck.page.story import Tile
from limbeck.page.values import ROLES, Adaptation, Mistake, Net, Teachers, over_seeds


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
    """All that the page shows. What is empty has no section, and `missing` says what would bring it."""

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
        loader=PackageLoader("limbeck.page"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {f.__name__: f for f in (words.share, words.points, words.count, words.size, words.time)}
    return environment.get_template("report.html").render(
        page=page, charts=charts, engine=diagram.engine, accelerator=accelerator, roles=ROLES,
        pictured=pictured(page.nets), seeds=over_seeds(page.adaptations),
        palette=svg.palette, light=svg.LIGHT, dark=svg.DARK, sans=svg.SANS,
    )  # fmt: skip


@dataclass(frozen=True)
class Pictured:
    """Nets that were evaluated on the same images, as points against their size and, where it was measured, latency."""

    data: str
    size: tuple[charts.Point, ...]
    latency: tuple[charts.Point, ...]


def pictured(nets: tuple[Net, ...]) -> tuple[Pictured, ...]:
    """Return a picture of each set of images that several nets were evaluated on: shares of different images don't
    compare."""
    measured = [net for net in nets if net.top1 is not None]
    sets = {data: [net for net in measured if net.data == data] for data in dict.fromkeys(n.data for n in measured)}
    made = []
    for data, own in sets.items():
        if len(own) < 2:
            continue
        costs = [[(net, float(max(net.bytes, 1))) for net in own], [(net, net.seconds) for net in own if net.seconds]]
        made.append(Pictured(data, *(_points(cost) for cost in costs)))
    return tuple(made)


def _points(costs: list[tuple[Net, float]]) -> tuple[charts.Point, ...]:
    return tuple(charts.Point(n.name, n.role, cost, n.top1, n.range) for n, cost in costs if n.top1 is not None)
