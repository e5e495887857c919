"""From photos to a device: a plan's commands, one after the other, each done once."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from limbeck import runs
from limbeck.artefacts.kinds import Written, kind_of, may_write
from limbeck.deploy.devices import device_of
from limbeck.deploy.plan import BEST, NET, TEACHERS, Asked, Perform, Plan, Step, look, look_at_target, plan
from limbeck.errors import InputError
from limbeck.results import Result
from limbeck.runs import Tell

MEMORY = "auto.json"  # in the folder: what was asked, the plan, and what is done
_SERVED = (".onnx", ".program", ".c", ".design")  # what limbeck serve shows of what is made
SLACK = 1.2  # times the minutes, which a plan may take without a word
_WRITES: dict[str, Written] = {
    "teach": "run", "distill": "run", "adapt": "run", "quantize": "Program", "compile": "Design", "report": "report",
}  # fmt: skip
_TOLD = {  # rows of a verb's result that say how it went, and words to put before what they say
    "teach": {"top-1": ""}, "distill": {"top-1": ""},
    "adapt": {"chosen": "", "adapted": "top-1", "classes predicted": "classes predicted:"},
    "quantize": {"integer top-1": "top-1", "same answer": "same class as before:"},
    "export": {"8-bit top-1": "top-1", "same answer": "same class as before:", "flash": "flash", "RAM": "RAM"},
    "compile": {"cycles": "cycles:"},
}  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """How a step went."""

    told: str
    seconds: float
    top1: float | None  # of a training, on the held-out images
    chance: bool  # it is no better than guessing
    collapse: str  # of an adaptation: why it was given up, or empty


@dataclass(frozen=True)
class Auto(Result):
    """What was planned and, unless it was only that, what came of it."""

    asked: Asked
    steps: tuple[Step, ...]
    done: dict[str, Outcome]  # by the step's name; empty of a plan alone
    kept: str  # the run that went on the device; empty of a plan alone

    def rows(self) -> list[tuple[str, ...]]:
        """Return the steps, what was kept, and where things are; of a plan its commands."""
        if not self.done:
            whole = spent(sum(step.seconds for step in self.steps))
            return [
                ("about", "command"),
                *((spent(step.seconds), step.command) for step in self.steps),
                (whole, "in all"),
            ]
        shown = [(name, _joined(one.told, spent(one.seconds))) for name, one in self.done.items()]
        return [
            *shown,
            *self._better(),
            ("kept", self.kept),
            ("in all", spent(sum(one.seconds for one in self.done.values()))),
        ]

    def _better(self) -> list[tuple[str, str]]:
        """Return which of student and baseline classified more held-out images; nothing where that is not known."""
        student, baseline = (self.done[name].top1 if name in self.done else None for name in ("student", "baseline"))
        if student is None or baseline is None or student == baseline:
            return []
        name, other = ("student", "baseline") if student > baseline else ("baseline", "student")
        return [("better", f"the {name}, by {100 * abs(student - baseline):.2f} points; the {other} goes no further")]

    def to_json(self) -> dict[str, Any]:
        """Return the same as JSON values."""
        steps = [{**asdict(step), "command": step.command} for step in self.steps]
        return {**asdict(self), "steps": steps}

    @property
    def following(self) -> str:
        """Look at what was made, or make what was planned."""
        asked = self.asked
        if not self.done:
            return asked.command
        shown = [step.words[-1] for step in self.steps if step.words[-1].endswith(_SERVED)]
        return " ".join(["limbeck serve", self.kept, *shown, "--data", asked.target or asked.data])


def auto(asked: Asked, perform: Perform, tell: Tell, *, dry_run: bool = False) -> Auto:
    """Plan, and do what was planned and is not done yet; the folder remembers both."""
    device = device_of(asked.device)
    if not asked.minutes > 0:
        raise InputError(f"--minutes is {asked.minutes:g}; it must be more than 0")
    if asked.size is not None and asked.size < 1:
        raise InputError(f"--size is {asked.size}; it must be at least 1 pixel")
    memory = _Memory.of(Path(asked.out) / MEMORY, asked)
    if memory is None:
        tell("note", {"text": f"limbeck data {asked.data}"})
        photos = look(asked.data)
        unread = () if asked.target is None else look_at_target(asked.target, asked.data)
        made = plan(asked, photos, device, _examine(asked, unread, perform, tell), perform, tell)
        memory = _Memory(Path(asked.out) / MEMORY, asked, made, {})
    for step in memory.plan.steps:
        if step.words[0] in _WRITES:
            may_write(f"{asked.out}/{step.name}", _WRITES[step.words[0]], data=(asked.data, asked.target))
    if dry_run:
        tell("note", {"text": memory.plan.about})
        return Auto(asked, tuple(_decided(memory, step) for step in memory.plan.steps), {}, "")
    memory.save()
    _tell_plan(memory, tell)
    steps = []
    for number, step in enumerate(memory.plan.steps, start=1):
        named = _decided(memory, step)
        steps.append(named)
        if step.name in memory.done and kind_of(Path(asked.out) / step.name) != "nothing":
            continue
        if step.words[0] == "distill" and not _teachers(memory):
            tell("note", {"text": "no teacher is better than guessing: there is nothing to distil"})
            continue
        tell("note", {"text": f"\n{number}/{len(memory.plan.steps)}  {step.about}\n{named.command}"})
        outcome = _carry_out(named, asked, perform, tell)
        memory.note(step.name, outcome)
        tell("note", {"text": f"  {_joined(outcome.told, spent(outcome.seconds))}"})
    return Auto(asked, tuple(steps), memory.done, _net(memory))


@dataclass
class _Memory:
    """What the folder remembers."""

    path: Path
    asked: Asked
    plan: Plan
    done: dict[str, Outcome]

    @staticmethod
    def of(path: Path, asked: Asked) -> "_Memory | None":
        """Return what the folder remembers, None where it does not; InputError where something else was asked."""
        if kind_of(path) == "nothing":
            return None
        known = runs.read_json(path)
        try:
            before = Asked(**{**known["asked"], "teachers": tuple(known["asked"]["teachers"])})
            steps = [Step(**{**step, "words": tuple(step["words"])}) for step in known["plan"]["steps"]]
            done = {name: Outcome(**one) for name, one in known["done"].items()}
            made = Plan(str(known["plan"]["about"]), tuple(known["plan"]["teachers"]), tuple(steps))
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path} is not what limbeck auto writes; choose another --out") from error
        for name, value in asdict(asked).items():
            if getattr(before, name) != value:
                flag = {"device": "for"}.get(name, name)
                raise InputError(
                    f"{path.parent} was begun with {flag} = {getattr(before, name)!r}, now it is {value!r}; go on with "
                    "the same settings or choose another --out"
                )
        return _Memory(path, asked, made, done)

    def note(self, name: str, outcome: Outcome) -> None:
        """Keep how a step went."""
        self.done[name] = outcome
        self.save()

    def save(self) -> None:
        """Write it all: a plan that is begun is gone on with, whatever the machine's speed is next time."""
        done = {name: asdict(one) for name, one in self.done.items()}
        runs.write_sealed(self.path, {"asked": asdict(self.asked), "plan": asdict(self.plan), "done": done})


def _examine(asked: Asked, unread: tuple[str, ...], perform: Perform, tell: Tell) -> bool:
    """Tell what is wrong with the images, and which of the target's are unread; return whether some are."""
    found: Any = perform("data", [asked.data], tell).to_json()
    broken = [name for split in found["splits"] for name in split["broken"]] + list(unread)
    groups = found["groups"]
    for number, what in (
        (len(broken), f"can't be read and are left out, {broken[0] if broken else ''} first"),
        (groups["leaks"], "are in two splits: held-out figures will flatter"),
        (groups["conflicts"], "have another class elsewhere"),
    ):
        if number:
            tell("note", {"text": f"{number} images {what}"})
    return bool(broken)


def _carry_out(step: Step, asked: Asked, perform: Perform, tell: Tell) -> Outcome:
    begun, verb = time.monotonic(), step.words[0]
    going_on = _WRITES.get(verb) == "run" and kind_of(Path(asked.out) / step.name) == "run"
    result = perform(verb, [*step.words[1:], *(("--resume",) if going_on else ())], _without_epochs(tell))
    if result.problem or result.failure:
        raise InputError(result.problem or result.failure)
    rows, found = {row[0]: row[1] for row in result.rows() if len(row) > 1}, vars(result)
    told = _joined(*(f"{before} {rows[name]}".strip() for name, before in _TOLD.get(verb, {}).items() if name in rows))
    evaluation: Any = found.get("evaluation")
    top1, chance = (evaluation.top1, evaluation.is_chance) if evaluation else (None, False)
    told = _joined(told, "no better than guessing" if chance else "")
    return Outcome(told, time.monotonic() - begun, top1, chance, str(found.get("collapse", "")))


def _without_epochs(tell: Tell) -> Tell:
    """Return a Tell that leaves epochs out: what they come to is in the step's outcome."""

    def heard(event: str, values: dict[str, Any]) -> None:
        if event != "epoch":
            tell(event, values)

    return heard


def _best(memory: _Memory) -> str:
    """Return the better of student and baseline by their held-out images, the student where there are none."""
    student, baseline = (memory.done.get(name) for name in ("student", "baseline"))
    better = baseline and (student is None or (baseline.top1 or 0.0) > (student.top1 or 0.0))
    return f"{memory.asked.out}/{'baseline' if better else 'student'}"


def _net(memory: _Memory) -> str:
    """Return the net for the device: with a target the adapted one or, where that was given up, the one that has the
    target's statistics; without, the better of the two."""
    if all(step.name != "adapted" for step in memory.plan.steps):
        return _best(memory)
    adapted = memory.done.get("adapted")
    return f"{memory.asked.out}/{'statistics' if adapted and adapted.collapse else 'adapted'}"


def _teachers(memory: _Memory) -> tuple[str, ...]:
    """Return the teachers but for those that turned out to be no better than guessing."""
    weak = {f"{memory.asked.out}/{name}" for name, one in memory.done.items() if one.chance}
    return tuple(name for name in memory.plan.teachers if name not in weak)


def _decided(memory: _Memory, step: Step) -> Step:
    return step.named({BEST: (_best(memory),), NET: (_net(memory),), TEACHERS: _teachers(memory)})


def _tell_plan(memory: _Memory, tell: Tell) -> None:
    left = sum(step.seconds for step in memory.plan.steps if step.name not in memory.done)
    lines = [memory.plan.about, f"{len(memory.plan.steps)} steps, about {spent(left)} from here:"]
    if left > SLACK * 60 * memory.asked.minutes:
        lines[-1] = f"{lines[-1][:-1]}, for with less than --minutes {left / 60:.0f} nets would learn too little:"
    for number, step in enumerate(memory.plan.steps, start=1):
        when = "done" if step.name in memory.done else spent(step.seconds)
        lines.append(f"{number:3}  {when:>7}  {step.about}")
    tell("note", {"text": "\n".join(lines)})


def spent(seconds: float) -> str:
    """Return a duration as people say it."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def _joined(*parts: str) -> str:
    return ", ".join(filter(None, parts))
