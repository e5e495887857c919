"""limbeck export."""

from pathlib import Path

from limbeck import runs
from limbeck.artefacts.kinds import Written, may_write
from limbeck.deploy.export import Exported, Format
from limbeck.deploy.export import export as write
from limbeck.runs import Tell
from limbeck.training.settings import Loading, keywords

KINDS: dict[Format, Written] = {"executorch": "ExecuTorch file", "c": "C file", "page": "page"}


@keywords
def export(
    model: str,
    *,
    out: str,
    format: Format = "onnx",
    data: str | None = None,
    calibration: int = 512,
    max_drop: float | None = None,
    max_ram: int | None = None,
    max_flash: int | None = None,
    batch: int = 128,
    loading: Loading = Loading(),  # noqa: B008 - frozen
    tell: Tell = runs.silent,
) -> Exported:
    """Write a trained classifier as ONNX, QONNX, ExecuTorch, C or a web page, verified.

    Pixels in, logits out; classes and preprocessing are in the file. The file gets its name once onnxruntime's
    logits agree with PyTorch's on real images. onnx-int8 is then quantised by onnxruntime (QDQ: convolutions and
    dense layers in 8 bits, scales from training images), and measured on the held-out images beside the float net.
    qonnx is a Program for FINN and hls4ml: its integers, each rounding a Quant node; a run is first lowered to 8
    bits, as limbeck quantize does it. executorch is float32 for XNNPACK, one image at a time, and is verified by
    ExecuTorch's own runtime. c is a Program as one C99 file and its header, for microcontrollers and small
    computers: no library, no allocation, no float, every score the Program's; a run is lowered to 8 bits first.
    page is that C in a browser: one HTML file that classifies pictures, drawings and what the camera sees, without
    a server.

    Examples:
        limbeck export runs/s --out s.onnx
        limbeck export runs/s --data photos/ --format onnx-int8 --max-drop 0.5 --out s8.onnx
        limbeck export s.program --data photos/ --format qonnx --out sq.onnx
        limbeck export runs/s --format executorch --out s.pte
        limbeck export s.program --format c --max-ram 64000 --out net.c
        limbeck export s.program --format page --out net.html

    Args:
        model: A run folder, a pinned timm tag, tv/NAME.WEIGHTS, NAME@FILE, hf-hub:ID or local-dir:PATH; for qonnx, c
            and page also a Program, x.program.
        out: The file to write, x.onnx; x.pte for executorch; x.c for c, and x.h beside it; x.html for page.
        format: onnx and executorch are float32; onnx-int8 needs --data, and qonnx, c and page do where a run is
            given.
        data: As for teach: images to verify with; by default the built-in digits and noise.
        calibration: Training images to choose scales from, for 8 bits.
        max_drop: Points of top-1 that 8 bits may lose; if more are lost, nothing is written and the exit code is 3.
        max_ram: Bytes of RAM that a C file's maps may take; with more, nothing is written.
        max_flash: Bytes that a C file's tables may take; with more, nothing is written.
        batch: Images per batch, where the 8-bit net is measured.
        loading: How images are read.
    """
    may_write(out, KINDS.get(format, "ONNX file"), inputs=(model,), data=(data,))
    if format == "c":
        may_write(str(Path(out).with_suffix(".h")), "C header", inputs=(model,), data=(data,))
    return write(
        model, out, format, data, calibration=calibration, max_drop=max_drop, max_ram=max_ram, max_flash=max_flash,
        batch=batch, loading=loading, tell=tell,
    )  # fmt: skip
