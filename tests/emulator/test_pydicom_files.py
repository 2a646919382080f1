"""All of pydicom's own files: odd, broken and in every transfer syntax."""

from __future__ import annotations

import collections
import hashlib
import json

import pydicom
import pytest

from airflow_dicomweb.dicomweb.uids import is_uid
from tests.emulator.api import PYDICOM_FILES, Api

FILES = sorted(path for path in PYDICOM_FILES.rglob("*") if path.is_file())
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
