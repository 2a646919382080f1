"""The state behind the routes, and what one request asks of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from airflow_dicomweb.dicomweb.media_types import MediaType, parse_accept
from airflow_dicomweb.dicomweb.resources import ResourcePath, resource_path
from airflow_dicomweb.emulator.decoders import Decoders
from airflow_dicomweb.emulator.faults import Faults
from airflow_dicomweb.emulator.instances import Instances
from airflow_dicomweb.emulator.journal import Journal
from airflow_dicomweb.emulator.messages import ApiError
from airflow_dicomweb.emulator.notifications import Notifier
from airflow_dicomweb.emulator.operation_faults import ARGUMENT
from airflow_dicomweb.emulator.pubsub import PubSub
from airflow_dicomweb.emulator.records import Record, Records
from airflow_dicomweb.emulator.runner import Runner, Work
from airflow_dicomweb.emulator.settings import Settings
from airflow_dicomweb.emulator.stores import Stores
from airflow_dicomweb.errors import ConfigurationError


class Service:
    """One emulator: everything under one data folder.

    :param folder: The data folder.
    :param operation_seconds: How long operations take at least.
    :raises ConfigurationError: If the folder cannot be used; see :class:`Instances`.
    """

    def __init__(self, folder: Path, operation_seconds: float = 0.0) -> None:
        self.first_settings = self.settings = Settings(operation_seconds=operation_seconds)
        self.journal, self.faults = Journal(), Faults()
        self.notifier = Notifier(self.faults, self._refuses_missing_topics)
        self.instances, self.decoders = Instances(folder, self.notifier.announce), Decoders()
        self.pubsub = PubSub(self.instances.database)
        self.stores = Stores(self.instances)
        self.records = Records(self.instances.database)
        self.runner = Runner(self.records, self._work, self._fails_partly_by_error)

    def _work(self, record: Record) -> Work:
        # The works import pydicom's decoders and google-cloud-storage: not needed to begin to listen.
        from airflow_dicomweb.emulator.works import work_for

        return work_for(record, self.instances, self.stores, self.decoders)

    def _fails_partly_by_error(self) -> bool:
        return self.settings.partial_failure == "error"

    def _refuses_missing_topics(self) -> bool:
        return self.settings.missing_topic == "reject"

    def close(self) -> None:
        """Stop the operations and let go of the data folder."""
        self.runner.close()
        self.decoders.close()
        self.instances.close()


@dataclass(frozen=True, slots=True)
class Call:
    """One request.

    :param service: What it is asked of.
    :param origin: Scheme and host of the request; answers name their resources under it.
    :param path: Path of its URL.
    :param version: ``v1`` or ``v1beta1``.
    :param names: The variable parts of the path.
    :param query: Query parameters in order, without Google's system parameters.
    :param headers: Names in lower case.
    :param body: The whole body; empty for uploads, which are read as they come.
    """

    service: Service
    origin: str
    method: str
    path: str
    version: str
    names: Mapping[str, str]
    query: Sequence[tuple[str, str]]
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def project(self) -> str:
        """``projects/P``."""
        return f"projects/{self.names['project']}"

    @property
    def location(self) -> str:
        """``projects/P/locations/L``."""
        return f"{self.project}/locations/{self.names['location']}"

    @property
    def dataset(self) -> str:
        """Full name of the dataset in the path."""
        return f"{self.location}/datasets/{self.names['dataset']}"

    @property
    def store(self) -> str:
        """Full name of the DICOM store in the path."""
        return f"{self.dataset}/dicomStores/{self.names['store']}"

    @property
    def dicom_web(self) -> str:
        """URL under which the studies of the store are."""
        return f"{self.origin}/{self.version}/{self.store}/dicomWeb"

    def store_row(self) -> int:
        """Give the row number of the store in the path.

        :raises ApiError: 404 if there is no such store.
        """
        return self.service.stores.row(self.store)

    def resource(self) -> ResourcePath | None:
        """Give the study, series or instance in the path; None if there is none.

        :raises ApiError: 400 if a UID is not one.
        """
        if "study" not in self.names:
            return None
        try:
            return resource_path(self.names["study"], self.names.get("series"), self.names.get("instance"))
        except ConfigurationError as error:
            raise ApiError(400, str(error)) from None

    def parameter(self, name: str, default: str = "") -> str:
        """Give the last value of a query parameter."""
        return next((value for key, value in reversed(self.query) if key == name), default)

    def count(self, name: str, default: int, most: int, least: int = 0, *, clamp: bool = False) -> int:
        """Give a number of the query.

        :param clamp: Whether a number out of range becomes the nearest one in it.

        :raises ApiError: 400 if it is none, or out of range.
        """
        text = self.parameter(name, str(default))
        if clamp and text.isascii() and text.isdigit():
            return min(max(int(text[:10]), least), most)
        if not (text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most):
            raise ApiError(400, f"invalid {name}: a number from {least} to {most} is expected")
        return int(text)

    def start_operation(
        self, kind: str, arguments: Mapping[str, object], *, dataset: str = "", target: str = ""
    ) -> Record:
        """Note an operation that this request starts, with the fault that it is to suffer, and set it to work.

        :param dataset: Full name of the dataset to which it belongs; by default the one in the path.
        """
        service = self.service
        fault = service.faults.take_operation(self.method, self.path)
        seconds = service.settings.operation_seconds
        if fault is not None:
            arguments = {**arguments, ARGUMENT: fault.kept()}
            seconds = seconds if fault.seconds is None else fault.seconds
        record = service.records.add(
            kind, dataset or self.dataset, version=self.version, target=target, arguments=arguments, seconds=seconds
        )
        service.runner.start(record)
        return record

    def accept(self) -> list[MediaType]:
        """Give what the caller can read, best first."""
        return parse_accept(self.headers.get("accept"))
