"""A long-running operation: one value for the wire, the trigger's event and the emulator's answer, and its verdict.

Source: Cloud Healthcare API v1 ``Operation``, ``OperationMetadata``, ``ProgressCounter``, ``Status``; the page "Best
practices for long-running operations" (partial failure, cancellation).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from airflow_dicomweb.errors import (
    ConfigurationError,
    DicomWebError,
    OperationCancelledError,
    OperationFailedError,
    ProtocolError,
)

Verdict = Literal["running", "success", "partial_failure", "failed", "cancelled"]

CANCELLED = 1
PERMISSION_DENIED = 7

# An object's name may hold blanks and quotes ("O'Hara, Scarlett"): it ends with the last quote of the kind that it
# began with, and unquoted with the line.
_QUOTED_OBJECT = re.compile(r"""(?P<quote>["'])(gs://[^/\s"']+)/.*(?P=quote)""")
_OBJECT = re.compile(r"""(gs://[^/\s"']+)/(?!…).*""")
_SERVICE_AGENT = "service-PROJECT_NUMBER@gcp-sa-healthcare.iam.gserviceaccount.com"
_MISSING_ROLES = {"ImportDicomData": "roles/storage.objectViewer", "ExportDicomData": "roles/storage.objectAdmin"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What the service says of an operation at one moment.

    :param name: Full name, ``projects/P/locations/L/datasets/D/operations/O``.
    :param method: ``apiMethodName``, such as ``google.cloud.healthcare.v1.dicom.DicomService.ImportDicomData``.
    :param api_version: Version of the call that started it, ``v1`` or ``v1beta1``.
    :param create_time: RFC 3339, as received.
    :param end_time: RFC 3339, as received; None while it runs.
    :param success: Items done.
    :param failure: Items failed.
    :param pending: Items left.
    :param logs_url: Where the service logged errors; may be absent even when there were some.
    :param cancel_requested: Somebody asked for its cancellation.
    :param done: It ended, well or not.
    :param error_code: ``google.rpc.Code`` of the error, or None.
    :param error_message: The server's words for it.
    :param response: The response object, or None.
    """

    name: str
    method: str = ""
    api_version: str = "v1"
    create_time: str | None = None
    end_time: str | None = None
    success: int = 0
    failure: int = 0
    pending: int = 0
    logs_url: str | None = None
    cancel_requested: bool = False
    done: bool = False
    error_code: int | None = None
    error_message: str = ""
    response: Mapping[str, Any] | None = None

    @classmethod
    def from_json(cls, body: object) -> Operation:
        """Read the service's JSON: int64 as strings, defaults omitted, unknown fields ignored.

        :raises ProtocolError: If it is not an operation.
        """
        if not isinstance(body, Mapping) or not isinstance(body.get("name"), str):
            raise ProtocolError("the answer is not an operation: it has no name")
        metadata, error = _mapping(body, "metadata"), _mapping(body, "error")
        counter = _mapping(metadata, "counter")
        kind = re.search(
            r"healthcare\.(v1\w*)\.", str(metadata.get("@type", "")) + str(metadata.get("apiMethodName", ""))
        )
        return cls(
            name=body["name"],
            method=str(metadata.get("apiMethodName", "")),
            api_version=kind[1] if kind else "v1",
            create_time=_text(metadata, "createTime"),
            end_time=_text(metadata, "endTime"),
            success=_count(counter, "success"),
            failure=_count(counter, "failure"),
            pending=_count(counter, "pending"),
            logs_url=_text(metadata, "logsUrl"),
            cancel_requested=metadata.get("cancelRequested") is True,
            done=body.get("done") is True,
            error_code=_count(error, "code") if "error" in body else None,
            error_message=str(error.get("message", "")),
            response=_mapping(body, "response") if "response" in body else None,
        )

    def to_json(self) -> dict[str, Any]:
        """Write the service's JSON (proto3 mapping): the inverse of :meth:`from_json`."""
        counts = {"success": self.success, "failure": self.failure, "pending": self.pending}
        metadata = {
            "@type": f"type.googleapis.com/google.cloud.healthcare.{self.api_version}.OperationMetadata",
            "apiMethodName": self.method,
            "createTime": self.create_time,
            "endTime": self.end_time,
            "cancelRequested": self.cancel_requested,
            "logsUrl": self.logs_url,
            "counter": {key: str(value) for key, value in counts.items() if value},
        }
        body: dict[str, Any] = {"name": self.name, "metadata": {key: value for key, value in metadata.items() if value}}
        if self.done:
            body["done"] = True
        if self.error_code is not None:
            body["error"] = {"code": self.error_code, "message": self.error_message}
        if self.response is not None:
            body["response"] = dict(self.response)
        return body

    @property
    def verdict(self) -> Verdict:
        """How it stands. ``done`` alone is no success: counters may report failures beside a response."""
        if not self.done:
            return "running"
        if self.error_code == CANCELLED:
            return "cancelled"
        if self.failure > 0 and (self.error_code is None or self.success > 0):
            return "partial_failure"
        return "success" if self.error_code is None else "failed"

    @property
    def short_method(self) -> str:
        """Last component of the method: ``ImportDicomData``, ``ExportDicomData``, ``DeleteStudy``, ..."""
        return self.method.rpartition(".")[2]

    def raise_for_failure(self, *, max_failures: int = 0) -> None:
        """Do nothing if it succeeded well enough; raise otherwise.

        :param max_failures: Failed items that are tolerated, 0 or more.
        :raises OperationFailedError: If it ended with an error, or with more failed items.
        :raises OperationCancelledError: If it was cancelled.
        :raises ConfigurationError: If it has not ended yet.
        """
        verdict = self.verdict
        if verdict == "running":
            raise ConfigurationError(f"{self.name} has not ended: wait for it before asking how it ended")
        if verdict == "success" or (verdict == "partial_failure" and self.failure <= max_failures):
            return
        kind: type[DicomWebError] = OperationCancelledError if verdict == "cancelled" else OperationFailedError
        raise kind(self.describe())

    def describe(self) -> str:
        """Say how it stands in one line: name, method, verdict, code, the server's words, counters, logs URL, advice."""
        line = f"{self.short_method or 'operation'} {self.name}: {self.verdict.replace('_', ' ')}"
        if self.error_code is not None:
            line += f" (code {self.error_code}: {_without_object_names(self.error_message)})"
        line += f", {self.success} succeeded, {self.failure} failed"
        if self.logs_url:
            line += f"; logs: {self.logs_url}"
        if advice := self._missing_role():
            line += f"; {advice}"
        return line

    def _missing_role(self) -> str:
        """Name the role that is missing, and who needs it: the service agent touches the bucket, not the caller."""
        denied = self.error_code == PERMISSION_DENIED or "required Cloud Storage permission" in self.error_message
        role = _MISSING_ROLES.get(self.short_method)
        return f"the service agent {_SERVICE_AGENT} needs {role} on the bucket" if denied and role else ""

    def without_object_names(self) -> Operation:
        """Give the same with the server's words shortened as in messages: fit for Airflow's database and logs."""
        return replace(self, error_message=_without_object_names(self.error_message))

    def to_xcom(self) -> dict[str, Any]:
        """Give the result of an operator that waited for it: builtins only."""
        return {
            "operation": self.name,
            "state": self.verdict,
            "success": self.success,
            "failure": self.failure,
            "submitted_at": self.create_time,
            "finished_at": self.end_time,
            "logs_url": self.logs_url,
        }


def parse_time(text: str | None) -> float | None:
    """Read RFC 3339 with ``Z`` or an offset and up to nine fraction digits, as Unix time; None if unreadable."""
    if not text:
        return None
    try:
        return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text)).timestamp()
    except ValueError:
        return None


def _mapping(body: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = body.get(key)
    return value if isinstance(value, Mapping) else {}


def _text(body: Mapping[str, Any], key: str) -> str | None:
    value = body.get(key)
    return value if isinstance(value, str) else None


def _count(body: Mapping[str, Any], key: str) -> int:
    """Read an int64, which the proto3 JSON mapping writes as a string and omits when zero."""
    try:
        return int(str(body.get(key, 0)))
    except ValueError:
        return 0


def _without_object_names(words: str) -> str:
    """Shorten the server's words; an object's name may be a patient's."""
    return _OBJECT.sub(r"\1/…", _QUOTED_OBJECT.sub(r"\1\2/…\1", words))[:300]
