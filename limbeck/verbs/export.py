"""limbeck export: a trained classifier as an ONNX file, verified before it has its name."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from limbeck import runs
from limbeck.errors import InputError, VerificationError
from limbeck.runs import Tell
from limbeck.verbs.comparison import Compared, check_drop, compare, drop, rows, sample, views

if TYPE_CHECKING:
    from torch import Tensor

    from limbeck.data.sources import Source
    from limbeck.nets.zoo import Classifier

VERIFIED = 256  # images
TOLERANCE = 1e-3  # of the largest logit: float32 sums in another order, through a deep net
DIGITS = "digits:mnist"
_BATCH = 32
_REMEDY = "try --format onnx, or limbeck quantize --train"


@dataclass(frozen=True)
class Exported:
    """A verified ONNX file. Shares are in [0, 1]."""

    model: str
    out: str
    format: str
    opset: int
    size: int  # bytes of the file
    images: int  # that PyTorch and onnxruntime were compared on
    difference: float  # the largest, of a logit, between PyTorch and the float file
    largest: float  # the largest logit
    compared: Compared | None  # the 8-bit file beside the float net; None for the float file

    def rows(self) -> list[tuple[str, str]]:
        """Return what a person wants to know, as (name, value)."""
        whole = f"{self.difference:.2g} where logits reach {self.largest:.3g}, on {self.images:,} images"
        found = [
            ("file", f"{self.out}, {self.size:,} bytes, opset {self.opset}"),
            ("takes", "images: uint8 [batch, channels, size, size], not normalised"),
            ("largest difference", f"{whole} (float, onnxruntime against PyTorch)"),
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
    format: Literal["onnx", "onnx-int8"] = "onnx",
    data: str | None = None,
    calibration: int = 512,
    max_drop: float | None = None,
    batch: int = 128,
    workers: int | None = None,
    on_broken: Literal["fatal", "skip"] = "fatal",
    download: bool = False,
    tell: Tell = runs.silent,
) -> Exported:
    """Write a trained classifier as ONNX: pixels in, logits out, classes and preprocessing in the metadata.

    The file gets its name when onnxruntime has answered as PyTorch does on real images. onnx-int8 is then quantised by
    onnxruntime (QDQ: convolutions and dense layers in 8 bits, scales from training images), and measured on the
    held-out images beside the float net.

    Examples:
        limbeck export runs/s --out s.onnx
        limbeck export runs/s --data photos/ --format onnx-int8 --max-drop 0.5 --out s8.onnx

    Args:
        model: A run folder, a pinned timm tag, tv/NAME.WEIGHTS, NAME@FILE, hf-hub:ID or local-dir:PATH.
        out: The file to write, x.onnx.
        format: onnx is float32; onnx-int8 needs --data.
        data: As for teach: images to verify with; by default the built-in digits and noise.
        calibration: Training images to choose scales from, for onnx-int8.
        max_drop: Points of top-1 that onnx-int8 may lose; with more, nothing is written and the exit code is 3.
        batch: Images at once, where onnx-int8 is measured.
        workers: Processes that decode images; by default one a core, none for small images held in memory.
        on_broken: What to do about images that can't be read.
        download: Let torchvision and timm fetch a named data set.
    """
    from limbeck.data.sources import open_source
    from limbeck.integer.graph import pixels
    from limbeck.nets import onnx, zoo

    if not out.endswith(".onnx"):
        raise InputError(f"--out {out} must end in .onnx, by which limbeck evaluate knows what it is")
    if calibration < 1:
        raise InputError(f"--calibration is {calibration}; it must be at least 1")
    if format == "onnx-int8" and data is None:
        raise InputError("--format onnx-int8 needs --data: its scales are chosen from training images")
    onnx.needed(out)
    held_out = open_source(data or DIGITS, "val", on_broken=on_broken, download=download)
    if max_drop is not None and (format == "onnx" or held_out.labels is None):
        raise InputError("--max-drop is for --format onnx-int8 and data with labels; leave it out")
    net = zoo.load(model).eval()
    if format == "onnx-int8" and held_out.labels is not None and (note := zoo.check_classes(net, held_out.classes)):
        tell("note", {"text": note})

    with runs.replacing(Path(out)) as path:
        onnx.export(net, path)
        tell("note", {"text": f"traced {net.name}"})
        images = pixels(net, sample(net, held_out, VERIFIED, workers))
        difference, largest = verify(net, path, images if data else _with_noise(images))
        found = None
        if format == "onnx-int8":
            source = open_source(str(data), "train", labelled=False, on_broken=on_broken, download=download)
            seen = pixels(net, sample(net, source, min(calibration, len(source)), workers))
            onnx.quantise(path, path, seen)
            found = _measured(net, path, held_out, batch, workers, tell)
            check_drop(found, max_drop, _REMEDY)
    size = Path(out).stat().st_size
    return Exported(model, out, format, onnx.OPSET, size, len(images), difference, largest, found)


def _with_noise(images: "Tensor") -> "Tensor":
    """Return the images, the second half of them noise."""
    import torch

    noise = torch.randint(0, 256, images.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return torch.cat([images[: len(images) // 2], noise[len(images) // 2 :]])


def verify(net: "Classifier", path: Path, images: "Tensor") -> tuple[float, float]:
    """Return how far a logit of the file is from the net's, and how large one is, on uint8 `images` as the file takes
    them. VerificationError where that is further than TOLERANCE."""
    import torch

    from limbeck.nets import onnx

    other, difference, largest = onnx.load(path), 0.0, 0.0
    for part in torch.split(images, _BATCH):
        with torch.inference_mode():
            expected, found = net(part), other(part)
        if not bool(expected.isfinite().all()):
            raise InputError("the net answers with what is not a number; its weights are broken, train it again")
        difference = max(difference, float((found - expected).abs().nan_to_num(torch.inf).max()))
        largest = max(largest, float(expected.abs().max()))
    if difference > TOLERANCE * largest:
        raise VerificationError(
            f"onnxruntime's logits differ from PyTorch's by up to {difference:.3g} where they reach {largest:.3g}; the "
            f"limit is {TOLERANCE:g} of that, so nothing was written"
        )
    return difference, largest


def _measured(net: "Classifier", path: Path, source: "Source", batch: int, workers: int | None, tell: Tell) -> Compared:
    from limbeck.nets import onnx

    other = onnx.load(path).eval()

    def call(images: "Tensor") -> "Tensor":
        return other(images).argmax(1)  # type: ignore[no-any-return]

    return compare(net, call, views(net, source, batch, workers), len(source), tell)
