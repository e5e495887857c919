"""A classifier on a labelled split: its figures, what it costs, the tables and charts of it."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limbeck import runs
from limbeck.artefacts.models import is_design, load_model, program_of
from limbeck.errors import VerificationError
from limbeck.fpga.parts import CLOCK
from limbeck.results import Result
from limbeck.runs import Tell
from limbeck.training.adaptation.adapted import left
from limbeck.training.sets import judged
from limbeck.training.settings import Loading

if TYPE_CHECKING:
    from accelerate import PartialState

    from limbeck.images.source import Source
    from limbeck.learn.evaluate import Answers, Evaluation
    from limbeck.nets.classifier import ClassOrder
    from limbeck.nets.zoo import Classifier

FLOPS_RULE = "2 FLOPs per multiply-accumulate"
SIMULATED = 100  # images, unless their number is given


@dataclass(frozen=True)
class Beside:
    """A teacher, or a Design's Program, on the same images. Shares are in [0, 1]."""

    name: str
    top1: float
    agreement: float  # share of images that it and the model call the same


@dataclass(frozen=True)
class Evaluated(Result):
    """A classifier's figures on a labelled split, and what it costs for one image."""

    model: str
    net: str
    data: str
    split: str
    evaluation: "Evaluation"
    parameters: int
    macs: int
    images_per_second: float  # of the net alone
    measured_on: str  # batch, device, threads
    teachers: tuple[Beside, ...]
    notes: tuple[str, ...]
    files: tuple[str, ...]

    @property
    def flops(self) -> int:
        return 2 * self.macs

    def rows(self) -> list[tuple[str, str]]:
        """Return what a person wants to know, as (name, value)."""
        found = self.evaluation
        rows = [
            ("model", f"{self.net} ({self.model})"),
            ("data", f"{found.images:,} images of {self.data} {self.split}, {len(found.classes)} classes"),
            ("top-1", f"{found.top1:.2%}"),
            ("top-5", f"{found.top5:.2%}" if found.top5 is not None else ""),
            ("NLL", f"{found.nll:.4f} nats"),
            ("ECE", f"{found.ece:.2%} ({len(found.bins)} bins)"),
            ("weakest classes", ", ".join(f"{name} ({share:.1%})" for name, share in _weakest(found))),
            ("most confused", ", ".join(f"{true} as {said} ({n:,})" for true, said, n in found.mistakes(3))),
            ("parameters", f"{self.parameters:,}"),
            ("MACs", f"{self.macs:,} per image = {self.flops:,} FLOPs ({FLOPS_RULE})"),
            ("images/s", f"{self.images_per_second:,.0f}, the net alone ({self.measured_on})"),
            *(
                (
                    f"{'Program' if t.name.endswith('.program') else 'teacher'} {t.name}",
                    f"top-1 {t.top1:.2%}, agrees on {t.agreement:.2%}",
                )
                for t in self.teachers
            ),
            ("written", _gathered(self.files)),
        ]
        return [(name, value) for name, value in rows if value]

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return {
            "model": self.model,
            "net": self.net,
            "data": self.data,
            "split": self.split,
            **self.evaluation.to_json(),
            "reliability": [asdict(b) for b in self.evaluation.bins if b.images],
            "parameters": self.parameters,
            "macs": self.macs,
            "flops": self.flops,
            "flops_rule": FLOPS_RULE,
            "images_per_second": self.images_per_second,
            "measured_on": self.measured_on,
            "teachers": [asdict(teacher) for teacher in self.teachers],
            "notes": list(self.notes),
            "files": list(self.files),
        }


def _gathered(files: tuple[str, ...]) -> str:
    """Return the files of one folder, which is named once."""
    return f"{Path(files[0]).parent}: {', '.join(Path(file).name for file in files)}" if files else ""


def _weakest(found: "Evaluation") -> list[tuple[str, float]]:
    """Return the three classes that are recognised least, with their recall."""
    named = zip(found.classes, found.recall, strict=True)
    return sorted(((name, share) for name, share in named if share < 1), key=lambda pair: pair[1])[:3]


def measure(
    model: str,
    source: "Source",
    teachers: tuple[str, ...],
    batch: int,
    loading: Loading,
    out: Path | None,
    tell: Tell,
) -> Evaluated:
    """Return the figures of `model` on the labelled images, beside those of `teachers`; write them into `out`."""
    from accelerate import PartialState

    from limbeck.images.source import among
    from limbeck.learn.evaluate import agreement, figures
    from limbeck.nets.outside import cost_of

    if is_design(model):
        teachers = (str(program_of(model)), *teachers)
    state = PartialState()
    nets = [load_model(spec) for spec in (model, *teachers)]
    source = among(source, nets[0].classes)
    nets, notes = _ready(nets, (model, *teachers), source, loading.class_order, state)
    for note in notes:
        tell("note", {"text": note})
    said, *others = [
        _predict(net, spec, source, batch, loading.workers, state, tell)
        for spec, net in zip((model, *teachers), nets, strict=True)
    ]
    if is_design(model):
        _check_scores(model, said, others[0])
    found = figures(said, source.classes)
    beside = tuple(
        Beside(spec, figures(other, source.classes).top1, agreement(said, other))
        for spec, other in zip(teachers, others, strict=True)
    )
    cost = cost_of(nets[0])
    rate, measured_on = _planned(model) if is_design(model) else _rate(nets[0], min(batch, len(source)), state)
    files: tuple[str, ...] = ()
    if out is not None and state.is_main_process:
        files = _write(out, Path(model), said, found, source)
    result = Evaluated(
        model, nets[0].name, source.spec, source.split, found, cost.parameters, cost.macs, rate, measured_on, beside,
        notes, files,
    )  # fmt: skip
    if files:
        runs.write_json(Path(files[-1]), result.to_json())
    return result


def _check_scores(design: str, hardware: "Answers", program: "Answers") -> None:
    """Raise VerificationError where the simulated hardware's scores are not its Program's."""
    if wrong := int((hardware.logits != program.logits).sum()):
        raise VerificationError(
            f"{design}: {wrong:,} of {program.logits.numel():,} simulated scores differ from its Program's"
        )


def _planned(design: str) -> tuple[float, str]:
    """Return a Design's images/s in a stream, and under which assumption."""
    from limbeck.fpga.design import read

    interval = read(Path(design)).cycles.interval
    return CLOCK / interval, f"{interval:,} cycles per image at an assumed {CLOCK / 1e6:.0f} MHz"


def _ready(
    nets: "list[Classifier]", specs: tuple[str, ...], source: "Source", order: "ClassOrder", state: "PartialState"
) -> "tuple[list[Classifier], tuple[str, ...]]":
    """Return the nets that `specs` name, frozen, their outputs in the order of the data's classes, and notes."""
    from limbeck.nets import zoo

    notes = [
        *source.note.split("; "),
        *(zoo.check_classes(net, source.classes, spec, order=order) for net, spec in zip(nets, specs, strict=True)),
        left(nets[0].lineage.tag, source.spec),
    ]
    ready = [zoo.freeze(net.to(state.device), dtype="float32") for net in nets]
    return ready, tuple(note for note in notes if note)


def _predict(
    net: "Classifier", spec: str, source: "Source", batch: int, workers: int | None, state: "PartialState", tell: Tell
) -> "Answers":
    """Return what `net` predicts for all images, each as it expects to see them."""
    from limbeck.learn.evaluate import answers
    from limbeck.nets.classifier import check_finite

    stream = judged(net, source, batch, workers=workers, ranks=state)
    said = answers(net, stream, accelerator=state, total=-(-len(source) // state.num_processes), tell=tell)
    check_finite(said.logits, spec)
    return said


def _rate(net: "Classifier", batch: int, state: "PartialState") -> tuple[float, str]:
    """Return images/s of the net alone on images of noise, and how that was measured."""
    import torch

    from limbeck.learn.evaluate import speed
    from limbeck.nets.outside import Outside

    shape = (batch, *net.input.shape)
    noise = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    threads = f", threads: {torch.get_num_threads()}" if state.device.type == "cpu" else ""
    where = net.net.engine if isinstance(net.net, Outside) else state.device
    return speed(net, noise.to(state.device)), f"batch {batch}, {where}{threads}"


def _write(out: Path, model: Path, said: "Answers", found: "Evaluation", source: "Source") -> tuple[str, ...]:
    """Write tables and charts into `out`; return their names and, last, that of the figures, yet to be written."""
    from limbeck.artefacts.readers import HISTORY, history
    from limbeck.learn.evaluate import predictions_csv
    from limbeck.page import charts
    from limbeck.page.svg import standalone

    tables = {
        "per_class.csv": found.to_csv(),
        "confusion.csv": found.confusion_csv(),
        "predictions.csv": predictions_csv(said, source.classes, source.keys),
    }
    for name, text in tables.items():
        runs.write_text(out / name, text)
    of = f"{found.images:,} images of {source.spec}"
    pictures = {
        "confusion.svg": standalone(
            charts.confusion(found, f"Confusion matrix of {model.name}"), f"Confusion of {model.name}",
            f"{found.top1:.1%} of {of}; rows true, columns predicted",
        ),
        "reliability.svg": standalone(
            charts.reliability(found.bins, f"Reliability of {model.name}", charts.WIDE), f"Reliability of {model.name}",
            f"accuracy against confidence; expected calibration error {found.ece:.1%}",
        ),
    }  # fmt: skip
    if rows := history(model / HISTORY):
        drawn = charts.curves(rows, f"Training curves of {model.name}")
        pictures["curves.svg"] = standalone(
            drawn, f"Training of {model.name}", "per epoch; held-out figures are solid lines"
        )
    for name, text in pictures.items():
        runs.write_text(out / name, text)
    return tuple(str(out / name) for name in (*tables, *pictures, runs.EVALUATION))
