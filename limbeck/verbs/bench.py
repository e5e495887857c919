"""limbeck bench."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from limbeck import runs
from limbeck.artefacts.kinds import may_write
from limbeck.deploy.benchmark import WRITERS, Benched, measure, threads_of
from limbeck.deploy.formats import FORMATS, Format, Workshop
from limbeck.errors import InputError
from limbeck.fpga.parts import FASTEST, PartName
from limbeck.runs import Tell
from limbeck.training.sets import balanced, to_compare
from limbeck.training.settings import MOST_WORKERS, Loading, keywords

if TYPE_CHECKING:
    from limbeck.images.source import Source

Split = Literal["val", "test", "train"]


@keywords
def bench(
    models: tuple[str, ...],
    *,
    data: str | None = None,
    formats: tuple[Format, ...] = (),
    images: int | None = None,
    batch: tuple[int, int] = (1, 256),
    threads: int = 1,
    rounds: int = 10,
    split: Split = "val",
    clock: float = 200.0,
    part: PartName = "xczu7ev",
    simulated: int = 4,
    calibration: int = 512,
    loading: Loading = Loading(),  # noqa: B008 - frozen
    out: str | None = None,
    tell: Tell = runs.silent,
) -> Benched:
    """Measure a classifier in every format: accuracy, size, latency, throughput.

    Formats are PyTorch, torch.compile, ONNX, 8-bit ONNX, integer Program, C, hardware. ONNX files, Programs, C
    files and Designs are made in a temporary folder, as limbeck export, quantize and compile make them. What cannot
    be made here has a row that says why. Formats take turns in rounds, after warm-up calls, so that other load on
    the machine affects all of them alike. Hardware is simulated: exact cycles, at the clock that you give, without
    the transfer to the chip; its size and accuracy are those of its Program, whose scores it reproduced on the
    simulated images.

    Examples:
        limbeck bench runs/s --data photos/
        limbeck bench runs/s runs/t1 --data photos/ --formats pytorch onnx onnx-int8 program --out bench.md
        limbeck bench s.program net.c s8.onnx design/ --data photos/

    Args:
        models: Run folders, pinned timm tags and whatever else evaluate takes, and Designs that compile wrote.
        data: As for teach: held-out images to measure accuracy, training images to choose the scales of 8-bit formats.
        formats: Formats to measure; by default all that a model can be converted to. compile takes minutes to start.
        images: Measure accuracy on this many held-out images only, equally many per class.
        batch: Images per call, for latency and for throughput.
        threads: Threads of PyTorch, onnxruntime and numpy; C has one.
        rounds: Turns that each format takes: ten calls with the smaller batch and one with the larger.
        split: The split to measure accuracy on.
        clock: Clock of the hardware in MHz, an assumption.
        part: The chip that hardware is compiled for.
        simulated: Images that run through the simulated hardware, every score compared with the Program's.
        calibration: Training images to choose scales from.
        loading: How images are read.
        out: A file to write the table to: .json, .csv or .md.
    """
    from accelerate import PartialState

    _check(models, formats, batch, threads, rounds, clock, simulated, out, data)
    device = PartialState().device
    source = _held_out(data, split, images, loading)
    with threads_of(threads), tempfile.TemporaryDirectory(prefix="limbeck-bench-") as folder:
        shop = Workshop(Path(folder), data, device, part, simulated, calibration, loading, tell)
        lines = measure(models, formats, shop, source, batch=batch, rounds=rounds, clock=clock)
    where = f"{device}" if device.type == "cpu" else f"{device}, ONNX and Programs on the CPU"
    found = Benched(lines, data, split, len(source or ()), batch, threads, rounds, where, out)
    tell("note", {"text": found.how})
    if out is not None:
        runs.write_text(Path(out), WRITERS[Path(out).suffix](found))
    return found


def _check(
    models: tuple[str, ...],
    formats: tuple[str, ...],
    batch: tuple[int, int],
    threads: int,
    rounds: int,
    clock: float,
    simulated: int,
    out: str | None,
    data: str | None,
) -> None:
    """Refuse what cannot be measured."""
    if not models:
        raise InputError("name a model to measure: a run, a .program, .c or .onnx file, a Design")
    if unknown := [form for form in formats if form not in FORMATS]:
        raise InputError(f"{unknown[0]!r} is no format; choose from {', '.join(FORMATS)}")
    limits = {"batch": min(batch), "threads": threads, "rounds": rounds, "simulated": simulated}
    for name, value in limits.items():
        if value < 1:
            raise InputError(f"--{name} is {value}; it must be at least 1")
    if threads > MOST_WORKERS:
        raise InputError(f"--threads is {threads}; the limit is {MOST_WORKERS}")
    if not 0 < clock <= FASTEST:
        raise InputError(f"--clock is {clock}; give MHz above 0 and at most {FASTEST:g}")
    if out is not None and Path(out).suffix not in WRITERS:
        raise InputError(f"--out {out} must end in {', '.join(WRITERS)}")
    may_write(out, "table", inputs=models, data=(data,))


def _held_out(
    data: str | None,
    split: Split,
    images: int | None,
    loading: Loading,
) -> "Source | None":
    if data is None:
        return None
    source = to_compare(data, loading, split)
    if images is None:
        return source
    if not 1 <= images <= len(source):
        raise InputError(f"--images is {images}, but must be from 1 to the {len(source)} of {data} {split}")
    return balanced(source, images, 0)
