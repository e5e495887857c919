"""limbeck auto."""

from limbeck import runs
from limbeck.deploy.auto import Auto
from limbeck.deploy.auto import auto as carry_out
from limbeck.deploy.plan import Asked
from limbeck.flags import perform
from limbeck.runs import Tell


def auto(
    data: str,
    *,
    target: str | None = None,
    for_: str = "pi",
    minutes: float = 20.0,
    out: str = "runs/auto",
    teachers: tuple[str, ...] = (),
    student: str | None = None,
    size: int | None = None,
    dry_run: bool = False,
    tell: Tell = runs.silent,
) -> Auto:
    """Go from photos to a device in one command, made of the others.

    It looks at the data, chooses size, batch, teachers, student and epochs to fit the minutes, and prints its plan with
    times. Then it trains the teachers, distils the student, trains the same net on labels alone and keeps the
    better one, adapts that to the target, converts it to the device's format, and writes the report. Every step is a
    command that it prints, so that you can continue by hand. The same command continues where it was interrupted.

    Examples:
        limbeck auto photos/
        limbeck auto photos/ --target field/ --for microcontroller --minutes 30
        limbeck auto photos/ --for fpga:lfe5u-85f --dry-run

    Args:
        data: As for teach: class folders, with train/ and val/ or without.
        target: Unlabelled images from where the net will run, to which it is adapted.
        for_: What it will run on: microcontroller, pi, phone, browser, fpga or fpga:PART.
        minutes: How long it may take; epochs and, if need be, the images' size are chosen accordingly.
        out: The folder of all that is written.
        teachers: Runs to use as they are, or nets to fine-tune: pinned timm tags, NAME@FILE, ...; by default
            a pretrained net where one is at hand and the images are large enough, else two from scratch.
        student: The net for the device, by default one that suits it.
        size: Side of the images that nets see, in pixels; by default no larger than the photos, and what time allows.
        dry_run: Plan only: show the commands with their times.
    """
    asked = Asked(data, target, for_, minutes, teachers, student, size, out)
    return carry_out(asked, perform, tell, dry_run=dry_run)
