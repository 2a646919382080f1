"""Paths of studies, series and instances."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dicomweb.dicomweb.resources import (
    InstancePath,
    SeriesPath,
    StudyPath,
    join_url,
    parse_path,
    resource_path,
    without_query,
)
from airflow_dicomweb.errors import ConfigurationError

UIDS = st.lists(st.integers(0, 10**6), min_size=1, max_size=8).map(lambda n: ".".join(map(str, n)))


@given(study=UIDS, series=UIDS | st.none(), instance=UIDS | st.none())
def test_a_path_survives_being_written_and_read(study, series, instance):
    path = resource_path(study, series, instance if series else None)
    assert parse_path(str(path)) == path
    assert parse_path(f"/{path}") == path


@pytest.mark.parametrize("kind", [StudyPath, SeriesPath, InstancePath])
@pytest.mark.parametrize("bad", ["..", "", "x", "1" * 65])
def test_no_path_is_built_from_a_bad_uid(kind, bad):
    names = kind.__dataclass_fields__
    for name in names:
        with pytest.raises(ConfigurationError):
            kind(**{**dict.fromkeys(names, "1.2"), name: bad})


def test_an_instance_without_its_series_is_refused():
    with pytest.raises(ConfigurationError, match="SeriesInstanceUID is needed"):
        resource_path("1.2", None, "1.2.3")


@pytest.mark.parametrize(
    "text", ["", "/", "studies/", "studies/1/instances/2", "studies/../1", "studies/1/", "x/studies/1"]
)
def test_other_paths_are_refused(text):
    with pytest.raises(ConfigurationError):
        parse_path(text)


def test_urls_keep_the_path_of_their_base():
    assert join_url("http://pacs:8042/dicom-web/", "/studies/", "", "1.2") == "http://pacs:8042/dicom-web/studies/1.2"


def test_a_url_for_a_log_has_neither_query_nor_credentials():
    assert without_query("https://user:secret@host:8443/studies?PatientName=Doe#x") == "https://host:8443/studies"
