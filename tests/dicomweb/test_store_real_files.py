"""All 176 of pydicom's files at once: each has its outcome, whatever the order, and what comes back is what created it.

On a store that reports conflicts (the emulator of the Cloud Healthcare API) and on one that does not (Orthanc).
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_dicomweb.dicomweb.auth import Basic, Bearer
from airflow_dicomweb.dicomweb.client import DicomWebClient
from airflow_dicomweb.dicomweb.stow import InstanceOutcome, StoreResult
from airflow_dicomweb.emulator import Emulator
from airflow_dicomweb.healthcare.client import HealthcareClient
from tests.dicomweb.instances import PYDICOM_FILES, all_files
from tests.servers.orthanc import Orthanc

# Whether the server answers or not, these are not sent.
SKIPPED = {
    "a DICOMDIR, which is an index and not an instance": 8,
    "not a DICOM file": 9,
}
UNUSABLE = {
    "a DICOM data set without a Part 10 header (preamble and file meta information)": {
        "rtstruct.dcm",
        "ExplVR_BigEndNoMeta.dcm",
        "ExplVR_LitEndNoMeta.dcm",
    },
    "an archive (gzip) that is not opened here: unpack it, or name a ZIP .zip": {"zipMR.gz"},
    "its Study Instance UID is missing": {
        "JPEGLSNearLossless_08.dcm",
        "JPEGLSNearLossless_16.dcm",
        "SC_rgb_jls_lossy_line.dcm",
        "SC_rgb_jls_lossy_sample.dcm",
        "UN_sequence.dcm",
        "empty_charset_LEI.dcm",
        "meta_missing_tsyntax.dcm",
        "nested_priv_SQ.dcm",
        "no_meta_group_length.dcm",
        "priv_SQ.dcm",
    },
}
# Orthanc cannot parse this one. It shares its identity with others: the next of them is stored in its place.
REFUSED_BY_ORTHANC = "SC_rgb_jpeg.dcm"


@pytest.fixture
def emulated(dicomweb_emulator: Emulator) -> Iterator[HealthcareClient]:
    server = dicomweb_emulator
    with HealthcareClient(server.dicom_store, base_url=server.base_url, credentials=Bearer("any")) as client:
        yield client


@pytest.fixture
def pacs(empty_orthanc: Orthanc) -> Iterator[DicomWebClient]:
    credentials = Basic(empty_orthanc.user, empty_orthanc.password)
    with DicomWebClient(empty_orthanc.dicomweb_url, credentials=credentials) as client:
        yield client


def name(outcome: InstanceOutcome) -> str:
    return Path(outcome.source).name


def summary(result: StoreResult) -> list[tuple[str, str, str]]:
    return [(each.source, each.outcome, each.reason) for each in result.outcomes]


def check_what_needs_no_server(result: StoreResult) -> None:
    assert len(result.outcomes) == 176
    counts = (result.created, result.identical, result.conflict, result.failed, result.skipped)
    assert sum(counts) == 176
    assert Counter(each.reason for each in result.outcomes if each.outcome == "skipped") == SKIPPED
    failed: dict[str, set[str]] = defaultdict(set)
    for each in result.outcomes:
        if each.outcome == "failed":
            failed[each.reason].add(name(each))
    for reason, names in UNUSABLE.items():
        assert failed[reason] == names
    assert all(each.reason for each in result.outcomes if each.outcome in {"failed", "conflict", "skipped"})


def check_winners(result: StoreResult, refused: str = "") -> None:
    """Of each identity the first in the listing wins, and the others are the same bytes or are not."""
    identities: dict[object, list[InstanceOutcome]] = defaultdict(list)
    for each in result.outcomes:
        if each.path is not None and name(each) != refused:
            identities[each.path].append(each)
    assert len(identities) == 116
    for first, *others in identities.values():
        assert first.outcome == "created"
        for other in others:
            same = Path(other.source).read_bytes() == Path(first.source).read_bytes()
            assert other.outcome == ("identical" if same else "conflict"), name(other)


def check_what_comes_back(client: DicomWebClient, result: StoreResult, folder: Path) -> None:
    created = {each.path: Path(each.source) for each in result.outcomes if each.outcome == "created"}
    files = [file for study in result.studies for file in client.retrieve(study, destination=folder)]
    assert {file.instance for file in files} == set(created)
    for file in files:
        digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (file.path, created[file.instance])]
        assert digests[0] == digests[1], created[file.instance].name


def test_the_emulator_takes_every_distinct_instance(emulated: HealthcareClient, tmp_path: Path) -> None:
    result = emulated.store(PYDICOM_FILES)
    check_what_needs_no_server(result)
    assert (result.created, result.identical, result.conflict, result.failed, result.skipped) == (116, 1, 28, 14, 17)
    check_winners(result)
    assert {each.code for each in result.outcomes if each.outcome == "conflict"} == {272}
    check_what_comes_back(emulated, result, tmp_path)


def test_orthanc_takes_every_distinct_instance_and_refuses_one_file(pacs: DicomWebClient, tmp_path: Path) -> None:
    result = pacs.store(PYDICOM_FILES)
    check_what_needs_no_server(result)
    assert (result.created, result.identical, result.conflict, result.failed, result.skipped) == (116, 1, 27, 15, 17)
    (refused,) = (each for each in result.outcomes if each.outcome == "failed" and each.code is not None)
    assert (name(refused), refused.code) == (REFUSED_BY_ORTHANC, 400)
    check_winners(result, refused=REFUSED_BY_ORTHANC)
    check_what_comes_back(pacs, result, tmp_path)


@pytest.mark.parametrize("server", ["emulated", "pacs"])
def test_the_same_files_in_another_order_and_batches_have_the_same_outcomes(
    server: str, request: pytest.FixtureRequest, empty_orthanc: Orthanc
) -> None:
    client: DicomWebClient = request.getfixturevalue(server)
    first = client.store(list(reversed(all_files())), workers=3, batch_count=7)
    if server == "pacs":
        empty_orthanc.clear()
        again = client.store(PYDICOM_FILES, workers=1)
        assert summary(again) == summary(first)
    else:
        # In a store that holds the winners already, the same files conflict.
        again = client.store(PYDICOM_FILES, workers=1)
        conflicts = [
            [each.source for each in result.outcomes if each.outcome == "conflict"] for result in (first, again)
        ]
        assert conflicts[0] == conflicts[1]
        assert (again.created, again.identical) == (0, 117)


def test_shards_together_are_the_whole(emulated: HealthcareClient) -> None:
    results = [emulated.store(PYDICOM_FILES, shard=(index, 3)) for index in range(3)]
    ordinals = sorted(each.ordinal for result in results for each in result.outcomes)
    assert ordinals == list(range(176))
    assert sum(result.created for result in results) == 116


@pytest.mark.parametrize("verify", ["exists", "bytes"])
@pytest.mark.parametrize("server", ["emulated", "pacs"])
def test_what_was_accepted_is_verified(server: str, verify: str, request: pytest.FixtureRequest) -> None:
    client: DicomWebClient = request.getfixturevalue(server)
    result = client.store(PYDICOM_FILES / "dicomdirtests", verify=verify)
    assert (result.failed, result.conflict, result.created) == (0, 0, 81)
