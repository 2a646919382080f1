"""Import from and export to Cloud Storage."""

from __future__ import annotations

import hashlib
import io

import pydicom
import pytest
import requests
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from PIL import Image

from tests.emulator.api import FURTHER, PYDICOM_FILES, SHARED_VECTORS, VECTORS, envelope, instance, picture

WILDCARDS = SHARED_VECTORS["wildcards"]
FILTER = SHARED_VECTORS["filter_file"]
MISSING = next(variant for variant in FILTER["variants"] if variant["id"] == "F-MISSING-RESOURCE")
LAYOUT = VECTORS["export_layout"]
IMPORTING_FAILED = (
    "invalid_argument: importing one or more resources failed. Please use the link in the metadata.logsUrl field to view "
    "the error logs for this operation."
)


class Objects:
    """The objects of one bucket."""

    def __init__(self, name, client):
        self.name, self._bucket = name, client.bucket(name)

    def put(self, name, data):
        self._bucket.blob(name).upload_from_string(data)

    def get(self, name):
        return self._bucket.blob(name).download_as_bytes()

    def names(self):
        return sorted(blob.name for blob in self._bucket.list_blobs())


@pytest.fixture
def objects(bucket):
    with storage.Client(project="project", credentials=AnonymousCredentials()) as client:
        yield Objects(bucket, client)


def import_(api, uri, **fields):
    return api.ask("POST", f"{api.store_url}:import", json={"gcsSource": {"uri": uri}, **fields})


def export(api, uri, media_type=None, filter_uri=None):
    body = {"gcsDestination": {"uriPrefix": uri, **({"mimeType": media_type} if media_type is not None else {})}}
    if filter_uri:
        body["filterConfig"] = {"resourcePathsGcsUri": filter_uri}
    return api.ask("POST", f"{api.store_url}:export", json=body)


def log_of(operation):
    entries = requests.get(operation["metadata"]["logsUrl"], timeout=30).json()
    return {entry["jsonPayload"]["source"]: entry["jsonPayload"]["error"] for entry in entries}


@pytest.fixture
def with_objects(objects):
    """The bucket of the contract's wildcard vectors: each object an instance whose last UID tells which."""
    for number, name in enumerate(WILDCARDS["objects_in_BUCKET"], 1):
        objects.put(name, instance(uid=f"1.1.1.{number}"))
    return objects


@pytest.mark.parametrize("case", [*WILDCARDS["cases"], *FURTHER["wildcards"]["cases"]], ids=lambda case: case["id"])
def test_a_pattern_imports_what_it_means(api, with_objects, case):
    answer = import_(api, case["uri"].replace("BUCKET", with_objects.name))
    if not case["valid"]:
        envelope(answer, 400)
        assert not [entry for entry in api.emulator.requests() if "operations" in entry["path"]]
        return
    operation = api.run(answer)
    found = {WILDCARDS["objects_in_BUCKET"][int(uid.rpartition(".")[2]) - 1] for _, _, uid in api.tuples()}
    assert found == set(case["matches"])
    if case["matches"]:
        assert operation["metadata"]["counter"] == {"success": str(len(case["matches"]))}
        assert "error" not in operation
    else:
        assert operation["error"]["code"] == 3
        assert "response" not in operation


def test_an_import_goes_on_past_what_it_cannot_store(api, objects):
    api.store(instance(uid="1.1.1.2", PatientID="first"))
    objects.put("in/a", instance(uid="1.1.1.1"))
    objects.put("in/b", instance(uid="1.1.1.1"))
    objects.put("in/c.txt", b"no DICOM")
    objects.put("in/d", instance(uid="1.1.1.2", PatientID="second"))
    objects.put("in/e", instance(uid="1.1.1.3"))
    objects.put("in/folder/", b"")
    operation = api.run(import_(api, f"gs://{objects.name}/in/**"))
    assert operation["error"] == {"code": 3, "message": IMPORTING_FAILED}
    assert operation["metadata"]["counter"] == {"success": "3", "failure": "2"}
    assert operation["metadata"]["apiMethodName"].endswith("DicomService.ImportDicomData")
    log = log_of(operation)
    assert set(log) == {f"gs://{objects.name}/in/c.txt", f"gs://{objects.name}/in/d"}
    assert "checksum mismatch" in log[f"gs://{objects.name}/in/d"]["message"]
    assert log[f"gs://{objects.name}/in/c.txt"]["code"] == 3
    assert sorted(uid for _, _, uid in api.tuples()) == ["1.1.1.1", "1.1.1.2", "1.1.1.3"]


def test_imported_bytes_are_stored_as_they_were(api, objects):
    body = (PYDICOM_FILES / "MR_small_RLE.dcm").read_bytes()
    objects.put("RLE with a blank ü.dcm", body)
    operation = api.run(import_(api, f"gs://{objects.name}/*"))
    assert "ImportDicomDataResponse" in operation["response"]["@type"]
    path = "studies/{}/series/{}/instances/{}".format(*api.tuples()[0])
    assert api.get(path, "application/dicom; transfer-syntax=*").content == body


@pytest.mark.parametrize("uri", ["gs://no-such-bucket-anywhere/x/**", "gs://no-such-bucket-anywhere/x.dcm"])
def test_a_bucket_that_is_missing_fails_the_operation(api, objects, uri):
    operation = api.run(import_(api, uri))
    assert operation["error"]["code"] in {3, 5}
    assert "counter" not in operation["metadata"] or operation["metadata"]["counter"] == {}
    assert api.run(export(api, "gs://no-such-bucket-anywhere/x"))["error"]["code"] == 5


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"gcsSource": {}},
        {"gcsSource": {"uri": "gs://bucket/x", "path": "y"}},
        {"gcsSource": {"uri": 7.5, "x": 1}},
        {"gcsSource": ["gs://bucket/x"]},
        {"gcsSource": {"uri": "gs://bucket/x"}, "blobStorageSettings": {"blobStorageClass": "COLD"}},
        {"gcsSource": {"uri": "gs://bucket/x"}, "bigquerySource": {}},
        *({"gcsSource": {"uri": uri.replace("BUCKET", "bucket")}} for uri in FURTHER["wildcards"]["invalid"]),
    ],
    ids=str,
)
def test_an_import_that_cannot_be_is_a_bad_request(api, body):
    envelope(api.ask("POST", f"{api.store_url}:import", json=body), 400)


def test_an_import_takes_a_storage_class(api, objects):
    objects.put("x", instance())
    answer = import_(api, f"gs://{objects.name}/x", blobStorageSettings={"blobStorageClass": "ARCHIVE"})
    assert api.run(answer)["metadata"]["counter"] == {"success": "1"}


@pytest.fixture
def with_tree(api):
    """The store of the contract's filter file vectors."""
    for study, series_of in FILTER["store_tree"].items():
        api.store(*(instance(study, series, uid) for series, uids in series_of.items() for uid in uids))
    return api


def exported(objects):
    """Give the identity in the name of each exported object."""
    return {
        tuple(name.removeprefix("out/").removesuffix(".dcm").split("/"))
        for name in objects.names()
        if name[:4] == "out/"
    }


@pytest.mark.parametrize(
    ("text", "selected"),
    [
        (FILTER["text"], FILTER["selected"]),
        *(
            (variant["text"], FILTER["selected"] if variant.get("same_result") else variant.get("selected_count"))
            for variant in FILTER["variants"]
            if variant["id"] != "F-MISSING-RESOURCE"
        ),
        *((case["text"], case["selected"]) for case in FURTHER["filter_file"]["selecting"]),
    ],
)
def test_a_filter_file_selects_what_is_exported(with_tree, objects, text, selected):
    objects.put("filter.txt", text.encode())
    answer = export(with_tree, f"gs://{objects.name}/out", filter_uri=f"gs://{objects.name}/filter.txt")
    operation = with_tree.run(answer)
    if isinstance(selected, list):
        assert exported(objects) == {(item["study"], item["series"], item["instance"]) for item in selected}
        assert len(selected) == FILTER["selected_count"]
    else:
        assert len(exported(objects)) == selected
    assert operation["metadata"]["counter"] == {"success": str(len(exported(objects)))}
    assert operation["metadata"]["apiMethodName"].endswith("DicomService.ExportDicomData")


def test_what_a_filter_names_and_the_store_has_not_is_a_failed_item(with_tree, objects):
    objects.put("filter.txt", b"/studies/9.9.9\n/studies/1.5.5.5\n\n")
    answer = export(with_tree, f"gs://{objects.name}/out", filter_uri=f"gs://{objects.name}/filter.txt")
    operation = with_tree.run(answer)
    assert operation["error"]["code"] == 3
    assert operation["metadata"]["counter"] == {"success": "1", "failure": "1"}
    assert set(log_of(operation)) == {"studies/9.9.9"}
    assert exported(objects) == {("1.5.5.5", "5", "5.1")}


@pytest.mark.parametrize("text", [MISSING["text"], *FURTHER["filter_file"]["missing"]])
def test_a_filter_file_that_selects_nothing_fails_the_operation(with_tree, objects, text):
    objects.put("filter.txt", text.encode())
    answer = export(with_tree, f"gs://{objects.name}/out", filter_uri=f"gs://{objects.name}/filter.txt")
    operation = with_tree.run(answer)
    assert operation["error"]["code"] == 3
    assert operation["metadata"]["counter"] == {"failure": "1"}
    assert set(log_of(operation)) == {text.strip().lstrip("/")}


@pytest.mark.parametrize("line", [*FILTER["invalid_lines"], *FURTHER["filter_file"]["invalid_lines"]])
def test_a_filter_file_with_another_line_fails_the_operation(with_tree, objects, line):
    objects.put("filter.txt", f"/studies/1.5.5.5\n{line}\n".encode())
    answer = export(with_tree, f"gs://{objects.name}/out", filter_uri=f"gs://{objects.name}/filter.txt")
    assert with_tree.run(answer)["error"]["code"] == 3
    assert exported(objects) == set()


def test_a_filter_file_that_is_missing_fails_the_operation(with_tree, objects):
    answer = export(with_tree, f"gs://{objects.name}/out", filter_uri=f"gs://{objects.name}/filter.txt")
    assert with_tree.run(answer)["error"]["code"] == 5


@pytest.mark.parametrize("case", LAYOUT["cases"], ids=lambda case: str(case["mimeType"]))
def test_exported_objects_have_the_documented_names(api, objects, case):
    api.store(picture(NumberOfFrames=case["frames"], PixelData=bytes(range(16)) * case["frames"]))
    prefix = case["uriPrefix"].replace("BUCKET", objects.name)
    api.run(export(api, prefix, case["mimeType"]))
    wanted = [name.replace("1.2/1.2.3/1.2.3.4", "1.1/1.1.1/1.1.1.1") for name in case["objects"]]
    assert objects.names() == wanted
    if (case["mimeType"] or "").startswith("image/"):
        assert Image.open(io.BytesIO(objects.get(wanted[0]))).size == (4, 4)


@pytest.mark.parametrize("uri", ["gs://{}/out", "gs://{}/out/"])
def test_exported_bytes_are_the_stored_ones_and_overwrite(api, objects, uri):
    body = (PYDICOM_FILES / "MR_small_RLE.dcm").read_bytes()
    api.store(body)
    name = "out/{}/{}/{}.dcm".format(*api.tuples()[0])
    objects.put(name, b"older")
    api.run(export(api, uri.format(objects.name)))
    assert objects.names() == [name]
    assert hashlib.sha256(objects.get(name)).digest() == hashlib.sha256(body).digest()


def test_each_documented_media_type_is_exported_or_named_as_not_emulated(api, objects):
    api.store(picture())
    seen = {}
    for media_type in LAYOUT["mime_types_accepted"]:
        asked = media_type.partition(" (")[0] if not media_type.startswith("(") else None
        answer = export(api, f"gs://{objects.name}/out", asked)
        seen[media_type] = answer.status_code
        if answer.status_code == 200:
            assert api.run(answer)["metadata"]["counter"] == {"success": "1"}
        else:
            assert "not emulated" in envelope(answer, 501)
    emulated = [media_type for media_type, status in seen.items() if status == 200]
    assert emulated == [
        "application/dicom; transfer-syntax=*",
        "application/dicom; transfer-syntax=1.2.840.10008.1.2",
        "application/dicom; transfer-syntax=1.2.840.10008.1.2.1",
        "application/dicom; transfer-syntax=1.2.840.10008.1.2.1.99",
        "application/octet-stream; transfer-syntax=*",
        "application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1",
        "image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.50",
        "image/png",
        "application/dicom (002:791)",
        "(absent) = original format",
    ]


def test_bare_frames_are_exported_as_stored_or_decompressed(api, objects):
    body = (PYDICOM_FILES / "rtdose_rle.dcm").read_bytes()
    api.store(picture(), body)
    prefix = "{}/{}/{}".format(*next(who for who in api.tuples() if who[0] != "1.1"))
    stored = pydicom.dcmread(io.BytesIO(body))
    compressed = list(pydicom.encaps.generate_frames(stored.PixelData, number_of_frames=15))
    stored.decompress()
    for syntax, content in (
        ("*", compressed[14]),
        ("1.2.840.10008.1.2.1", stored.PixelData[-len(stored.PixelData) // 15 :]),
    ):
        operation = api.run(
            export(api, f"gs://{objects.name}/out", f"application/octet-stream; transfer-syntax={syntax}")
        )
        assert operation["metadata"]["counter"] == {"success": "2"}
        assert objects.get(f"out/{prefix}/15") == content
        assert objects.get("out/1.1/1.1.1/1.1.1.1") == bytes(range(16))
        assert len(objects.names()) == 16


def test_pictures_of_what_has_none_are_failed_items(api, objects):
    api.store(picture(), instance(uid="1.1.1.2"))
    operation = api.run(export(api, f"gs://{objects.name}/out", "image/png"))
    assert operation["metadata"]["counter"] == {"success": "1", "failure": "1"}
    assert operation["error"]["code"] == 3
    assert set(log_of(operation)) == {"studies/1.1/series/1.1.1/instances/1.1.1.2"}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"gcsDestination": {}}, 400),
        ({"gcsDestination": {"uriPrefix": "gs://b/d"}, "bigqueryDestination": {"tableUri": "bq://p.d.t"}}, 400),
        ({"gcsDestination": {"uriPrefix": "gs://bucket/*"}}, 400),
        ({"gcsDestination": {"uriPrefix": "gs://bucket/d", "mimeType": "image/gif"}}, 400),
        (
            {
                "gcsDestination": {"uriPrefix": "gs://bucket/d"},
                "filterConfig": {"resourcePathsGcsUri": "gs://bucket/*"},
            },
            400,
        ),
        ({"bigqueryDestination": {"tableUri": "bq://p.d.t"}}, 501),
    ],
)
def test_an_export_that_cannot_be_is_refused(api, body, status):
    envelope(api.ask("POST", f"{api.store_url}:export", json=body), status)


def test_a_cancelled_import_stops_where_it_is(api, objects):
    for number in range(1, 11):
        objects.put(f"in/{number}", instance(uid=f"1.1.1.{number}"))
    api.emulator.set_operation_seconds(60)
    name = import_(api, f"gs://{objects.name}/in/**").json()["name"]
    api.ask("POST", f"{api.root}/{name}:cancel")
    assert api.ended(name)["error"]["code"] == 1
    assert len(api.tuples()) < 10
