"""Which attributes a search can match and return, level by level.

Source: Cloud Healthcare API, DICOM conformance statement, "Search transaction".
"""

from __future__ import annotations

from typing import Literal

from pydicom.datadict import tag_for_keyword

from airflow_dicomweb.dicomweb.dicom_json import tag_of
from airflow_dicomweb.errors import ConfigurationError

Level = Literal["studies", "series", "instances"]


def _tags(keywords: str) -> tuple[str, ...]:
    return tuple(f"{tag_for_keyword(keyword):08X}" for keyword in keywords.split())


_STUDY_DEFAULT = _tags(
    "SpecificCharacterSet StudyDate StudyTime AccessionNumber InstanceAvailability ReferringPhysicianName "
    "TimezoneOffsetFromUTC PatientName PatientID PatientBirthDate PatientSex StudyInstanceUID StudyID"
)
_SERIES_DEFAULT = _tags(
    "SpecificCharacterSet Modality TimezoneOffsetFromUTC SeriesDescription SeriesInstanceUID "
    "PerformedProcedureStepStartDate PerformedProcedureStepStartTime RequestAttributesSequence"
)
_INSTANCE_DEFAULT = _tags(
    "SpecificCharacterSet SOPClassUID SOPInstanceUID InstanceAvailability TimezoneOffsetFromUTC InstanceNumber Rows "
    "Columns BitsAllocated NumberOfFrames"
)
_STUDY_ALL = _tags(
    "PersonIdentificationCodeSequence PersonAddress PersonTelephoneNumbers PersonTelecomInformation InstitutionName "
    "InstitutionAddress InstitutionCodeSequence ReferringPhysicianIdentificationSequence ConsultingPhysicianName "
    "ConsultingPhysicianIdentificationSequence IssuerOfAccessionNumberSequence LocalNamespaceEntityID "
    "UniversalEntityID UniversalEntityIDType StudyDescription PhysiciansOfRecord "
    "PhysiciansOfRecordIdentificationSequence NameOfPhysiciansReadingStudy "
    "PhysiciansReadingStudyIdentificationSequence RequestingServiceCodeSequence ReferencedStudySequence "
    "ProcedureCodeSequence ReasonForPerformedProcedureCodeSequence"
)
_SERIES_ALL = _tags("SeriesNumber Laterality SeriesDate SeriesTime")

# A lower level returns the attributes of the levels above it as well.
_SERIES_TOO = (*_STUDY_DEFAULT, *_SERIES_DEFAULT)
DEFAULTS: dict[Level, frozenset[str]] = {
    "studies": frozenset(_STUDY_DEFAULT),
    "series": frozenset(_SERIES_TOO),
    "instances": frozenset((*_SERIES_TOO, *_INSTANCE_DEFAULT)),
}
"""What is returned without ``includefield``."""

AVAILABLE: dict[Level, frozenset[str]] = {
    "studies": DEFAULTS["studies"] | frozenset(_STUDY_ALL),
    "series": DEFAULTS["series"] | frozenset((*_STUDY_ALL, *_SERIES_ALL)),
    "instances": DEFAULTS["instances"] | frozenset((*_STUDY_ALL, *_SERIES_ALL)),
}
"""What ``includefield=all`` returns of studies and series; an instance has all of its own attributes besides."""

KEPT = AVAILABLE["instances"]
"""What the index holds of each instance."""

_STUDY_COLUMNS = {
    "StudyInstanceUID": "study",
    "PatientName": "patient_name",
    "PatientID": "patient_id",
    "AccessionNumber": "accession_number",
    "ReferringPhysicianName": "referring_physician_name",
    "StudyDate": "study_date",
}
_SERIES_COLUMNS = {**_STUDY_COLUMNS, "SeriesInstanceUID": "series", "Modality": "modality"}
COLUMNS: dict[Level, dict[str, str]] = {
    "studies": _STUDY_COLUMNS,
    "series": _SERIES_COLUMNS,
    "instances": {**_SERIES_COLUMNS, "SOPInstanceUID": "instance"},
}
"""What can be matched: keyword to column of the index."""


def tag_of_field(name: str) -> str | None:
    """Give the tag of a keyword or tag; None if it is neither."""
    try:
        return tag_of(name)
    except ConfigurationError:
        return None
