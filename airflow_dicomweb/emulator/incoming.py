"""Look at a file that came: what it is, and whether it can be stored.

The service stores every SOP class and transfer syntax with minimal validation; what it needs is the Part 10 header and
the three UIDs, read from the data set and not from group 0002.

Source: Cloud Healthcare API, DICOM conformance statement, "Store transaction"; DICOM PS3.10 section 7.1.
"""

from __future__ import annotations

import json
from typing import Any

from pydicom.dataset import FileDataset
from pydicom.filereader import read_partial
from pydicom.tag import BaseTag
from pydicom.uid import ImplicitVRLittleEndian

from airflow_dicomweb.dicomweb.resources import InstancePath
from airflow_dicomweb.dicomweb.uids import is_uid
from airflow_dicomweb.emulator.attributes import KEPT
from airflow_dicomweb.emulator.instances import Candidate
from airflow_dicomweb.emulator.matching import normal_date
from airflow_dicomweb.emulator.metadata import UNREADABLE_MESSAGE, first_text, to_json
from airflow_dicomweb.emulator.receiving import Incoming

_KEPT = frozenset(BaseTag(int(tag, 16)) for tag in KEPT)
_LAST_KEPT = int(max(_KEPT))
_SEARCHED = {
    "patient_name": "00100010",
    "patient_id": "00100020",
    "accession_number": "00080050",
    "referring_physician_name": "00080090",
    "modality": "00080060",
}


class RefusedError(Exception):
    """A file that cannot be stored.

    :param detail: Why, as the service words it.
    :param sop_class: SOP Class UID, if the file has one.
    :param instance: SOP Instance UID, if the file has one.
    :param study: Study Instance UID, if the file has one.
    """

    def __init__(self, detail: str, sop_class: str = "", instance: str = "", study: str = "") -> None:
        self.detail, self.sop_class, self.instance, self.study = detail, sop_class, instance, study
        super().__init__(detail)


def examine(incoming: Incoming) -> Candidate:
    """Read what the index needs of a received file.

    :raises RefusedError: If it is not DICOM, or has no usable identity.
    """
    if not incoming.size:
        raise RefusedError("empty DICOM instance found")
    data_set = _read(incoming)
    attributes = to_json(data_set, lambda path: path, _KEPT)
    study, series, instance = (first_text(attributes, tag) for tag in ("0020000D", "0020000E", "00080018"))
    sop_class = first_text(attributes, "00080016")
    names = {"StudyInstanceUID": study, "SeriesInstanceUID": series, "SOPInstanceUID": instance}
    bad = [name for name, uid in names.items() if not is_uid(uid)]
    if bad:
        shown = [uid if is_uid(uid) else "" for uid in (sop_class, instance, study)]
        raise RefusedError(f"missing or invalid {', '.join(bad)}", *shown)
    search = {column: first_text(attributes, tag) for column, tag in _SEARCHED.items()}
    search["study_date"] = normal_date(first_text(attributes, "00080020"))
    return Candidate(
        incoming=incoming,
        path=InstancePath(study, series, instance),
        sop_class=sop_class,
        transfer_syntax=str(data_set.file_meta.get("TransferSyntaxUID") or ImplicitVRLittleEndian),
        frames=_frames(attributes),
        search=search,
        attributes=json.dumps(attributes, ensure_ascii=True, separators=(",", ":")),
    )


def _read(incoming: Incoming) -> FileDataset:
    try:
        with incoming.path.open("rb") as file:
            data_set = read_partial(file, stop_when=_is_past, specific_tags=list(_KEPT))
    except Exception as error:
        raise RefusedError(UNREADABLE_MESSAGE) from error
    if not isinstance(data_set, FileDataset):
        # A DICOMDIR: an index of files, no instance.
        raise RefusedError("a DICOMDIR is no instance")
    return data_set


def _is_past(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    return int(tag) > _LAST_KEPT


def _frames(attributes: dict[str, Any]) -> int:
    try:
        return max(int(first_text(attributes, "00280008")), 1)
    except ValueError:
        return 1
