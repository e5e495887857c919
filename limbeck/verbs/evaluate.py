"""limbeck evaluate."""

from pathlib import Path
from typing import Literal

from limbeck import runs
from limbeck.artefacts.kinds import may_write
from limbeck.artefacts.models import is_design
from limbeck.deploy.evaluation import SIMULATED, Evaluated, measure
from limbeck.errors import InputError
from limbeck.runs import Tell
from limbeck.training.settings import Loading, keywords


@keywords
def evaluate(
    model: str,
    *,
    data: str,
    split: Literal["val", "test", "train"] = "val",
    teachers: tuple[str, ...] = (),
    images: int | None = None,
    batch: int = 256,
    loading: Loading = Loading(),  # noqa: B008 - frozen
    out: str | None = None,
    tell: Tell = runs.silent,
) -> Evaluated:
    """Measure a classifier on a held-out split: top-1, top-5, each class, calibration, cost, speed.

    Images are resized and cropped as the net expects (its size, crop and interpolation); small ones (up to 96
    pixels) are seen whole. Arithmetic is float32.

    Examples:
        limbeck evaluate runs/s --data photos/ --teachers runs/t1 --out report/
        limbeck evaluate resnet50.ram_in1k --data imagenet/
        limbeck evaluate s.program --data photos/ --teachers runs/s
        limbeck evaluate design --data photos/ --images 200

    Args:
        model: A run folder, a pinned timm tag, tv/NAME.WEIGHTS, NAME@FILE, hf-hub:ID, local-dir:PATH, or what limbeck
            quantize, export and compile write: a .program file (run by numpy), a .c file (compiled), an .onnx file (run
            by onnxruntime), a design's folder (simulated by Verilator, and its Program beside it).
        data: As for teach; its classes must be the model's, or some of them.
        split: The split to measure on.
        teachers: Nets to compare with: their top-1, and how often the model predicts the same class.
        images: Number of images, evenly spaced; by default all, and 100 where a design is simulated.
        batch: Images per batch.
        loading: How images are read.
        out: A folder for per_class.csv, confusion.csv, predictions.csv, evaluation.json and charts (.svg).
    """
    from limbeck.images.source import evenly
    from limbeck.images.sources import open_source

    may_write(out, "evaluation", inputs=(model, *teachers), data=(data,))
    if loading.unlabelled:
        raise InputError(
            f"--unlabelled leaves the labels of {data} out, which figures need; limbeck predict names what is in images"
        )
    source = open_source(data, split, on_broken=loading.on_broken, download=loading.download)
    if source.labels is None:
        raise InputError(f"{data} has no labels to measure by; limbeck predict names what is in its images")
    source = evenly(source, SIMULATED if images is None and is_design(model) else images)
    return measure(model, source, teachers, batch, loading, None if out is None else Path(out), tell)
