"""What an adaptation gives back: what was chosen without labels, and, where the target has labels, how good it is."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limbeck.results import Result

if TYPE_CHECKING:
    from limbeck.learn.select import Signs

ADAPTED = ", adapted to "  # in the tag of an adapted net, between that of the net before and the target


def adapted_to(tag: str) -> str:
    """Return what the net whose lineage has this tag was adapted to; empty where it was not."""
    return tag.rpartition(ADAPTED)[2] if ADAPTED in tag else ""


def left(tag: str, data: str) -> str:
    """Return a note that the net whose lineage has this tag may be measured on a domain that it left, or nothing."""
    target = adapted_to(tag)
    if not target or Path(target).resolve() == Path(data).resolve():
        return ""
    return (
        f"the net was adapted to {target}; unless {data} is from there, its figures are those of a domain that it left"
    )


@dataclass(frozen=True)
class Changed:
    """What of a net has changed, in bytes: what must be loaded into an accelerator anew."""

    weights: int  # convolutions and linear layers, float32
    folded: int  # BatchNorm as a scale and a shift a channel and evaluation, float32 each
    whole: int  # the same of the whole net


@dataclass(frozen=True)
class Report:
    """Shares of held-out target images that were classified correctly, in [0, 1]: labels are used for this alone."""

    images: int
    source_only: float
    norm: float | None  # source-only with BatchNorm statistics of the target
    adapted: float
    oracle: float | None  # a net trained on target labels, where one was given
    recall: dict[str, tuple[float, float]]  # by class: source-only, adapted
    picks: dict[str, tuple[str, float]]  # by criterion: the candidate that it takes, and that one's share

    @property
    def closed(self) -> float | None:
        """Share of the gap between source-only and oracle that adaptation closed."""
        if self.oracle is None or self.oracle <= self.source_only:
            return None
        return (self.adapted - self.source_only) / (self.oracle - self.source_only)

    def worse(self) -> list[tuple[str, float, float]]:
        """Return the classes that are recognised less often than before, the worst first."""
        fallen = [(name, before, after) for name, (before, after) in self.recall.items() if after < before]
        return sorted(fallen, key=lambda row: row[2] - row[1])


@dataclass(frozen=True)
class Adapted(Result):
    """A finished adaptation."""

    out: str
    model: str
    target: str
    method: str
    images: int  # of the target, without labels
    epochs: int
    seconds: float  # of all calls that it took
    criterion: str
    chosen: str  # the candidate that was saved: "source", "norm" or an epoch
    collapse: str  # why the adapted net was given up, or empty
    signs: "dict[str, Signs]"  # of each candidate, without labels
    changed: Changed
    report: Report | None  # None where the target has no labels
    teachers: tuple[str, ...] = ()

    def rows(self) -> list[tuple[str, str]]:
        """Return what a person wants to know, as (name, value)."""
        before, after, changed = self.signs["source"], self.signs[self.chosen], self.changed
        rows = [
            ("model", self.model),
            ("adapted to", f"{self.images:,} unlabelled images of {self.target}, method {self.method}"),
            ("chosen", spelt(self.chosen) + (f", by {self.criterion}" if self.criterion != "last" else "")),
            ("InfoMax", f"{before.infomax:.3f} -> {after.infomax:.3f} nats"),
            ("classes predicted", f"{before.said:.1f} -> {after.said:.1f}"),
        ]
        if self.collapse:
            rows.append(("collapsed", f"{self.collapse}; {spelt(self.chosen)} was kept instead"))
        if self.report is not None:
            rows += _report_rows(self.report)
        share = (changed.weights + changed.folded) / changed.whole
        reload_ = (
            f"{changed.weights:,} bytes of weights, {changed.folded:,} of folded BatchNorm ({share:.0%} of the net)"
        )
        return [*rows, ("to reload", reload_), ("seconds", f"{self.seconds:.1f}"), ("run", self.out)]

    def to_json(self) -> dict[str, Any]:
        """Return the results as JSON values."""
        report = None if self.report is None else {**asdict(self.report), "closed": self.report.closed}
        return {**asdict(self), "signs": {name: s.to_json() for name, s in self.signs.items()}, "report": report}


def spelt(candidate: str) -> str:
    """Return what a candidate is, in words."""
    match candidate:
        case "source":
            return "the model as it came"
        case "norm":
            return "the model with the target's BatchNorm statistics"
        case _:
            return f"epoch {int(candidate)}" if candidate.isdecimal() else candidate or "not noted"


def _report_rows(report: Report) -> list[tuple[str, str]]:
    rows = [("source-only", f"{report.source_only:.2%} of {report.images:,} labelled target images")]
    if report.norm is not None:
        rows.append(("new statistics", f"{report.norm:.2%}"))
    rows.append(("adapted", f"{report.adapted:.2%}"))
    if report.oracle is not None:
        closed = "" if report.closed is None else f", {report.closed:.0%} of the gap closed"
        rows.append(("oracle", f"{report.oracle:.2%}{closed}"))
    worse = ", ".join(f"{name} ({before:.0%} -> {after:.0%})" for name, before, after in report.worse()[:3])
    picks = ", ".join(f"{name} {top1:.2%}" for name, (_, top1) in report.picks.items())
    rows.append(("worse than before", worse or "no class"))
    return [*rows, ("each criterion picks", picks)] if picks else rows
