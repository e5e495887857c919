"""A run as a model repository, on the hub or in a folder: prepared, verified, published."""

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limbeck import runs
from limbeck.artefacts.kinds import may_write
from limbeck.errors import InputError, VerificationError, first_line
from limbeck.results import Result
from limbeck.runs import Tell
from limbeck.version import __version__

if TYPE_CHECKING:
    from torch import Tensor

    from limbeck.nets.classifier import Classifier

TOLERANCE = 1e-5  # of the largest logit: sums of float32 may differ in order where memory lies otherwise
HUB, FOLDER = "hf-hub:", "local-dir:"
MODEL, WEIGHTS, CONFIG, CARD = "model.json", "model.safetensors", "config.json", "README.md"
# With these a repository is a run folder too, so that every verb takes what came from the hub.
_RUN = (
    MODEL, WEIGHTS, runs.RECIPE, runs.RESULTS, runs.ENVIRONMENT, "labels.json", "per_class.csv", "metrics.csv"
)  # fmt: skip


@dataclass(frozen=True)
class Pushed(Result):
    """A model repository."""

    run: str
    to: str  # what limbeck and timm load it by
    address: str  # the folder, or the hub's page
    files: dict[str, int]  # name, bytes
    timm: bool  # whether timm.create_model loads it

    def rows(self) -> list[tuple[str, str]]:
        """Return what a person wants to know, as (name, value)."""
        return [
            ("pushed", f"{self.run} to {self.address}"),
            ("files", ", ".join(f"{name} ({size:,} bytes)" for name, size in self.files.items())),
            ("verified", f"{'limbeck and timm load' if self.timm else 'limbeck loads'} it, with the run's logits"),
            ("use it", f"limbeck predict {self.to} photo.jpg"),
        ]


def publish(run: str, to: str, beside: tuple[str, ...], licence: str, *, private: bool, tell: Tell) -> Pushed:
    """Publish the run where `to` says, with the files `beside`; VerificationError, and nothing is published, where what
    is loaded from there has other logits."""
    from limbeck.nets import hub, zoo

    folder = Path(run)
    repository, place = _places(to)
    if not (folder / MODEL).is_file():
        raise InputError(f"{run} is not a finished run: no {MODEL} is there; give a folder that limbeck wrote")
    extra = _extra(beside)
    net = zoo.load(run).eval()
    with _making(place) as made:
        for source in [*(folder / name for name in _RUN if (folder / name).is_file()), *extra]:
            _copied(source, made / source.name)
        runs.write_json(made / CONFIG, hub.config(net, licence))
        known = _verify(net, made, tell)
        runs.write_text(made / CARD, _card(net, made, to, licence))
        files = {path.name: path.stat().st_size for path in sorted(made.iterdir())}
        address = str(place)
        if place is None:
            message = f"{net.name} by limbeck {__version__}"
            address = hub.upload(made, repository, private=private, message=message)
    return Pushed(run, to, address, files, known)


def _places(to: str) -> tuple[str, Path | None]:
    """Return the repository on the hub, or the folder that there is not yet."""
    from limbeck.nets import hub

    if to.startswith(HUB):
        hub.check_repository(to.removeprefix(HUB))
        return to.removeprefix(HUB), None
    place = Path(to.removeprefix(FOLDER))
    if not to.startswith(FOLDER) or place == Path():
        raise InputError(f"--to {to} does not say where; give hf-hub:USER/NAME or local-dir:PATH")
    may_write(str(place), "repository", flag="--to")
    return "", place


@contextlib.contextmanager
def _making(place: Path | None) -> Iterator[Path]:
    """Yield a folder to prepare in, which then takes the place of `place`, or goes where there is none."""
    if place is not None:
        with runs.building(place, flag="--to") as made:
            yield made
    else:
        with tempfile.TemporaryDirectory(prefix="limbeck-push-") as made_there:
            yield Path(made_there)


def _extra(beside: tuple[str, ...]) -> list[Path]:
    paths = [Path(file) for file in beside]
    for path in paths:
        if not path.is_file():
            raise InputError(f"--beside {path} is no file")
    names = [*_RUN, CONFIG, CARD, *(path.name for path in paths)]
    if double := next((name for name in names if names.count(name) > 1), None):
        raise InputError(f"--beside: the repository would have two files named {double}; rename one")
    return paths


def _copied(source: Path, copy: Path) -> None:
    with runs.replacing(copy) as temporary:
        shutil.copyfile(source, temporary)


def _verify(net: "Classifier", made: Path, tell: Tell) -> bool:
    """Compare the run's logits on noise with those of the repository as limbeck and timm load it; return whether timm
    can. VerificationError where they differ."""
    import timm
    import torch

    from limbeck.nets import hub, zoo

    spec, seen = f"{FOLDER}{made}", net.input
    again = zoo.load(spec).eval()
    if (again.classes, again.input) != (net.classes, seen):
        raise VerificationError(f"the repository says {again.input} and {len(again.classes)} classes, not as the run")
    shape = (2, *seen.shape)
    noise = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = net(noise)
        _check_equal(expected, lambda: again(noise), "limbeck")
        if (home := hub.home_of(net.name)) not in ("timm", "limbeck"):
            text = f"{net.name} is neither timm's nor limbeck's ({home}), so timm does not load it; limbeck does"
            tell("note", {"text": text})
            return False
        _check_equal(expected, lambda: timm.create_model(spec, pretrained=True).eval()(net.prepare(noise)), "timm")
    return True


def _check_equal(expected: "Tensor", answer: "Callable[[], Tensor]", who: str) -> None:
    try:
        found = answer().float()
    except Exception as error:  # architectures and timm fail in their own ways
        raise VerificationError(f"{who} can't load the repository ({first_line(error)}); nothing was pushed") from error
    alike = found.shape == expected.shape
    if not (alike and float((found - expected).abs().max()) <= TOLERANCE * float(expected.abs().max())):
        raise VerificationError(f"{who} loads the repository, but its logits are not the run's; nothing was pushed")


def _card(net: "Classifier", made: Path, to: str, licence: str) -> str:
    from limbeck.artefacts.card import card

    def read(name: str) -> dict[str, Any]:
        return runs.read_json(made / name) if (made / name).is_file() else {}

    recipe = runs.read_toml(made / runs.RECIPE) if (made / runs.RECIPE).is_file() else {}
    return card(net, to, recipe, read(runs.RESULTS), read(runs.ENVIRONMENT), licence)
