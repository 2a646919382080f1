"""Fixtures of the tests of clients."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from airflow_dicomweb.dicomweb import Basic, Bearer, DicomWebClient
from airflow_dicomweb.emulator import Emulator
from airflow_dicomweb.healthcare import HealthcareClient
from tests.servers.orthanc import Orthanc


@pytest.fixture(params=["emulator", "orthanc"])
def server(request: pytest.FixtureRequest) -> Iterator[DicomWebClient]:
    """A client of each server, empty: one that this project wrote, and one that nobody here wrote."""
    if request.param == "emulator":
        emulator: Emulator = request.getfixturevalue("dicomweb_emulator")
        client: DicomWebClient = HealthcareClient(
            emulator.dicom_store, base_url=emulator.base_url, credentials=Bearer("any")
        )
    else:
        orthanc: Orthanc = request.getfixturevalue("empty_orthanc")
        client = DicomWebClient(orthanc.dicomweb_url, credentials=Basic(orthanc.user, orthanc.password))
    with client:
        yield client
