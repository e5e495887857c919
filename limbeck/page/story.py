"""The story in figures: which net a report is about, and what to say of it first."""

from collections.abc import Sequence
from dataclasses import dataclass

from limbeck.artefacts.readers import Design
from limbeck.page.accelerator import CLOCK
from limbeck.page.values import ROLES, Adaptation, Net, Role
from limbeck.page.words import points, share, size, time

_FIRST: tuple[Role, ...] = ("distilled", "labels", "adapted", "teacher", "program", "onnx")


@dataclass(frozen=True)
class Tile:
    """A figure, what it is, and what to know about it."""

    value: str
    what: str
    note: str


def subject(nets: Sequence[Net]) -> Net | None:
    """Return the net that the report is about: the first distilled one, else of the next role that there is."""
    return min(nets, key=lambda net: _FIRST.index(net.role), default=None)


def compares(nets: Sequence[Net]) -> bool:
    """Whether several nets have an equal claim to be the subject: the story is then how they compare."""
    about = subject(nets)
    alike: tuple[Role, ...] = ("labels", "teacher")
    roles = () if about is None else alike if about.role in alike else (about.role,)
    return sum(net.role in roles for net in nets) > 1


def headline(nets: Sequence[Net], adaptations: Sequence[Adaptation]) -> str:
    """Return the title; empty where there is no net."""
    about = subject(nets)
    if about is None:
        return ""
    if compares(nets):
        return f"{len(nets)} nets compared"
    taught = sum(net.role == "teacher" for net in nets)
    if about.role == "distilled" and taught:
        return f"{about.model}, distilled from {taught} teacher{'s' if taught > 1 else ''}"
    if adaptations:
        return f"{about.model}, adapted to {adaptations[0].target}"
    return f"{about.model}, {ROLES[about.role]}"


def lead(nets: Sequence[Net]) -> str:
    """Return the story in some sentences: the net, its teachers, its twin; or how far apart the nets are. Empty where
    there is no net."""
    about = subject(nets)
    if about is None:
        return ""
    if about.top1 is None:
        return (
            f"{about.name} has {about.parameters:,} parameters. There are no labelled images at hand to measure it by."
        )
    said = [_apart(about, nets)] if compares(nets) else _of(about, nets)
    if about.range is not None and len(nets) > 1:
        half = (about.range[1] - about.range[0]) / 2
        said.append(
            f"With this many images each share is known to about ±{points(half)} points; "
            "smaller differences may be chance."
        )
    return " ".join(said)


def _images(about: Net) -> str:
    return f"of {about.found.images:,} held-out images" if about.found else "of its held-out images"


def _of(about: Net, nets: Sequence[Net]) -> list[str]:
    said = [f"{about.name} names {share(about.top1)} {_images(about)} right, with {about.parameters:,} parameters."]
    best, twin = _best_teacher(about, nets), _twin(about, nets)
    if best is not None:
        said.append(f"Its best teacher, {best.name}, names {share(best.top1)} with {best.parameters:,}.")
    if twin is not None:
        said.append(f"The same net trained on labels, {twin.name}, names {share(twin.top1)}.")
    return said


def _apart(about: Net, nets: Sequence[Net]) -> str:
    """Return how far apart those are that were asked about the same images."""
    same = sorted((n for n in nets if n.data == about.data and n.top1 is not None), key=lambda net: net.top1 or 0.0)
    first, last = same[-1], same[0]
    ends = f"from {share(last.top1)} ({last.name}) to {share(first.top1)} ({first.name})"
    return f"{len(same)} nets name {ends} {_images(about)} right."


def _peers(about: Net, nets: Sequence[Net], role: Role) -> list[Net]:
    return [n for n in nets if n.role == role and n is not about and n.data == about.data and n.top1 is not None]


def _best_teacher(about: Net, nets: Sequence[Net]) -> Net | None:
    if about.role != "distilled":
        return None
    return max(_peers(about, nets, "teacher"), key=lambda net: net.top1 or 0.0, default=None)


def _twin(about: Net, nets: Sequence[Net]) -> Net | None:
    """Return the one net of the same kind and size that learned from labels."""
    if about.role != "distilled":
        return None
    alike = (n for n in _peers(about, nets, "labels") if (n.model, n.parameters) == (about.model, about.parameters))
    found = list(alike)
    return found[0] if len(found) == 1 else None  # of several, none is the one to compare with


def tiles(nets: Sequence[Net], designs: Sequence[Design], adaptations: Sequence[Adaptation]) -> tuple[Tile, ...]:
    """Return the figures of the headline."""
    about = subject(nets)
    made: list[Tile | None] = [] if about is None or compares(nets) else _of_net(about, nets)
    if designs:
        made.append(_hardware(designs[0]))
    for change in adaptations[:1]:
        made += _adapted(change)
    return tuple(tile for tile in made if tile is not None)


def _of_net(about: Net, nets: Sequence[Net]) -> list[Tile | None]:
    made = [_share(about), _parameters(about, nets)]
    program = next((net for net in nets if net.role == "program"), None)
    if program is not None and program is not about:
        note = "" if program.top1 is None else f"{share(program.top1)} of {program.data} named right"
        what = "in integers"
        if program.bytes < about.bytes:
            what += f", {about.bytes / program.bytes:.1f} times smaller than {about.name}"
        made.append(Tile(size(program.bytes), what, note))
    if about.seconds is not None:
        made.append(Tile(time(about.seconds), "an image, alone, on one thread", f"{about.name}, float32"))
    return made


def _hardware(found: Design) -> Tile:
    rate, board = CLOCK / found.cycles.interval, found.part.board
    note = f"{found.cycles.interval:,} cycles, exact; {CLOCK / 1e6:.0f} MHz is assumed"
    return Tile(f"{rate:,.0f} /s", f"images on the {board}'s accelerator", note)


def _share(about: Net) -> Tile | None:
    if about.top1 is None:
        return None
    known = "" if about.range is None else f"95 % interval {points(about.range[0])} to {share(about.range[1])}"
    return Tile(share(about.top1), "of held-out images named right", known)


def _parameters(about: Net, nets: Sequence[Net]) -> Tile:
    best = _best_teacher(about, nets)
    note = f"{about.macs:,} multiply-accumulates an image"
    if best is not None and best.parameters > about.parameters:
        note = f"{best.parameters / about.parameters:.1f} times fewer than {best.name} has"
    return Tile(f"{about.parameters:,}", "parameters", note)


def _adapted(found: Adaptation) -> list[Tile]:
    shares = dict(found.shares)
    if not {"source-only", "adapted"} <= shares.keys():
        return []
    value = f"{points(shares['source-only'])} → {share(shares['adapted'])}"
    return [Tile(value, f"on {found.target}, adapted without labels", f"{found.judged:,} images to judge by")]
