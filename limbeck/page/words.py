"""How the page writes values: shares, counts, bytes, times. A dash stands for what is not known."""

import math

NARROW = "\N{NARROW NO-BREAK SPACE}"


def share(value: float | None, digits: int = 1) -> str:
    """Return a share in per cent."""
    return "–" if value is None or not math.isfinite(value) else f"{100 * value:.{digits}f}{NARROW}%"


def points(value: float, digits: int = 1) -> str:
    """Return a share as percentage points."""
    return f"{100 * value:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def count(value: float | None) -> str:
    """Return a whole number with commas."""
    return "–" if value is None else f"{value:,.0f}"


def size(value: int) -> str:
    """Return bytes with a decimal prefix."""
    power = min(max(int(math.log10(max(value, 1)) // 3), 0), 4)
    return f"{value / 1000**power:.{0 if power == 0 else 1}f}{NARROW}{('B', 'kB', 'MB', 'GB', 'TB')[power]}"


def time(seconds: float | None) -> str:
    """Return a time as people say it."""
    match seconds:
        case None:
            return "–"
        case _ if seconds < 1e-3:
            return f"{seconds * 1e6:.0f}{NARROW}µs"
        case _ if seconds < 1:
            return f"{seconds * 1e3:.2f}{NARROW}ms"
        case _ if seconds < 120:
            return f"{seconds:.1f}{NARROW}s"
        case _:
            return f"{seconds / 60:,.1f}{NARROW}min"
