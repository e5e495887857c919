"""Draw in CONTRIBUTING.md who imports whom, folder by folder: python docs/make_imports.py"""

import ast
import re
from pathlib import Path

from limbeck import runs

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "CONTRIBUTING.md"
ORDER = (
    "ground", "images", "nets", "learn", "training", "integer", "c", "fpga", "artefacts", "page", "deploy", "ui",
    "verbs", "cli",
)  # fmt: skip
FILES = {
    "ground": ("cache", "errors", "results", "runs", "version"),
    "cli": ("cli", "flags", "progress", "recipe", "__init__", "__main__"),
}
FENCE = re.compile(
    r"(?<=<!-- imports: made by docs/make_imports.py -->\n```text\n).*?(?=^```)", re.MULTILINE | re.DOTALL
)


def drawing() -> str:
    """Return a table: in a folder's line an x where it imports from the folder of the column."""
    modules = {_name(path): path for path in sorted((ROOT / "limbeck").rglob("*.py"))}
    edges = {(_folder(name), _folder(found)) for name, path in modules.items() for found in _imported(path, modules)}
    width = max(map(len, ORDER))
    head = " " * width + "".join(f"  {name}" for name in ORDER[:-1])
    lines = [f"{row:<{width}}" + "".join(_cell(row, column, edges) for column in ORDER[:-1]) for row in ORDER]
    return "\n".join(line.rstrip() for line in [head, *lines]) + "\n"


def page() -> str:
    """Return CONTRIBUTING.md with the table as it is now."""
    return FENCE.sub(lambda _: drawing(), PAGE.read_text(encoding="utf-8"))


def _cell(row: str, column: str, edges: set[tuple[str, str]]) -> str:
    return f"  {'-' if row == column else 'x' if (row, column) in edges else '.':^{len(column)}}"


def _name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _folder(module: str) -> str:
    part = module.split(".")[1] if "." in module else "__init__"
    return next((name for name, files in FILES.items() if part in files), part)


def _imported(path: Path, modules: dict[str, Path]) -> set[str]:
    """Return the modules of ours that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            inner = {f"{node.module}.{alias.name}" for alias in node.names} & modules.keys()
            found |= inner or {node.module}
    return found & modules.keys()


def write() -> None:
    """Draw it anew."""
    runs.write_text(PAGE, page())


if __name__ == "__main__":
    write()
