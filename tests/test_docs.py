"""The documents agree with the code: connections, tables, links, commands."""

from __future__ import annotations

import inspect
import json
import re
import shlex

import pytest

from airflow_dicomweb import errors
from airflow_dicomweb.dicomweb import StoreResult
from airflow_dicomweb.healthcare import HealthcareClient, Operation
from airflow_dicomweb.provider_info import get_provider_info
from tests.airflow.example_dags import DAG_IDS, load
from tests.documents import DOCUMENTS, EMULATED_STORE, ROOT, blocks, connections, in_code, rows


def test_every_block_says_in_which_language_it_is() -> None:
    fences = [fence for path in DOCUMENTS for fence in re.findall(r"^```.*$", path.read_text(), re.MULTILINE)]
    assert set(fences[::2]) <= {"```python", "```sh", "```text", "```{toctree}"}
    assert set(fences[1::2]) == {"```"}


@pytest.mark.parametrize(("where", "conn_id", "text"), connections(), ids=lambda value: value[:40])
def test_a_connection_of_the_documents_gives_a_client(
    where: str, conn_id: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_dicomweb.hooks import DicomWebHook

    fields = json.loads(text)
    known = set(get_provider_info()["connection-types"][0]["conn-fields"])
    assert set(fields.get("extra", {})) <= known
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", text)
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", "google-cloud-platform://")
    with DicomWebHook(conn_id).get_conn() as client:
        assert isinstance(client, HealthcareClient) == ("dicom_store" in fields.get("extra", {}))


def test_the_emulator_of_the_documents_starts_with_the_store_that_the_connections_name() -> None:
    from airflow_dicomweb.emulator.__main__ import _parser

    commands = [block.text.replace("\\\n", " ") for block in blocks("sh") if "airflow_dicomweb.emulator" in block.text]
    assert len(commands) >= 3
    for command in commands:
        options = _parser().parse_args(shlex.split(command)[3:])
        assert [str(name) for name in options.create] == [EMULATED_STORE]
        assert (options.host, options.port) == ("127.0.0.1", 8085)
    assert any(EMULATED_STORE in text for _, _, text in connections())


def test_every_make_target_of_the_documents_is_one() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {name for path in DOCUMENTS for name in re.findall(r"(?:^|`)make (\w+)", path.read_text(), re.MULTILINE)}
    assert {"demo", "test"} <= named <= targets


def test_every_link_between_documents_leads_somewhere() -> None:
    for path in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text()):
            if "://" not in target:
                assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_every_page_is_in_the_table_of_contents() -> None:
    listed = re.search(r"```\{toctree\}.*?\n\n(.*?)```", (ROOT / "docs/index.md").read_text(), re.DOTALL)
    assert listed is not None
    assert sorted(listed[1].split()) == sorted(
        path.stem for path in (ROOT / "docs").glob("*.md") if path.stem != "index"
    )


def test_the_tree_of_errors_is_the_one_in_the_code() -> None:
    tree = next(block.text for block in blocks("text") if "DicomWebError" in block.text)
    assert tree in inspect.cleandoc(errors.__doc__ or "").replace("\n    ", "\n") + "\n"


def test_the_table_of_operators_has_all_of_them_and_what_they_return() -> None:
    from airflow_dicomweb import operators, sensors

    table = {in_code(row[0])[0]: in_code(row[2]) for row in rows("README.md", "## Operators and sensors")}
    offered = [name for name in vars(sensors) if name.startswith("DicomWeb") and name.endswith("Sensor")]
    assert sorted(table) == sorted([*operators.__all__, *offered])
    assert table["DicomWebStoreInstancesOperator"] == list(StoreResult(()).to_xcom())
    assert table["DicomWebImportFromGcsOperator"] == list(Operation(name="").to_xcom())


@pytest.mark.parametrize(
    ("document", "heading"), [("README.md", "## The connection"), ("docs/connection.md", "Extra:")]
)
def test_the_tables_of_the_connection_have_all_fields(document: str, heading: str) -> None:
    named = {name for row in rows(document, heading) for name in in_code(row[0])}
    known = get_provider_info()["connection-types"][0]["conn-fields"]
    assert named == set(known)


def test_the_table_of_the_emulators_options_has_all_of_them() -> None:
    from airflow_dicomweb.emulator.__main__ import _parser

    options = set(re.findall(r"--[a-z-]+", _parser().format_help())) - {"--help"}
    assert {in_code(row[0])[0] for row in rows("docs/emulator.md", "## Start it")} == options


def test_the_defaults_of_a_wait_are_those_of_the_code() -> None:
    from airflow_dicomweb.operators import DicomWebImportFromGcsOperator

    said = dict(
        re.findall(
            r"`(inline_wait|poll_interval|wait_timeout)` \((\d+) (?:s|h)\)", (ROOT / "docs/waiting.md").read_text()
        )
    )
    operator = DicomWebImportFromGcsOperator(task_id="import", gcs_uri="gs://bucket/**")
    assert float(said["inline_wait"]) == operator.inline_wait
    assert float(said["poll_interval"]) == operator.poll_interval
    assert float(said["wait_timeout"]) * 3600 == operator.wait_timeout
    assert operator.cancel_on_kill


def test_the_table_of_example_dags_says_when_they_run_and_names_their_params() -> None:
    words = {"0 2 * * *": "at 02:00", "0 4 * * 1": "on Mondays at 04:00"}
    table = rows("docs/howto.md", "## The example DAGs")
    assert sorted(in_code(row[0])[0] for row in table) == [f"{dag_id}.py" for dag_id in DAG_IDS]
    for file, when, params in table:
        dag = load(in_code(file)[0].removesuffix(".py"))
        expected = (
            words[dag.schedule]
            if isinstance(dag.schedule, str)
            else f"when the asset `{dag.schedule[0].name}` is updated"
        )
        assert when == expected
        assert set(in_code(params)) <= set(dag.params)
