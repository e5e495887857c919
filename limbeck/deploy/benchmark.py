"""One classifier in every format, side by side: accuracy, size, latency, throughput."""

import contextlib
import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from limbeck.deploy.formats import Format, Made, Workshop, formats_of, make
from limbeck.deploy.simulate import Simulated
from limbeck.errors import InputError, VerificationError, first_line
from limbeck.results import Result
from limbeck.runs import Tell
from limbeck.training.sets import judged

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from limbeck.images.source import Source
    from limbeck.nets.classifier import Classifier

SINGLES = 10  # latencies a round
_HEADING = ("model", "format", "top-1", "bytes", "p50 ms", "p95 ms", "images/s", "")
Call = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """A model in a format; what could not be measured is None, and `note` says why."""

    model: str
    format: Format
    top1: float | None = None  # in [0, 1]
    size: int | None = None  # bytes on disk of the weights, the ONNX file or the Program
    p50: float | None = None  # milliseconds of the smaller batch
    p95: float | None = None
    images_per_second: float | None = None  # of the larger batch
    simulated: bool = False  # cycles at an assumed clock, not time
    note: str = ""

    def cells(self) -> tuple[str, ...]:
        """Return the row as a table shows it."""
        return (
            self.model,
            self.format,
            f"{self.top1:.2%}" if self.top1 is not None else "-",
            f"{self.size:,}" if self.size is not None else "-",
            f"{self.p50:.3f}" if self.p50 is not None else "-",
            f"{self.p95:.3f}" if self.p95 is not None else "-",
            f"{self.images_per_second:,.0f}" if self.images_per_second is not None else "-",
            self.note,
        )


@dataclass(frozen=True)
class Benched(Result):
    """A row for each model and format, and how they were measured."""

    lines: tuple[Row, ...]
    data: str | None
    split: str
    images: int  # that accuracy was measured on; 0 without --data
    batch: tuple[int, int]
    threads: int
    rounds: int
    measured_on: str
    out: str | None

    @property
    def problem(self) -> str:
        """A model that could not be measured at all, and why; empty where each could."""
        measured = {line.model for line in self.lines if line.size is not None}
        return next((f"{line.model}: {line.note}" for line in self.lines if line.model not in measured), "")

    @property
    def how(self) -> str:
        """How the figures came about, in a sentence."""
        accuracy = f"top-1 on {self.images:,} images of {self.data} {self.split}; " if self.images else ""
        return (
            f"{accuracy}p50 and p95 of {SINGLES * self.rounds} calls with batch {self.batch[0]}, images/s the median "
            f"of {self.rounds} with batch {self.batch[1]}; pixels in, logits out; {self.measured_on}, threads: "
            f"{self.threads}; formats take turns"
        )

    def rows(self) -> list[tuple[str, ...]]:
        """Return the table, its heading first."""
        written = [("written", self.out)] if self.out else []
        return [_HEADING, *(line.cells() for line in self.lines), *written]

    def to_json(self) -> dict[str, Any]:
        """Return the same as JSON values."""
        found = asdict(self)
        return {"rows": found.pop("lines"), **found, "how": self.how}


def measure(
    models: tuple[str, ...],
    formats: tuple[Format, ...],
    shop: Workshop,
    source: "Source | None",
    *,
    batch: tuple[int, int],
    rounds: int,
    clock: float,
) -> tuple[Row, ...]:
    """Return a row per model and format: accuracy on `source`, times of calls with either batch, which take turns."""
    ready = [_ready(model, form, shop, batch, source) for model in models for form in _asked(model, formats)]
    made = [one for one in ready if isinstance(one, Made)]
    top1 = _accuracies(made, source, batch[1], shop)
    times = _turns({one: _calls(one, batch, shop.device) for one in made if one.simulated is None}, rounds, shop.tell)
    timed = {
        one: _clocked(one, one.simulated, clock) if one.simulated else _timed(one, *times[one], batch[1])
        for one in made
    }
    return tuple(one if isinstance(one, Row) else replace(timed[one], top1=top1.get(one)) for one in ready)


def _asked(model: str, formats: tuple[Format, ...]) -> list[Format]:
    """Return the formats to measure `model` in."""
    has = formats_of(model)
    found = [form for form in has if form in formats or not formats]
    if not found:
        raise InputError(f"{model} comes as {', '.join(has)} only; leave --formats out or choose from these")
    return found


@contextlib.contextmanager
def threads_of(count: int) -> Iterator[None]:
    """Have PyTorch, numpy and, as it asks PyTorch, onnxruntime compute with `count` threads."""
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with threadpool_limits(limits=count):
            yield
    finally:
        torch.set_num_threads(before)


def _ready(model: str, form: Format, shop: Workshop, batch: tuple[int, int], source: "Source | None") -> Made | Row:
    """Return `model` in a format, called once with each batch, or a row that says why not."""
    from limbeck.nets import zoo

    shop.tell("note", {"text": f"{model}: {form}{', minutes' if form == 'compile' else ''}"})
    try:
        made = make(model, form, shop)
        if source is not None and source.labels is not None:
            zoo.check_classes(made.net, source.classes)
    except (InputError, VerificationError) as error:
        return Row(model, form, note=str(error))
    try:
        for call in _calls(made, batch, shop.device) if made.simulated is None else ():
            call()
    except Exception as error:  # a compiler that is missing or gives up has errors of its own
        if form != "compile":
            raise
        return Row(model, form, note=f"torch.compile: {first_line(error)}")
    return made


def _calls(made: Made, batch: tuple[int, int], device: "torch.device") -> tuple[Call, Call]:
    """Return calls with the smaller and the larger batch of noise that lies ready in the form that the format takes."""
    import torch

    seen = made.net.input
    shape = seen.shape
    generator = torch.Generator().manual_seed(0)
    noise = [torch.randint(0, 256, (n, *shape), dtype=torch.uint8, generator=generator) for n in batch]
    return _call(made.net, noise[0].to(device)), _call(made.net, noise[1].to(device))


def _call(net: "Classifier", images: "Tensor") -> Call:
    import torch

    from limbeck.nets.outside import Outside

    if isinstance(net.net, Outside):
        answer, pixels = net.net.answer, images.cpu().numpy()
        return lambda: answer(pixels)

    def ask() -> "Tensor":
        with torch.inference_mode():
            logits: Tensor = net(images).cpu()  # waits for the device
        return logits

    return ask


def _accuracies(made: list[Made], source: "Source | None", batch: int, shop: Workshop) -> dict[Made, float | None]:
    """Return the share of the source's images that each classifies correctly, nothing without labels. A simulated
    Program's is the Program's, as every score was equal."""
    if source is None or source.labels is None:
        return {}
    known: dict[tuple[str, str], float | None] = {}
    for one in made:
        if _answers_as(one) not in known:
            known[_answers_as(one)] = _accuracy(one, source, batch, shop)
    return {one: known[_answers_as(one)] for one in made}


def _answers_as(one: Made) -> tuple[str, str]:
    return one.model, "program" if one.format == "hardware" else one.format


def _accuracy(one: Made, source: "Source", batch: int, shop: Workshop) -> float | None:
    import torch

    right = done = 0
    for part in judged(one.net, source, batch, workers=shop.loading.workers):
        images, count = part.images, len(part.images)
        if one.format == "compile" and count < batch:  # another size would be compiled anew
            images = torch.cat([images, images.new_zeros((batch - count, *images.shape[1:]))])
        with torch.inference_mode():
            logits = one.net(images.to(shop.device)).cpu()[:count]
        if not bool(logits.isfinite().all()):
            shop.tell("note", {"text": f"{one.model} as {one.format} outputs NaN or infinity, so it has no top-1"})
            return None
        said = logits.argmax(1)
        assert part.labels is not None
        right += int((said == part.labels).sum())
        done += count
        shop.tell("evaluated", {"image": done, "images": len(source)})
    return right / done


_Times = tuple[list[float], list[float]]  # seconds of the calls with the smaller and with the larger batch


def _turns(calls: dict[Made, tuple[Call, Call]], rounds: int, tell: Tell) -> dict[Made, _Times]:
    """Return the times of each one's calls. They take turns; a turn begins with a call that is not counted, for the
    caches hold another's weights."""
    found: dict[Made, _Times] = {one: ([], []) for one in calls}
    for turn in range(rounds):
        for one, (single, many) in calls.items():
            single()
            found[one][0].extend(_seconds(single) for _ in range(SINGLES))
            found[one][1].append(_seconds(many))
        tell("step", {"step": turn + 1, "steps": rounds})
    return found


def _seconds(call: Call) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def _timed(one: Made, singles: list[float], batches: list[float], batch: int) -> Row:
    import numpy as np

    p50, p95 = (1000 * float(value) for value in np.percentile(singles, [50, 95]))
    rate = batch / float(np.median(batches))
    return Row(one.model, one.format, size=one.size, p50=p50, p95=p95, images_per_second=rate)


def _clocked(one: Made, found: Simulated, clock: float) -> Row:
    """Return the row of simulated hardware at `clock` MHz; its size and accuracy are those of its Program."""
    milliseconds = found.latency / (1000 * clock)
    note = f"simulated, {found.latency:,} cycles at {clock:g} MHz; {found.scores:,} scores equal to the Program's"
    rate = 1e6 * clock / found.interval
    return Row(
        one.model, one.format, size=one.size, p50=milliseconds, p95=milliseconds, images_per_second=rate,
        simulated=True, note=note,
    )  # fmt: skip


def _json(found: Benched) -> str:
    return json.dumps(found.to_json(), indent=2, ensure_ascii=False) + "\n"


def _csv(found: Benched) -> str:
    from limbeck.learn.evaluate import csv_text

    names = [field.name for field in fields(Row)]
    return csv_text([names, *([getattr(line, name) for name in names] for line in found.lines)])


def _markdown(found: Benched) -> str:
    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |\n"

    table = [line(_HEADING), line("---" for _ in _HEADING), *(line(row.cells()) for row in found.lines)]
    return "".join(table) + f"\n{found.how[0].upper()}{found.how[1:]}.\n"


WRITERS: dict[str, Callable[[Benched], str]] = {".json": _json, ".csv": _csv, ".md": _markdown}
