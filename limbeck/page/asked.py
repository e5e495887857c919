"""The nets of a report, each evaluated on held-out images; adapted ones before and after."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from limbeck.artefacts.models import load_model
from limbeck.errors import InputError, VerificationError
from limbeck.page import measured
from limbeck.page.measured import TARGET, Seen
from limbeck.runs import Tell
from limbeck.training.adaptation.adapted import adapted_to, spelt

if TYPE_CHECKING:
    from limbeck.artefacts.readers import Artefact, Integers, Onnx, Run
    from limbeck.integer.program import Program
    from limbeck.learn.evaluate import Answers
    from limbeck.nets.count import Table
    from limbeck.nets.zoo import Classifier
    from limbeck.page.values import Adaptation, Change, Net, Role

_COMPARED = 100  # images on which a C file is compared with its Program


@dataclass
class Sight:
    """The held-out images that nets are evaluated on, each set opened once, and what was wrong with some."""

    data: str | None  # used instead of the data that runs name
    target: str | None  # used instead of the target that runs of adapt name
    images: int  # at most
    trust: bool = False  # to open what runs name; digits: are Limbeck's own
    notes: list[str] = field(default_factory=list)
    opened: dict[tuple[str, str], Seen | None] = field(default_factory=dict)

    def of(self, spec: str, flag: str = "data") -> Seen | None:
        """Return the images of `spec`, or None where they can't be had, which is noted."""
        if (spec, flag) not in self.opened:
            given = spec == (self.target if flag == TARGET else self.data)
            if not given and not self.trust and not spec.startswith("digits:"):
                found: Seen | str = f"{spec} is named by a run and was not opened: give --{flag} {spec}, or --trust"
            else:
                found = measured.held_out(spec, self.images, flag, given=given)
            if isinstance(found, str):
                self.notes.append(found)
            self.opened[spec, flag] = None if isinstance(found, str) else found
        return self.opened[spec, flag]


@dataclass(frozen=True)
class Asked:
    """A net with its predictions, ready for more measurements."""

    net: "Net"
    artefact: "Run | Integers | Onnx"
    classifier: "Classifier"
    table: "Table | None"  # its layers; None where it runs outside torch
    seen: Seen | None
    said: "Answers | None"

    @property
    def verb(self) -> str:
        """What made it; empty for what is no run."""
        return getattr(self.artefact, "verb", "")

    @property
    def program(self) -> "Program | None":
        return getattr(self.artefact, "program", None)


def in_order(found: "Sequence[Artefact]") -> "tuple[Artefact, ...]":
    """Return teachers first, then what learned from them, Programs, designs; each kind as it came."""
    from limbeck.artefacts.readers import Design, Integers, Labels, Onnx, Run
    from limbeck.page.lineage import taught_by

    teachers = taught_by(found)
    order: tuple[Role, ...] = ("teacher", "labels", "distilled", "adapted")

    def place(one: "Artefact") -> int:
        match one:
            case Run():
                return order.index(role_of(one, teachers)) + (
                    order.index("labels") < order.index(role_of(one, teachers))
                )
            case Labels():
                return 2
            case Integers():
                return 6
            case Onnx():
                return 7
            case Design():
                return 8

    return tuple(sorted(found, key=place))


def role_of(run: "Run", teachers: frozenset[str]) -> "Role":
    """Return what a run is in the story, where `teachers` are the weights that others learned from."""
    from limbeck.artefacts.readers import get

    match run.verb:
        case "adapt":
            return "adapted"
        case "zero-shot":
            return "teacher"
        case _ if get(run.lineage, str, "sha256") in teachers:
            return "teacher"
        case "distill":
            return "distilled"
        case _:
            return "labels"


def ask_all(
    found: "Sequence[Artefact]", called: Mapping[Path, str], sight: Sight, timed: bool, tell: Tell
) -> tuple[Asked, ...]:
    """Load every net and evaluate it on its held-out images; `timed`: measure its latency."""
    from limbeck.artefacts.readers import Integers, Onnx, Run
    from limbeck.page.lineage import taught_by

    teachers = taught_by(found)
    asked = []
    for one in found:
        if isinstance(one, Run | Integers | Onnx):
            tell("note", {"text": f"evaluating {one.path}"})
            role: Role = (
                role_of(one, teachers) if isinstance(one, Run) else "program" if isinstance(one, Integers) else "onnx"
            )
            asked.append(_asked(one, role, called, found, sight, timed))
    return tuple(asked)


def _data_of(run: "Run | None", found: "Sequence[Artefact]", sight: Sight) -> tuple[str, str]:
    """Return whose held-out images a run, or a file that was exported from it, is evaluated on, and the flag that
    chooses these: an adapted net on its target, others on the data of their run, or of the first run."""
    from limbeck.artefacts.readers import Run, get

    if run is not None and run.verb == "adapt":
        return sight.target or get(run.recipe, str, "target") or "", TARGET
    first = next((other for other in found if isinstance(other, Run) and other.verb != "adapt"), None)
    known = run or first
    return sight.data or (get(known.recipe, str, "data") if known else None) or "", "data"


def _asked(
    one: "Run | Integers | Onnx", role: "Role", called: Mapping[Path, str], found: "Sequence[Artefact]", sight: Sight,
    timed: bool,
) -> Asked:  # fmt: skip
    from limbeck.artefacts.readers import Integers, Run, get
    from limbeck.learn.evaluate import figures
    from limbeck.nets import zoo
    from limbeck.nets.count import count
    from limbeck.nets.outside import Outside
    from limbeck.page.lineage import made_from
    from limbeck.page.values import Net

    with measured.one_thread() if role == "onnx" else measured.as_it_is():
        net = zoo.freeze(load_model(str(one.path)), dtype="float32")
    run = one if isinstance(one, Run) else made_from({"sha256": net.lineage.sha256}, found)
    tag = get(one.program.lineage if isinstance(one, Integers) else run.lineage if run else {}, str, "tag") or ""
    table = None if isinstance(net.net, Outside) else count(net.net, net.input.shape)
    cost = net.net.cost if isinstance(net.net, Outside) else table
    assert cost is not None
    spec, flag = _data_of(run, found, sight)
    seen, said = _heard(net, str(one.path), spec, flag, sight)
    known = Net(
        name=called[one.path], path=one.path, role=role, model=net.name, parameters=cost.parameters, macs=cost.macs,
        bytes=_bytes(one), engine=net.net.engine if isinstance(net.net, Outside) else "PyTorch",
        of=called[run.path] if run is not None and run is not one else "", adapted_to=adapted_to(tag),
        data=spec if said is not None else "",
        found=None if said is None or said.labels is None or seen is None else figures(said, seen.source.classes),
        recorded=_recorded(one, net) if seen is None else None, seconds=measured.latency(net) if timed else None,
        same=_compared(one, net, seen),
    )  # fmt: skip
    return Asked(known, one, net, table, seen if said is not None else None, said)


def _heard(net: "Classifier", spec: str, data: str, flag: str, sight: Sight) -> "tuple[Seen | None, Answers | None]":
    """Return the images, None where they can't be had, and the net's predictions, None where it has none for them."""
    seen = sight.of(data, flag) if data else None
    if seen is None:
        return None, None
    try:
        return seen, measured.ask(net, seen.source, spec)
    except InputError as error:
        sight.notes.append(str(error))
        return seen, None


def _bytes(one: "Run | Integers | Onnx") -> int:
    from limbeck.artefacts.readers import Integers, Run
    from limbeck.integer.survey import stored

    if isinstance(one, Integers):  # the file holds more than a device stores
        return stored(one.program) if one.tables is None else one.tables
    return (one.path / "model.safetensors" if isinstance(one, Run) else one.path).stat().st_size


def _compared(one: "Run | Integers | Onnx", net: "Classifier", seen: Seen | None) -> int:
    """Return on how many images each score of a C file was found to be the Program's, 0 for what is none;
    VerificationError where one is not."""
    import numpy as np

    from limbeck.artefacts.readers import Integers
    from limbeck.integer.program import run
    from limbeck.nets.outside import Outside

    if not isinstance(one, Integers) or one.tables is None or seen is None:
        return 0
    assert isinstance(net.net, Outside)
    images = measured.pixels(net, seen.source, _COMPARED)
    if not np.array_equal(net.net.answer(images), (run(one.program, images) * one.program.scale).astype(np.float32)):
        raise VerificationError(f"{one.path}: scores of the compiled C file are not the Program's")
    return len(images)


def _recorded(one: "Run | Integers | Onnx", net: "Classifier") -> float | None:
    """Return the top-1 that a run recorded; None where that is of other weights, or the net can't answer."""
    from limbeck.artefacts.readers import Run, get, number

    if not isinstance(one, Run) or get(one.results, str, "sha256") not in (None, net.lineage.sha256):
        return None
    if not measured.sound(net):
        return None
    places = (("evaluation", "top1"), ("top1",), ("report", "adapted"))
    shares = (number(one.results, *keys) for keys in places)
    return next((share for share in shares if share is not None and 0 <= share <= 1), None)


# ---- adaptation -------------------------------------------------------------------------------------------


def adaptation(after: Asked, asked: Sequence[Asked], sight: Sight, mistakes: int, turns: int) -> "Adaptation":
    """Return an adapted run beside the net that it came from, both evaluated on the same images, with so many pictures
    of mistakes, and of images that are classified differently since, at most."""
    from limbeck.artefacts.readers import Run, get

    assert isinstance(after.artefact, Run)
    made = _noted(after.net, after.artefact)
    try:
        before, home = _before(get(after.artefact.recipe, str, "model") or "", after.artefact, asked)
        made = replace(made, came_from=made.source or home)
        if before is None:
            raise InputError(
                f"{made.before}, the net before its adaptation, is not at hand: what changed can't be shown. "
                "Put its run beside the adapted one."
            )
        if after.seen is None or after.said is None:
            raise InputError(
                f"The images of {made.target} are not at hand: what changed can't be shown. Give their place with "
                f"--{TARGET}."
            )
        made = _on_source(made, before, after.classifier, after.seen, sight)
        return _on_target(made, before, after, mistakes, turns)
    except InputError as error:
        return replace(made, missing=str(error))


def _on_source(
    made: "Adaptation", before: "Classifier", after: "Classifier", target: Seen, sight: Sight
) -> "Adaptation":
    """Add where features of both domains lie, and how good the nets are on the source, where that is at hand."""
    seen = sight.of(made.came_from) if made.came_from else None
    if seen is None:
        return made
    clouds = measured.cloud(before, seen.source, target.source), measured.cloud(after, seen.source, target.source)
    if seen.source.labels is None:
        return replace(made, clouds=clouds)
    return replace(made, clouds=clouds, on_source=(_top1(before, seen), _top1(after, seen)))


def _top1(net: "Classifier", seen: Seen) -> float:
    """Return the share of labelled images that the net classifies correctly."""
    from limbeck.learn.evaluate import figures

    return figures(measured.ask(net, seen.source, "the net"), seen.source.classes).top1


def _on_target(made: "Adaptation", before: "Classifier", after: Asked, mistakes: int, turns: int) -> "Adaptation":
    """Add what the adaptation changed on the target, and, where that has labels, what both nets get wrong."""
    from limbeck.learn.evaluate import figures
    from limbeck.nets import zoo

    assert after.seen is not None
    assert after.said is not None
    source = after.seen.source
    zoo.check_classes(before, after.classifier.classes)
    said = measured.ask(before, source, made.before)
    changed = measured.difference(after.classifier.classes, said, after.said, after.seen, turns)
    made = replace(made, difference=changed)
    if after.net.found is None:
        return made
    both = figures(said, source.classes), after.net.found
    return replace(made, found=both, mistakes=measured.worst(after.said, source, mistakes))


_OF_A_SEED = {"seed", "out", "model", "teachers", "oracle", "resume", "workers", "track", "download"}


def _noted(net: "Net", run: "Run") -> "Adaptation":
    """Return what the run itself noted down."""
    from limbeck.artefacts.readers import get, number
    from limbeck.page.values import Adaptation

    report, seed = get(run.results, dict, "report"), number(run.recipe, "seed")
    settings = {key: value for key, value in sorted(run.recipe.items()) if key not in _OF_A_SEED}
    taught = len(get(run.recipe, list, "teachers") or [])
    return Adaptation(
        name=net.name, model=net.model, before=Path(get(run.recipe, str, "model") or "").name,
        source=get(run.recipe, str, "source"), came_from="", target=get(run.recipe, str, "target") or "",
        method=get(run.recipe, str, "method") or "", images=int(number(run.results, "images") or 0),
        shares=_shares(report), judged=int(number(report, "images") or 0), recall=_recall(report),
        kept=spelt(get(run.results, str, "chosen") or ""), collapse=get(run.results, str, "collapse") or "",
        found=None, mistakes=(), difference=None, clouds=None, on_source=None, seed=None if seed is None else int(seed),
        alike=f"{net.model}, {net.parameters}, {taught} teachers, {settings}",
    )  # fmt: skip


def _before(spec: str, run: "Run", asked: Sequence[Asked]) -> "tuple[Classifier | None, str]":
    """Return the net that a run was adapted from, where it is (as the recipe says, or beside the run), and the images
    that it had been trained on, where it says so."""
    from limbeck.artefacts.readers import Run, get, read
    from limbeck.nets import zoo

    known = [one.net.path for one in asked if one.net.path.resolve() == Path(spec).resolve()]  # no stranger's path
    for place in (*known, run.path.parent / Path(spec).name):
        if (place / "model.json").is_file():
            same = (one.classifier for one in asked if one.net.path.resolve() == place.resolve())
            there = read(place)
            home = get(there.recipe, str, "data") if isinstance(there, Run) else None
            return next(same, None) or zoo.freeze(zoo.load(str(place)), dtype="float32"), home or ""
    return None, ""


def _shares(report: object) -> tuple[tuple[str, float], ...]:
    from limbeck.artefacts.readers import number

    names = {
        "source-only": "source_only", "new statistics": "norm", "adapted": "adapted", "oracle": "oracle",
    }  # fmt: skip
    found = [(name, number(report, key)) for name, key in names.items()]
    return tuple((name, share) for name, share in found if share is not None)


def _recall(report: object) -> "tuple[Change, ...]":
    """Return each class before and after, those that changed most first where there are many, else as they are."""
    from limbeck.artefacts.readers import get
    from limbeck.page.values import Change

    found = []
    for name, pair in (get(report, dict, "recall") or {}).items():
        match pair:
            case [int() | float() as before, int() | float() as after] if 0 <= before <= 1 and 0 <= after <= 1:
                found.append(Change(str(name), float(before), float(after)))
    if len(found) > 40:
        found.sort(key=lambda row: -abs(row.after - row.before))
    return tuple(found)
