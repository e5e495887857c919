"""Recipes: a TOML file's keys become a verb's flags, so a typo in either gets the same answer."""

import difflib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from limbeck.errors import InputError
from limbeck.runs import read_toml


def flags(path: Path, verb: str, known: Collection[str]) -> list[str]:
    """Return the recipe's settings as command-line arguments of `verb`, whose keywords are `known`.

    InputError for another verb's recipe, for an unknown key (with the nearest known one), for a nested table.
    """
    recipe = read_toml(path)
    meant = recipe.pop("verb", verb)
    if meant != verb:
        raise InputError(f"{path} is a recipe for limbeck {meant}, not for limbeck {verb}")
    found: list[str] = []
    for key, value in recipe.items():
        if key not in known:
            raise InputError(f"{path}: unknown key {key!r}{nearest(key, known)}; limbeck {verb} --help lists them")
        found += _flag(path, key, value)
    return found


def _flag(path: Path, key: str, value: Any) -> list[str]:  # noqa: ANN401 - whatever TOML has
    name = key.replace("_", "-")
    match value:
        case bool():
            return [f"--{name}" if value else f"--no-{name}"]
        case str() | int() | float():
            return [f"--{name}", str(value)]
        case list() if all(isinstance(item, str | int | float) for item in value):
            return [f"--{name}", *map(str, value)]
        case _:
            raise InputError(f"{path}: {key} is neither a string, a number, a boolean nor a list of these")


def nearest(word: str, known: Collection[str]) -> str:
    """Return "; did you mean 'x'?" for the known word nearest to `word`, or nothing."""
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
