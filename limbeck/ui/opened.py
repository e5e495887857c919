"""The page of some models: each opened and ready to classify, with images to show them."""

import contextlib
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from limbeck import runs
from limbeck.artefacts.kinds import Kind, kind_of
from limbeck.artefacts.models import load_model, program_of
from limbeck.errors import InputError
from limbeck.fpga.parts import CLOCK
from limbeck.page import measured
from limbeck.runs import Tell
from limbeck.training.sets import centre, to_compare
from limbeck.training.settings import Loading

if TYPE_CHECKING:
    from limbeck.images.source import Source
    from limbeck.nets.classifier import Classifier
    from limbeck.ui.app import Page
    from limbeck.ui.shift import Backgrounds
    from limbeck.ui.voice import Voice

_TRAINED = {"teach": "taught on labels", "distill": "distilled student", "adapt": "adapted"}
_KINDS: dict[Kind, str] = {
    "Program": "integer Program, run by numpy", "C file": "C, compiled here", "ONNX file": "ONNX, run by onnxruntime",
    "ExecuTorch file": "ExecuTorch", "nothing": "pretrained",
}  # fmt: skip
_SERVED = ("run", "Program", "C file", "ONNX file", "Design")
_SAMPLES = 10_000  # most held-out images to choose from
_COLOURS = {1: "grey", 3: "colour"}


@contextlib.contextmanager
def opened(
    models: tuple[str, ...],
    *,
    data: str | None = None,
    split: Literal["val", "test", "train"] = "val",
    host: str = "127.0.0.1",
    unlabelled: bool = False,
    tell: Tell = runs.silent,
) -> "Iterator[Page]":
    """Yield the page for these models; simulators and threads end with the block."""
    from limbeck.ui.app import Page

    notes: list[str] = []
    reading = Loading(on_broken="skip", unlabelled=unlabelled)
    models = tuple(one for model in models for one in _inside(model))
    source = _own_images(models) if data is None else to_compare(data, reading, split)
    with contextlib.ExitStack() as stack:
        reader = stack.enter_context(ThreadPoolExecutor(1))
        voices = [voice for model in models if (voice := _voice(model, reader, stack, notes, tell)) is not None]
        if not voices:
            raise InputError(f"nothing is left to serve: {'; '.join(notes)}")
        yield Page(tuple(voices), reader, source, _backgrounds(notes), tuple(notes), host)


def _inside(model: str) -> list[str]:
    """Return the models that lie in a folder; a path that is no such folder stands for itself."""
    if kind_of(model) != "folder":
        return [model]
    found = [path for path in sorted(Path(model).iterdir()) if kind_of(path) in _SERVED]
    return [str(path) for path in found if kind_of(path) != "run" or (path / runs.MODEL).is_file()] or [model]


def _own_images(models: tuple[str, ...]) -> "Source | None":
    """Return the held-out images that the first run names, its target's if it was adapted; None without them."""
    recipes = (Path(model) / runs.RECIPE for model in models)
    recipe = next((runs.read_toml(path) for path in recipes if path.is_file()), {})
    spec = str(recipe.get("target" if recipe.get("verb") == "adapt" else "data", ""))
    found = measured.held_out(spec, _SAMPLES, measured.TARGET) if spec else ""
    return None if isinstance(found, str) else found.source


def _voice(model: str, reader: Executor, stack: contextlib.ExitStack, notes: list[str], tell: Tell) -> "Voice | None":
    """Return the model, ready to predict; None where what runs it is not here, and `notes` says why."""
    tell("note", {"text": f"opening {model}"})
    what = kind_of(model)
    if missing := _missing(what):
        notes.append(f"{model} is left out: {missing}")
        tell("note", {"text": notes[-1]})
        return None
    if what != "Design":
        return _ready(model, _kind(model), load_model(model), reader)
    net, detail = _simulated(Path(model), stack, tell)
    return _ready(model, "simulated hardware", net, stack.enter_context(ThreadPoolExecutor(1)), detail)


def _missing(what: Kind) -> str:
    """Return why such models can't be run here; empty where they can."""
    from limbeck.c.running import compiler
    from limbeck.fpga.simulate import available

    if what == "C file" and compiler() is None:
        return "it cannot be compiled, there is no C compiler; apt-get install gcc"
    missing = available() if what == "Design" else ""
    return f"it cannot be simulated, {missing}" if missing else ""


def _kind(model: str) -> str:
    what = kind_of(model)
    if what == "run" and (recipe := Path(model) / runs.RECIPE).is_file():
        return _TRAINED.get(str(runs.read_toml(recipe).get("verb")), "run")
    return _KINDS.get(what, "saved net")


def _simulated(design: Path, stack: contextlib.ExitStack, tell: Tell) -> "tuple[Classifier, str]":
    """Return the net that the design's simulator is, started, and what it would take on a chip."""
    from limbeck.fpga.design import read
    from limbeck.fpga.simulate import build
    from limbeck.nets.outside import Outside, outside
    from limbeck.ui.hardware import Hardware

    known = read(design)
    like = load_model(str(program_of(str(design))))
    assert isinstance(like.net, Outside)
    hardware = Hardware(design, build(design, tell=tell), known.program)
    stack.callback(hardware.close)
    hardware.start()
    cycles = known.cycles.latency
    seen = like.input
    net = outside(
        hardware, engine="verilator", name=like.name, classes=like.classes, size=seen.size, channels=seen.channels,
        interpolation=seen.interpolation, crop_pct=seen.crop_pct, white=seen.white, lineage=like.lineage,
        cost=like.net.cost,
    )  # fmt: skip
    return net, (
        f"{cycles:,} cycles per image: {1e6 * cycles / CLOCK:,.0f} µs at {CLOCK / 1e6:.0f} MHz, assumed; every score "
        "is compared with the Program's"
    )


def _ready(model: str, kind: str, net: "Classifier", worker: Executor, detail: str = "") -> "Voice":
    import numpy as np
    from accelerate import PartialState

    from limbeck.nets import zoo
    from limbeck.nets.classifier import meanings
    from limbeck.nets.outside import cost_of
    from limbeck.ui.voice import Voice, answer

    zoo.freeze(net.to(PartialState().device), dtype="float32")
    seen = net.input
    detail = detail or f"{net.name}, {cost_of(net).parameters:,} parameters, {seen.size} px {_COLOURS[seen.channels]}"
    voice = Voice(model, kind, detail, net, centre(seen), meanings(net.classes), worker)
    first = worker.submit(answer, voice, np.zeros((3, seen.size, seen.size), np.uint8)).result()  # the slow one
    if "error" in first:
        raise InputError(first["error"])
    return voice


def _backgrounds(notes: list[str]) -> "Backgrounds | None":
    from limbeck.images.domains import packaged_photos
    from limbeck.ui.shift import Backgrounds

    try:
        return Backgrounds(packaged_photos("test"))
    except InputError:
        notes.append("There are no photos to lay behind images: pip install scikit-image")
        return None
