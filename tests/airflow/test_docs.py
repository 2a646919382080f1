"""The Python blocks of the documents: DAGs run, tests pass, scripts go through."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydicom.dataset import Dataset

from airflow_dicomweb.emulator import Emulator
from airflow_dicomweb.healthcare import HealthcareClient
from airflow_dicomweb.healthcare.gcs import Buckets
from tests.airflow.example_dags import run
from tests.airflow.files import instance, write_study
from tests.documents import EMULATED_STORE, Block, blocks

STUDY = "1.2.826.0.1.3680043.8.498.1"


def of_kind(kind: str) -> Any:
    kinds: dict[str, list[Block]] = {"dag": [], "test": [], "script": []}
    for block in blocks("python"):
        name = (
            "dag"
            if "DAG(" in block.text or "@dag(" in block.text
            else "test"
            if "def test_" in block.text
            else "script"
        )
        kinds[name].append(block)
    return pytest.mark.parametrize("block", kinds[kind], ids=lambda block: block.where)


def image(study: str) -> Dataset:
    """An instance with two frames."""
    data = instance(study, 1, 1)
    data.Rows, data.Columns, data.NumberOfFrames, data.SamplesPerPixel = 4, 6, 2, 1
    data.PhotometricInterpretation, data.PixelRepresentation = "MONOCHROME2", 0
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelData = 7, bytes(range(48))
    data["PixelData"].VR = "OB"
    return data


def write_photo(folder: Path) -> None:
    """The photo of the documents, and what they say is known of it."""
    folder.mkdir()
    Image.new("RGB", (32, 16), "red").save(folder / "wound.jpg")
    (said,) = (block.text for block in blocks("text") if "SeriesDescription" in block.text)
    (folder / "wound.json").write_text(said)


@pytest.fixture
def run_block(
    store: Emulator, tmp_path: Path, fake_gcs: str, request: pytest.FixtureRequest
) -> Callable[[Block], dict[str, Any]]:
    """Run a block as it stands, with this machine's servers and folders for those that it names."""
    write_study(tmp_path / "incoming", STUDY)
    write_photo(tmp_path / "photos")
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "letter.pdf").write_bytes(b"%PDF-1.7\ntrailer<<>>\n%%EOF\n")
    image("1.2.826.0.1.3680043.8.498.4").save_as(tmp_path / "image.dcm", enforce_file_format=True)

    def run_it(block: Block) -> dict[str, Any]:
        code = block.text
        for written, real in (
            ("http://127.0.0.1:8085", store.base_url),
            ("http://127.0.0.1:4443", fake_gcs),
            (EMULATED_STORE, store.dicom_store),
            ("/srv/dicom", str(tmp_path)),
        ):
            code = code.replace(written, real)
        if "127.0.0.1:8042" in code:
            orthanc = request.getfixturevalue("orthanc")
            code = code.replace("http://127.0.0.1:8042/dicom-web", orthanc.dicomweb_url)
            code = code.replace('"orthanc", "orthanc"', f"{orthanc.user!r}, {orthanc.password!r}")
        names: dict[str, Any] = {"__name__": f"block_{block.line}"}
        exec(compile("\n" * block.line + code, block.document, "exec"), names)
        return names

    return run_it


@pytest.fixture
def named_buckets(fake_gcs: str, bucket: str, tmp_path: Path) -> Iterator[Buckets]:
    """The buckets of the documents, with a study in the one where files arrive."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    buckets = Buckets()
    with storage.Client(project="project", credentials=AnonymousCredentials()) as client:
        for name in ("radiology-landing", "radiology-exports"):
            client.create_bucket(name)
        for path in write_study(tmp_path / "landing", "1.2.826.0.1.3680043.8.498.2"):
            buckets.write("radiology-landing", f"incoming/{path.name}", path.read_bytes())
        yield buckets
        for name in ("radiology-landing", "radiology-exports"):
            client.get_bucket(name).delete(force=True)


@pytest.fixture
def stored_study(client: HealthcareClient, tmp_path: Path) -> str:
    """A CT study of January 2026 in the store, with one instance."""
    data = image("1.2.826.0.1.3680043.8.498.3")
    data.Modality, data.StudyDate = "CT", "20260110"
    data.save_as(tmp_path / "ct", enforce_file_format=True)
    (study,) = client.store(tmp_path / "ct").studies
    return study


@of_kind("dag")
@pytest.mark.usefixtures("airflow_database", "named_buckets")
def test_a_dag_of_the_documents_runs(
    block: Block, run_block: Callable[[Block], dict[str, Any]], stored_study: str
) -> None:
    from airflow.sdk import DAG

    names = run_block(block)
    found = [value for value in names.values() if isinstance(value, DAG)]
    (dag,) = found or [value() for value in names.values() if hasattr(value, "__wrapped__")]
    ended = run(dag, {"study": stored_study, "instances": 1} if "study" in dag.params else {})
    assert ended.state == "success", ended.tasks
    assert set(ended.tasks.values()) == {"success"}


@of_kind("test")
def test_a_test_of_the_documents_passes(
    block: Block, run_block: Callable[[Block], dict[str, Any]], request: pytest.FixtureRequest
) -> None:
    tests = [value for name, value in run_block(block).items() if name.startswith("test_")]
    assert tests
    for test in tests:
        test(**{name: request.getfixturevalue(name) for name in inspect.signature(test).parameters})


@of_kind("script")
def test_a_script_of_the_documents_runs(
    block: Block, run_block: Callable[[Block], dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    run_block(block)
    if "print(" in block.text:
        assert capsys.readouterr().out
