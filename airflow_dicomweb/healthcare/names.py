"""Resource names of the Cloud Healthcare API.

Source: Cloud Healthcare API v1 discovery document, ``projects.locations.datasets``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from airflow_dicomweb.errors import ConfigurationError

# Google's ids are wider for projects (domain-scoped ones hold a colon) than for the rest. A name that is only dots
# would be normalised away from the URL path.
_PROJECT = r"(?!\.+(?:/|$))[a-zA-Z0-9][a-zA-Z0-9._:\-]{0,127}"
_LOCATION = r"[a-zA-Z0-9][a-zA-Z0-9\-]{0,62}"
_ID = r"(?!\.+(?:/|$))[\w.\-]{1,256}"
_DATASET = rf"projects/(?P<project>{_PROJECT})/locations/(?P<location>{_LOCATION})/datasets/(?P<dataset>{_ID})"
_DATASET_NAME = re.compile(_DATASET)
_STORE_NAME = re.compile(rf"{_DATASET}/dicomStores/(?P<store>{_ID})")
_OPERATION_NAME = re.compile(rf"{_DATASET}/operations/(?P<operation>{_ID})")
_STORE_ID = re.compile(_ID)


@dataclass(frozen=True, slots=True)
class DatasetName:
    """``projects/P/locations/L/datasets/D``."""

    project: str
    location: str
    dataset: str

    @classmethod
    def parse(cls, text: object) -> DatasetName:
        """Read a full name.

        :raises ConfigurationError: If it is not one.
        """
        match = _full_match(_DATASET_NAME, text, "dataset", "projects/P/locations/L/datasets/D")
        return cls(match["project"], match["location"], match["dataset"])

    def __str__(self) -> str:
        return f"projects/{self.project}/locations/{self.location}/datasets/{self.dataset}"


@dataclass(frozen=True, slots=True)
class DicomStoreName:
    """``projects/P/locations/L/datasets/D/dicomStores/S``."""

    dataset: DatasetName
    store: str

    @classmethod
    def parse(cls, text: object) -> DicomStoreName:
        """Read a full name.

        :raises ConfigurationError: If it is not one.
        """
        match = _full_match(_STORE_NAME, text, "DICOM store", "projects/P/locations/L/datasets/D/dicomStores/S")
        return cls(DatasetName(match["project"], match["location"], match["dataset"]), match["store"])

    def sibling(self, name: str) -> DicomStoreName:
        """Give the store that a short id (in the same dataset) or a full name stands for.

        :raises ConfigurationError: If it is neither.
        """
        if _STORE_ID.fullmatch(name or ""):
            return DicomStoreName(self.dataset, name)
        return DicomStoreName.parse(name)

    def __str__(self) -> str:
        return f"{self.dataset}/dicomStores/{self.store}"


@dataclass(frozen=True, slots=True)
class OperationName:
    """``projects/P/locations/L/datasets/D/operations/O``: operations belong to the dataset, not to the store."""

    dataset: DatasetName
    operation: str

    @classmethod
    def parse(cls, text: object) -> OperationName:
        """Read a full name.

        :raises ConfigurationError: If it is not one.
        """
        match = _full_match(_OPERATION_NAME, text, "operation", "projects/P/locations/L/datasets/D/operations/O")
        return cls(DatasetName(match["project"], match["location"], match["dataset"]), match["operation"])

    def __str__(self) -> str:
        return f"{self.dataset}/operations/{self.operation}"


def _full_match(pattern: re.Pattern[str], text: object, kind: str, form: str) -> re.Match[str]:
    match = pattern.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        shown = repr(text) if isinstance(text, str) and len(text) <= 200 else f"of type {type(text).__name__}"
        raise ConfigurationError(f"{kind} name {shown} is not of the form {form}")
    return match
