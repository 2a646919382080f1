"""Store: a request's instances come as files while it is read, and are stored in one transaction at its end.

``PUT`` of v1beta1 is the same, but an instance that is there already is replaced.

Source: DICOM PS3.18 section 10.5; Cloud Healthcare API, DICOM conformance statement, "Store transaction"; Cloud Healthcare
API v1beta1 discovery document, ``dicomStores.updateInstances``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from starlette.responses import Response

from airflow_dicomweb.dicomweb.dicom_json import element
from airflow_dicomweb.dicomweb.media_types import DICOM_JSON, DICOM_XML, JSON, MediaType
from airflow_dicomweb.dicomweb.resources import StudyPath
from airflow_dicomweb.emulator.incoming import RefusedError, examine
from airflow_dicomweb.emulator.instances import Candidate, Outcome
from airflow_dicomweb.emulator.messages import ApiError, dicom_json_answer
from airflow_dicomweb.emulator.native_xml import native_xml
from airflow_dicomweb.emulator.receiving import Incoming
from airflow_dicomweb.emulator.request_forms import form_of
from airflow_dicomweb.emulator.service import Call
from airflow_dicomweb.errors import ConfigurationError
from airflow_dicomweb.healthcare.bodies import check_storage_class

PROCESSING_FAILURE = 272
"""0110H, the one failure reason that the service is known to give; the detail says more."""

_DETAILS: dict[Outcome, str] = {
    "conflict": "already exists",
    "deleting": "a deletion of the study or series is under way",
}


class Upload:
    """One store request.

    :param call: The request, without its body.
    :raises ApiError: What can be refused before the body is read: 400, 404, 406.
    """

    def __init__(self, call: Call) -> None:
        self._call, self._study = call, call.resource()
        self._json = _wants_json(call.accept())
        self._storage_class = _storage_class(call)
        self._store = call.store_row()
        self._replaces = call.method == "PUT"
        media_type = MediaType.parse(call.headers.get("content-type"))
        self._form = form_of(media_type, call.service.instances.receive, with_metadata=not self._replaces)

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body.

        :raises ApiError: 400 if they cannot be read.
        """
        self._form.feed(data)

    def finish(self) -> Response:
        """Store what came, and answer.

        :raises ApiError: 400 if the body was cut or holds nothing.
        """
        candidates, refused = self._examine(self._form.finish())
        outcomes = self._call.service.instances.store(
            self._store, candidates, self._storage_class, replace=self._replaces
        )
        if "no store" in outcomes:
            raise ApiError(404, "The DICOM store was deleted meanwhile.")
        return self._answer(candidates, outcomes, refused)

    def _examine(self, received: Iterable[Incoming]) -> tuple[list[Candidate], list[RefusedError]]:
        candidates, refused = [], []
        for incoming in received:
            try:
                candidate = examine(incoming)
            except RefusedError as refusal:
                refused.append(refusal)
                continue
            path = candidate.path
            if isinstance(self._study, StudyPath) and path.study != self._study.study:
                refused.append(
                    RefusedError("not of the study in the URL", candidate.sop_class, path.instance, path.study)
                )
            else:
                candidates.append(candidate)
        return candidates, refused

    def close(self) -> None:
        """Remove what was received and not stored."""
        self._form.close()

    def _answer(self, candidates: list[Candidate], outcomes: list[Outcome], refused: list[RefusedError]) -> Response:
        base = self._call.dicom_web
        pairs = list(zip(candidates, outcomes, strict=True))
        stored = [candidate for candidate, outcome in pairs if outcome not in _DETAILS]
        failed = [
            _failed(_DETAILS[outcome], candidate.sop_class, candidate.path.instance, as_json=self._json)
            for candidate, outcome in pairs
            if outcome in _DETAILS
        ]
        failed += [_failed(each.detail, each.sop_class, each.instance, as_json=self._json) for each in refused]
        body: dict[str, Any] = {}
        study = _only([*(candidate.path.study for candidate in candidates), *(each.study for each in refused)])
        if isinstance(self._study, StudyPath):
            study = self._study.study
        if study:
            body["00081190"] = element("UR", f"{base}/studies/{study}")
        if failed:
            body["00081198"] = element("SQ", *failed)
        if stored:
            body["00081199"] = element("SQ", *(_referenced(candidate, base) for candidate in stored))
        return self._written(body, 409 if failed else 200)

    def _written(self, body: dict[str, Any], code: int) -> Response:
        if self._json:
            return dicom_json_answer(body, code)
        return Response(native_xml(body), code, media_type=DICOM_XML)


def _referenced(candidate: Candidate, base: str) -> dict[str, Any]:
    return {
        "00081150": element("UI", candidate.sop_class),
        "00081155": element("UI", candidate.path.instance),
        "00081190": element("UR", f"{base}/{candidate.path}"),
    }


def _failed(detail: str, sop_class: str, instance: str, *, as_json: bool) -> dict[str, Any]:
    # The same private element has two numbers: with the block that its creator reserved, and without.
    item = {"00081197": element("US", PROCESSING_FAILURE), "00091097" if as_json else "00090097": element("LT", detail)}
    if sop_class:
        item["00081150"] = element("UI", sop_class)
    if instance:
        item["00081155"] = element("UI", instance)
    return item


def _only(studies: Iterable[str]) -> str:
    """Give the study when all instances are of one, else nothing."""
    found = {study for study in studies if study}
    return found.pop() if len(found) == 1 else ""


def _wants_json(accepted: list[MediaType]) -> bool:
    for media_type in accepted:
        if media_type.accepts(DICOM_XML):
            return False
        if media_type.name in {DICOM_JSON, JSON}:
            return True
    raise ApiError(406, f"The store answers {DICOM_XML} or {DICOM_JSON}.")


def _storage_class(call: Call) -> str:
    try:
        return check_storage_class(call.headers.get("storage-class", "STANDARD"))
    except ConfigurationError as error:
        raise ApiError(400, f"invalid Storage-Class header: {error}") from None
