"""limbeck doctor."""

from limbeck import runs
from limbeck.deploy.installation import Diagnosis, diagnose
from limbeck.runs import Tell


def doctor(*, tell: Tell = runs.silent) -> Diagnosis:
    """Say what is installed here, what is missing, and the command that brings it.

    The exit code is 0, or 3 where something is broken that Limbeck needs whatever you do with it.

    Examples:
        limbeck doctor
    """
    tell("note", {"text": "looking"})
    return diagnose()
