"""Import, export, filter files and gs:// URIs, by the vectors of the contract."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from airflow_dicomweb.dicomweb.resources import InstancePath, SeriesPath, StudyPath, parse_path
from airflow_dicomweb.errors import ConfigurationError
from airflow_dicomweb.healthcare.bodies import (
    GcsPattern,
    GcsPrefix,
    export_body,
    filter_file,
    import_body,
    parse_filter_file,
)

VECTORS = yaml.safe_load((Path(__file__).parents[1] / "data" / "values.yaml").read_text())
WILDCARDS = VECTORS["wildcards"]
FILTER = VECTORS["filter_file"]


@pytest.mark.parametrize("case", WILDCARDS["cases"], ids=lambda c: c["id"])
def test_wildcards_mean_what_the_contract_says(case):
    uri = case["uri"].replace("BUCKET", "my-bucket")
    if not case["valid"]:
        with pytest.raises(ConfigurationError):
            import_body(uri)
        return
    pattern = GcsPattern.parse(uri)
    found = [name for name in WILDCARDS["objects_in_BUCKET"] if pattern.matches(name)]
    assert found == case["matches"]
    assert all(name.startswith(pattern.prefix) for name in found)
    assert import_body(uri) == {"gcsSource": {"uri": uri}}


@given(st.text(alphabet="ab/.[]()+$\n", min_size=1, max_size=12))
def test_nothing_but_wildcards_has_a_meaning_of_its_own(name):
    if "\n" not in name:
        pattern = GcsPattern.parse(f"gs://my-bucket/{name}")
        assert pattern.matches(name)
        assert not pattern.matches(name + "x")
        assert not pattern.has_wildcard


def test_a_filter_file_is_read_with_either_line_end():
    texts = [FILTER["text"], next(v["text"] for v in FILTER["variants"] if v["id"] == "F-CRLF")]
    for text in texts:
        paths = parse_filter_file(text)
        assert [type(p) for p in paths] == [StudyPath, SeriesPath, SeriesPath, InstancePath, InstancePath, InstancePath]
    assert filter_file(parse_filter_file(texts[0])) == "".join(sorted(texts[0].splitlines(keepends=True)))


@pytest.mark.parametrize("line", FILTER["invalid_lines"])
def test_other_lines_are_refused(line):
    with pytest.raises(ConfigurationError):
        parse_filter_file(f"/studies/1.2\n{line}\n")


def test_an_empty_filter_is_refused_and_repeats_are_written_once():
    with pytest.raises(ConfigurationError, match="at least one"):
        filter_file([])
    assert filter_file([parse_path("studies/1.2"), parse_path("/studies/1.2")]) == "/studies/1.2\n"


@pytest.mark.parametrize("prefix", ["gs://my-bucket/out", "gs://my-bucket/out/", "gs://my-bucket", "gs://my-bucket/"])
def test_a_destination_is_a_folder_however_it_is_written(prefix):
    folder = GcsPrefix.parse(prefix)
    assert folder.prefix in {"", "out/"}
    assert export_body(prefix) == {
        "gcsDestination": {"uriPrefix": "gs://my-bucket" + ("/out" if folder.prefix else "")}
    }


@pytest.mark.parametrize(
    "prefix",
    ["", "my-bucket/out", "gs://", "gs://B/x", "gs://my-bucket/a*", "gs://my-bucket//a", "s3://my-bucket/a", None],
)
def test_other_destinations_are_refused(prefix):
    with pytest.raises(ConfigurationError, match="gs://BUCKET"):
        export_body(prefix)


def test_an_export_body_carries_its_media_type_and_filter():
    assert export_body("gs://my-bucket/out", "image/png", "gs://my-bucket/filter.txt") == {
        "gcsDestination": {"uriPrefix": "gs://my-bucket/out", "mimeType": "image/png"},
        "filterConfig": {"resourcePathsGcsUri": "gs://my-bucket/filter.txt"},
    }
    with pytest.raises(ConfigurationError, match="image/png"):
        export_body("gs://my-bucket/out", "image/gif")
    with pytest.raises(ConfigurationError, match="no wildcards"):
        export_body("gs://my-bucket/out", None, "gs://my-bucket/*.txt")


def test_a_storage_class_is_one_of_four():
    assert import_body("gs://my-bucket/a", "ARCHIVE")["blobStorageSettings"] == {"blobStorageClass": "ARCHIVE"}
    with pytest.raises(ConfigurationError, match="STANDARD, NEARLINE, COLDLINE, ARCHIVE"):
        import_body("gs://my-bucket/a", "archive")
