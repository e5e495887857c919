"""What a training gives back, and what a dry run of one found."""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from limbeck.results import Result

if TYPE_CHECKING:
    from limbeck.learn.evaluate import Evaluation


def measured(top1: float | None) -> str:
    """Return a teacher's held-out top-1 in words."""
    return "not measured" if top1 is None else f"top-1 {top1:.2%}"


@dataclass(frozen=True)
class Trained(Result):
    """A finished run."""

    out: str
    model: str
    parameters: int
    images: int  # that it was trained on
    epochs: int
    seconds: float  # of all calls that it took
    evaluation: "Evaluation | None"  # None where there is no labelled held-out split
    teachers: tuple[tuple[str, float | None], ...] = ()  # name, top-1

    def rows(self) -> list[tuple[str, str]]:
        """Return what a person wants to know, as (name, value)."""
        rows = [
            ("model", f"{self.model}, {self.parameters:,} parameters"),
            ("trained on", f"{self.images:,} images"),
        ]
        rows += [(f"teacher {name}", measured(top1)) for name, top1 in self.teachers]
        if self.evaluation is not None:
            rows += [("top-1", f"{self.evaluation.top1:.2%} of {self.evaluation.images:,} held-out images")]
        return [*rows, ("seconds", f"{self.seconds:.1f}"), ("run", self.out)]

    def to_json(self) -> dict[str, Any]:
        """Return the results as JSON values."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        return {**plain, "evaluation": self.evaluation.to_json() if self.evaluation else None}


@dataclass(frozen=True)
class Estimate(Result):
    """What a dry run found: everything was built and some real steps were made."""

    model: str
    parameters: int
    steps: int  # of the whole run
    seconds: float  # that the whole run will take, evaluation included
    gibibytes: float  # largest resident memory so far
    disk: int  # bytes that the run folder will take
    loss: float | None  # after those steps; None where nothing is trained

    def rows(self) -> list[tuple[str, str]]:
        """Return what a person wants to know, as (name, value)."""
        return [
            ("model", f"{self.model}, {self.parameters:,} parameters"),
            ("steps", f"{self.steps:,}"),
            ("estimated time", _spelt(self.seconds)),
            ("memory", f"{self.gibibytes:.2f} GiB"),
            ("disk", f"{self.disk / 1e6:,.1f} MB"),
            ("loss so far", "-" if self.loss is None else f"{self.loss:.4f}"),
        ]


def _spelt(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 100 else f"{seconds / 60:,.1f} minutes"
