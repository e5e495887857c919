"""limbeck zoo."""

from dataclasses import dataclass
from pathlib import Path

from limbeck import runs
from limbeck.artefacts.kinds import may_write
from limbeck.errors import InputError
from limbeck.nets.catalogue import (
    CHANNELS,
    CLASSES,
    STUDENTS,
    Net,
    Student,
    Teacher,
    own_names,
    own_nets,
    teachers_like,
)
from limbeck.results import Result
from limbeck.runs import RECIPES, Tell


@dataclass(frozen=True)
class Recipe:
    """A recipe that ships with Limbeck."""

    name: str
    verb: str
    about: str  # the first line of its head


@dataclass(frozen=True)
class Zoo(Result):
    """What there is to start from; `text` is that of the recipe that was named."""

    recipes: tuple[Recipe, ...] = ()
    nets: tuple[Net, ...] = ()
    teachers: tuple[Teacher, ...] = ()
    students: tuple[Student, ...] = ()
    text: str = ""
    copied: str | None = None  # the file that the recipe was copied to

    def rows(self) -> list[tuple[str, ...]]:
        """Return a table of what was listed, or the recipe's lines."""
        if self.copied:
            return [("written", self.copied), ("next", f"limbeck {self.recipes[0].verb} -c {self.copied}")]
        if self.text:
            return [(line,) for line in self.text.splitlines()]
        if self.students:
            return _students(self.students, self.nets)
        nets = [("net", "pixels", "parameters", "MACs")] if self.nets else []
        recipes = [("recipe", "verb", "", "", "what it is")] if self.recipes else []
        teachers = [("teacher", "pixels", "licence of the weights")] if self.teachers else []
        return [
            *recipes,
            *((one.name, one.verb, "", "", one.about) for one in self.recipes),
            *nets,
            *((one.name, str(one.size), f"{one.parameters:,}", f"{one.macs:,}") for one in self.nets),
            *teachers,
            *((one.tag, str(one.size), one.licence or "not stated") for one in self.teachers),
        ]


def zoo(
    name: str | None = None,
    *,
    copy: str | None = None,
    teachers: str | None = None,
    students: bool = False,
    tell: Tell = runs.silent,
) -> Zoo:
    """List recipes, Limbeck's own nets and timm's teachers; show a recipe, or copy it to edit.

    Examples:
        limbeck zoo
        limbeck zoo mealv2_resnet18
        limbeck zoo mealv2_resnet18 --copy mine.toml
        limbeck zoo --teachers 'resnet152*'
        limbeck zoo --students

    Args:
        name: A recipe to show; by default everything is listed.
        copy: A file to copy the recipe to, for -c; an existing file is left as it is.
        teachers: A pattern of timm's tags; lists those with weights, as --teachers of distill takes them.
        students: List nets for devices, with what was measured of them and when to choose each.
    """
    if copy is not None and name is None:
        raise InputError(f"--copy {copy} needs the name of a recipe; limbeck zoo lists them")
    if students + (teachers is not None) + (name is not None) > 1:
        raise InputError("give one of --teachers, --students and a recipe, not both")
    if students:
        text = (
            "top-1: per cent, distilled for four epochs, Fashion-MNIST; bytes: in 8 bits; ONNX, C, FPGA: ms per image, "
            "one CPU thread, C with AVX-512 VNNI, and a ZCU104 at an assumed 200 MHz"
        )
        tell("note", {"text": text})
        names = [one.name for one in STUDENTS]
        return Zoo(nets=tuple(net for net in own_nets() if net.name in names), students=STUDENTS)
    if teachers is not None:
        return Zoo(teachers=teachers_like(teachers))
    if name is None:
        tell("note", {"text": f"nets are counted for {CHANNELS} channels and {CLASSES} classes"})
        return Zoo(recipes=recipes(), nets=own_nets())
    found = _recipe(name)
    text = (RECIPES / f"{found.name}.toml").read_text(encoding="utf-8")
    if copy is not None:
        may_write(copy, "recipe", flag="--copy")
        runs.write_text(Path(copy), text)
    return Zoo(recipes=(found,), text=text, copied=copy)


def _students(students: tuple[Student, ...], nets: tuple[Net, ...]) -> list[tuple[str, ...]]:
    """Return the students' table; MACs and parameters, which are bytes in 8 bits, are counted."""
    counted = {net.name: net for net in nets}

    def measured(value: float | None) -> str:
        return "-" if value is None else f"{value:g}"

    rows = [
        (
            one.name, str(counted[one.name].size), measured(one.top1), f"{counted[one.name].parameters:,}",
            f"{counted[one.name].macs / 1e6:.1f} M", *(measured(time) for time in (one.onnx, one.c, one.chip)),
            one.choose,
        )
        for one in students
    ]  # fmt: skip
    return [("student", "px", "top-1", "bytes", "MACs", "ONNX", "C", "FPGA", "choose it if"), *rows]


def recipes() -> tuple[Recipe, ...]:
    """Return the recipes that ship with Limbeck, by name."""
    return tuple(_read(path) for path in sorted(RECIPES.glob("*.toml")))


def _read(path: Path) -> Recipe:
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return Recipe(path.stem, str(runs.read_toml(path)["verb"]), first.removeprefix("#").strip())


def _recipe(name: str) -> Recipe:
    """Return the recipe of this name, with or without .toml; InputError with near ones."""
    import difflib

    known = {one.name: one for one in recipes()}
    wanted = name.removesuffix(".toml")
    if wanted in known:
        return known[wanted]
    if wanted in own_names():
        raise InputError(f"{name} is a net, not a recipe; limbeck info {name} shows it layer by layer")
    near = difflib.get_close_matches(wanted, known, n=3) or [other for other in known if wanted in other][:3]
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    raise InputError(f"there is no recipe {name}{hint or '; limbeck zoo lists them'}")
