"""All of pydicom's own files: odd, broken and in every transfer syntax."""

from __future__ import annotations

import collections
import hashlib
import json

import pydicom
import pytest

from airflow_dicomweb.dicomweb.uids import is_uid
from tests.emulator.api import PYDICOM_FILES, Api
from tests.emulator.test_bulk_data import OCTETS, uris
from tests.emulator.test_retrieve import parts, put

FILES = sorted(path for path in PYDICOM_FILES.rglob("*") if path.is_file())
FRAME = 'multipart/related; type="application/octet-stream"'
YAMADA = {"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎", "Phonetic": "やまだ^たろう"}
UIDS = ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"]


def identity(path):
    """Give a file's identity, read by pydicom and not by the emulator; None if it has none."""
    try:
        data_set = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=UIDS)
    except (pydicom.errors.InvalidDicomError, EOFError):
        return None
    found = tuple(str(data_set.get(keyword, "")) for keyword in UIDS)
    return found if all(map(is_uid, found)) else None


@pytest.fixture(scope="module")
def stored(dicomweb_emulator_server):
    """A store to which every file was sent, and the status of each answer."""
    dataset = dicomweb_emulator_server.dicom_store.rpartition("/dicomStores/")[0]
    emulator = dicomweb_emulator_server.create_store(f"{dataset}/dicomStores/pydicom-files")
    api = Api(emulator)
    yield api, {path: api.store(path.read_bytes()) for path in FILES}
    emulator.delete_store()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_each_file_is_stored_or_refused_for_what_it_is(stored):
    _, answers = stored
    digests = collections.defaultdict(list)
    wrong = []
    for path, answer in answers.items():
        who, digest = identity(path), hashlib.sha256(path.read_bytes()).digest()
        expected = 200 if who and (not digests[who] or digests[who][0] == digest) else 409
        digests[who].append(digest)
        detail = answer.json().get("00081198", {}).get("Value", [{}])[0].get("00091097", {}).get("Value", [""])[0]
        # Without an identity there is nothing to be in conflict with.
        if answer.status_code != expected or (expected == 409 and bool(who) != (detail == "already exists")):
            wrong.append((path.name, answer.status_code, detail))
    assert wrong == []
    usable = [who for who in digests if who]
    assert (sum(len(digests[who]) for who in usable), len(usable), len({who[0] for who in usable})) == (145, 116, 29)


def test_searches_find_them_all(stored):
    api, _ = stored
    assert len(api.get("studies").json()) == 29
    assert len(api.tuples()) == 116
    everything = api.get("instances?includefield=all")
    assert everything.status_code == 200
    assert len(everything.json()) == 116


def test_metadata_of_all_can_be_read_and_has_no_pixels(stored):
    api, _ = stored
    odd = []
    for who in api.tuples():
        answer = api.get("studies/{}/series/{}/instances/{}/metadata".format(*who))
        assert answer.status_code == 200
        (found,) = json.loads(answer.content, parse_constant=pytest.fail)
        assert tuple(found[tag]["Value"][0] for tag in ("0020000D", "0020000E", "00080018")) == who
        assert set(found.get("7FE00010", {})) <= {"vr", "BulkDataURI"}
        if found.get("00280008", {}).get("Value") == ["1A"]:
            odd.append(who)
            continue
        # pydicom is a reader that was not written here; it does not read a number with a letter.
        with pydicom.config.disable_value_validation():
            pydicom.Dataset.from_json(found, bulk_data_uri_handler=lambda *_: b"")
    assert len(odd) == 1


def test_pictures_are_made_or_refused_but_nothing_breaks(stored):
    api, _ = stored
    seen = collections.Counter()
    for who in api.tuples():
        path = "studies/{}/series/{}/instances/{}".format(*who)
        for wanted in (f"{path}/rendered", path):
            answer = api.get(wanted)
            assert answer.status_code in {200, 400, 406}, answer.text
            seen[wanted.endswith("rendered"), answer.status_code] += 1
            if answer.status_code != 200:
                assert answer.json()["error"]["status"] == "INVALID_ARGUMENT"
    assert seen[True, 200] >= 55
    assert seen[False, 200] >= 110


def test_all_bytes_come_back(stored):
    api, answers = stored
    accept = "application/dicom; transfer-syntax=*"
    sent = {hashlib.sha256(path.read_bytes()).digest() for path, answer in answers.items() if answer.status_code == 200}
    found = set()
    for who in api.tuples():
        answer = api.get("studies/{}/series/{}/instances/{}".format(*who), accept)
        found.add(hashlib.sha256(answer.content).digest())
    assert found == sent


def test_frames_and_bulk_data_are_given_or_refused_but_nothing_breaks(stored):
    api, _ = stored
    seen = collections.Counter()
    for who in api.tuples():
        path = "studies/{}/series/{}/instances/{}".format(*who)
        (found,) = api.get(f"{path}/metadata").json()
        for accept in (FRAME, f"{FRAME}; transfer-syntax=*"):
            answer = api.get(f"{path}/frames/1", accept)
            seen["frames" if accept == FRAME else "frames as stored", answer.status_code] += 1
            assert answer.status_code in {200, 400, 406}, answer.text
        for tag, uri in uris(found):
            answer = api.get(uri, OCTETS)
            seen["bulk data", answer.status_code] += 1
            assert answer.status_code in {200, 406}, (tag, answer.text)
    # What has no pixels is asked in vain; what no decoder here can read is not acceptable.
    assert seen["frames", 400] == seen["frames as stored", 400] == 54
    assert seen["frames", 200] >= 60
    assert seen["frames as stored", 200] == 62
    assert seen["bulk data", 200] >= 99


@pytest.mark.parametrize(
    ("name", "pictures", "patient"),
    [
        ("badVR.dcm", 200, {"Alphabetic": "Lastname^Firstname"}),
        ("image_dfl.dcm", 200, {"Alphabetic": "^^^^"}),
        ("test-SR.dcm", 400, {"Alphabetic": "Test^S R"}),
        ("waveform_ecg.dcm", 400, {"Alphabetic": "Anonymous"}),
        ("ExplVR_BigEnd.dcm", 200, {"Alphabetic": "Anonymized"}),
        ("MR_small_bigendian.dcm", 200, {"Alphabetic": "CompressedSamples^MR1"}),
        ("../charset_files/chrH31.dcm", 200, YAMADA),
        ("../charset_files/chrH32.dcm", 200, {**YAMADA, "Alphabetic": "ﾔﾏﾀﾞ^ﾀﾛｳ"}),
        ("../charset_files/chrJapMulti.dcm", 400, {"Alphabetic": "やまだ^たろう"}),
        ("../charset_files/chrJapMultiExplicitIR6.dcm", 400, {"Alphabetic": "やまだ^たろう"}),
        ("../charset_files/chrX2.dcm", 200, {"Alphabetic": "Wang^XiaoDong", "Ideographic": "王^小东"}),
    ],
)
def test_an_odd_file_passes_through_every_route(api, name, pictures, patient):
    body, path = put(api, name)
    assert api.get(path, "application/dicom; transfer-syntax=*").content == body
    (found,) = api.get(f"{path}/metadata").json()
    assert found["00100010"]["Value"] == [patient]
    whole = "=".join(patient.get(group, "") for group in ("Alphabetic", "Ideographic", "Phonetic")).rstrip("=")
    for query in ({"PatientName": whole}, {"PatientName": whole.split("^")[0], "fuzzymatching": "true"}):
        if whole.strip("^"):
            (study,) = api.get("studies", params=query).json()
            assert study["00100010"]["Value"] == [patient]
    assert len(api.get("instances?includefield=all").json()) == 1
    for picture in (f"{path}/rendered", f"{path}/frames/1/rendered", f"{path}/frames/1"):
        assert api.get(picture).status_code == pictures
    promised = dict(uris(found))
    assert ("7FE00010" in promised) == (pictures == 200)
    for uri in promised.values():
        assert api.get(uri, OCTETS).content
    if pictures == 200:
        ((_, frame),) = parts(api.get(f"{path}/frames/1"))
        assert api.get(promised["7FE00010"], OCTETS).content.startswith(frame)
