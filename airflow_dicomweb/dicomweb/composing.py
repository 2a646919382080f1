"""Part 10 files made around bulk data: a data set, and a file that becomes its pixel data or document.

The bulk data is not held in memory: it is read from its source whenever the file is read. Equal input gives equal
bytes, whichever release of which library writes them, so that a retry stores the same instance.

Source: DICOM PS3.10 section 7.1 (file meta information), PS3.5 annex A.4 (encapsulated pixel data).
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from airflow_dicomweb.dicomweb.sources import Source
from airflow_dicomweb.errors import ConfigurationError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

PIXEL_DATA, DOCUMENT = "7FE00010", "00420011"
EXPLICIT = "1.2.840.10008.1.2.1"
IMPLEMENTATION_CLASS, IMPLEMENTATION_VERSION = "2.25.142601869893842087331468873929158346417", "AIRFLOW_DICOMWEB"
_LONGEST = 0xFFFFFFFE
_ITEM = b"\xfe\xff\x00\xe0"
_SEQUENCE_END = b"\xfe\xff\xdd\xe0\x00\x00\x00\x00"


@dataclass(frozen=True, slots=True)
class Composed:
    """A Part 10 file that is put together whenever it is read.

    :param head: What stands before the bulk data.
    :param bulk: The bulk data.
    :param tail: What stands after it.
    """

    head: bytes
    bulk: Source
    tail: bytes

    @property
    def source(self) -> Source:
        """The file as something to store."""
        return Source(0, self.bulk.name, len(self.head) + self.bulk.size + len(self.tail), self.open)

    def open(self) -> BinaryIO:
        """Open it at its start."""
        head, tail = io.BytesIO(self.head), io.BytesIO(self.tail)
        return io.BufferedReader(_Joined([lambda: head, self.bulk.open, lambda: tail]))


class _Joined(io.RawIOBase):
    """Several streams, one after the other; each is opened when it is its turn."""

    def __init__(self, opens: Sequence[Callable[[], BinaryIO]]) -> None:
        self._opens, self._stream = list(opens), io.BytesIO()
        self._streams: list[BinaryIO] = [self._stream]

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while True:
            data = self._streams[-1].read(len(buffer))
            if data:
                buffer[: len(data)] = data
                return len(data)
            if not self._opens:
                return 0
            self._streams.append(self._opens.pop(0)())

    def close(self) -> None:
        for stream in self._streams:
            stream.close()
        super().close()


def compose(data_set: Dataset, transfer_syntax: str, tag: str, bulk: Source) -> Composed:
    """Make a Part 10 file.

    :param data_set: Everything but group 0002 and the bulk data.
    :param transfer_syntax: How the bulk data is encoded; the data set is written with explicit VRs, little endian.
    :param tag: Where the bulk data goes: pixel data is encapsulated, as one frame or video; a document stands as it is.
    :raises ConfigurationError: If the bulk data is too long for one element.
    """
    if bulk.size > _LONGEST:
        raise ConfigurationError(f"bulk_data has {bulk.size} bytes: at most {_LONGEST} are accepted")
    pad = bulk.size % 2
    length = bulk.size + pad
    opening = struct.pack("<HH2sH", int(tag[:4], 16), int(tag[4:], 16), b"OB", 0)
    if tag == PIXEL_DATA:
        # An empty offset table, and one fragment.
        opening += b"\xff\xff\xff\xff" + _ITEM + struct.pack("<L", 0) + _ITEM + struct.pack("<L", length)
    else:
        opening += struct.pack("<L", length)
    number = int(tag, 16)
    before = _written([element for element in data_set if element.tag < number])
    after = _written([element for element in data_set if element.tag > number])
    closing = b"\0" * pad + (_SEQUENCE_END if tag == PIXEL_DATA else b"")
    return Composed(_beginning(data_set, transfer_syntax) + before + opening, bulk, closing + after)


def _beginning(data_set: Dataset, transfer_syntax: str) -> bytes:
    from pydicom.dataset import FileMetaDataset
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_file_meta_info
    from pydicom.uid import UID

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = data_set.SOPClassUID
    meta.MediaStorageSOPInstanceUID = data_set.SOPInstanceUID
    meta.TransferSyntaxUID = UID(transfer_syntax)
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_file_meta_info(buffer, meta)
    return b"\0" * 128 + b"DICM" + buffer.getvalue()


def _written(elements: list[object]) -> bytes:
    from pydicom.dataset import Dataset
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_dataset

    part = Dataset()
    for element in elements:
        part.add(element)  # type: ignore[arg-type]
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, part, parent_encoding="utf-8")
    return buffer.getvalue()
