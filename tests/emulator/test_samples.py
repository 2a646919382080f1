"""The requests that Google's pages print, sent as they are printed."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from PIL import Image

from airflow_dicomweb.healthcare.operations import parse_time
from tests.emulator.api import VECTORS, Api, envelope
from tests.emulator.samples import (
    DICOM_FILE,
    OTHER_VERSION,
    PIXELS,
    PLACEHOLDERS,
    REPLAYS,
    SAMPLES,
    SERIES,
    STUDY,
    UID,
    Stage,
)
from tests.emulator.test_retrieve import parts
from tests.emulator.test_store import canonical

STATED = {"logsUrl", "counter"}  # Some pages leave them out of what they print.


@pytest.fixture(scope="module")
def named_dataset(dicomweb_emulator_server):
    """The dataset of the placeholders."""
    api = Api(dicomweb_emulator_server)
    location = "projects/{PROJECT_ID}/locations/{LOCATION}".format(**PLACEHOLDERS)
    dataset = PLACEHOLDERS["DATASET_ID"]
    api.run(api.ask("POST", f"{api.root}/{location}/datasets?datasetId={dataset}"))
    yield f"{location}/datasets/{dataset}"
    assert api.ask("DELETE", f"{api.root}/{location}/datasets/{dataset}").json() == {}


@pytest.fixture
def stage(dicomweb_emulator, named_dataset, bucket):
    emulator = dicomweb_emulator.create_store(f"{named_dataset}/dicomStores/{PLACEHOLDERS['DICOM_STORE_ID']}")
    with storage.Client(project="project", credentials=AnonymousCredentials()) as client:
        yield Stage(Api(emulator), bucket, client)
    emulator.delete_store()


def matches(found, wanted):
    """Check a value against one of the contract, whose types stand in angle brackets."""
    if isinstance(wanted, dict):
        must = {key for key, value in wanted.items() if not str(value).endswith("?>")}
        # Nothing that the page does not print, but what other pages print at the same place.
        assert must <= set(found) <= set(wanted) | STATED, (set(found), set(wanted))
        for key in set(found) & set(wanted):
            matches(found[key], wanted[key])
    elif wanted == "<rfc3339>":
        assert parse_time(found)
    elif wanted in {"<int64-string>", "<int64-string?>"}:
        assert isinstance(found, str)
        assert found.isdigit()
    elif wanted in {"<string>", "*"}:
        assert isinstance(found, str)
        assert found
    else:
        assert found == wanted


def check_stored(stage, replay, answer):
    template = VECTORS["store"]["success_xml_template"]["text"]
    text = template.replace("https://healthcare.googleapis.com", stage.api.emulator.base_url)
    text = text.replace("{API_VERSION}", replay.version).replace("{LOCATION}", "LOCATION")
    uids = {"STUDY": STUDY, "SERIES": SERIES, "INSTANCE": UID, "SOP_INSTANCE": UID}
    for name, value in {**uids, "SOP_CLASS": PLACEHOLDERS["SOP_CLASS_UID"]}.items():
        text = text.replace(f"{{{name}}}", value)
    assert canonical(answer.text) == canonical(stage.filled(text))
    assert stage.api.tuples() == [(STUDY, SERIES, UID)]


def check_refused(stage, replay, answer):
    envelope(answer, 400, "INVALID_ARGUMENT")
    assert ((STUDY, SERIES, UID) in stage.api.tuples()) == ("instance" in replay.given)
    assert not list(stage.objects.list_blobs(prefix=f"{PLACEHOLDERS['DIRECTORY']}/{STUDY}"))


def check_found(level):
    def check(_stage, _replay, answer):
        (found,) = answer.json()
        assert set(VECTORS["qido"]["seed_shapes"][level]["tags"]) <= set(found)
        assert found["00100010"] == {"vr": "PN", "Value": [{"Alphabetic": "Sally Zhang"}]}
        assert found["00200010"] == VECTORS["qido"]["seed_shapes"]["empty_element"]["value"]

    return check


def check_parts(_stage, _replay, answer):
    assert parts(answer) == [("application/dicom", DICOM_FILE)]


def check_file(_stage, _replay, answer):
    assert answer.content == DICOM_FILE


def check_picture(_stage, _replay, answer):
    assert answer.content.startswith(bytes.fromhex("89504e470d0a1a0a"))
    assert Image.open(io.BytesIO(answer.content)).size == (8, 8)


def check_metadata(stage, replay, answer):
    (found,) = answer.json()
    assert list(found)[:5] == ["00020002", "00020003", "00020010", "00020012", "00020013"]
    assert {"00080016", "00080018"} <= set(found)
    web = stage.api.emulator.base_url + stage.filled(replay.path).removesuffix("/metadata")
    assert found["7FE00010"] == {"vr": "OW", "BulkDataURI": f"{web}/bulkdata/7FE00010"}


def check_pixels(_stage, _replay, answer):
    assert answer.content == PIXELS


def check_operation(stage, replay, answer):
    matches(answer.json(), stage.filled(replay.expect["operation"]))


def check_gone(stage, replay, answer):
    assert answer.json() == {}
    assert stage.api.ask("GET", stage.api.emulator.base_url + stage.filled(replay.path)).status_code == 404
    assert stage.api.tuples() == []


def check_started(stage, replay, answer):
    name = stage.filled("projects/PROJECT_ID/locations/LOCATION/datasets/DATASET_ID/operations/")
    assert re.fullmatch(re.escape(name) + r"\d+", answer.json()["name"])
    operation = stage.api.run(answer)
    assert "error" not in operation
    assert operation["metadata"]["counter"] == {"success": "1"}
    kind = "Delete" if replay.method == "DELETE" else replay.path.rpartition(":")[2].capitalize()
    method = rf"google\.cloud\.healthcare\.{replay.version}\.\w+\.\w+Service\.{kind}\w+"
    assert re.fullmatch(method, operation["metadata"]["apiMethodName"])
    if kind == "Export":
        place = f"{PLACEHOLDERS['DIRECTORY']}/{STUDY}/{SERIES}/{UID}.dcm"
        written = {blob.name for blob in stage.objects.list_blobs(prefix=f"{PLACEHOLDERS['DIRECTORY']}/")}
        assert written - {f"{PLACEHOLDERS['DIRECTORY']}/{PLACEHOLDERS['FILTER_FILE']}"} == {place}
        assert stage.objects.blob(place).download_as_bytes() == DICOM_FILE
    else:
        assert stage.api.tuples() == ([] if kind == "Delete" else [(STUDY, SERIES, UID)])


CHECKS = {
    "stored": check_stored,
    "refused": check_refused,
    "instances": check_found("instances"),
    "studies": check_found("studies"),
    "parts": check_parts,
    "file": check_file,
    "picture": check_picture,
    "metadata": check_metadata,
    "pixels": check_pixels,
    "operation": check_operation,
    "gone": check_gone,
    "started": check_started,
}


def run(stage, replay):
    stage.prepare(replay)
    answer = stage.send(replay)
    expect = replay.expect
    assert answer.status_code == expect["status"], answer.text
    assert answer.headers["Content-Type"].partition(";")[0] == expect["content_type"]
    CHECKS[expect["answer"]](stage, replay, answer)
    if "storage_class" in expect:
        info = stage.api.get(f"studies/{STUDY}/series/{SERIES}/instances/{UID}:getStorageInfo").json()
        assert info["blobStorageInfo"]["storageClass"] == stage.filled(expect["storage_class"])


@pytest.mark.parametrize("name", REPLAYS)
def test_a_printed_request_has_the_documented_answer(stage, name):
    run(stage, REPLAYS[name])


@pytest.mark.parametrize("name", OTHER_VERSION)
def test_a_printed_request_has_the_same_answer_in_the_other_version(stage, name):
    replay = OTHER_VERSION[name]
    expect = dict(replay.expect)
    if "operation" in expect:
        known, version = REPLAYS[name.removesuffix(f"-{replay.version}")].version, replay.version
        metadata = {
            key: value.replace(f".{known}.", f".{version}.") if isinstance(value, str) else value
            for key, value in expect["operation"]["metadata"].items()
        }
        expect["operation"] = {**expect["operation"], "metadata": metadata}
    run(stage, replace(replay, expect=expect))


def test_every_sample_is_replayed_or_has_a_reason_and_a_replayed_twin():
    replayed, left = SAMPLES["samples"], SAMPLES["not_replayed"]
    assert (len(replayed), len(left), len(SAMPLES["further"])) == (36, 11, 16)
    assert {sample["id"] for sample in (*replayed, *SAMPLES["further"])} <= set(REPLAYS)
    for sample in left:
        assert sample["why"]
        assert sample["same_call"] in REPLAYS


PRINTED_BY_GCLOUD = [sample for sample in SAMPLES["not_replayed"] if "operation" in sample]


@pytest.mark.parametrize("sample", PRINTED_BY_GCLOUD, ids=lambda sample: sample["id"])
def test_an_operation_has_what_gcloud_prints_of_it(stage, sample):
    twin = REPLAYS[sample["same_call"]]
    run(stage, replace(twin, expect={**twin.expect, "operation": sample["operation"]}))
