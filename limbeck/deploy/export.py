"""A trained classifier as an ONNX, QONNX, ExecuTorch or C file or a page, verified before it has its name."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from limbeck import runs
from limbeck.artefacts.models import load_model
from limbeck.deploy.comparison import Compared, check_drop, compare, drop, rows, sample
from limbeck.deploy.quantise import Quantising, check_calibration, quantise
from limbeck.errors import InputError, VerificationError
from limbeck.results import Result
from limbeck.runs import Tell
from limbeck.training.adaptation.adapted import left
from limbeck.training.sets import judged, to_compare
from limbeck.training.settings import Loading, Training

if TYPE_CHECKING:
    from torch import Tensor

    from limbeck.c.running import Scores
    from limbeck.c.write import Written
    from limbeck.images.source import Source
    from limbeck.integer.program import Program
    from limbeck.nets.zoo import Classifier

Format = Literal["onnx", "onnx-int8", "qonnx", "executorch", "c", "page"]
ENDINGS: dict[Format, str] = {"executorch": ".pte", "c": ".c", "page": ".html"}  # others: .onnx
VERIFIED = 256  # images
TOLERANCE = 1e-3  # of the largest logit: float32 sums in another order, through a deep net
ROUNDINGS = 0.05  # of the largest logit: where float32 can't tell which way to round, later layers feel it
DIGITS = "digits:mnist"
_BATCH = 32
_CALLS = 16
_REMEDY = "try --format onnx, or limbeck quantize --train"


@dataclass(frozen=True)
class Needs:
    """What a C file needs of a device, in bytes: code and stack come on top."""

    tables: int  # constants, in flash
    arena: int  # RAM
    bound: int  # inputs and output of the node that has most, `node`, if no map overlapped another
    node: str
    compiled: bool  # and compared with the Program on this machine


@dataclass(frozen=True)
class Exported(Result):
    """A verified file. Shares are in [0, 1]. `difference` is that of QONNX and its Program, or of the float file and
    PyTorch, both in logits."""

    model: str
    out: str
    format: str
    opset: int | None  # of ONNX
    size: int  # bytes of the file
    images: int  # that both were compared on
    difference: float  # the largest of a logit
    largest: float  # the largest logit
    compared: Compared | None  # 8 bits beside the float net; None for the float file, and where the Program was given
    needs: Needs | None = None  # of a device, for C
    pace: tuple[float, float] | None = None  # CPU milliseconds of one image: 8-bit ONNX, float ONNX

    def rows(self) -> list[tuple[str, str]]:
        """Return what a person wants to know, as (name, value)."""
        differs = f"{self.difference:.2g} where logits reach {self.largest:.3g}, on {self.images:,} images"
        taken, against = "uint8 [batch, channels, size, size]", "float, onnxruntime against PyTorch"
        if self.format == "qonnx":
            taken, against = "float32 [1, channels, size, size], whole numbers to 255", "QONNX against the Program"
        if self.needs is not None:
            return self._c_rows(self.needs)
        if self.format == "executorch":
            taken, against = "uint8 [1, channels, size, size]", "float, ExecuTorch against PyTorch"
        opset = "" if self.opset is None else f", opset {self.opset}"
        found = [
            ("file", f"{self.out}, {self.size:,} bytes{opset}"),
            ("takes", f"images: {taken}, not normalised"),
            ("largest difference", f"{differs} ({against})"),
        ]
        if self.compared:
            found += rows(self.compared, "8-bit")
        if self.pace:
            eight, whole = self.pace
            advice = "" if eight < whole else ": 8 bits are not faster here; --format onnx is"
            found.append(("one image", f"{eight:.3g} ms of CPU, {whole:.3g} in float{advice}"))
        return found

    def _c_rows(self, needs: Needs) -> list[tuple[str, str]]:
        equal = f"every score, on {self.images:,} images (compiled here, against the Program)"
        if self.format == "page":
            return [("file", f"{self.out}, {self.size:,} bytes: open it in a browser"), ("equal", equal)]
        found = [
            ("file", f"{self.out}, {self.size:,} bytes, and its header"),
            ("takes", "images: uint8 [height][width][channels], not normalised"),
            ("equal", equal if needs.compiled else "not compiled here: no C compiler; apt-get install gcc"),
            ("flash", f"{needs.tables:,} bytes of tables, and code"),
            ("RAM", f"{needs.arena:,} bytes and the stack; {needs.node} alone takes and gives {needs.bound:,}"),
        ]
        return [*found, *rows(self.compared, "8-bit")] if self.compared else found

    def to_json(self) -> dict[str, Any]:
        """Return the same as JSON values."""
        lost = drop(self.compared.float_top1, self.compared.top1) if self.compared else None
        return {**asdict(self), "drop": lost}


def export(
    model: str,
    out: str,
    format: Format,
    data: str | None = None,
    *,
    calibration: int = 512,
    max_drop: float | None = None,
    max_ram: int | None = None,
    max_flash: int | None = None,
    batch: int = 128,
    loading: Loading = Loading(),  # noqa: B008 - frozen
    tell: Tell = runs.silent,
) -> Exported:
    """Write `model` to `out` once the file has agreed with the model on held-out images of `data`, or on digits
    and noise. 8 bits get their scales from training images of `data`, and VerificationError where they lose more than
    `max_drop` points of top-1."""
    from limbeck.c import page
    from limbeck.nets import executorch, onnx

    is_program = model.endswith(".program")
    integers = format in ("qonnx", "c", "page")
    eight = format == "onnx-int8" or (integers and not is_program)
    kind, ending = executorch if format == "executorch" else onnx, ENDINGS.get(format, ".onnx")
    if not out.endswith(ending):
        raise InputError(f"--out {out} must end in {ending}, by which limbeck evaluate recognises it")
    check_calibration(calibration)
    if eight and data is None:
        raise InputError(f"--format {format} needs --data: its scales are chosen from training images")
    if is_program and not integers:
        raise InputError(f"{model} is a Program, which can be exported with --format qonnx, c and page alone")
    if format == "page":
        page.needed()
    elif format != "c":
        kind.needed(out)
    if format != "c" and (max_ram is not None or max_flash is not None):
        raise InputError("--max-ram and --max-flash are for --format c; leave them out")
    held_out = to_compare(data or DIGITS, loading)
    if max_drop is not None and (not eight or held_out.labels is None):
        raise InputError("--max-drop is for 8 bits made of a run, and data with labels; leave it out")
    job = _Job(model, out, data, held_out, calibration, max_drop, batch, loading, tell)
    if integers:
        in_c = partial(_c, max_ram=max_ram, max_flash=max_flash, format=format)
        write = _qonnx if format == "qonnx" else in_c
        return write(job) if is_program else _lowered(job, write)
    return _onnx_int8(job) if format == "onnx-int8" else _float(job, format, kind)


@dataclass(frozen=True)
class _Job:
    """What is to be written, from which images."""

    model: str
    out: str
    data: str | None
    held_out: "Source"
    calibration: int
    max_drop: float | None
    batch: int
    loading: Loading
    tell: Tell

    def net(self) -> "Classifier":
        from limbeck.nets import zoo

        return zoo.load(self.model).eval()

    def images(self, net: "Classifier") -> "Tensor":
        """Return the images to verify with, as the file takes them: half of them noise where there is no --data."""
        import torch

        from limbeck.integer.graph import pixels

        images = pixels(net, sample(net, self.held_out, VERIFIED, self.loading.workers))
        if self.data is not None:
            return images
        noise = torch.randint(0, 256, images.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        return torch.cat([images[: len(images) // 2], noise[len(images) // 2 :]])

    def done(
        self, format: Format, opset: int | None, verified: "Tensor", differs: tuple[float, float],
        compared: Compared | None = None,
    ) -> Exported:  # fmt: skip
        size = Path(self.out).stat().st_size
        return Exported(self.model, self.out, format, opset, size, len(verified), *differs, compared)


def _float(job: _Job, format: Format, kind: Any) -> Exported:  # noqa: ANN401 - the module of a runtime
    net = job.net()
    with runs.replacing(Path(job.out)) as path:
        images = job.images(net)
        kind.export(net, path)
        differs = verify(net, kind.load(path), images)
        job.tell("note", {"text": f"traced {net.name}"})
    return job.done(format, kind.OPSET, images, differs)


def _onnx_int8(job: _Job) -> Exported:
    """Write float ONNX, verify it, have onnxruntime quantise it, and measure that beside the float net."""
    from limbeck.images.sources import open_source
    from limbeck.integer.graph import pixels
    from limbeck.nets import onnx, zoo

    net = job.net()
    if job.held_out.labels is not None and (
        note := zoo.check_classes(net, job.held_out.classes, order=job.loading.class_order)
    ):
        job.tell("note", {"text": note})
    if note := left(net.lineage.tag, str(job.data)):
        job.tell("note", {"text": note})
    with runs.replacing(Path(job.out)) as path:
        images = job.images(net)
        onnx.export(net, path)
        whole = onnx.load(path).eval()
        differs = verify(net, whole, images)
        job.tell("note", {"text": f"traced {net.name}"})
        opened = partial(open_source, str(job.data), on_broken=job.loading.on_broken, download=job.loading.download)
        source = opened("train", labelled=False)
        seen = sample(net, source, min(job.calibration, len(source)), job.loading.workers)
        onnx.quantise(path, path, pixels(net, seen))
        other = onnx.load(path).eval()

        def call(images: "Tensor") -> "Tensor":
            return other(images).argmax(1)  # type: ignore[no-any-return]

        found = compare(
            net, call, judged(net, job.held_out, job.batch, workers=job.loading.workers), len(job.held_out), job.tell
        )
        check_drop(found, job.max_drop, _REMEDY)
        paces = pace(other, images[:1]), pace(whole, images[:1])
    return replace(job.done("onnx-int8", onnx.OPSET, images, differs, found), pace=paces)


def pace(net: "Classifier", image: "Tensor") -> float:
    """Return the CPU milliseconds that the net takes for one image: the least of some calls, the first not counted."""
    took = []
    for _ in range(_CALLS + 1):
        start = time.process_time()
        net(image)
        took.append(1e3 * (time.process_time() - start))
    return min(took[1:])


def _lowered(job: _Job, write: Callable[[_Job], Exported]) -> Exported:
    """Write the file of the 8-bit Program that limbeck quantize would make."""
    with tempfile.TemporaryDirectory() as folder:
        program = str(Path(folder) / "net.program")
        training = Training(batch=job.batch, **vars(job.loading))
        how = Quantising(calibration=job.calibration)
        done = quantise(job.model, str(job.data), program, how, training, max_drop=job.max_drop, tell=job.tell)
        found = Compared(done.images, done.float_top1, done.top1, done.agreement)
        return replace(write(replace(job, model=program)), model=job.model, compared=found)


def _qonnx(job: _Job) -> Exported:
    """Write a Program as QONNX, once its logits are nearly the Program's."""
    from limbeck.integer import file, qonnx

    program, images = file.load(job.model), job.images(load_model(job.model))
    with runs.replacing(Path(job.out)) as path:
        qonnx.save(program, path)
        differs = verify_qonnx(program, path, images)
    return job.done("qonnx", qonnx.OPSET, images, differs)


def _c(job: _Job, *, max_ram: int | None, max_flash: int | None, format: Format) -> Exported:
    """Write a Program as C, or as a page of it, once its scores, compiled here, are those of the Program; InputError
    where it needs more of a device than there is."""
    from limbeck.c import artefact, page, running
    from limbeck.c.write import write
    from limbeck.integer import file

    program = file.load(job.model)
    written = write(program, Path(job.out).stem)
    _check_fits(written, max_ram, max_flash)
    compiled = running.compiler() is not None
    images = job.images(load_model(job.model))
    if compiled:
        verify_c(program, running.opened(program, written), images)
    (artefact if format == "c" else page).save(program, written, Path(job.out))
    memory = written.memory
    needs = Needs(written.tables, written.arena, memory.bound, memory.node, compiled)
    return replace(job.done(format, None, images, (0.0, 0.0)), needs=needs)


def _check_fits(written: "Written", max_ram: int | None, max_flash: int | None) -> None:
    memory = written.memory
    if max_ram is not None and written.arena > max_ram:
        raise InputError(
            f"the net needs {written.arena:,} bytes of RAM, --max-ram is {max_ram:,}; {memory.node} alone takes and "
            f"gives {memory.bound:,}: give the net smaller images or fewer channels"
        )
    if max_flash is not None and written.tables > max_flash:
        raise InputError(
            f"the net needs {written.tables:,} bytes of tables, --max-flash is {max_flash:,}; {written.largest} is the "
            "largest: give the net fewer channels"
        )


def verify_c(program: "Program", scores: "Scores", images: "Tensor") -> None:
    """Raise VerificationError where a score of the compiled net is not the Program's, on uint8 images."""
    from limbeck.integer.program import run

    if wrong := int((scores(images.numpy()) != run(program, images.numpy())).sum()):
        raise VerificationError(f"{wrong:,} scores of the compiled C file are not the Program's; nothing was written")


def verify_qonnx(program: "Program", path: Path, images: "Tensor") -> tuple[float, float]:
    """Return how far a logit of the QONNX file, run by onnxruntime and saturated, is from the Program's, and how large
    one is, on uint8 images [N, channels, size, size]. VerificationError where that is further than ROUNDINGS."""
    import numpy as np

    from limbeck.integer.program import peak, run
    from limbeck.integer.survey import survey
    from limbeck.nets import onnx

    session = onnx.session(path)
    expected = run(program, images.numpy()) * program.scale
    found = [session.run(None, {"images": image[None].numpy().astype(np.float32)})[0] for image in images]
    half = peak(survey(program)[-1].out.bits)
    scores = np.clip(np.concatenate(found), -half * program.scale, (half - 1) * program.scale)
    difference, largest = float(np.abs(scores - expected).max()), float(np.abs(expected).max())
    if not difference <= ROUNDINGS * largest:
        raise VerificationError(
            f"QONNX's logits differ from the Program's by up to {difference:.3g} where they reach {largest:.3g}; the "
            f"limit is {ROUNDINGS:g} of that, so nothing was written"
        )
    return difference, largest


def verify(net: "Classifier", other: "Classifier", images: "Tensor") -> tuple[float, float]:
    """Return how far a logit of `other`, a file loaded, is from the net's, and how large one is, on uint8 `images` as
    the file takes them. VerificationError where that is further than TOLERANCE."""
    import torch

    from limbeck.nets.classifier import check_finite

    difference, largest = 0.0, 0.0
    for part in torch.split(images, _BATCH):
        with torch.inference_mode():
            expected, found = net(part), other(part)
        check_finite(expected, "the net")
        difference = max(difference, float((found - expected).abs().nan_to_num(torch.inf).max()))
        largest = max(largest, float(expected.abs().max()))
    if difference > TOLERANCE * largest:
        raise VerificationError(
            f"{other.net.engine}'s logits differ from PyTorch's by up to {difference:.3g} where they reach "
            f"{largest:.3g}; the limit is {TOLERANCE:g} of that, so nothing was written"
        )
    return difference, largest
