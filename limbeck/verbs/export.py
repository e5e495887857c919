"""limbeck export: a trained classifier as an ONNX or ExecuTorch file, verified before it has its name."""

import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from limbeck import runs
from limbeck.artefacts.comparison import Compared, check_drop, compare, drop, rows, sample, views
from limbeck.artefacts.models import load_model
from limbeck.errors import InputError, VerificationError
from limbeck.runs import Tell
from limbeck.verbs.quantize import quantize

if TYPE_CHECKING:
    from torch import Tensor

    from limbeck.images.sources import Source
    from limbeck.integer.program import Program
    from limbeck.nets.zoo import Classifier

VERIFIED = 256  # images
TOLERANCE = 1e-3  # of the largest logit: float32 sums in another order, through a deep net
ROUNDINGS = 0.05  # of the largest logit: where float32 can't tell which way to round, later layers feel it
DIGITS = "digits:mnist"
_BATCH = 32
_REMEDY = "try --format onnx, or limbeck quantize --train"


@dataclass(frozen=True)
class Exported:
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

    def rows(self) -> list[tuple[str, str]]:
        """Return what a person wants to know, as (name, value)."""
        whole = f"{self.difference:.2g} where logits reach {self.largest:.3g}, on {self.images:,} images"
        taken, against = "uint8 [batch, channels, size, size]", "float, onnxruntime against PyTorch"
        if self.format == "qonnx":
            taken, against = "float32 [1, channels, size, size], whole numbers to 255", "QONNX against the Program"
        if self.format == "executorch":
            taken, against = "uint8 [1, channels, size, size]", "float, ExecuTorch against PyTorch"
        opset = "" if self.opset is None else f", opset {self.opset}"
        found = [
            ("file", f"{self.out}, {self.size:,} bytes{opset}"),
            ("takes", f"images: {taken}, not normalised"),
            ("largest difference", f"{whole} ({against})"),
        ]
        return [*found, *rows(self.compared, "8-bit")] if self.compared else found

    def to_json(self) -> dict[str, Any]:
        """Return the same as JSON values."""
        lost = drop(self.compared.float_top1, self.compared.top1) if self.compared else None
        return {**asdict(self), "drop": lost}


def export(
    model: str,
    *,
    out: str,
    format: Literal["onnx", "onnx-int8", "qonnx", "executorch"] = "onnx",
    data: str | None = None,
    calibration: int = 512,
    max_drop: float | None = None,
    batch: int = 128,
    workers: int | None = None,
    on_broken: Literal["fatal", "skip"] = "fatal",
    download: bool = False,
    tell: Tell = runs.silent,
) -> Exported:
    """Write a trained classifier for other runtimes: pixels in, logits out, classes and preprocessing in the file.

    The file gets its name when onnxruntime has answered as PyTorch does on real images. onnx-int8 is then quantised by
    onnxruntime (QDQ: convolutions and dense layers in 8 bits, scales from training images), and measured on the
    held-out images beside the float net. qonnx is a Program for FINN and hls4ml: its integers, each rounding a Quant
    node; a run is first lowered to 8 bits, as limbeck quantize does it. executorch is float32 for XNNPACK, one image at
    a time, and is verified by ExecuTorch's own runtime.

    Examples:
        limbeck export runs/s --out s.onnx
        limbeck export runs/s --data photos/ --format onnx-int8 --max-drop 0.5 --out s8.onnx
        limbeck export s.program --data photos/ --format qonnx --out sq.onnx
        limbeck export runs/s --format executorch --out s.pte

    Args:
        model: A run folder, a pinned timm tag, tv/NAME.WEIGHTS, NAME@FILE, hf-hub:ID or local-dir:PATH; for qonnx also
            a Program, x.program.
        out: The file to write, x.onnx; x.pte for executorch.
        format: onnx and executorch are float32; onnx-int8 needs --data, and qonnx does where a run is given.
        data: As for teach: images to verify with; by default the built-in digits and noise.
        calibration: Training images to choose scales from, for 8 bits.
        max_drop: Points of top-1 that 8 bits may lose; with more, nothing is written and the exit code is 3.
        batch: Images at once, where 8 bits are measured.
        workers: Processes that decode images; by default one a core, none for small images held in memory.
        on_broken: What to do about images that can't be read.
        download: Let torchvision and timm fetch a named data set.
    """
    from limbeck.images.sources import open_source
    from limbeck.integer.graph import pixels
    from limbeck.nets import executorch, onnx, zoo

    kind, ending = (executorch, ".pte") if format == "executorch" else (onnx, ".onnx")
    if not out.endswith(ending):
        raise InputError(f"--out {out} must end in {ending}, by which limbeck evaluate knows what it is")
    if calibration < 1:
        raise InputError(f"--calibration is {calibration}; it must be at least 1")
    lowered = format == "qonnx" and not model.endswith(".program")
    if (format == "onnx-int8" or lowered) and data is None:
        raise InputError(f"--format {format} needs --data: its scales are chosen from training images")
    if model.endswith(".program") and format != "qonnx":
        raise InputError(f"{model} is a Program, which can be exported with --format qonnx alone")
    kind.needed(out)
    held_out = open_source(data or DIGITS, "val", on_broken=on_broken, download=download)
    if max_drop is not None and (not (format == "onnx-int8" or lowered) or held_out.labels is None):
        raise InputError("--max-drop is for 8 bits made of a run, and data with labels; leave it out")
    if format == "qonnx":
        with tempfile.TemporaryDirectory() as folder:
            program, found = model, None
            if lowered:
                program = str(Path(folder) / "net.program")
                done = quantize(
                    model, data=str(data), out=program, calibration=calibration, max_drop=max_drop, batch=batch,
                    workers=workers, on_broken=on_broken, download=download, tell=tell,
                )  # fmt: skip
                found = Compared(done.images, done.float_top1, done.top1, done.agreement)
            return replace(_qonnx(program, out, held_out, data is None, workers), model=model, compared=found)
    net = zoo.load(model).eval()
    if format == "onnx-int8" and held_out.labels is not None and (note := zoo.check_classes(net, held_out.classes)):
        tell("note", {"text": note})

    with runs.replacing(Path(out)) as path:
        images = pixels(net, sample(net, held_out, VERIFIED, workers))
        images = images if data else _with_noise(images)
        kind.export(net, path)
        difference, largest = verify(net, kind.load(path), images)
        tell("note", {"text": f"traced {net.name}"})
        found = None
        if format == "onnx-int8":
            source = open_source(str(data), "train", labelled=False, on_broken=on_broken, download=download)
            seen = pixels(net, sample(net, source, min(calibration, len(source)), workers))
            onnx.quantise(path, path, seen)
            found = _measured(net, path, held_out, batch, workers, tell)
            check_drop(found, max_drop, _REMEDY)
    size = Path(out).stat().st_size
    return Exported(model, out, format, kind.OPSET, size, len(images), difference, largest, found)


def _qonnx(model: str, out: str, source: "Source", noise: bool, workers: int | None) -> Exported:
    """Write the Program in the file `model` as QONNX, once it has answered nearly as the Program does."""
    from limbeck.integer import file, qonnx
    from limbeck.integer.graph import pixels

    program, net = file.load(model), load_model(model)
    images = pixels(net, sample(net, source, VERIFIED, workers))
    images = _with_noise(images) if noise else images
    with runs.replacing(Path(out)) as path:
        qonnx.save(program, path)
        difference, largest = verify_qonnx(program, path, images)
    return Exported(
        model, out, "qonnx", qonnx.OPSET, Path(out).stat().st_size, len(images), difference, largest, compared=None
    )


def verify_qonnx(program: "Program", path: Path, images: "Tensor") -> tuple[float, float]:
    """Return how far a logit of the QONNX file, run by onnxruntime, is from the Program's, and how large one is, on
    uint8 images [N, channels, size, size]. VerificationError where that is further than ROUNDINGS."""
    import numpy as np

    from limbeck.integer.program import run
    from limbeck.nets import onnx

    session = onnx.session(path)
    expected = run(program, images.numpy()) * program.scale
    found = [session.run(None, {"images": image[None].numpy().astype(np.float32)})[0] for image in images]
    difference, largest = float(np.abs(np.concatenate(found) - expected).max()), float(np.abs(expected).max())
    if not difference <= ROUNDINGS * largest:
        raise VerificationError(
            f"QONNX's logits differ from the Program's by up to {difference:.3g} where they reach {largest:.3g}; the "
            f"limit is {ROUNDINGS:g} of that, so nothing was written"
        )
    return difference, largest


def _with_noise(images: "Tensor") -> "Tensor":
    """Return the images, the second half of them noise."""
    import torch

    noise = torch.randint(0, 256, images.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return torch.cat([images[: len(images) // 2], noise[len(images) // 2 :]])


def verify(net: "Classifier", other: "Classifier", images: "Tensor") -> tuple[float, float]:
    """Return how far a logit of `other`, a file loaded, is from the net's, and how large one is, on uint8 `images` as
    the file takes them. VerificationError where that is further than TOLERANCE."""
    import torch

    difference, largest = 0.0, 0.0
    for part in torch.split(images, _BATCH):
        with torch.inference_mode():
            expected, found = net(part), other(part)
        if not bool(expected.isfinite().all()):
            raise InputError("the net answers with what is not a number; its weights are broken, train it again")
        difference = max(difference, float((found - expected).abs().nan_to_num(torch.inf).max()))
        largest = max(largest, float(expected.abs().max()))
    if difference > TOLERANCE * largest:
        raise VerificationError(
            f"{other.net.engine}'s logits differ from PyTorch's by up to {difference:.3g} where they reach "
            f"{largest:.3g}; the limit is {TOLERANCE:g} of that, so nothing was written"
        )
    return difference, largest


def _measured(net: "Classifier", path: Path, source: "Source", batch: int, workers: int | None, tell: Tell) -> Compared:
    from limbeck.nets import onnx

    other = onnx.load(path).eval()

    def call(images: "Tensor") -> "Tensor":
        return other(images).argmax(1)  # type: ignore[no-any-return]

    return compare(net, call, views(net, source, batch, workers), len(source), tell)
