"""Image files through a classifier: what it predicts for each, and which files can't be used."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limbeck import runs
from limbeck.errors import InputError
from limbeck.results import Result
from limbeck.runs import Tell
from limbeck.training.sets import centre

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from limbeck.images.images import Header
    from limbeck.nets.zoo import Classifier, Input

BATCH = 64  # images at once
THREADS = 8  # that decode


@dataclass(frozen=True)
class Label:
    """A class and its probability, in [0, 1]."""

    name: str  # as the net has it
    probability: float
    meaning: str = ""  # in English, where the name is one of ImageNet's synsets


@dataclass(frozen=True)
class Predictions(Result):
    """What is in each image, likeliest first, and which images can't be used."""

    model: str
    named: tuple[tuple[str, tuple[Label, ...]], ...]  # image, labels
    broken: tuple[tuple[str, str], ...]  # image, reason

    @property
    def problem(self) -> str:
        """A sentence about the broken images, empty where there are none; a command that prints it ends with 2."""
        if not self.broken:
            return ""
        if len(self.broken) == 1:
            return "{} can't be used: {}".format(*self.broken[0])
        first = ", ".join(f"{image} ({reason})" for image, reason in self.broken[:5])
        more = ", ..." if len(self.broken) > 5 else ""
        return f"{len(self.broken)} of {len(self.broken) + len(self.named)} images can't be used: {first}{more}"

    def rows(self) -> list[tuple[str, str]]:
        """Return one line per image: its name, and its labels or what is wrong with it."""
        shown = [(image, ", ".join(map(_shown, labels))) for image, labels in self.named]
        return shown + [(image, f"can't be used: {reason}") for image, reason in self.broken]

    def to_json(self) -> dict[str, Any]:
        """Return the same as JSON values."""
        return {
            "model": self.model,
            "images": [
                {"image": image, "labels": [{"class": la.name, "probability": la.probability} for la in labels]}
                for image, labels in self.named
            ],
            "broken": [{"image": image, "reason": reason} for image, reason in self.broken],
        }

    def to_csv(self) -> str:
        """Return one line per image that could be used: its name, then class and probability, likeliest first."""
        from limbeck.learn.evaluate import csv_text

        most = len(self.named[0][1])
        head = [f"{what}_{place + 1}" for place in range(most) for what in ("class", "probability")]
        rows = ([image, *(v for la in labels for v in (la.name, la.probability))] for image, labels in self.named)
        return csv_text([["image", *head], *rows])


def _shown(label: Label) -> str:
    return f"{label.meaning or label.name} {label.probability:.1%}"


def files_of(images: tuple[str, ...], tell: Tell) -> list[Path]:
    """Return the files that are meant, each once: files as they are named, folders searched as those of a data set."""
    from limbeck.images.folder import files_below, known_endings, left_out

    found: list[Path] = []
    for image in images:
        path = Path(image)
        if not path.exists():
            raise InputError(f"{image} is not there; give image files or folders")
        if path.is_file():
            found.append(path)
            continue
        if not path.is_dir():
            raise InputError(f"{image} is neither a file nor a folder; give image files or folders")
        seen, skipped = files_below(path)
        if skipped:
            tell("note", {"text": f"{image}: {left_out(path, skipped)}"})
        if not seen:
            raise InputError(f"{image} holds no images ({known_endings()})")
        found += seen
    if not found:
        raise InputError("no image is given; give image files or folders")
    return list(dict.fromkeys(found))


def predicted(net: "Classifier", paths: list[Path]) -> "Iterator[tuple[Path, Tensor | str]]":
    """Yield each file with its probabilities float64 [classes], or with why it can't be used."""
    import numpy as np
    import torch

    from limbeck.images.images import headers
    from limbeck.nets.classifier import check_finite

    with ThreadPoolExecutor(THREADS) as pool, torch.inference_mode():
        for first in range(0, len(paths), BATCH):
            chunk = paths[first : first + BATCH]
            views = list(pool.map(partial(_view, sight=net.input), chunk, headers(chunk)))
            good = [view for view in views if not isinstance(view, str)]
            answers: Iterator[Tensor] = iter(())
            if good:
                logits = net(torch.from_numpy(np.stack(good)).to(net.scale.device))
                check_finite(logits, net.lineage.tag)
                answers = iter(logits.double().softmax(1).cpu())
            for path, view in zip(chunk, views, strict=True):
                yield path, view if isinstance(view, str) else next(answers)


def _view(path: Path, header: "Header | str", sight: "Input") -> "NDArray[np.uint8] | str":
    """Return what the net is to see of the file, uint8 [3, size, size], or why it can't be used."""
    from limbeck.images.images import decoding, one_large, open_image
    from limbeck.images.views import draw, render_image

    if isinstance(header, str):
        return header
    size = (header.height, header.width)
    augment = centre(sight)
    box = draw(augment, size, seed=0, epoch=0, indices=[0]).boxes[0].numpy()
    try:
        with one_large(header.height * header.width), decoding(str(path)):
            image = open_image(path.read_bytes(), 3, sight.white)
            return render_image(image, box, False, augment.size, augment.interpolation)
    except InputError as error:
        return str(error.__cause__ or error)


def likeliest(
    probabilities: "Tensor", classes: tuple[str, ...], meanings: dict[str, str], top: int
) -> tuple[Label, ...]:
    values, places = probabilities.topk(min(top, len(classes)))
    pairs = zip(places.tolist(), values.tolist(), strict=True)
    return tuple(Label(classes[i], value, meanings.get(classes[i], "")) for i, value in pairs)


def write(out: Path, result: Predictions) -> None:
    if out.suffix == ".csv":
        runs.write_text(out, result.to_csv())
    else:
        runs.write_json(out, result.to_json())
