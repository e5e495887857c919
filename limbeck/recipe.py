"""Recipes: a TOML file's keys are a verb's keywords; what they hold becomes flags, so both are checked alike."""

import difflib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from limbeck.errors import InputError
from limbeck.runs import RECIPES, read_toml


def find(name: str) -> Path:
    """Return the recipe file that `name` is, or the one of that name in `limbeck zoo`; InputError with near names."""
    path, own = Path(name), RECIPES / f"{name.removesuffix('.toml')}.toml"
    if path.exists():
        return path
    if len(path.parts) == 1 and own.is_file():
        return own
    hint = nearest(path.stem, [one.stem for one in RECIPES.glob("*.toml")]) if len(path.parts) == 1 else ""
    raise InputError(f"{name} is missing{hint or '; limbeck zoo lists the recipes that have a name'}")


def read(path: Path, verb: str, kinds: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recipe's settings for `verb`, whose keywords have these types.

    InputError for another verb's recipe, for an unknown key (with the nearest known one), for what no flag can say.
    """
    settings = read_toml(path)
    meant = settings.pop("verb", verb)
    if meant != verb:
        raise InputError(f"{path} is a recipe for limbeck {meant}, not for limbeck {verb}")
    for key, value in settings.items():
        if key not in kinds:
            raise InputError(f"{path}: unknown key {key!r}{nearest(key, kinds)}; limbeck {verb} --help lists them")
        _check(path, key, value, kinds[key])
    return settings


def _check(path: Path, key: str, value: Any, kind: Any) -> None:  # noqa: ANN401 - whatever TOML has
    if not all(isinstance(item, str | int | float) for item in (value if isinstance(value, list) else [value])):
        raise InputError(f"{path}: {key} is neither a string, a number, a boolean nor a list of these")
    if "\0" in str(value):
        raise InputError(f"{path}: {key} holds a NUL character, which no name has; remove it")
    if isinstance(value, bool) != (kind is bool):
        raise InputError(f"{path}: {key} is {value!r}, but takes {'true or false' if kind is bool else 'no boolean'}")


def flags(settings: Mapping[str, Any]) -> list[str]:
    """Return settings as command-line arguments."""
    return [argument for key, value in settings.items() for argument in _flag(key.replace("_", "-"), value)]


def _flag(name: str, value: Any) -> list[str]:  # noqa: ANN401 - a string, a number, a boolean or a list of these
    match value:
        case bool():
            return [f"--{name}" if value else f"--no-{name}"]
        case list():
            return [f"--{name}", *map(str, value)]
        case _:
            return [f"--{name}", str(value)]


THEIRS = {
    "train": "teach", "fit": "teach", "finetune": "teach", "fine-tune": "teach", "distil": "distill",
    "val": "evaluate", "validate": "evaluate", "eval": "evaluate", "test": "evaluate", "infer": "predict",
    "inference": "predict", "classify": "predict", "detect": "predict", "convert": "export", "quantise": "quantize",
    "benchmark": "bench", "synth": "compile", "models": "zoo", "list": "zoo", "check": "doctor", "upload": "push",
    "summary": "info", "batch-size": "batch", "bs": "batch", "b": "batch", "imgsz": "size", "img-size": "size",
    "image-size": "size", "input-size": "size", "learning-rate": "lr", "lr0": "lr", "wd": "weight-decay",
    "output": "out", "output-dir": "out", "project": "out", "save-dir": "out", "dataset": "data", "data-dir": "data",
    "data-path": "data", "num-epochs": "epochs", "num-train-epochs": "epochs", "num-workers": "workers", "j": "workers",
    "teacher": "teachers", "arch": "model", "model-name": "model", "net": "model", "amp": "precision",
    "smoothing": "label-smoothing", "topk": "top", "opt": "optimizer",
}  # fmt: skip
"""Other tools' words for our verbs and flags."""


def nearest(word: str, known: Collection[str]) -> str:
    """Return "; did you mean 'x'?" for the known word that other tools call `word`, or that is nearest; or nothing."""
    if (ours := THEIRS.get(word.replace("_", "-"), "")) in known:
        return f"; did you mean {ours!r}?"
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
