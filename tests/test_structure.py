"""Who imports whom: the picture of the pipeline is the picture of the code."""

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from limbeck import cli
from limbeck.runs import tomllib

PACKAGE = Path(__file__).parents[1] / "limbeck"
FLOORS = [
    "images",
    "nets",
    "learn",
    "training",
    "integer",
    "c",
    "fpga",
    "artefacts",
    "page",
    "deploy",
    "ui",
]  # each imports only those to its left, and itself
EVERYBODYS = {"limbeck.cache", "limbeck.errors", "limbeck.results", "limbeck.runs", "limbeck.version"}
BOARD = [f"integer/{name}.py" for name in ("program", "fixed", "survey")]
BOARD += [f"fpga/{path.name}" for path in sorted((PACKAGE / "fpga").glob("*.py"))]
SPEAKERS = {"cli.py", "progress.py"}
FILES = sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py"))


@functools.cache
def tree(file: str) -> ast.Module:
    return ast.parse((PACKAGE / file).read_text(encoding="utf-8"))


def imported(nodes: Iterator[ast.AST] | list[ast.AST]) -> set[str]:
    """Return the modules that these nodes import, with the names that may be modules themselves."""
    found: set[str] = set()
    for node in nodes:
        match node:
            case ast.Import():
                found |= {alias.name for alias in node.names}
            case ast.ImportFrom():
                assert node.level == 0, "absolute imports only"
                if node.module in ("limbeck", *(f"limbeck.{floor}" for floor in FLOORS)):
                    found |= {f"{node.module}.{alias.name}" for alias in node.names}
                else:
                    found.add(node.module)
    return found


def everywhere(file: str) -> set[str]:
    return imported(ast.walk(tree(file)))


def at_once(file: str) -> set[str]:
    """Return what importing the file imports: not what its functions import, nor what is for type checkers only."""

    def reached(body: list[ast.stmt]) -> Iterator[ast.AST]:
        for node in body:
            match node:
                case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                    yield from reached(node.orelse)
                case ast.FunctionDef() | ast.AsyncFunctionDef():
                    pass
                case _:
                    yield node
                    for part in ("body", "orelse", "finalbody"):
                        yield from reached(getattr(node, part, []))

    return imported(reached(tree(file).body))


def floor_of(module: str) -> str:
    return module.split(".")[1] if module.startswith("limbeck.") else ""


def test_the_floors_are_those_of_the_picture():
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} == {*FLOORS, "verbs"}


@pytest.mark.parametrize("file", [file for file in FILES if file.split("/")[0] in FLOORS])
def test_a_floor_imports_only_what_lies_to_its_left(file):
    own = FLOORS.index(file.split("/")[0])
    allowed = set(FLOORS[: own + 1])
    ours = {module for module in everywhere(file) if module == "limbeck" or module.startswith("limbeck.")}
    assert {module for module in ours - EVERYBODYS if floor_of(module) not in allowed} == set()


@pytest.mark.parametrize("file", [file for file in FILES if file.startswith("verbs/")])
def test_verbs_import_neither_the_command_line_nor_what_is_its_own(file):
    assert everywhere(file) & {"limbeck.cli", "limbeck.progress", "limbeck.recipe"} == set()


def test_verbs_are_those_of_the_command_line_a_file_each():
    files = {Path(file).stem for file in FILES if file.startswith("verbs/")} - {"__init__"}
    assert files == {verb.replace("-", "_") for verb in cli.VERBS}


@pytest.mark.parametrize("file", [file for file in FILES if file != "__init__.py"])  # which is the API
def test_nobody_imports_a_verb_and_no_verb_another(file):
    assert {module for module in everywhere(file) if floor_of(module) == "verbs"} == set()


def name_of(file: str) -> str:
    parts = ["limbeck", *Path(file).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def graph() -> dict[str, set[str]]:
    """Return which module of ours imports which, wherever in it: at once, in functions, for type checkers."""
    names = {name_of(file): file for file in FILES}
    return {name: {module for module in everywhere(file) if module in names} for name, file in names.items()}


def circles(imports: dict[str, set[str]]) -> set[frozenset[str]]:
    """Return the groups of nodes that reach one another, those of one node only where it reaches itself."""
    reached = {name: set(found) for name, found in imports.items()}
    for middle in imports:  # Warshall's closure
        for found in reached.values():
            found.update(reached[middle] if middle in found else ())
    return {
        frozenset(other for other in reached[name] if name in reached[other])
        for name in imports
        if name in reached[name]
    }


def test_a_circle_is_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"d", "a"}}) == {frozenset("bc"), frozenset("d")}


def test_imports_go_round_in_no_circle():
    """Imports in functions and for type checkers count."""
    assert circles(graph()) == set()


@pytest.mark.parametrize("file", ["cache.py", "errors.py", "results.py", "runs.py"])
def test_what_everybody_imports_imports_nobody(file):
    outer = {module for module in everywhere(file) if module.split(".")[0] not in sys.stdlib_module_names}
    assert outer <= {"limbeck.errors", "tomli"}  # what Python has from 3.11 on


@pytest.mark.parametrize("file", BOARD)
def test_what_runs_on_a_board_needs_numpy_alone(file):
    known = {*sys.stdlib_module_names, "numpy", "serial"}  # pyserial, where a serial line is opened
    ours = {f"limbeck.{name[:-3].replace('/', '.')}" for name in BOARD} | EVERYBODYS
    ours.add("limbeck.integer.file")  # with safetensors: where a design is made, not where it runs
    outer = {module for module in everywhere(file) if module.split(".")[0] not in known}
    assert {
        module for module in outer if not any(module == own or module.startswith(f"{own}.") for own in ours)
    } == set()


@pytest.mark.parametrize("file", [file for file in FILES if file.startswith("verbs/") or "/" not in file])
def test_verbs_and_the_command_line_import_torch_only_when_they_run(file):
    heavy = {"torch", "torchvision", "timm", "accelerate", "torchmetrics", "safetensors", "tyro"}
    assert {module for module in at_once(file) if module.split(".")[0] in heavy} == set()


@pytest.mark.parametrize("file", [file for file in FILES if file not in SPEAKERS])
def test_nobody_else_prints_or_exits(file):
    said = []
    for node in ast.walk(tree(file)):
        match node:
            case ast.Call(func=ast.Name(id="print" | "input" | "exit" | "quit")):
                said.append(node.lineno)
            case ast.Attribute(value=ast.Name(id="sys"), attr="stdout" | "stderr" | "exit" | "argv"):
                said.append(node.lineno)
    assert said == [] or file == "__main__.py"


@pytest.mark.parametrize("file", [file for file in FILES if file not in SPEAKERS])
def test_nobody_else_reads_the_environment(file):
    read = [
        node.lineno
        for node in ast.walk(tree(file))
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")
    ]
    assert read == []


@pytest.mark.parametrize("file", FILES)
def test_importing_calls_nothing_that_acts(file):
    """At module level there are definitions and constants; an expression by itself is a docstring."""
    acts = [
        node.lineno
        for node in tree(file).body
        if isinstance(node, ast.For | ast.While | ast.With | ast.Try)
        or (isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant))
    ]
    assert acts == [] or file in ("__main__.py", "nets/odenet.py")  # the latter registers its nets with timm


def test_import_limbeck_imports_no_torch():
    code = "import limbeck, sys; print(sorted({'torch', 'numpy', 'timm', 'tyro', 'rich'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_program_runs_where_torch_is_not():
    """As on a board: importing torch or anything like it fails there."""
    code = (
        "import sys\n"
        "for name in ('torch', 'torchvision', 'timm', 'accelerate', 'safetensors', 'PIL'): sys.modules[name] = None\n"
        "import limbeck.integer.program, limbeck.fpga.driver"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_readmes_tree_is_the_real_one():
    """The fenced block that begins with limbeck/ has a line an entry: two spaces, the name, what it is."""
    readme = (PACKAGE.parent / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```\w*\nlimbeck/\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    drawn = dict(re.fullmatch(r"  (\S+) +(\S.*)", line).groups() for line in block.splitlines())
    plumbing = {"__init__.py", "__main__.py", "__pycache__", "py.typed"}
    real = {path.name + "/" * path.is_dir() for path in PACKAGE.iterdir() if path.name not in plumbing}
    assert set(drawn) == real


NAMES = {"PIL": "pillow", "skimage": "scikit-image", "serial": "pyserial"}  # what brings a module of another name


def test_what_is_imported_is_declared_and_what_is_declared_is_imported():
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
    extras = {name: needed for name, needed in project["optional-dependencies"].items() if name != "dev"}
    declared = {Requirement(one).name for one in project["dependencies"]}
    optional = {Requirement(one).name for needed in extras.values() for one in needed} - {"limbeck"}
    known = {NAMES.get(head, head) for file in FILES for head in heads(imported(ast.walk(tree(file))))}
    assert known - declared <= optional, "declare it in pyproject.toml"
    assert declared - known <= set(), "nothing imports it"


def heads(modules: set[str]) -> set[str]:
    return {head for name in modules if (head := name.partition(".")[0]) not in {*sys.stdlib_module_names, "limbeck"}}


LATER = {
    "Self",
    "Never",
    "LiteralString",
    "Required",
    "NotRequired",
    "Unpack",
    "assert_never",
    "assert_type",
    "override",
}


@pytest.mark.parametrize("file", FILES)
def test_python_3_10_has_what_is_taken_from_typing(file):
    """The type checker can't say: numpy's own types need Python 3.12."""
    taken = [node for node in ast.walk(tree(file)) if isinstance(node, ast.ImportFrom) and node.module == "typing"]
    assert {alias.name for node in taken for alias in node.names} & LATER == set()
