"""A second look at the DICOM store, by plain requests: what the demonstration claims is checked without its clients.

Source: PS3.18 10.4 (retrieve), 10.6 (search); Cloud Healthcare API v1 ``operations.list``
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import requests

from demo.data import Identity

PAGE_SIZE = 500
THUMBNAIL_SIZE = 260
_STUDY, _SERIES, _INSTANCE = "0020000D", "0020000E", "00080018"
_MODALITY, _NUMBER = "00080060", "00200013"


@dataclass(frozen=True, slots=True)
class FoundInstance:
    """One result of an instance search.

    :param identity: Its UIDs.
    :param modality: Its series' modality; empty when it has none.
    :param number: Its place in the series.
    """

    identity: Identity
    modality: str
    number: int


@dataclass(frozen=True, slots=True)
class FoundOperation:
    """One long-running operation of the service.

    :param name: Full name.
    :param method: Such as ``ImportDicomData``.
    :param state: ``running``, ``success`` or ``failed``.
    :param success: Items done.
    :param failure: Items failed.
    :param seconds: From its creation to its end; None while it runs.
    """

    name: str
    method: str
    state: str
    success: int
    failure: int
    seconds: float | None


class DicomStoreView:
    """What a DICOM store holds, and what its service has done.

    :param base_url: Of the Healthcare API.
    :param name: Full name of the DICOM store.
    :param token: Bearer token.
    """

    def __init__(self, base_url: str, name: str, *, token: str) -> None:
        self._dicom_web = f"{base_url}/v1/{name}/dicomWeb"
        self._operations = f"{base_url}/v1/{name.partition('/dicomStores/')[0]}/operations"
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers["Authorization"] = f"Bearer {token}"

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def instances(self) -> dict[Identity, FoundInstance]:
        """List all instances."""
        found = (_found_instance(result) for result in self._search("instances", {}))
        return {instance.identity: instance for instance in found}

    def studies_with(self, filters: Mapping[str, str]) -> set[str]:
        """Find the studies with a series that matches; their UIDs.

        :param filters: Keyword -> value.
        """
        return {_first(result, _STUDY) for result in self._search("series", filters)}

    def digest(self, identity: Identity) -> str:
        """Read an instance back as it was stored; the SHA-256 of its bytes."""
        accept = {"Accept": "application/dicom; transfer-syntax=*"}
        answer = self._session.get(self._address(identity), headers=accept, timeout=60.0)
        answer.raise_for_status()
        return hashlib.sha256(answer.content).hexdigest()

    def thumbnail(self, candidates: Sequence[FoundInstance]) -> bytes | None:
        """Have a small PNG drawn of the first of these instances that has a picture."""
        for instance in candidates:
            answer = self._session.get(
                # Of an instance of several frames, this one alone is a picture by itself.
                f"{self._address(instance.identity)}/frames/1/rendered",
                params={"viewport": f"{THUMBNAIL_SIZE},{THUMBNAIL_SIZE}"},
                headers={"Accept": "image/png"},
                timeout=60.0,
            )
            if answer.ok:
                return answer.content
        return None

    def operations(self) -> list[FoundOperation]:
        """List the operations of the store's dataset, oldest first."""
        entries: list[dict[str, Any]] = []
        token = ""
        while True:
            answer = self._session.get(self._operations, params={"pageToken": token} if token else {}, timeout=60.0)
            answer.raise_for_status()
            page = answer.json()
            entries += page.get("operations", [])
            token = page.get("nextPageToken", "")
            if not token:
                return [_found_operation(entry) for entry in sorted(entries, key=_created)]

    def _address(self, identity: Identity) -> str:
        study, series, instance = identity
        return f"{self._dicom_web}/studies/{study}/series/{series}/instances/{instance}"

    def _search(self, level: str, filters: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        offset = 0
        while True:
            window = {"limit": str(PAGE_SIZE), "offset": str(offset)}
            answer = self._session.get(
                f"{self._dicom_web}/{level}",
                params={**filters, **window},
                headers={"Accept": "application/dicom+json"},
                timeout=60.0,
            )
            answer.raise_for_status()
            page = answer.json() if answer.status_code != 204 else []
            yield from page
            if len(page) < PAGE_SIZE:
                return
            offset += len(page)


def _first(result: Mapping[str, Any], tag: str, default: Any = "") -> Any:
    values = result.get(tag, {}).get("Value") or [default]
    return values[0]


def _found_instance(result: Mapping[str, Any]) -> FoundInstance:
    identity = Identity(_first(result, _STUDY), _first(result, _SERIES), _first(result, _INSTANCE))
    return FoundInstance(identity, modality=_first(result, _MODALITY) or "", number=_first(result, _NUMBER, 0) or 0)


def _created(entry: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(entry["metadata"]["createTime"])


def _found_operation(entry: Mapping[str, Any]) -> FoundOperation:
    metadata = entry["metadata"]
    counter = metadata.get("counter", {})
    ended = metadata.get("endTime")
    done = "failed" if "error" in entry else "success"
    return FoundOperation(
        name=entry["name"],
        method=metadata["apiMethodName"].rpartition(".")[2],
        state=done if entry.get("done") else "running",
        success=int(counter.get("success", 0)),
        failure=int(counter.get("failure", 0)),
        seconds=(datetime.fromisoformat(ended) - _created(entry)).total_seconds() if ended else None,
    )
