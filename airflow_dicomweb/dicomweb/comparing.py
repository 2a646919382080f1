"""Whether an instance is the one that was sent, on a server that does not keep files as they come.

Three degrees: the same bytes; the same bytes from the data set on, whatever became of the preamble and of group 0002; the
same elements, however they are written. How far a server keeps what it gets stands in ``habits.py``.

Source: DICOM PS3.10 section 7.1 (file meta information), PS3.5 section 7.2 (group length).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import TYPE_CHECKING, BinaryIO

from airflow_dicomweb.dicomweb.multipart import BLOCK_SIZE

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_TRAILING_PADDING = 0xFFFCFFFC


def same_data_set(one: BinaryIO, other: BinaryIO, *, rewritten: bool) -> bool:
    """Tell whether two Part 10 files hold the same data set.

    :param one: At its start; seekable, as the other one.
    :param rewritten: Elements are compared where bytes differ: lengths of sequences and the like do not count.
    """
    if _past_meta(one) and _past_meta(other) and _same_bytes(one, other):
        return True
    return rewritten and _same_elements(one, other)


def _past_meta(stream: BinaryIO) -> bool:
    """Go to where the data set begins; False if that cannot be told."""
    stream.seek(0)
    head = stream.read(144)
    # The group length comes first in group 0002: (0002,0000) UL, four bytes.
    if len(head) < 144 or head[128:140] != b"DICM\2\0\0\0UL\4\0":
        return False
    stream.seek(144 + int.from_bytes(head[140:144], "little"))
    return True


def _same_bytes(one: BinaryIO, other: BinaryIO) -> bool:
    return all(mine == theirs for mine, theirs in zip_longest(_blocks(one), _blocks(other)))


def _blocks(stream: BinaryIO) -> Iterator[bytes]:
    while block := stream.read(BLOCK_SIZE):
        yield block


def _same_elements(one: BinaryIO, other: BinaryIO) -> bool:
    from pydicom import dcmread

    one.seek(0)
    other.seek(0)
    try:
        first, second = dcmread(one), dcmread(other)
        same_syntax = first.file_meta.TransferSyntaxUID == second.file_meta.TransferSyntaxUID
        return bool(same_syntax and _without_padding(first) == _without_padding(second))
    except Exception:  # noqa: BLE001 - pydicom raises anything; what cannot be read is not the same
        return False


def _without_padding(data_set: Dataset) -> Dataset:
    """Take away what does not belong to the data: group lengths, and padding at the end."""
    for tag in [tag for tag in data_set.keys() if tag.element == 0 or tag == _TRAILING_PADDING]:  # noqa: SIM118
        del data_set[tag]
    return data_set
