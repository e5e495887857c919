"""What limbeck auto is going to do: it looks at the data, chooses, and times what it chose."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limbeck.artefacts.kinds import kind_of
from limbeck.deploy.devices import Device
from limbeck.errors import InputError
from limbeck.results import Result
from limbeck.runs import Tell

if TYPE_CHECKING:
    from limbeck.images.source import Source

Perform = Callable[[str, list[str], Tell], Result]
"""Does what `limbeck VERB WORDS` does."""
SIZES = (32, 48, 64, 96, 128)
SCRATCH = (("resnet20",), ("resnet8", "--arguments", "width=32"))  # teachers that begin with nothing
PRETRAINED = "resnet18.a1_in1k"  # and the one that begins with ImageNet, where images are large enough for it
PRETRAINED_SIDE = 64
TEACHING, LEARNING, ADAPTING = 30, 40, 10  # epochs: of teachers, of students, of an adaptation
FEWEST, FEWEST_STEPS = 3, 300  # epochs that a net gets at least, and steps: with fewer it has learned nothing
CRAMPED = 0.25  # of these epochs: with fewer, smaller images are the better choice
PROBED = 10  # epochs that a forecast is asked for
FORWARD = 1 / 3  # of a training step's time
PAIRED = 2.2  # steps that one of an adaptation takes: images of both domains, and statistics after the epochs
CLOSING = {"quantize": 20.0, "export": 15.0, "compile": 15.0, "report": 30.0, "norm": 5.0}  # seconds, about
BEST, NET, TEACHERS = "{best}", "{net}", "{teachers}"
"""In a step's words: the better of student and baseline; the net that goes on the device; the teachers."""


@dataclass(frozen=True)
class Asked:
    """What the user wants."""

    data: str
    target: str | None
    device: str
    minutes: float
    teachers: tuple[str, ...]
    student: str | None
    size: int | None
    out: str

    @property
    def command(self) -> str:
        """Return the command that asks for it."""
        several = ("--teachers", *self.teachers) if self.teachers else ()
        named = {"target": self.target, "for": self.device, "minutes": f"{self.minutes:g}", "student": self.student,
                 "size": self.size, "out": self.out}  # fmt: skip
        flags = (word for name, value in named.items() if value is not None for word in (f"--{name}", str(value)))
        return "limbeck " + shlex.join(["auto", self.data, *several, *flags])


@dataclass(frozen=True)
class Step:
    """An ordinary command, and how long it will take."""

    name: str  # of what it writes, in the folder
    about: str
    words: tuple[str, ...]  # verb first
    seconds: float

    def named(self, decided: dict[str, tuple[str, ...]]) -> "Step":
        """Return the step with what was decided in the place of BEST, NET and TEACHERS."""
        return replace(self, words=tuple(part for word in self.words for part in decided.get(word, (word,))))

    @property
    def command(self) -> str:
        return "limbeck " + shlex.join(self.words)


@dataclass(frozen=True)
class Plan:
    """All that is to be done."""

    about: str  # what was seen and chosen, in a sentence
    teachers: tuple[str, ...]  # runs, those that are given and those that are to be made
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Photos:
    """What was seen of the data."""

    images: int
    classes: int
    side: int  # the median of the shorter sides
    one_size: bool  # small images of one size, which are in memory
    colour: bool


def look(data: str) -> Photos:
    """Return what there is to learn from; InputError where there are no labels."""
    from limbeck.images.sources import open_source

    train: Source = open_source(data, "train", on_broken="skip")
    if train.labels is None:
        raise InputError(f"{data} has training images without labels; put them into class folders, one a class")
    side = int(train.sizes.amin(1).median())
    return Photos(len(train), len(train.classes), side, train.pixels is not None, train.channels == 3)


def look_at_target(target: str, data: str) -> tuple[str, ...]:
    """Return the images that can't be read; InputError where there is nothing to adapt to: better now than after the
    trainings."""
    from limbeck.images.sources import open_source

    if target == data or (Path(target).exists() and Path(data).exists() and Path(target).samefile(data)):
        raise InputError(
            f"--target {target} is what the nets learn from; give images from where the net will run, or leave "
            "--target out"
        )
    found = open_source(target, "train", labelled=False, on_broken="skip")
    if len(found) < 2:
        raise InputError(f"{target} has {len(found)} image to adapt to; give more of them, at least a batch")
    return found.broken


def plan(asked: Asked, photos: Photos, device: Device, broken: bool, perform: Perform, tell: Tell) -> Plan:
    """Choose size, batch, teachers, student and epochs, by what was seen and by steps that are timed here."""
    draft = _Draft(asked, photos, device, ("--on-broken", "skip") if broken else (), perform)
    sides = [asked.size] if asked.size else _sides(photos, device)
    if photos.colour and (sides[0] or 0) >= PRETRAINED_SIDE and not asked.teachers:
        draft.pretrained = _at_hand(PRETRAINED, tell)
    timed = draft.time(sides[0], tell)
    if timed.share < CRAMPED and len(sides) > 1:
        assert sides[0] is not None, "images of one size have one"
        cheap = (side for side in sides if side and timed.share * (sides[0] / side) ** 2 >= CRAMPED)
        timed = draft.time(next(cheap, sides[-1]), tell)
    return timed.plan()


def _sides(photos: Photos, device: Device) -> list[int | None]:
    """Return the sizes to try, the largest first; None: that of the images."""
    if photos.one_size:
        return [None]
    fitting = [size for size in SIZES if size <= min(photos.side, device.largest)]
    return list(reversed(fitting)) or [photos.side]


def _at_hand(tag: str, tell: Tell) -> bool:
    """Return whether the tag's weights are here, or could be fetched just now."""
    from limbeck.nets import zoo

    try:
        zoo.published(tag)
    except InputError:
        tell("note", {"text": f"{tag} is not at hand (no network?): teachers begin from scratch"})
        return False
    return True


def batch_of(images: int) -> int:
    """Return the images a step: few where there are few, for BatchNorm's statistics must keep up."""
    return next((batch for most, batch in ((250, 16), (5_000, 32), (20_000, 64)) if images <= most), 128)


@dataclass
class _Draft:
    """What is decided before anything is timed."""

    asked: Asked
    photos: Photos
    device: Device
    loading: tuple[str, ...]
    perform: Perform
    pretrained: bool = False

    def place(self, name: str) -> str:
        return f"{self.asked.out}/{name}"

    def teachers(self, side: int | None) -> list[tuple[str, ...]]:
        """Return the words that name each teacher to be taught, and what it begins with."""
        if self.asked.teachers:
            given = [spec for spec in self.asked.teachers if kind_of(spec) != "run"]
            return [(spec, "--pretrained", "--lr", "0.01") for spec in given]
        if self.pretrained and (side or 0) >= PRETRAINED_SIDE:
            return [(PRETRAINED, "--pretrained", "--lr", "0.01")]
        return list(SCRATCH)

    def words(self, verb: str, named: tuple[str, ...], side: int | None) -> tuple[str, ...]:
        """Return a training's words but for its epochs and place."""
        sized = ("--size", str(side)) if side else ()
        return (
            verb, "--data", self.asked.data, *named, *sized, "--batch", str(batch_of(self.photos.images)), *self.loading
        )  # fmt: skip

    def time(self, side: int | None, tell: Tell) -> "_Timed":
        """Return how long an epoch of each net takes at this size."""
        tell("note", {"text": f"timing a few steps{f' at {side} pixels' if side else ''}"})
        student = self.asked.student or self.device.student(side or self.photos.side)
        named = [("--model", *words) for words in self.teachers(side)]
        every, seconds = [*named, ("--model", student)], []
        for number, words in enumerate(every):
            tell("timing", {"image": number, "images": len(every)})
            seconds.append(self._epoch(words, side))
        tell("timing", {"image": len(every), "images": len(every)})
        return _Timed(self, side, student, named, seconds[:-1], seconds[-1])

    def _epoch(self, named: tuple[str, ...], side: int | None) -> float:
        words = [*self.words("teach", named, side)[1:], "--epochs", str(PROBED), "--dry-run", "--out", self.place("x")]
        found: Any = self.perform("teach", words, lambda event, values: None)
        return float(found.seconds) / PROBED


@dataclass(frozen=True)
class _Timed:
    """The same with the seconds of an epoch of each net."""

    draft: _Draft
    side: int | None
    student: str
    teachers: list[tuple[str, ...]]
    teaching: list[float]
    learning: float

    @property
    def _rows(self) -> dict[str, float]:
        """Return the seconds of an epoch of everything that has epochs."""
        distilling = self.learning + FORWARD * sum(self.teaching)
        adapting = PAIRED * self.learning if self.draft.asked.target else 0.0
        return {"teachers": sum(self.teaching), "student": distilling, "baseline": self.learning, "adapted": adapting}

    @property
    def share(self) -> float:
        """Return which share of the epochs that we would have there is time for, 1 at most."""
        rows, budget = self._rows, 60 * self.draft.asked.minutes - sum(CLOSING.values())
        whole = TEACHING * rows["teachers"] + LEARNING * (rows["student"] + rows["baseline"])
        return min(1.0, max(budget, 0.0) / (whole + ADAPTING * rows["adapted"]))

    def _epochs(self, wanted: int) -> int:
        photos = self.draft.photos
        fewest = max(FEWEST, -(-FEWEST_STEPS // max(photos.images // batch_of(photos.images), 1)))
        return min(wanted, max(fewest, int(wanted * self.share)))

    def _training(
        self, name: str, about: str, verb: str, named: tuple[str, ...], wanted: int, second: float
    ) -> Step:  # fmt: skip
        epochs, place = self._epochs(wanted), self.draft.place(name)
        words = (*self.draft.words(verb, named, self.side), "--epochs", str(epochs), "--out", place)
        return Step(name, about, words, epochs * second)

    def plan(self) -> Plan:
        """Return all steps."""
        asked, rows = self.draft.asked, self._rows
        steps, runs = [], [spec for spec in asked.teachers if kind_of(spec) == "run"]
        for number, (named, second) in enumerate(zip(self.teachers, self.teaching, strict=True), start=1):
            seeded = (*named, "--seed", str(number))
            about = f"teacher, {named[1]}"
            steps.append(self._training(f"teacher{number}", about, "teach", seeded, TEACHING, second))
            runs.append(self.draft.place(f"teacher{number}"))
        distilled = ("--student", self.student, "--teachers", TEACHERS)
        about = f"student, {self.student}, learns from {'them' if len(runs) > 1 else 'it'}"
        steps.append(self._training("student", about, "distill", distilled, LEARNING, rows["student"]))
        about = "the same net learns from labels alone"
        steps.append(self._training("baseline", about, "teach", ("--model", self.student), LEARNING, rows["baseline"]))
        steps += self._adaptations() if asked.target else []
        seen = asked.target or asked.data
        exports = self.draft.device.exports(NET, seen, self.draft.place("net"))
        steps += [
            Step(one.name.rpartition("/")[2], one.about, (*one.words, *self._loading(one.words[0])),
                 CLOSING[one.words[0]]) for one in exports
        ]  # fmt: skip
        report = ("report", asked.out, "--trust", "--out", self.draft.place("report.html"))
        return Plan(
            self._about(), tuple(runs), (*steps, Step("report.html", "a page about it all", report, CLOSING["report"]))
        )

    def _loading(self, verb: str) -> tuple[str, ...]:
        return self.draft.loading if verb in ("quantize", "export", "adapt") else ()

    def _adaptations(self) -> list[Step]:
        """Return the steps to the target: its statistics, then what trains."""
        asked, epochs = self.draft.asked, self._epochs(ADAPTING)
        assert asked.target is not None, "there is a target to adapt to"
        begun = ("adapt", BEST, "--target", asked.target, *self._loading("adapt"))
        norm = (*begun, "--source-free", "--method", "norm", "--out", self.draft.place("statistics"))
        place = self.draft.place("adapted")
        whole = (*begun, "--source", asked.data, "--epochs", str(epochs), "--out", place)
        return [
            Step("statistics", f"BatchNorm's statistics of {asked.target}", norm, CLOSING["norm"]),
            Step("adapted", f"adaptation to {asked.target}, without its labels", whole, epochs * self._rows["adapted"]),
        ]

    def _about(self) -> str:
        photos, size = self.draft.photos, self.side or self.draft.photos.side
        return (
            f"{photos.images:,} images to learn from, {photos.classes} classes, their shorter side mostly "
            f"{photos.side} pixels; nets see {size}, batches of {batch_of(photos.images)}"
        )
