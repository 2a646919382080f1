"""A file as one piece of a request body: the system sends it by itself, where it can.

Its bytes then do not pass through this process: that saves processor time, and threads wait for each other less often.

Source: sendfile(2).
"""

from __future__ import annotations

import errno
import io
import os
import socket
import stat
from collections.abc import Iterator
from typing import BinaryIO, Self

from airflow_dicomweb.dicomweb.multipart import BLOCK_SIZE

# These are about the file; any other error is the connection's.
_OF_THE_FILE = frozenset({errno.EACCES, errno.EIO, errno.ENODATA, errno.ENODEV, errno.ENXIO, errno.ESTALE})


# What is sent with it waits for what comes next, in one packet.
_MORE_COMES = getattr(socket, "MSG_MORE", 0)


class WholeFile:
    """A file that goes over one connection, once.

    :param file: Opened at its beginning.
    :param size: Bytes that it has.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size, self._sent = file, size, 0
        self._problem = ""
        self.head = b""
        """Bytes that are sent before it."""

    @classmethod
    def of(cls, stream: BinaryIO, size: int) -> Self | None:
        """Give a stream that was just opened as a whole file; None if it is none, or has another size.

        What is no plain file may be read in a way that the system knows nothing of.
        """
        if type(stream) is not io.BufferedReader or type(stream.raw) is not io.FileIO or not hasattr(os, "sendfile"):
            return None
        found = os.fstat(stream.fileno())
        return cls(stream, size) if stat.S_ISREG(found.st_mode) and found.st_size == size else None

    def __len__(self) -> int:
        return len(self.head) + self._size

    @property
    def finding(self) -> str:
        """Why it was not sent as it was when it was listed, or an empty string."""
        if self._problem:
            return f"it cannot be read: {self._problem}"
        whole = self._sent == self._size == os.fstat(self._file.fileno()).st_size
        return "" if whole else "it changed while it was sent"

    def send(self, connection: socket.socket) -> None:
        """Send it over a connection that is not encrypted, with the time-out of the connection.

        :raises OSError: If the connection fails. If the file does, less than the whole is sent.
        """
        if self.head:
            connection.sendall(self.head, _MORE_COMES)
        try:
            while self._sent < self._size and (sent := self._send_some(connection)) is not None:
                self._sent += sent
        except OSError as error:
            if error.errno not in _OF_THE_FILE:
                raise
            self._problem = error.strerror or type(error).__name__

    def _send_some(self, connection: socket.socket) -> int | None:
        """Send as much as the connection takes at once; None if the file has no more."""
        try:
            sent = os.sendfile(connection.fileno(), self._file.fileno(), self._sent, self._size - self._sent)
        except BlockingIOError:
            from urllib3.util import wait_for_write  # the HTTP stack is loaded where it is used

            if wait_for_write(connection, connection.gettimeout()):
                return 0
            raise TimeoutError("timed out") from None
        return sent or None

    def blocks(self) -> Iterator[bytes]:
        """Read it, to be sent in another way."""
        if self.head:
            yield self.head
        try:
            while block := self._file.read(min(BLOCK_SIZE, self._size - self._sent)):
                self._sent += len(block)
                yield block
        except OSError as error:
            self._problem = error.strerror or type(error).__name__
