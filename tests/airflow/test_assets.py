"""Assets of the scheme dicomweb."""

from __future__ import annotations

import pytest
from airflow.sdk import Asset

from airflow_dicomweb.assets import create_asset

STORE = "projects/p/locations/l/datasets/d/dicomStores/s"


def test_a_study_of_the_healthcare_api_has_a_uri():
    asset = create_asset(base_url="https://healthcare.googleapis.com", dicom_store=STORE, study="1.2.3")
    assert asset.uri == f"dicomweb://healthcare.googleapis.com/{STORE}/studies/1.2.3"


def test_another_server_has_a_uri_without_the_user_of_its_address():
    asset = create_asset(base_url="http://user:secret@PACS:8042/dicom-web", study="1.2", series="3.4", instance="5.6")
    assert asset.uri == "dicomweb://pacs:8042/dicom-web/studies/1.2/series/3.4/instances/5.6"


def test_airflow_normalises_a_uri_that_an_author_wrote():
    assert Asset("dicomweb://PACS/dicom-web/studies/1.2/").uri == "dicomweb://pacs/dicom-web/studies/1.2"
    assert Asset("dicomweb://retention/studies-to-delete").uri == "dicomweb://retention/studies-to-delete"


@pytest.mark.parametrize(
    "uri",
    [
        "dicomweb:///studies/1.2",
        "dicomweb://pacs/studies/Doe^John",
        "dicomweb://pacs/studies/1.2/series",
        "dicomweb://pacs/studies/1.2?PatientName=Doe",
        "dicomweb://user@pacs/studies/1.2",
    ],
)
def test_a_uri_that_names_no_host_or_more_than_uids_is_refused(uri):
    with pytest.raises(ValueError, match=r"host|UID|query|resource path"):
        Asset(uri)


def test_a_bad_uid_is_refused():
    with pytest.raises(ValueError, match="not a DICOM UID"):
        create_asset(base_url="https://pacs/dicom-web", study="..")
