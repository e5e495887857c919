"""What a verb returns. Standard library only, so that every folder may use it."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Protocol


class Result(Protocol):
    """A value to print. Subclasses inherit what most verbs need."""

    def rows(self) -> Sequence[tuple[str, ...]]:
        """Return what a person wants to know, line by line, often as (name, value)."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Return the same as JSON values: by default the fields of the dataclass that it is."""
        return asdict(self)  # type: ignore[call-overload, no-any-return]

    @property
    def problem(self) -> str:
        """What of the user's input could not be used, in a sentence: the rest was done. The command ends with 2."""
        return ""

    @property
    def failure(self) -> str:
        """What was checked and is wrong, in a sentence. The command ends with 3."""
        return ""

    @property
    def following(self) -> str:
        """The command worth typing next, where it hangs on what was found; by default that of every such verb."""
        return ""
