"""Write docs/reference.md, from the command line's own signatures and the docstrings: python docs/make_reference.py"""

import ast
import dataclasses
import importlib
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from limbeck import cli, flags, runs
from limbeck.training.settings import Training

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reference.md"
FLOORS = ("images", "nets", "learn", "training", "integer", "c", "fpga", "artefacts", "page", "deploy", "ui")
BEGINNING = """# Reference

Made of the docstrings by `make reference`; a test compares. `limbeck VERB --help` says the same of what is installed.

Every verb also takes `-c recipe.toml` (begin with its settings; flags override them) and `--print-config` (print them
as a recipe, and stop), and is a function of the package with the same keywords: `limbeck.distill(data=..., ...)`. It
returns a `limbeck.results.Result`, whose `to_json()` is what the last line on stdout holds after `--result`. A
keyword `tell` takes a function `(event, values)` that receives progress. A user's mistake raises
`limbeck.InputError` (exit code 2), a check that failed `limbeck.VerificationError` (3).
"""


def page() -> str:
    """Return the whole reference as Markdown."""
    verbs = [_verb(name, cli.function_of(name)) for name in cli.VERBS]
    training = _table(_fields(Training, Training()))
    shared = f"## Training\n\n{_text(Training)}\n\n{training}"
    floors = [_floor(name) for name in FLOORS]
    ground = (
        "# Python, below the verbs\n\nA folder imports only those before it. Names with an underscore are not here."
    )
    return "\n\n".join([BEGINNING, *verbs, shared, ground, *floors]).replace("\n\n\n", "\n\n") + "\n"


def _verb(name: str, function: Callable[..., Any]) -> str:
    said, _, _ = inspect.cleandoc(function.__doc__ or "").partition("\nArgs:")
    about, _, examples = said.partition("Examples:\n")
    block = f"\n```sh\n{inspect.cleandoc(examples)}\n```" if examples else ""
    words = {p.name for p in flags.words(function)}
    rows, notes = [], []
    texts, hints = flags.described(function), get_type_hints(function)
    for p in inspect.signature(function).parameters.values():
        if p.name == "training":
            notes.append(_training(p.default))
        elif dataclasses.is_dataclass(hints[p.name]):
            rows += _fields(hints[p.name], p.default)
        elif p.name != "tell":
            rows.append(_row(p.name, hints[p.name], p.default, texts[p.name], word=p.name in words))
    return "\n".join([f"## limbeck {name}", "", about.strip(), block, "", _table(rows), *notes])


def _training(default: Training) -> str:
    given, usual = dataclasses.asdict(default), dataclasses.asdict(Training())
    other = [f"`{_flag(key)} {_default(value)}`" for key, value in given.items() if value != usual[key]]
    return f"\nAnd [how to train](#training){', here by default with ' + ', '.join(other) if other else ''}."


def _fields(kind: Any, default: Any) -> list[tuple[str, ...]]:  # noqa: ANN401 - a settings dataclass
    texts, hints = flags.described(kind), get_type_hints(kind)
    groups = getattr(kind, "GROUPS", {"": [field.name for field in dataclasses.fields(kind)]})
    return [_row(name, hints[name], getattr(default, name), texts[name]) for part in groups.values() for name in part]


def _row(name: str, kind: Any, default: Any, text: str, *, word: bool = False) -> tuple[str, ...]:  # noqa: ANN401
    required = default is inspect.Parameter.empty
    flag = name.upper() if word else _flag(name)
    return (f"`{flag}`", _kind(kind), "needed" if required else f"`{_default(default)}`", text)


def _kind(hint: Any) -> str:  # noqa: ANN401 - a type
    """Return the type in words: choices, one or several values, or a switch that takes none."""
    inner = [part for part in get_args(hint) if part not in (type(None), ...)]
    if get_origin(hint) is Literal:
        return ", ".join(f"`{choice}`" for choice in inner)
    if get_origin(hint) is tuple:
        return f"{_kind(inner[0])} ..." if ... in get_args(hint) else " ".join(map(_kind, inner))
    if inner:
        return " or ".join(_kind(part) for part in inner)
    return {bool: "switch", str: "text", int: "integer", float: "number"}.get(hint, str(hint))


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _default(value: object) -> str:
    match value:
        case None | () | "":
            return "none"
        case bool():
            return "on" if value else "off"
        case tuple():
            return " ".join(map(str, value))
    return str(value)


def _table(rows: list[tuple[str, ...]]) -> str:
    plain = [" | ".join(cell.replace("\n", " ") for cell in row) for row in rows]
    return "\n".join(["| flag | type | default | |", "|---|---|---|---|", *(f"| {row} |" for row in plain)])


def _text(thing: Any) -> str:  # noqa: ANN401 - what has a docstring
    return inspect.cleandoc(thing.__doc__ or "")


def _floor(name: str) -> str:
    files = sorted(path for path in (ROOT / "limbeck" / name).rglob("*.py") if path.name != "__init__.py")
    return "\n\n".join([f"## limbeck.{name}", *(_module(path) for path in files)])


def _module(path: Path) -> str:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    parts = ["### " + ".".join(path.relative_to(ROOT).with_suffix("").parts), ast.get_docstring(tree) or ""]
    return "\n\n".join(part for part in [*parts, *_members(tree)] if part)


def _members(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield _entry(_signature(node, ""), node)
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield _entry(f"class {node.name}", node)
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef) and not inner.name.startswith("_") and ast.get_docstring(inner):
                    yield _entry(_signature(inner, f"{node.name}."), inner)


def _signature(node: ast.FunctionDef, owner: str) -> str:
    for part in ast.walk(node.args):
        if isinstance(part, ast.arg):
            part.annotation = _unquoted(part.annotation)
    returns = _unquoted(node.returns)
    return f"{owner}{node.name}({ast.unparse(node.args)})" + (f" -> {ast.unparse(returns)}" if returns else "")


def _unquoted(annotation: ast.expr | None) -> ast.expr | None:
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return ast.parse(annotation.value, mode="eval").body
    return annotation


def _entry(title: str, node: ast.FunctionDef | ast.ClassDef) -> str:
    said = ast.get_docstring(node) or ""
    return f"`{title}`\\\n{said}" if said else f"`{title}`"


if __name__ == "__main__":
    runs.write_text(PAGE, page())
    importlib.import_module("make_imports").write()
