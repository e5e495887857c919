"""limbeck demo."""

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from limbeck import runs
from limbeck.artefacts.kinds import Written, may_write
from limbeck.artefacts.models import load_model
from limbeck.deploy.design import compile_program
from limbeck.deploy.export import export, pace
from limbeck.deploy.quantise import Quantised, Quantising, quantise
from limbeck.deploy.simulate import Simulated, simulate
from limbeck.page.asked import Sight
from limbeck.page.report import report
from limbeck.results import Result
from limbeck.runs import Tell
from limbeck.training.adaptation.adapt import adapt
from limbeck.training.adaptation.adapted import Adapted
from limbeck.training.distill import distill
from limbeck.training.results import Estimate, Trained
from limbeck.training.settings import Ensemble, Training
from limbeck.training.stores import Records, write
from limbeck.training.teach import teach

DATA = "digits:mnist"
FIELD = "digits:mfeat"  # other writers, another scanner
STUDENT = "dsodenet20"
TEACHERS = ("resnet20", "resnet14")  # MEAL V2 has two as well
IMAGES = 20
PICTURED = 2000  # images at most that the report's nets are evaluated on
DSPS = 360  # a fifth of the ZCU104's: the simulator of the largest engine takes four times as long to build
LEARNING = Training(epochs=5, batch=32, lr=0.1, nesterov=True, resume=True)
PLACES: dict[str, Written] = {
    "teacher1": "run", "teacher2": "run", "labels": "label store", "student": "run", "hard": "run", "adapted": "run",
    "adapted.program": "Program", "adapted.c": "C file", "adapted.h": "C header", "design": "Design",
    "report.html": "report",
}  # fmt: skip
LABELLING = Training()
ADAPTING = Training(epochs=3, batch=32, lr=0.05, resume=True)


@dataclass(frozen=True)
class InC:
    """The Program as a C file, compiled here."""

    images: int  # on which every score was the Program's
    milliseconds: float  # of CPU, one image
    float_milliseconds: float  # of the float net in PyTorch


@dataclass(frozen=True)
class Story(Result):
    """What the demo made, stage by stage."""

    stages: tuple[Trained, ...]
    adapted: Adapted  # the student, to digits from elsewhere
    integers: Quantised  # the adapted student's Program
    in_c: InC | None  # None where there is no C compiler
    hardware: Simulated | None  # the Program's accelerator; None where there is no Verilator
    report: str  # the page that shows it all
    seconds: float

    def rows(self) -> list[tuple[str, str]]:
        """Return one line per net, then the report's path."""
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
        if (c := self.in_c) is not None:
            faster = f"{c.float_milliseconds / c.milliseconds:.1f} times as fast as in PyTorch"
            shown += [("C", f"the same scores on {c.images} images, {c.milliseconds:.2g} ms an image, {faster}")]
        if (hardware := self.hardware) is not None:
            equal = f"{hardware.scores} scores of {hardware.images} images equal"
            shown += [("design", f"{equal}, {hardware.latency:,} cycles per image")]
        return [*shown, ("seconds", f"{self.seconds:.0f}"), ("report", self.report)]

    def to_json(self) -> dict[str, Any]:
        """Return the stages as JSON values."""
        stages = {Path(s.out).name: s.to_json() for s in self.stages}
        later = {
            "adapted": self.adapted.to_json(),
            "integers": self.integers.to_json(),
            "in_c": asdict(self.in_c) if self.in_c else None,
            "hardware": self.hardware.to_json() if self.hardware else None,
        }
        return {"seconds": self.seconds, "stages": stages, **later, "report": self.report}


def _share(stage: Trained) -> str:
    return f"{stage.evaluation.top1:7.2%}" if stage.evaluation else "      -"


def demo(*, out: str = "runs/demo", tell: Tell = runs.silent) -> Story:
    """Run the whole pipeline on the built-in digits, in minutes.

    Two teachers, their soft labels, a small student, its chip. The student is a dsODENet of 23,680 parameters; the same
    net also learns from the labels, for comparison. The student adapts itself to digits from elsewhere, without labels,
    and becomes 8-bit integers; these become a C file, where a C compiler is, and an accelerator for the ZCU104 that is
    simulated, where Verilator is. The report is a page that shows it all. Finished trainings and labels are not
    repeated.

    Examples:
        limbeck demo

    Args:
        out: The folder of the runs.
    """
    begun, place = time.monotonic(), Path(out)
    for name, kind in PLACES.items():
        may_write(str(place / name), kind)
    stages: list[Trained] = []
    teachers: list[str] = []
    for number, model in enumerate(TEACHERS, start=1):
        teachers.append(str(place / f"teacher{number}"))
        tell("note", {"text": f"{number}. teacher {number}, {model}, learns from 4,000 labelled digits"})
        learning = replace(LEARNING, epochs=3, seed=number)
        stages.append(_trained(teach(DATA, model, teachers[-1], learning, tell=tell)))
    tell("note", {"text": f"3. the teachers label {LEARNING.epochs} views of every digit"})
    labels = str(place / "labels")
    write(DATA, tuple(teachers), labels, Ensemble(), Records(views=LEARNING.epochs), LABELLING, tell)
    tell("note", {"text": f"4. student: {STUDENT} learns the teachers' averaged softmax, without labels"})
    learning = replace(LEARNING, weight_decay=0.0)
    student = distill(DATA, STUDENT, str(place / "student"), learning, labels=labels, tell=tell)
    tell("note", {"text": "5. for comparison, the same net learns from the labels"})
    hard = teach(DATA, STUDENT, str(place / "hard"), LEARNING, tell=tell)
    tell("note", {"text": f"6. in the field: the student adapts itself to {FIELD}, without labels or its old images"})
    field = str(place / "adapted")
    adapted = adapt(str(place / "student"), FIELD, field, ADAPTING, source_free=True, tell=tell)
    assert isinstance(adapted, Adapted), "only a dry run gives an estimate"
    tell("note", {"text": "7. the adapted student in 8-bit integers"})
    program = str(place / "adapted.program")
    integers = quantise(field, FIELD, program, Quantising(), Training(), tell=tell)
    in_c = _in_c(program, field, str(place / "adapted.c"), tell)
    hardware = _hardware(program, place, tell)
    tell("note", {"text": "10. the report"})
    page = report((str(place),), str(place / "report.html"), Sight(None, None, PICTURED), tell=tell).out
    nets = (*stages, _trained(student), _trained(hard))
    return Story(nets, adapted, integers, in_c, hardware, page, time.monotonic() - begun)


def _in_c(program: str, float_net: str, out: str, tell: Tell) -> InC | None:
    """Write the Program as C, every score compared, and time it beside the float net; where there is no compiler, say
    what to install."""
    import torch

    from limbeck.c.running import compiler

    if compiler() is None:
        tell("note", {"text": "8. no C: there is no C compiler; apt-get install gcc"})
        return None
    tell("note", {"text": "8. the same as one C file, every score compared"})
    done = export(program, out, "c", FIELD, tell=tell)
    c, whole = load_model(out), load_model(float_net).eval()
    image = torch.zeros((1, *c.input.shape), dtype=torch.uint8)
    with torch.inference_mode():
        return InC(done.images, pace(c, image), pace(whole, image))


def _hardware(program: str, place: Path, tell: Tell) -> Simulated | None:
    """Make an accelerator of the Program and compare it with it; where tools are missing, say what to install."""
    from limbeck.fpga.simulate import available

    if missing := available():
        tell("note", {"text": f"9. no accelerator: {missing}"})
        return None
    tell("note", {"text": f"9. an accelerator for the ZCU104 classifies {IMAGES} digits, every score compared"})
    design = str(place / "design")
    compile_program(program, design, max_dsp=DSPS, tell=tell)
    return simulate(design, FIELD, IMAGES, tell=tell)


def _trained(done: Trained | Estimate) -> Trained:
    assert isinstance(done, Trained), "only a dry run gives an estimate"
    return done
