"""The same things are stored, found, fetched and deleted on every server that runs here.

Where servers differ, what is expected is what the table of habits says.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_dicomweb.dicomweb import DicomWebClient
from airflow_dicomweb.dicomweb.habits import BULK_DATA, FRAMES, METADATA, METADATA_XML, RENDERED, RETRIEVABLE
from airflow_dicomweb.dicomweb.inventory import find_below, find_instances
from airflow_dicomweb.dicomweb.resources import InstancePath, SeriesPath, StudyPath
from airflow_dicomweb.errors import ConfigurationError, NotFoundError
from airflow_dicomweb.healthcare import HealthcareClient
from tests.servers.every import (
    FRAME_BYTES,
    NAMES,
    Server,
    data_set_bytes,
    jpeg,
    new_uid,
    server_of,
    write_image,
    write_study,
)

FIXTURES = {"google": "dicomweb_emulator", "orthanc": "orthanc", "tiny-pacs": "tiny_pacs"}


@pytest.fixture(params=NAMES)
def server(request: pytest.FixtureRequest) -> Server:
    return server_of(request.getfixturevalue(FIXTURES[request.param]))


@pytest.fixture(params=["named", "found out"])
def client(server: Server, request: pytest.FixtureRequest) -> Iterator[DicomWebClient]:
    """A client that was told which server it is, and one that was not."""
    with server.client(named=request.param == "named") as made:
        yield made


@pytest.fixture
def study() -> str:
    return new_uid()


@pytest.fixture
def stored(client: DicomWebClient, study: str, tmp_path: Path) -> list[InstancePath]:
    """A study of two series with two instances each, in the server; its files are in ``in``."""
    paths = write_study(tmp_path / "in", study)
    assert client.store(tmp_path / "in", batch_count=3).created == len(paths)
    return paths


@pytest.fixture
def image(client: DicomWebClient, study: str, tmp_path: Path) -> InstancePath:
    """An image of three frames, in the server."""
    path = write_image(tmp_path / "image", study)
    assert client.store(tmp_path / "image").created == 1
    return path


def uids(path: InstancePath) -> tuple[str, str, str]:
    return path.study, path.series, path.instance


# Store


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("batch_count", [1, 7])
def test_every_instance_is_created_and_then_identical(client, study, tmp_path, workers, batch_count):
    paths = write_study(tmp_path, study, series=3, instances=8)
    first = client.store(tmp_path, workers=workers, batch_count=batch_count, verify="exists")
    assert (first.created, len(first.outcomes)) == (24, 24)
    again = client.store(tmp_path, workers=workers, batch_count=batch_count, verify="exists")
    assert (again.identical, len(again.outcomes)) == (24, 24)
    assert set(find_instances(client, [study])) == set(paths)


def test_other_bytes_under_a_known_identity_are_a_conflict_and_change_nothing(client, stored, tmp_path):
    file = tmp_path / "in" / f"{stored[0].instance}.dcm"
    before = file.read_bytes()
    other = before.replace(b"Servers^Test", b"Another^Name")
    assert len(other) == len(before)
    assert other != before
    file.write_bytes(other)
    result = client.store(file)
    assert [each.outcome for each in result.outcomes] == ["conflict"]
    (kept,) = client.retrieve(*uids(stored[0]), destination=tmp_path / "out")
    assert data_set_bytes(Path(kept).read_bytes()) == data_set_bytes(before)


def test_stored_into_a_study_all_others_fail_and_are_named(client, study, tmp_path):
    write_study(tmp_path, study, series=1)
    write_study(tmp_path, f"{study}.9", series=1)
    result = client.store(tmp_path, study=study)
    assert (result.created, result.failed) == (2, 2)
    assert {each.path.study for each in result.outcomes if each.outcome == "failed"} == {f"{study}.9"}
    assert list(find_instances(client, [f"{study}.9"])) == []


def test_what_is_no_instance_stops_nothing(client, study, tmp_path):
    write_study(tmp_path, study, series=1)
    (tmp_path / "notes.txt").write_text("no DICOM at all")
    (tmp_path / "cut.dcm").write_bytes(b"\0" * 128 + b"DICM")
    result = client.store(tmp_path)
    assert (result.created, result.skipped, result.failed) == (2, 1, 1)


def test_bytes_are_verified_where_they_are_kept(server, client, study, tmp_path):
    write_study(tmp_path, study)
    if server.habits.keeps_bytes:
        assert client.store(tmp_path, verify="bytes").created == 4
        return
    if not client.habits.keeps_bytes:
        with pytest.raises(ConfigurationError, match="verify='exists'"):
            client.store(tmp_path, verify="bytes")
        return
    # A server that was not named shows only in its answers.
    result = client.store(tmp_path, verify="bytes")
    assert [each.reason for each in result.outcomes] == ["the server accepted it, but it has other bytes now"] * 4
    assert client.habits == server.habits


def test_an_image_becomes_an_instance_once(client, study, tmp_path):
    metadata = {"PatientID": "P1", "StudyInstanceUID": study}
    (first,) = client.create_instance(metadata, jpeg(), namespace=study).outcomes
    (again,) = client.create_instance(metadata, jpeg(), namespace=study).outcomes
    assert (first.outcome, again.outcome) == ("created", "identical")
    assert first.path == again.path
    (file,) = client.retrieve(*uids(first.path), destination=tmp_path)
    assert jpeg() in Path(file).read_bytes()


# Search


def test_studies_series_and_instances_are_found_where_they_are(client, study, stored):
    (found,) = client.search_studies({"StudyInstanceUID": study})
    assert found["StudyInstanceUID"] == study
    assert {each["SeriesInstanceUID"] for each in client.search_series(study=study)} == {path.series for path in stored}
    below_series = {each["SOPInstanceUID"] for each in client.search_instances(study=study, series=stored[0].series)}
    assert below_series == {path.instance for path in stored[:2]}
    assert {each["SOPInstanceUID"] for each in client.search_instances(study=study)} == {
        path.instance for path in stored
    }


@pytest.mark.parametrize("level", ["studies", "series", "instances"])
def test_what_is_not_there_is_not_found(client, study, level):
    below = {} if level == "studies" else {"study": study}
    filters = {"StudyInstanceUID": study} if level == "studies" else None
    assert list(getattr(client, f"search_{level}")(filters, **below)) == []


def test_pages_limits_and_offsets_cut_where_they_should(client, study, stored):
    everything = [each["SOPInstanceUID"] for each in client.search_instances(study=study)]
    assert sorted(everything) == [path.instance for path in stored]
    paged = [each["SOPInstanceUID"] for each in client.search_instances(study=study, page_size=1)]
    assert sorted(paged) == sorted(everything)
    for limit, offset in ((0, 0), (1, 0), (3, 0), (2, 1), (9, 3), (1, 4)):
        found = [each["SOPInstanceUID"] for each in client.search_instances(study=study, limit=limit, offset=offset)]
        assert len(found) == len(everything[offset : offset + limit])
        assert set(found) <= set(everything)


def test_an_inventory_names_what_is_below_a_study_a_series_and_an_instance(client, study, stored):
    assert sorted(find_below(client, StudyPath(study))) == stored
    assert sorted(find_below(client, SeriesPath(study, stored[2].series))) == stored[2:]
    assert list(find_below(client, stored[1])) == [stored[1]]
    assert list(find_below(client, SeriesPath(study, f"{study}.7"))) == []


# Retrieve


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_what_was_stored_comes_back_as_it_is_kept(server, client, stored, tmp_path, depth):
    wanted = [path for path in stored if uids(path)[:depth] == uids(stored[0])[:depth]]
    files = client.retrieve(*uids(stored[0])[:depth], destination=tmp_path / "out")
    assert [file.instance for file in files] == wanted
    for file in files:
        content, sent = file.path.read_bytes(), (tmp_path / "in" / f"{file.instance.instance}.dcm").read_bytes()
        assert (content == sent) is server.habits.keeps_bytes
        assert (data_set_bytes(content) == data_set_bytes(sent)) is server.habits.keeps_data_set


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_to_retrieve_what_is_not_there_is_an_error_and_leaves_nothing(client, study, tmp_path, depth):
    with pytest.raises(NotFoundError):
        client.retrieve(*(study, f"{study}.1", f"{study}.1.1")[:depth], destination=tmp_path / "out")
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def retrieved(client: DicomWebClient, image: InstancePath, kind: str) -> bool:
    """Retrieve something of an image, and see that it is what it should be."""
    place = uids(image)
    match kind:
        case "metadata":
            (found,) = client.retrieve_metadata(*place)
            return bool(found["00080018"]["Value"] == [image.instance])
        case "metadata_xml":
            (document,) = client.retrieve_metadata_xml(*place)
            return image.instance.encode() in document
        case "frames":
            frames = list(client.retrieve_frames(*place, frames=[1, 3]))
            return [(frame.number, len(frame.data)) for frame in frames] == [(1, FRAME_BYTES), (3, FRAME_BYTES)]
        case "rendered":
            png = client.retrieve_rendered(*place, media_type="image/png")
            small = client.retrieve_rendered(*place, media_type="image/jpeg", viewport=(16, 16))
            return png.startswith(b"\x89PNG") and small.startswith(b"\xff\xd8")
        case "bulk_data":
            (found,) = client.retrieve_metadata(*place)
            data = client.retrieve_bulkdata(found["7FE00010"]["BulkDataURI"], of=image).data
            return data is not None and len(data) == 3 * FRAME_BYTES
    raise AssertionError(kind)


@pytest.mark.parametrize("kind", RETRIEVABLE)
def test_what_else_can_be_retrieved_is_what_the_table_says(server, client, image, kind):
    if kind in server.habits.lacks:
        with pytest.raises(NotFoundError):
            retrieved(client, image, kind)
    else:
        assert retrieved(client, image, kind)


def test_the_table_names_all_that_can_be_retrieved():
    assert set(RETRIEVABLE) == {METADATA, METADATA_XML, FRAMES, RENDERED, BULK_DATA}


# Delete


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_what_is_deleted_is_gone_and_nothing_else_and_elsewhere_the_own_way_is_said(
    server, client, study, stored, depth
):
    doomed = [path for path in stored if uids(path)[:depth] == uids(stored[0])[:depth]]
    delete = (client.delete_study, client.delete_series, client.delete_instance)[depth - 1]
    if not server.habits.deletes:
        with pytest.raises(ConfigurationError, match="not known to delete"):
            delete(*uids(stored[0])[:depth])
        assert sorted(find_instances(client, [study])) == stored
        return
    operation = delete(*uids(stored[0])[:depth])
    if isinstance(client, HealthcareClient) and operation is not None:
        assert client.wait_for_operation(operation, poll_interval=0.05, wait_timeout=20.0).verdict == "success"
    assert sorted(find_instances(client, [study])) == [path for path in stored if path not in doomed]


def test_what_the_client_found_out_is_what_the_table_says(server, study, stored):
    with server.client(named=False) as client:
        list(client.search_studies({"StudyInstanceUID": study}))
        # Orthanc does not say who it is; what the client needs to know of it is what holds for any server.
        expected = {"orthanc": "standard"}.get(server.habits.name, server.habits.name)
        assert client.habits.name == expected
