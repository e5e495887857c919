"""The demo: verbs one after another, on the built-in digits."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from limbeck.deploy.quantise import Quantised
from limbeck.deploy.simulate import Simulated
from limbeck.results import Result
from limbeck.runs import Tell
from limbeck.training.adaptation.adapted import Adapted
from limbeck.training.results import Estimate, Trained
from limbeck.training.settings import Training
from limbeck.verbs.adapt import adapt
from limbeck.verbs.compile import compile
from limbeck.verbs.distill import distill
from limbeck.verbs.label import label
from limbeck.verbs.quantize import quantize
from limbeck.verbs.report import report
from limbeck.verbs.simulate import simulate
from limbeck.verbs.teach import teach

DATA = "digits:mnist"
FIELD = "digits:mfeat"  # other writers, another scanner
STUDENT = "dsodenet20"
TEACHERS = ("resnet20", "resnet14")  # MEAL V2 has two as well
IMAGES = 20
DSPS = 360  # a fifth of the ZCU104's: the simulator of the largest engine takes four times as long to build
LEARNING = Training(epochs=5, batch=32, lr=0.1, nesterov=True, resume=True)
ADAPTING = Training(epochs=3, batch=32, lr=0.05, resume=True)


@dataclass(frozen=True)
class Story(Result):
    """What the demo made, stage by stage."""

    stages: tuple[Trained, ...]
    adapted: Adapted  # the student, to digits from elsewhere
    integers: Quantised  # the adapted student's Program
    hardware: Simulated | None  # the Program's accelerator; None where there is no Verilator
    report: str  # the page that shows it all
    seconds: float

    def rows(self) -> list[tuple[str, str]]:
        """Return a line a net, then the report's path."""
        shown = [
            (Path(s.out).name, f"{_share(s)}  {s.parameters:>9,} parameters  {s.model}, {s.seconds:.0f} s")
            for s in self.stages
        ]
        if (found := self.adapted.report) is not None:
            shown += [("adapted", f"{found.adapted:7.2%}  of {FIELD}, {found.source_only:.2%} before")]
        if self.integers.top1 is not None:
            shown += [
                ("program", f"{self.integers.top1:7.2%}  of {FIELD}, 8-bit integers, {self.integers.size:,} bytes")
            ]
        if (hardware := self.hardware) is not None:
            equal = f"{hardware.scores} scores of {hardware.images} images equal"
            shown += [("design", f"{equal}, {hardware.latency:,} cycles an image")]
        return [*shown, ("seconds", f"{self.seconds:.0f}"), ("report", self.report)]

    def to_json(self) -> dict[str, Any]:
        """Return the stages as JSON values."""
        stages = {Path(s.out).name: s.to_json() for s in self.stages}
        later = {
            "adapted": self.adapted.to_json(),
            "integers": self.integers.to_json(),
            "hardware": self.hardware.to_json() if self.hardware else None,
        }
        return {"seconds": self.seconds, "stages": stages, **later, "report": self.report}


def _share(stage: Trained) -> str:
    return f"{stage.evaluation.top1:7.2%}" if stage.evaluation else "      -"


def tell_story(place: Path, tell: Tell) -> Story:
    """Do all stages in the folder `place`; what is finished there is not done again."""
    begun = time.monotonic()
    stages: list[Trained] = []
    teachers: list[str] = []
    for number, model in enumerate(TEACHERS, start=1):
        teachers.append(str(place / f"teacher{number}"))
        tell("note", {"text": f"{number}. teacher {number}, {model}, learns from 4,000 labelled digits"})
        learning = replace(LEARNING, epochs=3, seed=number)
        stages.append(_trained(teach(data=DATA, model=model, out=teachers[-1], training=learning, tell=tell)))
    tell("note", {"text": f"3. the teachers label {LEARNING.epochs} views of every digit"})
    labels = str(place / "labels")
    label(data=DATA, teachers=tuple(teachers), views=LEARNING.epochs, out=labels, tell=tell)
    tell("note", {"text": f"4. student: {STUDENT} learns the teachers' averaged softmax, without labels"})
    learning = replace(LEARNING, weight_decay=0.0)
    student = distill(
        data=DATA, student=STUDENT, labels=labels, out=str(place / "student"), training=learning, tell=tell
    )
    tell("note", {"text": "5. for comparison, the same net learns from the labels"})
    hard = teach(data=DATA, model=STUDENT, out=str(place / "hard"), training=LEARNING, tell=tell)
    tell("note", {"text": f"6. in the field: the student adapts itself to {FIELD}, without labels or its old images"})
    field = str(place / "adapted")
    adapted = adapt(str(place / "student"), source_free=True, target=FIELD, out=field, training=ADAPTING, tell=tell)
    assert isinstance(adapted, Adapted), "only a dry run gives an estimate"
    tell("note", {"text": "7. the adapted student in 8-bit integers"})
    program = str(place / "adapted.program")
    integers = quantize(field, data=FIELD, out=program, tell=tell)
    hardware = _hardware(program, place, tell)
    tell("note", {"text": "9. the report"})
    page = report(str(place), out=str(place / "report.html"), tell=tell).out
    nets = (*stages, _trained(student), _trained(hard))
    return Story(nets, adapted, integers, hardware, page, time.monotonic() - begun)


def _hardware(program: str, place: Path, tell: Tell) -> Simulated | None:
    """Make an accelerator of the Program and compare it with it; where tools are missing, say what to install."""
    from limbeck.fpga.simulate import available

    if missing := available():
        tell("note", {"text": f"8. no accelerator: {missing}"})
        return None
    tell("note", {"text": f"8. an accelerator for the ZCU104 names {IMAGES} digits, every score compared"})
    design = place / "design"
    compile(program, out=str(design), max_dsp=DSPS, tell=tell)
    return simulate(str(design), data=FIELD, images=IMAGES, tell=tell)


def _trained(done: Trained | Estimate) -> Trained:
    assert isinstance(done, Trained), "only a dry run gives an estimate"
    return done
