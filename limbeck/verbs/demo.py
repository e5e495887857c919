"""limbeck demo: the whole story on the built-in digits, in minutes."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from limbeck import runs
from limbeck.runs import Tell
from limbeck.verbs.compile import compile
from limbeck.verbs.distill import distill
from limbeck.verbs.label import label
from limbeck.verbs.quantize import Quantised, quantize
from limbeck.verbs.results import Estimate, Trained
from limbeck.verbs.settings import Training
from limbeck.verbs.simulate import Simulated, simulate
from limbeck.verbs.teach import teach

DATA = "digits:mnist"
STUDENT = "dsodenet20"
TEACHERS = (("resnet20", ()), ("resnet8", ("width=32",)), ("odenet20", ()))
IMAGES = 20
LEARNING = Training(epochs=15, batch=64, lr=0.1, nesterov=True, resume=True)


@dataclass(frozen=True)
class Story:
    """What the demo made, stage by stage."""

    stages: tuple[Trained, ...]
    integers: Quantised  # the student's Program
    hardware: Simulated | None  # the Program's accelerator; None where there is no Verilator
    seconds: float

    def rows(self) -> list[tuple[str, str]]:
        """Return a line a net, then the run folder."""
        shown = [
            (Path(s.out).name, f"{_share(s)}  {s.parameters:>9,} parameters  {s.model}, {s.seconds:.0f} s")
            for s in self.stages
        ]
        if self.integers.top1 is not None:
            shown += [("student.program", f"{self.integers.top1:7.2%}  {self.integers.size:>9,} bytes, 8-bit integers")]
        if self.hardware is not None:
            found = self.hardware
            shown += [
                ("design", f"{found.scores} scores of {found.images} images equal, {found.latency:,} cycles an image")
            ]
        return [*shown, ("seconds", f"{self.seconds:.0f}"), ("runs", str(Path(self.stages[0].out).parent))]

    def to_json(self) -> dict[str, Any]:
        """Return the stages as JSON values."""
        stages = {Path(s.out).name: s.to_json() for s in self.stages}
        hardware = self.hardware.to_json() if self.hardware else None
        return {"seconds": self.seconds, "stages": stages, "integers": self.integers.to_json(), "hardware": hardware}


def _share(stage: Trained) -> str:
    return f"{stage.evaluation.top1:7.2%}" if stage.evaluation else "      -"


def demo(*, out: str = "runs/demo", tell: Tell = runs.silent) -> Story:
    """Tell the whole story on real handwritten digits: three teachers, their soft labels, a small student, its chip.

    The student is a dsODENet of 23,680 parameters; the same net also learns from the labels, for comparison. The
    student becomes 8-bit integers, and these an accelerator for the ZCU104 that is simulated, where Verilator is.
    Trainings and labels that are finished are not done again.

    Examples:
        limbeck demo

    Args:
        out: The folder of the runs.
    """
    begun = time.monotonic()
    place = Path(out)
    stages: list[Trained] = []
    teachers: list[str] = []
    for number, (model, arguments) in enumerate(TEACHERS, start=1):
        teachers.append(str(place / f"teacher{number}"))
        tell("note", {"text": f"{number}. teacher {number}, {model}, learns from 4,000 labelled digits"})
        learning = replace(LEARNING, epochs=8, seed=number)
        stages.append(
            _trained(teach(data=DATA, model=model, arguments=arguments, out=teachers[-1], training=learning, tell=tell))
        )
    tell("note", {"text": f"4. the teachers label {LEARNING.epochs} views of every digit"})
    labels = str(place / "labels")
    label(data=DATA, teachers=tuple(teachers), views=LEARNING.epochs, out=labels, tell=tell)
    tell("note", {"text": f"5. student: {STUDENT} learns the teachers' averaged softmax, without labels"})
    learning = replace(LEARNING, weight_decay=0.0)
    student = distill(
        data=DATA, student=STUDENT, labels=labels, out=str(place / "student"), training=learning, tell=tell
    )
    tell("note", {"text": "6. for comparison, the same net learns from the labels"})
    hard = teach(data=DATA, model=STUDENT, out=str(place / "hard"), training=LEARNING, tell=tell)
    tell("note", {"text": "7. the student in 8-bit integers"})
    program = str(place / "student.program")
    integers = quantize(str(place / "student"), data=DATA, out=program, tell=tell)
    return Story(
        (*stages, _trained(student), _trained(hard)),
        integers,
        _hardware(program, place, tell),
        time.monotonic() - begun,
    )


def _hardware(program: str, place: Path, tell: Tell) -> Simulated | None:
    """Make an accelerator of the Program and compare it with it; where tools are missing, say what to install."""
    from limbeck.fpga.simulate import available

    if missing := available():
        tell("note", {"text": f"8. no accelerator: {missing}"})
        return None
    tell("note", {"text": f"8. an accelerator for the ZCU104 names {IMAGES} digits, every score compared"})
    design = place / "design"
    compile(program, out=str(design), tell=tell)
    return simulate(str(design), data=DATA, images=IMAGES, tell=tell)


def _trained(done: Trained | Estimate) -> Trained:
    assert isinstance(done, Trained), "only a dry run gives an estimate"
    return done
