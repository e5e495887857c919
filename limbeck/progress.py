"""Progress on stderr: a live bar on a terminal, a line now and then elsewhere. For `cli`, and for scripts."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.progress import Progress, ProgressColumn, Task, TaskID
from rich.text import Text

from limbeck.errors import shown
from limbeck.runs import Tell, silent
from limbeck.terminal import folded

LINE_SECONDS = 10.0  # between two lines where there is no terminal


class _Console(Console):
    """rich's Console would exit with 1 by itself when its reader has gone; `cli` decides that."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


@contextlib.contextmanager
def show(*, quiet: bool = False) -> Iterator[Tell]:
    """Yield a Tell that shows the events it gets; `quiet` shows nothing (all ranks but the first)."""
    if quiet:
        yield silent
        return
    console = _Console(stderr=True)
    if not sys.stderr.isatty():
        yield _Lines(console)
        return
    progress = Progress(_Line(), console=console, transient=True)
    try:
        yield _Bars(progress)
    finally:
        progress.stop()


class _Line(ProgressColumn):
    """Says first how far it is and what is left, so that a narrow terminal cuts the figures behind them."""

    def render(self, task: Task) -> Text:
        total = f"/{task.total:,.0f}" if task.total else ""
        left = "" if task.time_remaining is None else f"  {_duration(task.time_remaining)} left"
        figures = f"  {task.fields['text']}" if task.fields["text"] else ""
        return Text(
            f"{task.description} {task.completed:,.0f}{total}{left}{figures}", no_wrap=True, overflow="ellipsis"
        )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class _Lines:
    """Prints notes and epochs as they come, and a step every ten seconds."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.last = time.monotonic()
        self.begun: dict[str, tuple[float, int]] = {}  # when an event was first seen, and how far it was then

    def __call__(self, event: str, values: dict[str, Any]) -> None:
        now, (done, total) = time.monotonic(), _place(event, values)
        since, first = self.begun.setdefault(event, (now, done or 0))
        if event in {"note", "epoch"} or now - self.last > LINE_SECONDS:
            left = ""
            if event not in {"note", "epoch"} and total and done and done > first:
                left = f"  {_duration((now - since) / (done - first) * (total - done))} left"
            self.console.print(_sentence(event, values) + left, highlight=False, markup=False, soft_wrap=True)
            self.last = now


class _Bars:
    """Keeps one bar an event that counts, and prints notes and epochs above."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.bars: dict[str, TaskID] = {}

    def __call__(self, event: str, values: dict[str, Any]) -> None:
        if event in {"note", "epoch"}:
            console = self.progress.console
            for line in _sentence(event, values, console.width).split("\n"):
                shown = "\n".join(folded(line, console.width))
                console.print(shown, highlight=False, markup=False, soft_wrap=True)
            return
        done, total = _place(event, values)
        self._forget(lambda task: task.description == event and (done or 0) < task.completed)  # it has another speed
        if event not in self.bars:
            self.progress.start()
            self.bars[event] = self.progress.add_task(event, total=None, text="")
        self.progress.update(self.bars[event], completed=done, total=total, text="  ".join(_figures(values)))
        self._forget(lambda task: task.finished)

    def _forget(self, gone: Callable[[Task], bool]) -> None:
        for task in filter(gone, self.progress.tasks):
            self.progress.remove_task(self.bars.pop(task.description))
        if not self.bars:
            self.progress.stop()


def _place(event: str, values: dict[str, Any]) -> tuple[int | None, int | None]:
    """Return how far an event that counts is, and where it ends."""
    counted = "step" if event == "step" else "image"
    return values.get(counted), values.get(f"{counted}s")


def _sentence(event: str, values: dict[str, Any], width: int | None = None) -> str:
    """Return what an event says; of an epoch as many figures as fit the width."""
    if event == "note":
        return shown(str(values["text"]))
    if event == "epoch":
        figures = [f"epoch {values['epoch']}/{values['epochs']}", *_figures(values)]
        while width and len(figures) > 1 and len("  ".join(figures)) > width:
            figures.pop()
        return "  ".join(figures)
    done, total = _place(event, values)
    return "  ".join([f"{event} {done}/{total}" if total else event, *_figures(values)])


def _rank(name: str) -> int:
    """Return a place in the order of figures, which is kept where it is equal."""
    return 0 if name in ("loss", "val_top1") else 1


def _figures(values: dict[str, Any]) -> list[str]:
    """Return the figures of an event: the loss and the share of held-out images that is right come first."""
    apart = ("lr", "images_per_second")
    names = sorted((name for name, v in values.items() if name not in apart and isinstance(v, float)), key=_rank)
    figures = [f"{name} {values[name]:.4f}" for name in names]
    if "lr" in values:
        figures.append(f"lr {values['lr']:.4g}")
    if "images_per_second" in values:
        figures.append(f"{values['images_per_second']:,.0f} images/s")
    return figures
