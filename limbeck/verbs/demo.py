"""limbeck demo: the whole story on the built-in digits, in minutes."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from limbeck import runs
from limbeck.runs import Tell
from limbeck.verbs.distill import distill
from limbeck.verbs.teach import teach
from limbeck.verbs.training import Trained, Training

DATA = "digits:mnist"
LEARNING = Training(epochs=15, batch=64, lr=0.1, nesterov=True, resume=True)


@dataclass(frozen=True)
class Story:
    """What the demo made, stage by stage."""

    stages: tuple[Trained, ...]
    seconds: float

    def rows(self) -> list[tuple[str, str]]:
        """Return a line a net, then the run folder."""
        shown = [
            (Path(s.out).name, f"{_share(s)}  {s.parameters:>9,} parameters  {s.model}, {s.seconds:.0f} s")
            for s in self.stages
        ]
        return [*shown, ("seconds", f"{self.seconds:.0f}"), ("runs", str(Path(self.stages[0].out).parent))]

    def to_json(self) -> dict[str, Any]:
        """Return the stages as JSON values."""
        return {"seconds": self.seconds, "stages": {Path(s.out).name: s.to_json() for s in self.stages}}


def _share(stage: Trained) -> str:
    return f"{stage.evaluation.top1:7.2%}" if stage.evaluation else "      -"


def demo(*, out: str = "runs/demo", tell: Tell = runs.silent) -> Story:
    """Tell the whole story on real handwritten digits: three teachers, and a small student of their averaged softmax.

    The student is a dsODENet of 23,680 parameters; the same net is also trained on labels, for comparison. Stages
    that are finished are not done again.

    Examples:
        limbeck demo

    Args:
        out: The folder of the runs.
    """
    begun = time.monotonic()
    done: list[Trained] = []

    def stage(name: str, sentence: str, run: Callable[[str], Any]) -> str:
        tell("note", {"text": f"{len(done) + 1}. {name}: {sentence}"})
        place = str(Path(out) / name)
        done.append(run(place))
        return place

    def teacher(place: str, model: str, arguments: tuple[str, ...], seed: int) -> Any:
        learning = replace(LEARNING, epochs=8, seed=seed)
        return teach(data=DATA, model=model, arguments=arguments, out=place, training=learning, tell=tell)

    teachers = (
        stage("teacher1", "a ResNet-20 learns from 4,000 labelled digits", lambda p: teacher(p, "resnet20", (), 1)),
        stage("teacher2", "a wider ResNet-8", lambda p: teacher(p, "resnet8", ("width=32",), 2)),
        stage("teacher3", "an ODENet-20", lambda p: teacher(p, "odenet20", (), 3)),
    )
    learned = {"data": DATA, "training": LEARNING, "tell": tell}
    stage("hard", "a dsODENet-20 learns from the labels", lambda p: teach(model="dsodenet20", out=p, **learned))
    distilled = {**learned, "training": replace(LEARNING, weight_decay=0.0)}
    stage(
        "student",
        "the same net learns the teachers' averaged softmax, without labels",
        lambda p: distill(student="dsodenet20", teachers=teachers, out=p, **distilled),
    )
    return Story(tuple(done), time.monotonic() - begun)
