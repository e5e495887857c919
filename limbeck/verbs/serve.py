"""limbeck serve."""

import importlib
from dataclasses import dataclass
from typing import Literal

from limbeck import runs
from limbeck.errors import InputError
from limbeck.results import Result
from limbeck.runs import Tell
from limbeck.ui.opened import opened


@dataclass(frozen=True)
class Served(Result):
    """A page that has ended."""

    url: str
    models: tuple[str, ...]  # that predicted
    pictures: int  # that they were shown, each change of a slider counted

    def rows(self) -> list[tuple[str, str]]:
        """Return what a person wants to know, as (name, value)."""
        return [("page", self.url), ("models", ", ".join(self.models)), ("pictures", f"{self.pictures:,}")]


def serve(
    models: tuple[str, ...],
    *,
    data: str | None = None,
    split: Literal["val", "test", "train"] = "val",
    port: int = 8000,
    host: str = "127.0.0.1",
    unlabelled: bool = False,
    tell: Tell = runs.silent,
) -> Served:
    """Show images to models side by side, on a page in your browser.

    An image is dropped, drawn or filmed there, and every model classifies it. Predictions stand side by side: likeliest
    classes, probabilities, milliseconds. Sliders put another background behind the image, blur it, add noise: they
    show the shift to another domain, and what adaptation gains, where the runs before and after limbeck adapt are both
    given. A Design is run in Verilator, every score compared with its Program's. Ctrl-C ends it.

    Examples:
        limbeck serve runs/t1 runs/s s.program design --data photos/

    Args:
        models: Run folders, pinned timm tags, tv/NAME.WEIGHTS, NAME@FILE, hf-hub:ID, .program, .c and .onnx files,
            folders that limbeck compile wrote, or a folder of these.
        data: As for teach: its held-out images can be shown, with their labels; by default those that the first run
            names, where they are at hand.
        split: The split of --data to show.
        port: The port to listen on; 0 for any free port.
        host: The address to listen on. Any other than 127.0.0.1 lets other machines in.
        unlabelled: Read no labels: the subfolders of --data are days or cameras, not classes.
    """
    try:
        for name in ("starlette", "uvicorn"):
            importlib.import_module(name)
    except ImportError as error:
        raise InputError(f"limbeck serve needs the package {error.name}: pip install 'limbeck[ui]'") from error
    from limbeck.ui.app import app
    from limbeck.ui.server import is_loopback, listen, made, url_of

    if not models:
        raise InputError("no model is given; name runs, .program, .c or .onnx files, or designs")
    with (
        listen(host, port) as socket,
        opened(models, data=data, split=split, host=host, unlabelled=unlabelled, tell=tell) as page,
    ):
        url = url_of(host, socket.getsockname()[1])
        if not is_loopback(host):
            tell("note", {"text": f"anyone who reaches this machine on {host} can use these models: there is no login"})
        tell("note", {"text": f"{url}  (Ctrl-C ends it)"})
        made(app(page)).run(sockets=[socket])
        return Served(url, tuple(voice.name for voice in page.voices), page.pictures)
