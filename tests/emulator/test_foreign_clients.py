"""Clients that nobody here wrote: they are the proof that the emulator speaks the contract, and not our client's dialect."""

from __future__ import annotations

import io
import os

import dicomweb_client
import httplib2
import pydicom
import pytest
import requests
from dicomweb_client.session_utils import create_session
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from googleapiclient.discovery import build
from googleapiclient.errors import HttpError

from airflow_dicomweb.dicomweb.multipart import parse
from tests.emulator.api import PYDICOM_FILES, instance, picture


@pytest.fixture
def web(api):
    """A dicomweb-client."""
    session = create_session()
    session.headers["Authorization"] = "Bearer token"
    return dicomweb_client.DICOMwebClient(api.web, session=session)


def read(body):
    return pydicom.dcmread(io.BytesIO(body))


def test_dicomweb_client_stores_searches_and_retrieves(web):
    bodies = [picture(PatientName="Doe^John"), picture(SOPInstanceUID="1.1.1.2", InstanceNumber=2)]
    stored = web.store_instances([read(body) for body in bodies])
    assert len(stored.ReferencedSOPSequence) == 2
    assert not stored.get("FailedSOPSequence")
    study, series, single = (
        web.search_for_studies()[0],
        web.search_for_series("1.1")[0],
        web.search_for_instances()[0],
    )
    assert study["0020000D"]["Value"] == ["1.1"]
    assert series["0020000E"]["Value"] == ["1.1.1"]
    assert single["00080018"]["Value"] == ["1.1.1.1"]
    assert len(web.search_for_instances("1.1", "1.1.1", search_filters={"SOPInstanceUID": "1.1.1.2"})) == 1
    assert web.search_for_studies(fuzzymatching=True, search_filters={"PatientName": "doe"}, limit=1)
    assert web.search_for_studies(search_filters={"PatientID": "nobody"}) == []
    any_syntax = (("application/dicom", "*"),)
    assert len(web.retrieve_study("1.1", media_types=any_syntax)) == 2
    assert len(web.retrieve_series("1.1", "1.1.1", media_types=any_syntax)) == 2
    found = web.retrieve_instance("1.1", "1.1.1", "1.1.1.1", media_types=any_syntax)
    assert found.PatientName == "Doe^John"
    assert found.PixelData == bytes(range(16))


def test_dicomweb_client_reads_metadata_and_pictures(web, api):
    api.store(picture(PatientName="Doe^John"))
    metadata = web.retrieve_instance_metadata("1.1", "1.1.1", "1.1.1.1")
    assert metadata["00100010"]["Value"] == [{"Alphabetic": "Doe^John"}]
    assert len(web.retrieve_study_metadata("1.1")) == len(web.retrieve_series_metadata("1.1", "1.1.1")) == 1
    png = web.retrieve_instance_rendered("1.1", "1.1.1", "1.1.1.1", media_types=("image/png",))
    assert png.startswith(b"\x89PNG")


def test_dicomweb_client_retrieves_frames_and_bulk_data(web, api):
    frames = [bytes(range(start, start + 16)) for start in (0, 16, 32)]
    api.store(picture(NumberOfFrames=3, PixelData=b"".join(frames)))
    who = ("1.1", "1.1.1", "1.1.1.1")
    octets = (("application/octet-stream", "*"),)
    assert web.retrieve_instance_frames(*who, frame_numbers=[3, 1]) == [frames[2], frames[0]]
    assert web.retrieve_instance_frames(*who, frame_numbers=[2], media_types=octets) == [frames[1]]
    assert list(web.iter_instance_frames(*who, frame_numbers=[1, 2, 3], media_types=octets)) == frames
    uri = web.retrieve_instance_metadata(*who)["7FE00010"]["BulkDataURI"]
    assert web.retrieve_bulkdata(uri) == [b"".join(frames)]
    assert list(web.iter_bulkdata(uri, media_types=octets)) == [b"".join(frames)]
    rendered = web.retrieve_instance_frames_rendered(*who, frame_numbers=[2], media_types=("image/png",))
    assert rendered.startswith(b"\x89PNG")


def test_dicomweb_client_retrieves_compressed_frames(web, api):
    body = (PYDICOM_FILES / "SC_rgb_jpeg_gdcm.dcm").read_bytes()
    api.store(body)
    jpeg = (("image/jpeg", read(body).file_meta.TransferSyntaxUID),)
    (frame,) = web.retrieve_instance_frames(*api.tuples()[0], frame_numbers=[1], media_types=jpeg)
    assert frame == next(pydicom.encaps.generate_frames(read(body).PixelData, number_of_frames=1))


def test_dicomweb_client_iterates_over_what_it_retrieves(web, api):
    api.store(picture(), picture(SOPInstanceUID="1.1.1.2"))
    any_syntax = (("application/dicom", "*"),)
    assert len(list(web.iter_study("1.1", media_types=any_syntax))) == 2
    assert len(list(web.iter_series("1.1", "1.1.1", media_types=any_syntax))) == 2


def test_dicomweb_client_is_told_of_conflicts_and_of_what_is_missing(web, api):
    api.store(instance())
    with pytest.raises(requests.exceptions.HTTPError) as raised:
        web.store_instances([read(instance(PatientID="other"))])
    assert raised.value.response.status_code == 409
    with pytest.raises(requests.exceptions.HTTPError) as raised:
        web.retrieve_study_metadata("9.9")
    assert raised.value.response.status_code == 404


def test_dicomweb_client_decompresses_by_asking(web, api):
    api.store((PYDICOM_FILES / "MR_small_RLE.dcm").read_bytes())
    who = api.tuples()[0]
    found = web.retrieve_instance(*who, media_types=(("application/dicom", "1.2.840.10008.1.2.1"),))
    assert found.PixelData == pydicom.dcmread(PYDICOM_FILES / "MR_small.dcm").PixelData


class Bearer(httplib2.Http):
    """Adds a token, as google-auth would."""

    def request(self, uri, method="GET", body=None, headers=None, **kwargs):
        return super().request(uri, method, body, {**(headers or {}), "Authorization": "Bearer token"}, **kwargs)


@pytest.fixture(params=["v1", "v1beta1"])
def healthcare(api, request):
    """Google's own client, from the discovery document that it carries."""
    with build(
        "healthcare",
        request.param,
        http=Bearer(timeout=30, proxy_info=None),
        static_discovery=True,
        cache_discovery=False,
        client_options={"api_endpoint": api.emulator.base_url},
    ) as service:
        yield service.projects().locations().datasets()


def test_googles_client_makes_lists_and_deletes_datasets_and_stores(healthcare, api):
    location = f"projects/p-{os.urandom(4).hex()}/locations/l"
    started = healthcare.create(parent=location, datasetId="D", body={}).execute()
    assert "error" not in api.ended(started["name"])
    name = f"{location}/datasets/D"
    assert healthcare.get(name=name).execute()["name"] == name
    stores = healthcare.dicomStores()
    for identifier in ("A", "B"):
        made = stores.create(parent=name, dicomStoreId=identifier, body={"labels": {"a": "b"}}).execute()
        assert made["name"] == f"{name}/dicomStores/{identifier}"
    with pytest.raises(HttpError) as raised:
        stores.create(parent=name, dicomStoreId="A", body={}).execute()
    assert raised.value.status_code == 409
    assert "already exists" in raised.value.reason
    first = stores.list(parent=name, pageSize=1)
    page = first.execute()
    assert [store["name"] for store in page["dicomStores"]] == [f"{name}/dicomStores/A"]
    assert stores.list_next(first, page).execute()["dicomStores"][0]["name"] == f"{name}/dicomStores/B"
    assert stores.delete(name=f"{name}/dicomStores/A").execute() == {}
    assert healthcare.delete(name=name).execute() == {}
    assert healthcare.list(parent=location).execute() == {}


def test_googles_client_imports_exports_and_follows_operations(healthcare, api, bucket):
    stores, operations = healthcare.dicomStores(), healthcare.operations()
    with storage.Client(project="project", credentials=AnonymousCredentials()) as client:
        client.bucket(bucket).blob("in/a.dcm").upload_from_string(instance())
        body = {"gcsSource": {"uri": f"gs://{bucket}/in/*.dcm"}}
        imported = stores.import_(name=api.emulator.dicom_store, body=body).execute()
        api.ended(imported["name"])
        assert operations.get(name=imported["name"]).execute()["metadata"]["counter"] == {"success": "1"}
        body = {"gcsDestination": {"uriPrefix": f"gs://{bucket}/out"}}
        exported = stores.export(name=api.emulator.dicom_store, body=body).execute()
        api.ended(exported["name"])
        assert operations.get(name=exported["name"]).execute()["done"] is True
        assert client.bucket(bucket).blob("out/1.1/1.1.1/1.1.1.1.dcm").download_as_bytes() == instance()
    listed = operations.list(name=api.dataset, filter="done=true", pageSize=2).execute()["operations"]
    assert [operation["name"] for operation in listed] == [exported["name"], imported["name"]]
    api.emulator.set_operation_seconds(600)
    running = stores.export(name=api.emulator.dicom_store, body=body).execute()
    assert operations.cancel(name=running["name"], body={}).execute() == {}
    assert api.ended(running["name"])["error"]["code"] == 1


def test_googles_client_deletes_and_searches(healthcare, api):
    for study in ("1.1", "1.2"):
        api.store(instance(study))
    studies = healthcare.dicomStores().studies()
    parent = api.emulator.dicom_store
    deleted = studies.delete(parent=parent, dicomWebPath="studies/1.1").execute()
    assert api.ended(deleted["name"])["metadata"]["counter"] == {"success": "1"}
    search = healthcare.dicomStores().searchForStudies(parent=parent, dicomWebPath="studies")
    assert [study["0020000D"]["Value"] for study in search.execute()] == [["1.2"]]
    instances = studies.series().instances()
    gone = instances.delete(parent=parent, dicomWebPath="studies/1.2/series/1.1.1/instances/1.1.1.1").execute()
    assert gone == {}
    assert api.tuples() == []


def test_an_authorized_session_as_in_googles_samples(api):
    session = requests.Session()
    session.headers["Authorization"] = "Bearer token"
    # The samples send a Content-Type with GET and DELETE, which have no body.
    session.headers["Content-Type"] = "application/dicom"
    assert session.post(f"{api.web}/studies", data=instance()).text.startswith("<NativeDicomModel>")
    session.headers["Content-Type"] = "application/dicom+json; charset=utf-8"
    found = session.get(f"{api.web}/instances")
    assert [item["00080018"]["Value"] for item in found.json()] == [["1.1.1.1"]]
    study = session.get(f"{api.web}/studies/1.1", stream=True)
    events = list(parse(study.iter_content(7), study.headers["Content-Type"]))
    assert sum(getattr(event, "data", b"") == b"" for event in events) == 2
    assert "name" in session.delete(f"{api.web}/studies/1.1").json()


def test_googles_client_changes_stores_and_policies_and_counts(healthcare, api):
    api.store(instance())
    stores, name = healthcare.dicomStores(), api.emulator.dicom_store
    changed = stores.patch(name=name, updateMask="labels", body={"labels": {"a": "b"}}).execute()
    assert changed == {"name": name, "labels": {"a": "b"}}
    policy = stores.getIamPolicy(resource=name).execute()
    policy["bindings"] = [{"role": "roles/healthcare.dicomViewer", "members": ["user:a@example.com"]}]
    assert stores.setIamPolicy(resource=name, body={"policy": policy}).execute()["bindings"] == policy["bindings"]
    asked = {"permissions": ["healthcare.dicomStores.get"]}
    assert stores.testIamPermissions(resource=name, body=asked).execute() == asked
    assert stores.getDICOMStoreMetrics(name=name).execute()["instanceCount"] == "1"
    body = {"blobStorageSettings": {"blobStorageClass": "NEARLINE"}}
    instances = stores.dicomWeb().studies().series().instances()
    place = f"{name}/dicomWeb/studies/1.1/series/1.1.1/instances/1.1.1.1"
    api.ended(stores.dicomWeb().studies().setBlobStorageSettings(resource=place, body=body).execute()["name"])
    assert instances.getStorageInfo(resource=place).execute()["blobStorageInfo"]["storageClass"] == "NEARLINE"
