"""The forms in which instances are given to the store: alone, as parts, as metadata and bulk data.

Source: DICOM PS3.18 section 10.5; Cloud Healthcare API, DICOM conformance statement, "Store transaction".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from airflow_dicomweb.dicomweb.media_types import DICOM, DICOM_JSON, MULTIPART, OCTET_STREAM, MediaType
from airflow_dicomweb.dicomweb.multipart import Event, Parser, PartData, PartEnd, PartStart
from airflow_dicomweb.emulator.composing import BulkPart, compose
from airflow_dicomweb.emulator.media import STORED
from airflow_dicomweb.emulator.messages import ApiError
from airflow_dicomweb.emulator.receiving import Incoming
from airflow_dicomweb.errors import ProtocolError

_LARGEST_METADATA = 64 * 1024 * 1024

Receive = Callable[[], Incoming]


class Form(ABC):
    """A request body that is being read.

    :param receive: Begins a new file.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive, self._received = receive, list[Incoming]()

    @abstractmethod
    def feed(self, data: bytes) -> None:
        """Take the next bytes.

        :raises ApiError: 400 if they cannot be read.
        """

    @abstractmethod
    def finish(self) -> list[Incoming]:
        """Give the instances, in order, once all bytes were taken.

        :raises ApiError: 400 if the body was cut or holds nothing.
        """

    def close(self) -> None:
        """Remove what was received and not stored."""
        for incoming in self._received:
            incoming.discard()

    def _begin(self) -> Incoming:
        incoming = self._receive()
        self._received.append(incoming)
        return incoming


class SingleInstance(Form):
    """The body is the file."""

    def __init__(self, receive: Receive) -> None:
        super().__init__(receive)
        self._begin()

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        self._received[0].write(data)

    def finish(self) -> list[Incoming]:
        """Give the one instance."""
        self._received[0].close()
        return self._received


class _Multipart(Form):
    """A body of parts."""

    def __init__(self, receive: Receive, parser: Parser) -> None:
        super().__init__(receive)
        self._parser = parser

    def feed(self, data: bytes) -> None:
        """Take the next bytes; see :class:`Form`."""
        try:
            for event in self._parser.feed(data):
                self._take(event)
        except ProtocolError:
            raise ApiError(400, "The multipart body of the request is malformed.") from None

    @abstractmethod
    def _take(self, event: Event) -> None: ...

    def finish(self) -> list[Incoming]:
        """Give the instances; see :class:`Form`."""
        try:
            self._parser.close()
        except ProtocolError:
            raise ApiError(400, "The multipart body of the request ends without its closing delimiter.") from None
        if not self._parser.parts:
            raise ApiError(400, "The multipart body of the request has no parts.")
        return self._received


class Instances(_Multipart):
    """Each part is a file."""

    def _take(self, event: Event) -> None:
        match event:
            case PartStart():
                if event.media_type.name not in {DICOM, ""}:
                    raise _unsupported(event)
                self._begin()
            case PartData(data):
                self._received[-1].write(data)
            case PartEnd():
                self._received[-1].close()


class MetadataAndBulkData(_Multipart):
    """The first part is a JSON array of data sets, the others are values of theirs."""

    def __init__(self, receive: Receive, parser: Parser) -> None:
        super().__init__(receive, parser)
        self._metadata, self._metadata_type = bytearray(), MediaType("")
        self._bulk: list[BulkPart] = []

    def _take(self, event: Event) -> None:
        match event:
            case PartStart():
                self._start(event)
            case PartData(data) if self._bulk:
                self._bulk[-1].content.write(data)
            case PartData(data):
                self._metadata += data
                if len(self._metadata) > _LARGEST_METADATA:
                    raise ApiError(400, f"The metadata are larger than {_LARGEST_METADATA} bytes.")
            case PartEnd() if self._bulk:
                self._bulk[-1].content.close()

    def _start(self, event: PartStart) -> None:
        media_type = event.media_type
        if self._parser.parts == 1:
            if media_type.name != DICOM_JSON:
                raise ApiError(400, f"The first part must be {DICOM_JSON}.")
            self._metadata_type = media_type
            return
        if media_type.name not in {OCTET_STREAM, *STORED}:
            raise _unsupported(event)
        self._bulk.append(BulkPart(event.headers.get("content-location", ""), media_type, self._begin()))

    def finish(self) -> list[Incoming]:
        """Give the instances that the parts make; see :class:`Form`."""
        super().finish()
        made = []
        for incoming in compose(bytes(self._metadata), self._metadata_type, self._bulk, self._receive):
            made.append(incoming)
            self._received.append(incoming)
        return made


def _unsupported(event: PartStart) -> ApiError:
    return ApiError(400, f"unsupported media type of a part: {event.media_type.name}")


def form_of(media_type: MediaType, receive: Receive, *, with_metadata: bool = True) -> Form:
    """Give the reader of a body.

    :param media_type: Content-Type of the request.
    :param receive: Begins a new file.
    :param with_metadata: Whether metadata and bulk data are taken here.
    :raises ApiError: 400 if such a body cannot be stored.
    """
    if media_type.name == DICOM:
        return SingleInstance(receive)
    if media_type.name != MULTIPART:
        raise ApiError(400, f"unsupported media type: {media_type.name or 'none'}")
    forms: dict[str, type[_Multipart]] = {DICOM: Instances, "": Instances}
    if with_metadata:
        forms[DICOM_JSON] = MetadataAndBulkData
    form = forms.get(media_type.type_parameter)
    if form is None:
        raise ApiError(400, f"unsupported media type of the parts: {media_type.type_parameter}")
    try:
        return form(receive, Parser(media_type.parameters.get("boundary", "")))
    except ProtocolError:
        raise ApiError(400, "The boundary of the multipart body is missing or cannot be.") from None
