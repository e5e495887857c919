"""limbeck report."""

from limbeck import runs
from limbeck.artefacts.kinds import may_write
from limbeck.errors import InputError
from limbeck.page.asked import Sight
from limbeck.page.report import Reported
from limbeck.page.report import report as write
from limbeck.runs import Tell


def report(
    run: str,
    others: tuple[str, ...] = (),
    *,
    out: str = "report.html",
    data: str | None = None,
    target_data: str | None = None,
    images: int = 2000,
    latency: bool = True,
    trust: bool = False,
    tell: Tell = runs.silent,
) -> Reported:
    """Write a report on runs: one page that opens anywhere and loads nothing.

    It shows accuracy against size and latency, training curves, mistakes, calibration, disagreement of teachers,
    adaptation, layers, the accelerator, cost, lineage and commands, as far as the runs have them. Nets are evaluated
    again, on held-out images.

    Examples:
        limbeck report runs/demo
        limbeck report runs/t1 runs/s s.program design --out s.html

    Args:
        run: A run folder, label store, .program, .onnx or design; or a folder of these.
        others: More of them; all are compared.
        out: The page to write.
        data: Held-out images to evaluate the nets on, instead of those that each run names; for adapted nets see
            --target-data.
        target_data: The same for adapted nets and what was exported from them: images of the target, with labels or
            without.
        images: Images to evaluate on at most, evenly spaced.
        latency: Measure how long one image takes.
        trust: Open the data that the runs name, as they are yours; else only the built-in digits, --data and
            --target-data are opened.
    """
    if images < 1:
        raise InputError(f"--images is {images}; it must be at least 1")
    may_write(out, "report", inputs=(run, *others), data=(data, target_data))
    return write((run, *others), out, Sight(data, target_data, images, trust), latency=latency, tell=tell)
