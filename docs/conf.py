"""Sphinx' settings: the repository's Markdown as a site that searches and loads nothing from elsewhere (make docs).

The repository is the source folder, so that links between its pages are those that people follow there. One that leads
nowhere is a warning, and so an error.
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "Limbeck"
root_doc = "README"
extensions = ["myst_parser"]
include_patterns = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "docs/*.md", "benchmarks/README.md"]
html_theme = "furo"
html_title = "Limbeck"
html_copy_source = False
myst_heading_anchors = 4
pygments_style, pygments_dark_style = "friendly", "monokai"
SHOWN = """
```{toctree}
:hidden:
:caption: Use it

docs/tutorial
docs/howto
docs/devices
docs/teachers
docs/adaptation
docs/labels
docs/reference
```

```{toctree}
:hidden:
:caption: How it works, and how well

docs/numerics
docs/hardware
docs/fpga-figures
docs/experiments
benchmarks/README
docs/reliability
```

```{toctree}
:hidden:
:caption: The project

docs/decisions
CONTRIBUTING
CHANGELOG
SECURITY
```
"""


def _add_menu(app: "Sphinx", name: str, source: list[str]) -> None:
    if name == root_doc:
        source[0] += SHOWN


def _add_door(app: "Sphinx", error: Exception | None) -> None:
    if error is None:
        door = '<!doctype html><meta http-equiv="refresh" content="0; url=README.html"><title>Limbeck</title>'
        Path(app.outdir, "index.html").write_text(door, encoding="utf-8")


def setup(app: "Sphinx") -> None:
    """Give the first page the menu, which belongs to the site alone, and the site its index.html."""
    app.connect("source-read", _add_menu)
    app.connect("build-finished", _add_door)
