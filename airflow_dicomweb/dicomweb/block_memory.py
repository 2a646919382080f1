"""Memory for blocks of data, kept for the next block.

glibc gives freed memory of a few hundred KiB back to the system, and each page of the next block then costs a fault: a
third of the time of a retrieval. It stops doing so for blocks smaller than the largest one that it has seen freed.

Source: mallopt(3), M_MMAP_THRESHOLD ("dynamic mmap threshold").
"""

from __future__ import annotations

_LARGEST = 8 * 2**20


def keep_block_memory() -> None:
    """Have the C library keep the memory of blocks, some MiB at most; other C libraries take no notice."""
    bytes(_LARGEST)  # never touched, so it takes no memory
