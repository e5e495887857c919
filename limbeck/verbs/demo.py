"""limbeck demo."""

from pathlib import Path

from limbeck import runs
from limbeck.runs import Tell
from limbeck.stages import Story, tell_story


def demo(*, out: str = "runs/demo", tell: Tell = runs.silent) -> Story:
    """Tell the whole story on the built-in digits, in minutes.

    Two teachers, their soft labels, a small student, its chip. The student is a dsODENet of 23,680 parameters; the same
    net also learns from the labels, for comparison. The student adapts itself to digits from elsewhere, without labels,
    and becomes 8-bit integers, and these an accelerator for the ZCU104 that is simulated, where Verilator is. The
    report is a page that shows it all. Trainings and labels that are finished are not done again.

    Examples:
        limbeck demo

    Args:
        out: The folder of the runs.
    """
    return tell_story(Path(out), tell)
