"""Making instances of a file and what is known of it: a JPEG image, a PDF document, a video.

What the file says of itself is read from it, so that metadata cannot contradict it; what neither says is filled in where
the standard has an obvious value, and is an error where it has not. An instance goes to the server as JSON metadata with
bulk data where the server takes that, and as a Part 10 file made here otherwise. What became of it is judged as for any
other store.

Source: DICOM PS3.18 section 10.5 (store transaction), section 8.7.2 (metadata and bulk data).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_dicomweb.dicomweb.answers import Answer
from airflow_dicomweb.dicomweb.batches import Item
from airflow_dicomweb.dicomweb.bulk_source import BulkDataArgument, blocks_of, find_bulk_data
from airflow_dicomweb.dicomweb.exchanges import Exchanges
from airflow_dicomweb.dicomweb.media_types import DICOM_JSON
from airflow_dicomweb.dicomweb.multipart import Body, Part
from airflow_dicomweb.dicomweb.resources import InstancePath
from airflow_dicomweb.dicomweb.settling import InstanceIds
from airflow_dicomweb.dicomweb.sources import Buckets, Source
from airflow_dicomweb.dicomweb.storing import store_all
from airflow_dicomweb.dicomweb.stow import StoreOptions, StoreResult, check_choice
from airflow_dicomweb.dicomweb.wado import digest, only_part
from airflow_dicomweb.errors import ConfigurationError, NotFoundError

if TYPE_CHECKING:
    from airflow_dicomweb.dicomweb.composing import Composed
    from airflow_dicomweb.dicomweb.described import Description
    from airflow_dicomweb.dicomweb.habits import ServerHabits


class Creations:
    """Makes instances; part of ``DicomWebClient``."""

    _exchanges: Exchanges
    _buckets: Buckets | None

    def create_instance(
        self,
        metadata: Mapping[str, Any],
        bulk_data: BulkDataArgument,
        *,
        namespace: str = "",
        as_part10: bool | None = None,
        storage_class: str | None = None,
        on_conflict: str = "fail",
        verify: str = "response",
    ) -> StoreResult:
        """Make an instance of a JPEG image, a PDF document or a video, store it, and say what became of it.

        :param metadata: Attributes by keyword or tag, as plain values or DICOM JSON. ``PatientID`` must be among them, if
            only as None; what the file says of itself need not, and must not contradict it.
        :param bulk_data: Path of the file, its ``gs://`` URI, or its bytes.
        :param namespace: What UIDs that the metadata lacks are derived from, together with the bulk data: the same
            namespace and file give the same instance. Without one they are derived from metadata and bulk data.
        :param as_part10: Send a Part 10 file made here (True), or a JPEG as JSON metadata with bulk data (False); None
            does what the server takes.
        :param storage_class: As for :meth:`store`; likewise ``on_conflict`` and ``verify``.
        :return: One outcome.
        :raises ConfigurationError: If an argument, the metadata or the file cannot be used. Nothing was sent then.
        :raises DicomWebError: If the server cannot be reached, refuses the sender, or gives an unreadable answer.
        """
        # Loaded here: pydicom takes a quarter of a second, and is no part of a client that only asks.
        from airflow_dicomweb.dicomweb.composing import compose
        from airflow_dicomweb.dicomweb.described import describe

        check_choice(on_conflict, "on_conflict", ("fail", "keep"))
        options = StoreOptions(workers=1, storage_class=storage_class, on_conflict=on_conflict, verify=verify)
        options.check_possible(self._exchanges.habits)
        _check(namespace, as_part10)
        bulk = find_bulk_data(bulk_data, self._buckets)
        description = describe(metadata, bulk, namespace)
        if as_part10 is False and (not description.is_image or description.has_binary_values):
            raise ConfigurationError(
                "only a JPEG whose metadata has no binary values can be sent as metadata with bulk data: leave as_part10 away"
            )
        composed = compose(description.data_set, description.transfer_syntax, description.tag, bulk)
        if as_part10 is None:
            as_part10 = (
                not (self._exchanges.habits.takes_bulk_data and description.is_image) or description.has_binary_values
            )
        if as_part10:
            return store_all(self._exchanges, [composed.source], options)
        return store_all(_TakesMetadata(self._exchanges, description, composed), [composed.source], options)


def _check(namespace: object, as_part10: object) -> None:
    if not isinstance(namespace, str) or not (as_part10 is None or isinstance(as_part10, bool)):
        raise ConfigurationError("namespace must be text, and as_part10 True, False or None")


class _TakesMetadata:
    """A server to which one instance goes as metadata and bulk data.

    It makes the Part 10 file itself, so bytes cannot be compared; data sets are.
    """

    def __init__(self, exchanges: Exchanges, description: Description, composed: Composed) -> None:
        self._exchanges, self._description, self._composed = exchanges, description, composed

    @property
    def habits(self) -> ServerHabits:
        """In what the server differs from others."""
        return self._exchanges.habits

    def instances_of(self, study: str) -> InstanceIds:
        """Search for the instances of a study."""
        return self._exchanges.instances_of(study)

    def post(self, batch: Sequence[Item], options: StoreOptions) -> Answer:
        """Send the instance."""
        (item,) = batch
        # The digest of what the server shall have, as if it had been sent so.
        digest(item.read())
        return self._exchanges.post_body(metadata_body(self._description, self._composed.bulk), options)

    def digest_of(self, path: InstancePath) -> str | None:
        """Give the digest of our own file if the server's data set is the same, and of the server's otherwise."""
        from airflow_dicomweb.dicomweb.described import same_instance

        def attempt() -> bytes:
            with self._exchanges.stored(path) as events:
                return b"".join(only_part(events))

        try:
            stored = self._exchanges.retry_policy.run(attempt)
        except NotFoundError:
            return None
        with self._composed.open() as stream:
            ours = stream.read()
        return hashlib.sha256(ours if same_instance(stored, ours) else stored).hexdigest()

    def has_same(self, item: Item) -> bool | None:
        """Tell whether the server's data set is the same."""
        stored = self.digest_of(item.path)
        return None if stored is None else stored == item.digest()


def metadata_body(description: Description, bulk: Source, boundary: str | None = None) -> Body:
    """Make a store request of JSON metadata and bulk data.

    :param boundary: For tests that compare bytes.
    """
    metadata = json.dumps([description.to_json()], ensure_ascii=False, separators=(",", ":")).encode()
    media_type = f"image/jpeg; transfer-syntax={description.transfer_syntax}"
    location = {"Content-Location": description.bulk_name}
    parts = [
        Part(DICOM_JSON, len(metadata), lambda: [metadata]),
        Part(media_type, bulk.size, lambda: blocks_of(bulk), location),
    ]
    return Body(parts, DICOM_JSON, boundary)
