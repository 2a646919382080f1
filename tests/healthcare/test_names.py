"""Resource names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dicomweb.errors import ConfigurationError
from airflow_dicomweb.healthcare.names import DatasetName, DicomStoreName, OperationName

STORE = "projects/p-1/locations/us-central1/datasets/d.x_1/dicomStores/s-1"
IDS = st.text(alphabet="abcXYZ019_.-", min_size=1, max_size=20).filter(lambda t: t.strip("."))


@given(dataset=IDS, store=IDS, operation=IDS)
def test_names_survive_being_written_and_read(dataset, store, operation):
    name = DatasetName("example.com:project", "us-central1", dataset)
    for value in (name, DicomStoreName(name, store), OperationName(name, operation)):
        assert type(value).parse(str(value)) == value


def test_a_store_is_named_by_its_short_id_or_in_full():
    store = DicomStoreName.parse(STORE)
    assert str(store.sibling("other")) == STORE.replace("s-1", "other")
    assert str(store.sibling("projects/q/locations/l/datasets/d/dicomStores/t")).endswith("dicomStores/t")


@pytest.mark.parametrize(
    "name",
    ["", "..", "a/b", "s?x", "projects/p/locations/l/datasets/../dicomStores/s", "projects/p/locations/l/datasets/d/dicomStores/..",
     STORE + "/", "/" + STORE, STORE + "/x", "v1/" + STORE, None, STORE.replace("p-1", ".."), STORE.replace("us-central1", "..")],
)  # fmt: skip
def test_other_names_are_refused_with_the_form_that_is_accepted(name):
    with pytest.raises(ConfigurationError, match="projects/P/locations/L/datasets/D/dicomStores/S"):
        DicomStoreName.parse(name)
    with pytest.raises(ConfigurationError):
        DicomStoreName.parse(STORE).sibling(name)
