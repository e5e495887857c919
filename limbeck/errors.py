"""The two ways in which Limbeck says no; `cli` turns them into exit codes 2 and 3."""


class InputError(Exception):
    """The user's input can't be used: one sentence with what was wrong, where, the limit and the remedy."""


class VerificationError(Exception):
    """A check that the user asked for failed: one sentence with the figure and the limit."""
