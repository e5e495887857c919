"""The story in figures: which net a report is about, and what to state first."""

from collections.abc import Sequence
from dataclasses import dataclass

from limbeck.artefacts.readers import Design
from limbeck.fpga.parts import CLOCK
from limbeck.page.values import ROLES, Adaptation, Net, Role
from limbeck.page.words import points, share, size, time

_FIRST: tuple[Role, ...] = ("distilled", "labels", "adapted", "teacher", "program", "onnx")


_RECORDED = "its held-out images (as its run recorded, not measured now)"


@dataclass(frozen=True)
class Tile:
    """A figure of one net, what it is, and what to know about it."""

    net: str
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
            f"{about.name} has {about.parameters:,} parameters. There are no labelled images at hand to measure its "
            "accuracy."
        )
    sentences = [_apart(about, nets)] if compares(nets) else _of(about, nets)
    if about.range is not None and len(nets) > 1:
        half = (about.range[1] - about.range[0]) / 2
        sentences.append(
            f"With this many images each share is known to about ±{points(half)} points; "
            "smaller differences may be chance."
        )
    return " ".join(sentences)


def _images(about: Net) -> str:
    whose = f" of {about.data}" if about.data else ""
    return f"{about.found.images:,} held-out images{whose}" if about.found else _RECORDED


def _of(about: Net, nets: Sequence[Net]) -> list[str]:
    sentences = [
        f"{about.name} classifies {share(about.top1)} of {_images(about)} correctly, "
        f"with {about.parameters:,} parameters."
    ]
    best, twin = _best_teacher(about, nets), _twin(about, nets)
    if best is not None:
        sentences.append(f"Its best teacher, {best.name}, reaches {share(best.top1)} with {best.parameters:,}.")
    if twin is not None:
        sentences.append(f"The same net trained on labels, {twin.name}, reaches {share(twin.top1)}.")
    return sentences


def _apart(about: Net, nets: Sequence[Net]) -> str:
    """Return how far apart those are that were evaluated on the same images."""
    same = sorted((n for n in nets if n.data == about.data and n.top1 is not None), key=lambda net: net.top1 or 0.0)
    first, last = same[-1], same[0]
    ends = f"from {share(last.top1)} ({last.name}) to {share(first.top1)} ({first.name})"
    return f"{len(same)} nets classify {ends} of {_images(about)} correctly."


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


def tiles(
    nets: Sequence[Net], designs: Sequence[tuple[str, Design]], adaptations: Sequence[Adaptation]
) -> tuple[Tile, ...]:
    """Return the figures of the headline, each of the one net that it names; designs come with the name of theirs."""
    about = subject(nets)
    made: list[Tile | None] = []
    if about is not None and not compares(nets):
        made += [_share(about), _parameters(about, nets), _latency(about, nets)]
    made += [_adapted(change) for change in adaptations[:1]]
    programs = [net for net in nets if net.role == "program" and net.engine != "C" and net is not about]
    made += [_integers(program, nets) for program in programs[:1]]
    made += [_in_c(net, nets) for net in nets if net.engine == "C"][:1]
    made += [_hardware(name, design) for name, design in designs[:1]]
    return tuple(tile for tile in made if tile is not None)


def _share(about: Net) -> Tile | None:
    if about.top1 is None:
        return None
    known = "" if about.range is None else f"95 % interval {points(about.range[0])} to {share(about.range[1])}"
    left = f"; it was adapted to {about.adapted_to}" if about.left else ""
    return Tile(about.name, share(about.top1), f"of {_images(about)} classified correctly", known + left)


def _parameters(about: Net, nets: Sequence[Net]) -> Tile:
    best = _best_teacher(about, nets)
    note = f"{about.macs:,} multiply-accumulates per image"
    if best is not None and best.parameters > about.parameters:
        note = f"{best.parameters / about.parameters:.1f} times fewer than {best.name}, its best teacher, has"
    return Tile(about.name, f"{about.parameters:,}", "parameters", note)


def _latency(about: Net, nets: Sequence[Net]) -> Tile | None:
    """Return the latency of the fastest file that was exported from the net, else from another; that in PyTorch where
    there is none."""
    exported = [net for net in nets if net.of and net.seconds is not None]
    own = [net for net in exported if net.of == about.name]
    fastest = min(own or exported, key=lambda net: net.seconds or 0.0, default=about)
    if fastest.seconds is None:
        return None
    what = f"per image, alone, on one thread of {fastest.engine}"
    note = f"exported as {fastest.name}" if exported else "no exported file is at hand; limbeck export writes one"
    return Tile(fastest.of or fastest.name, time(fastest.seconds), what, note)


def _integers(program: Net, nets: Sequence[Net]) -> Tile:
    origin = next((net for net in nets if net.name == program.of), None)
    what = "of weights and tables, in integers"
    if origin is not None and program.bytes < origin.bytes:
        what += f", {origin.bytes / program.bytes:.1f} times smaller than its float weights"
    note = "" if program.top1 is None else f"{share(program.top1)} of {_images(program)} classified correctly"
    return Tile(program.of or program.name, size(program.bytes), what, note)


def _in_c(found: Net, nets: Sequence[Net]) -> Tile | None:
    """Return how long the C file takes, on how many images its scores are the Program's, and how much faster it is
    than what it was made from."""
    if found.seconds is None:
        return None
    what = "per image in C, alone, one thread"
    if found.same:
        what += f"; every score the Program's, on {found.same:,} images"
    slower = ((net, net.seconds) for net in nets if found.of in (net.name, net.of) and net.engine != "C")
    faster = (
        f"{s / found.seconds:.1f} times as fast as {net.name} in {net.engine}" for net, s in slower if found.of and s
    )
    note = next(faster, "")
    return Tile(found.of or found.name, time(found.seconds), what, note)


def _hardware(name: str, found: Design) -> Tile:
    rate, board = CLOCK / found.cycles.interval, found.part.board
    note = f"{found.cycles.interval:,} cycles per image, exact; {CLOCK / 1e6:.0f} MHz is assumed"
    return Tile(name, f"{rate:,.0f} /s", f"images on the {board}'s accelerator", note)


def _adapted(found: Adaptation) -> Tile | None:
    shares, name = dict(found.shares), found.name
    if {"source-only", "adapted"} <= shares.keys():
        value = f"{points(shares['source-only'])} → {share(shares['adapted'])}"
        what = f"of {found.target} classified correctly, before and after adaptation without labels"
        return Tile(name, value, what, f"{found.judged:,} labelled images to measure by")
    if found.difference is None:
        return None
    turned = found.difference.turned / found.difference.images
    what = f"of {found.target} classified differently since the adaptation without labels"
    return Tile(name, share(turned), what, "accuracy is not known: these images have no labels")
