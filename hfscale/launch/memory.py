"""How the C library treats the memory that tensors leave behind on a CPU."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h of glibc


def keep_freed_memory() -> bool:
    """Let this process keep freed memory for its next tensors instead of handing it back to the kernel.

    A training step frees and takes the same sizes again and again; by default glibc maps each large one anew and the
    kernel fills it with zeros, page by page. Returns whether it was done (Linux with glibc only).
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # musl
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, -1))
