"""The page of an audit: pictures, and the class that a person says each is. It asks no server for anything."""

from collections.abc import Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined

from limbeck.version import __version__


def text(
    sheet: str,
    classes: Sequence[str],
    head: Sequence[str],
    lines: Sequence[tuple[int, Sequence[object]]],
    pictures: Sequence[str],
) -> str:
    """Return the page: for each (place, cells) of the sheet its picture, data:image/png;base64, and the classes."""
    values = Environment(
        loader=PackageLoader("limbeck.page"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    ).get_template("audit.html")  # fmt: skip
    cells = [line for _, line in lines]
    return values.render(
        version=__version__, sheet=sheet, classes=[*classes], head=[*head], lines=cells, pictures=pictures
    )
