"""limbeck export."""

from limbeck import runs
from limbeck.artefacts.kinds import may_write
from limbeck.deploy.export import Exported, Format
from limbeck.deploy.export import export as write
from limbeck.runs import Tell
from limbeck.training.settings import Loading, keywords


@keywords
def export(
    model: str,
    *,
    out: str,
    format: Format = "onnx",
    data: str | None = None,
    calibration: int = 512,
    max_drop: float | None = None,
    batch: int = 128,
    loading: Loading = Loading(),  # noqa: B008 - frozen
    tell: Tell = runs.silent,
) -> Exported:
    """Write a trained classifier as ONNX, QONNX or ExecuTorch, verified.

    Pixels in, logits out; classes and preprocessing are in the file. The file gets its name once onnxruntime's
    logits agree with PyTorch's on real images. onnx-int8 is then quantised by onnxruntime (QDQ: convolutions and dense
    layers in 8 bits, scales from training images), and measured on the held-out images beside the float net. qonnx is a
    Program for FINN and hls4ml: its integers, each rounding a Quant node; a run is first lowered to 8 bits, as limbeck
    quantize does it. executorch is float32 for XNNPACK, one image at a time, and is verified by ExecuTorch's own
    runtime.

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
        max_drop: Points of top-1 that 8 bits may lose; if more are lost, nothing is written and the exit code is 3.
        batch: Images per batch, where the 8-bit net is measured.
        loading: How images are read.
    """
    may_write(out, "ExecuTorch file" if format == "executorch" else "ONNX file", inputs=(model,), data=(data,))
    return write(
        model, out, format, data, calibration=calibration, max_drop=max_drop, batch=batch, loading=loading, tell=tell
    )
