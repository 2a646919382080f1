"""What is sent together: instances on their way, bodies made from them, and batches of bounded size.

Source: DICOM PS3.18 sections 8.7.1 and 10.5.1 (multipart and single part bodies of a store request).
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

from airflow_dicomweb.dicomweb.media_types import DICOM
from airflow_dicomweb.dicomweb.multipart import BLOCK_SIZE, Body, Part
from airflow_dicomweb.dicomweb.part10 import Header
from airflow_dicomweb.dicomweb.resources import InstancePath
from airflow_dicomweb.dicomweb.sources import Source
from airflow_dicomweb.dicomweb.stow import InstanceOutcome, Outcome
from airflow_dicomweb.dicomweb.whole_files import WholeFile
from airflow_dicomweb.errors import ConfigurationError, DicomWebError


class SourceFailed(ConfigurationError):  # noqa: N818 - a finding about one source, not about the call
    """A source could not be read whole while it was sent. The server did not get it, nor the rest of its request.

    :param item: Which one.
    :param reason: Why, without its name.
    """

    def __init__(self, item: Item, reason: str) -> None:
        self.item, self.reason = item, reason
        super().__init__(reason)


@dataclass(slots=True, eq=False)
class Item:
    """An instance on its way to the server.

    :param source: Where its bytes are; they are read afresh for every attempt.
    :param header: Its identity.
    :param existed: The server had an instance of this identity before.
    :param summed: The SHA-256 is taken while it is sent: that costs as much as sending.
    :param sha256: SHA-256 of the bytes as they were last read whole, or an empty string if it was not taken.
    :param replaces: It is sent to be stored in the place of other bytes.
    :param note: What must be said with its outcome about the bytes that it replaces.
    :param began: Moment of its first request, by the monotonic clock; 0.0 before.
    """

    source: Source
    header: Header
    existed: bool = False
    summed: bool = False
    sha256: str = ""
    replaces: bool = False
    note: str = ""
    began: float = 0.0

    @property
    def path(self) -> InstancePath:
        """Its identity."""
        return self.header.path

    def read(self) -> Iterator[bytes]:
        """Read the bytes once.

        :raises SourceFailed: If they cannot be read, or are not as many as were listed.
        """
        with self._opened() as stream:
            yield from self._taken(stream)

    def pieces(self) -> Iterator[bytes | WholeFile]:
        """Read the bytes once for a connection: a file that nothing here must look at is one piece.

        :raises SourceFailed: As :meth:`read`.
        """
        with self._opened() as stream:
            file = None if self.summed else WholeFile.of(stream, self.source.size)
            if file is None:
                yield from self._taken(stream)
                return
            yield file
            if file.finding:
                raise SourceFailed(self, file.finding)

    def _taken(self, stream: BinaryIO) -> Iterator[bytes]:
        summed, left = hashlib.sha256() if self.summed else None, self.source.size
        while block := stream.read(BLOCK_SIZE):
            left -= len(block)
            if left < 0:
                break
            if summed is not None:
                summed.update(block)
            yield block
        if left:
            raise SourceFailed(self, "it changed while it was sent")
        if summed is not None:
            self.sha256 = summed.hexdigest()

    def digest(self) -> str:
        """Give the SHA-256 of the bytes: as they were sent, or else as they are now.

        :raises SourceFailed: As :meth:`read`.
        """
        if not self.sha256:
            self.summed = True
            for _ in self.read():
                pass
        return self.sha256

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """Give the bytes as a file of its own, which can be read in any order.

        :raises SourceFailed: As :meth:`read`.
        """
        with tempfile.TemporaryFile() as copy:
            for block in self.read():
                copy.write(block)
            copy.seek(0)
            yield copy

    @contextmanager
    def _opened(self) -> Iterator[BinaryIO]:
        try:
            with self.source.open() as stream:
                yield stream
        except SourceFailed:
            raise
        except OSError as error:
            reason = error.strerror or type(error).__name__
        except DicomWebError as error:
            reason = str(error)
        else:
            return
        raise SourceFailed(self, f"it cannot be read: {reason}")


class SingleBody:
    """One instance as a body of its own.

    :param item: The instance.
    """

    content_type = DICOM

    def __init__(self, item: Item) -> None:
        self._item = item

    def __len__(self) -> int:
        return self._item.source.size

    def __iter__(self) -> Iterator[bytes]:
        return self._item.read()

    def pieces(self) -> Iterator[bytes | WholeFile]:
        """Read the instance afresh, for a connection."""
        return self._item.pieces()


def body_of(batch: Sequence[Item], *, single_part: bool) -> Body | SingleBody:
    """Make the body of a store request.

    :param batch: One or more instances of different SOP Instance UIDs.
    :param single_part: The server takes one instance without a multipart body around it.
    """
    if single_part and len(batch) == 1:
        return SingleBody(batch[0])
    return Body([Part(DICOM, item.source.size, item.read, pieces=item.pieces) for item in batch], DICOM)


def batches(items: Iterable[Item], max_bytes: int, max_count: int) -> Iterator[list[Item]]:
    """Group instances, as many as fit; one that is larger than ``max_bytes`` goes alone."""
    batch: list[Item] = []
    size = 0
    for item in items:
        if batch and (len(batch) == max_count or size + item.source.size > max_bytes):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += item.source.size
    if batch:
        yield batch


def outcome_of(item: Item, outcome: Outcome, *, reason: str = "", **more: Any) -> InstanceOutcome:
    """Give the outcome of an instance."""
    source = item.source
    return InstanceOutcome(
        source=source.name,
        ordinal=source.ordinal,
        path=item.path,
        outcome=outcome,
        reason="; ".join(filter(None, (reason, item.note))),
        replaced=item.replaces and outcome == "created",
        bytes=source.size,
        seconds=time.monotonic() - item.began if item.began else 0.0,
        sha256=item.sha256,
        version=source.version,
        **more,
    )


def unreadable(source: Source, outcome: Outcome, reason: str) -> InstanceOutcome:
    """Give the outcome of a source whose identity is not known."""
    return InstanceOutcome(
        source=source.name,
        ordinal=source.ordinal,
        path=None,
        outcome=outcome,
        reason=reason,
        bytes=source.size,
        version=source.version,
    )
