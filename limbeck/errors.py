"""The two ways in which Limbeck refuses; `cli` turns them into exit codes 2 and 3. And how it quotes others."""

from typing import NoReturn


class InputError(Exception):
    """The user's input can't be used: one sentence with what was wrong, where, the limit and the remedy."""


class VerificationError(Exception):
    """A check that the user asked for failed: one sentence with the figure and the limit."""


def shown(text: str) -> str:
    """Return text that others may have named, with whatever would steer a terminal as escapes; line ends stay."""
    return "".join(c if c == "\n" or c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def first_line(error: BaseException) -> str:
    """Return the first line, up to 200 characters, of another library's message; the error's kind if there is none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def assert_never(value: NoReturn) -> NoReturn:
    """Hold the type checker to it that no case is left: typing's own, which Python has from 3.11 on."""
    raise AssertionError(f"{value!r} is a case that was forgotten")
