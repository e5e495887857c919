"""limbeck predict."""

from pathlib import Path

from limbeck import runs
from limbeck.artefacts.kinds import may_write
from limbeck.artefacts.models import load_model
from limbeck.artefacts.predictions import Label, Predictions, files_of, likeliest, predicted, write
from limbeck.errors import InputError
from limbeck.runs import Tell


def predict(
    model: str,
    images: tuple[str, ...],
    *,
    top: int = 3,
    out: str | None = None,
    tell: Tell = runs.silent,
) -> Predictions:
    """Classify images: the likeliest classes of each, and their probabilities.

    Images are read as those of a data set are: upright, any size and mode. Small ones (up to 96 pixels) are seen
    whole, others as the net expects (its size, crop and interpolation). Images that can't be used are listed after
    the others, and the command then ends with 2.

    Examples:
        limbeck predict runs/s photo.jpg holidays/ --out names.csv

    Args:
        model: A run folder, a pinned timm tag, tv/NAME.WEIGHTS, NAME@FILE, hf-hub:ID, local-dir:PATH, or what limbeck
            quantize and export write: a .program, .c or .onnx file.
        images: Image files, and folders that are searched for them.
        top: Classes to show per image.
        out: A file to write: .csv or .json.
    """
    from accelerate import PartialState

    from limbeck.nets import zoo
    from limbeck.nets.classifier import meanings

    if top < 1:
        raise InputError(f"--top is {top}; name at least 1 class")
    if out is not None and Path(out).suffix not in (".csv", ".json"):
        raise InputError(f"--out {out} ends in neither .csv nor .json, so its format is unknown")
    may_write(out, "table", inputs=(model, *images), data=images)
    paths = files_of(images, tell)
    net = zoo.freeze(load_model(model).to(PartialState().device), dtype="float32")
    known = meanings(net.classes)
    named: list[tuple[str, tuple[Label, ...]]] = []
    broken: list[tuple[str, str]] = []
    for path, found in predicted(net, paths):
        if isinstance(found, str):
            broken.append((str(path), found))
        else:
            named.append((str(path), likeliest(found, net.classes, known, top)))
        tell("read", {"image": len(named) + len(broken), "images": len(paths)})
    result = Predictions(model, tuple(named), tuple(broken))
    if not named:
        raise InputError(result.problem)
    if out is not None:
        write(Path(out), result)
    return result
