"""How the process gets memory from the system."""

import ctypes

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # mallopt's, in glibc's malloc.h


def keep_freed_memory() -> None:
    """Let glibc reuse freed memory instead of giving it back: on CPUs every step would fetch its pages anew.

    Blocks up to 1 GiB stay with the process. Does nothing where the C library is another.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, 2**30)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
