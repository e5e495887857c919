"""What runs are and do, as one page that needs nothing else."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from limbeck import runs
from limbeck.page import measured
from limbeck.page.asked import Asked, Sight, adaptation, ask_all, in_order
from limbeck.results import Result
from limbeck.runs import Tell

if TYPE_CHECKING:
    from limbeck.artefacts.readers import Artefact, Design
    from limbeck.page.page import Layers, Page, Wrong
    from limbeck.page.values import Teachers

MISTAKES, LEFT, SPLITS = 12, 12, 8  # pictures: of the net, left after an adaptation, of teachers at odds
TURNS = 24  # pictures that an adapted net classifies otherwise than before
TIMED = (
    "Latency is that of one image alone, the fastest of many runs, in float32, measured when this page was made; "
    "PyTorch and onnxruntime had one thread, Programs ran in numpy."
)


@dataclass(frozen=True)
class Reported(Result):
    """A page that was written."""

    out: str
    title: str
    nets: tuple[tuple[str, float | None], ...]  # name, top-1
    left_out: tuple[str, ...]  # what the page has no section of
    notes: tuple[str, ...]
    size: int  # bytes
    seconds: float

    def rows(self) -> list[tuple[str, str]]:
        """Return what a person wants to know, as (name, value); the page's path is last."""
        named = [(name, "not measured" if top1 is None else f"top-1 {top1:.2%}") for name, top1 in self.nets]
        gone = [("left out", ", ".join(self.left_out))] if self.left_out else []
        notes = [("note", note) for note in self.notes]
        return [*named, *gone, *notes, ("seconds", f"{self.seconds:.1f}"), ("report", self.out)]


def report(
    paths: tuple[str, ...], out: str, sight: Sight, *, latency: bool = True, tell: Tell = runs.silent
) -> Reported:
    """Write the page about what lies at `paths`; nets are evaluated on the images of `sight`, and timed."""
    from limbeck.artefacts import readers as artefacts
    from limbeck.page.page import render

    begun = time.monotonic()
    found, notes = artefacts.find(paths)
    page = _page(in_order(found), notes, sight, latency, tell)
    runs.write_text(Path(out), render(page))
    return Reported(
        out=out,
        title=page.title,
        nets=tuple((net.name, net.top1) for net in page.nets),
        left_out=tuple(what for what, _ in page.missing),
        notes=page.notes,
        size=Path(out).stat().st_size,
        seconds=time.monotonic() - begun,
    )


def _page(found: "tuple[Artefact, ...]", notes: tuple[str, ...], sight: Sight, timed: bool, tell: Tell) -> "Page":
    """Evaluate all nets and return what the page shows."""
    from limbeck.artefacts.readers import Design, Run, named
    from limbeck.page import accelerator, lineage, story
    from limbeck.page.page import Chip, Curves, Page

    called = named(found)
    asked = ask_all(found, called, sight, timed, tell)
    changes = tuple(adaptation(one, asked, sight, LEFT, TURNS) for one in asked if one.verb == "adapt")
    nets, designs = tuple(one.net for one in asked), tuple(one for one in found if isinstance(one, Design))
    page = Page(
        title=story.headline(nets, changes) or f"{called[found[0].path]}, without nets",
        lead=story.lead(nets),
        about=f"Limbeck report, {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}",
        tiles=story.tiles(nets, tuple((_origin(one, found, called), one) for one in designs), changes),
        nets=nets,
        timed=TIMED if timed else "",
        curves=tuple(Curves(called[r.path], r.verb, r.history) for r in found if isinstance(r, Run) and r.history),
        wrong=_wrong(asked),
        teachers=_teachers(asked),
        layers=_layers(asked, designs, called),
        chips=tuple(Chip(called[one.path], one, accelerator.passes(one)) for one in designs),
        adaptations=changes,
        costs=lineage.costs(found, called),
        origins=lineage.origins(found, called),
        commands=lineage.commands(found, called),
        notes=(*notes, *sight.notes),
    )
    return replace(page, missing=_missing(page))


def _origin(design: "Design", found: "tuple[Artefact, ...]", called: Mapping[Path, str]) -> str:
    """Return the name of the run whose net the design runs; the design's own where that is not at hand."""
    from limbeck.page import lineage

    run = lineage.made_from(design.program.lineage, found)
    return called[(run or design).path]


def _wrong(asked: "Sequence[Asked]") -> "Wrong | None":
    """Return what the net that the report is about gets wrong; None where it was not evaluated."""
    from limbeck.page import story
    from limbeck.page.page import Wrong

    about = next((one for one in asked if one.net is story.subject([one.net for one in asked])), None)
    if about is None or about.seen is None or about.said is None or about.net.found is None:
        return None
    mistakes = measured.worst(about.said, about.seen.source, MISTAKES)
    return Wrong(about.net.name, about.net.data, about.net.found, mistakes)


def _teachers(asked: "Sequence[Asked]") -> "Teachers | None":
    """Return how the teachers that saw the same images differ; None where there are no two."""
    them = [one for one in asked if one.net.role == "teacher" and one.said is not None]
    them = [one for one in them if one.seen is them[0].seen]
    if len(them) < 2 or them[0].seen is None:
        return None
    said = [one.said for one in them if one.said is not None]
    return measured.disagreement([one.net.name for one in them], said, them[0].seen, SPLITS)


def _layers(asked: "Sequence[Asked]", designs: "Sequence[Design]", called: Mapping[Path, str]) -> "tuple[Layers, ...]":
    """Return the layers of every Program and of every kind of net, each kind once."""
    from limbeck.page import layers, story
    from limbeck.page.page import Layers

    made = []
    numpy = {one.net.of for one in asked if one.net.engine == "numpy"} - {""}
    for one in asked:
        if one.program is not None and not (one.net.engine == "C" and one.net.of in numpy):
            images = None if one.seen is None else measured.pixels(one.classifier, one.seen.source, layers.IMAGES)
            made.append(Layers(one.net.name, "Program, integers", None, layers.rows(one.program, images)))
    if not made:
        made = [Layers(called[d.path], "Program, integers", None, layers.rows(d.program, None)) for d in designs]
    about = story.subject([one.net for one in asked])
    seen = set()
    for one in sorted(asked, key=lambda one: one.net is not about):
        kind = (one.net.model, one.net.parameters, one.net.macs)
        if one.table is not None and kind not in seen:
            seen.add(kind)
            made.append(Layers(one.net.name, one.net.model, one.table, ()))
    return tuple(made)


def _missing(page: "Page") -> tuple[tuple[str, str], ...]:
    """Return the sections that the page lacks, and what would bring each."""
    asked = any(net.found for net in page.nets)
    every = [
        ("Nets", page.nets, "give run folders, .program or .onnx files"),
        ("Training curves", page.curves, "give run folders that limbeck teach, distill or adapt wrote"),
        ("Mistakes, calibration", asked, "labelled held-out images: say where they are with --data"),
        ("Latency", page.timed, "measured without --no-latency"),
        ("Disagreement of teachers", page.teachers, "give two teachers and the student or label store that names them"),
        ("Adaptation", page.adaptations, "give a run of limbeck adapt"),
        ("Formats and saturation", any(one.rows for one in page.layers), "give a .program, by limbeck quantize"),
        ("Accelerator", page.chips, "give a design, by limbeck compile"),
    ]
    return tuple((what, remedy) for what, there, remedy in every if not there)
