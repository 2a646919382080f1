"""The operators inside an Airflow: templates, mapping, deferral, retries, links, and what its database gets to know."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk import DAG, task

from airflow_dicomweb.dicomweb.inventory import find_instances
from airflow_dicomweb.errors import ConfigurationError
from airflow_dicomweb.healthcare.gcs import Buckets
from airflow_dicomweb.operators import (
    DicomWebDeleteStudyOperator,
    DicomWebExportToGcsOperator,
    DicomWebImportFromGcsOperator,
    DicomWebSearchOperator,
    DicomWebStoreInstancesOperator,
)
from airflow_dicomweb.sensors import DicomWebOperationSensor
from tests.airflow.files import STUDY, write_study

pytestmark = pytest.mark.usefixtures("airflow_database")

SENTINELS = ("Sentinel", "sentinel")


@pytest.fixture
def rows(airflow_database):
    """What Airflow's database has of a DAG, table by table, as text."""
    from airflow.models.renderedtifields import RenderedTaskInstanceFields
    from airflow.models.task_state_store import TaskStateStoreModel
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    def read(dag_id: str) -> dict[str, list[dict[str, Any]]]:
        found = {}
        with create_session() as session:
            for model in (RenderedTaskInstanceFields, TaskStateStoreModel, XComModel):
                records = session.scalars(select(model).where(model.dag_id == dag_id)).all()
                found[model.__tablename__] = [
                    {column.name: getattr(record, column.key) for column in model.__table__.columns}
                    for record in records
                ]
        return found

    return read


def state_of(run: Any) -> dict[str, str]:
    return {ti.task_id: str(ti.state) for ti in run.get_task_instances()}


@pytest.mark.parametrize("deferrable", [True, False])
def test_everything_goes_through_a_dag_run(  # noqa: PLR0917
    store, client, bucket, run_dag, rows, tmp_path, deferrable
):
    """Every operator, most arguments from templates or from the results of others."""
    folder = tmp_path / "Sentinel^Patient"
    write_study(folder)
    for path in write_study(tmp_path / "upload", f"{STUDY}.7"):
        Buckets().upload(bucket, f"incoming/{path.name}", path)
    store.set_operation_seconds(0.5)
    waiting = {"deferrable": deferrable, "inline_wait": 0.0, "poll_interval": 0.1}
    params = {"folder": str(folder), "bucket": bucket, "patient": "sentinel-id"}
    with DAG(f"everything_{deferrable}", schedule=None, params=params) as dag:
        stored = DicomWebStoreInstancesOperator(task_id="store", source="{{ params.folder }}")
        imported = DicomWebImportFromGcsOperator(
            task_id="import", gcs_uri="gs://{{ params.bucket }}/incoming/**", verify="instances", **waiting
        )
        started = DicomWebImportFromGcsOperator(
            task_id="start", gcs_uri="gs://{{ params.bucket }}/incoming/**", wait=False, **waiting
        )
        waited = DicomWebOperationSensor(
            task_id="wait", operation=started.output["operation"], poke_interval=0.1, deferrable=deferrable
        )
        found = DicomWebSearchOperator(task_id="search", filters={"PatientID": "{{ params.patient }}"})
        exported = DicomWebExportToGcsOperator(
            task_id="export",
            gcs_uri_prefix="gs://{{ params.bucket }}/out/{{ run_id | replace(':', '-') | replace('+', '-') }}",
            query={"PatientID": "{{ params.patient }}"},
            **waiting,
        )
        again = DicomWebExportToGcsOperator(
            task_id="again", gcs_uri_prefix="gs://{{ params.bucket }}/again", resources=found.output, **waiting
        )

        @task
        def selected(studies: list[dict[str, Any]]) -> list[dict[str, Any]]:
            return [{"study": each["StudyInstanceUID"], "expected": {"instances": 4, "series": 2}} for each in studies]

        deleted = DicomWebDeleteStudyOperator.partial(task_id="delete", **waiting).expand_kwargs(selected(found.output))
        [stored, imported] >> started >> waited >> found >> exported >> again >> deleted
    for operator in (imported, started, waited, exported, again):
        operator.shortest_first_wait = 0.0
    run = run_dag(dag)
    assert set(state_of(run).values()) == {"success"}
    known = rows(dag.dag_id)
    results = {
        (each["task_id"], each["map_index"]): each["value"] for each in known["xcom"] if each["key"] == "return_value"
    }
    assert len(results["search", -1]) == 2
    for name in ("import", "wait", "export", "again"):
        assert json.loads(json.dumps(results[name, -1]))["state"] == "success"
    assert {results["delete", number]["instances"] for number in (0, 1)} == {4}
    assert list(find_instances(client, [STUDY, f"{STUDY}.7"])) == []
    for table, records in known.items():
        assert records, table
        assert not any(sentinel in str(records) for sentinel in SENTINELS), table


def fields_of(known: dict[str, list[dict[str, Any]]], task_id: str) -> list[dict[str, Any]]:
    records = [each for each in known["rendered_task_instance_fields"] if each["task_id"] == task_id]
    return [each["rendered_fields"] for each in sorted(records, key=lambda each: each["map_index"])]


def test_rendered_fields_show_uris_and_uids_and_neither_filters_nor_paths(  # noqa: PLR0917
    store, study, bucket, run_dag, rows, tmp_path
):
    folder = tmp_path / "Sentinel^Patient"
    write_study(folder)
    report = str(tmp_path / "Sentinel.jsonl")
    with DAG("rendered", schedule=None, params={"patient": "sentinel-id", "folder": str(folder)}) as dag:
        search = DicomWebSearchOperator(
            task_id="search",
            filters={"PatientID": "{{ params.patient }}", "StudyInstanceUID": study},
            report_uri=report,
            dicom_store="images",
        )
        put = DicomWebStoreInstancesOperator(task_id="put", source="{{ params.folder }}", report_uri=f"gs://{bucket}/r")
        each = DicomWebStoreInstancesOperator.partial(task_id="each", on_conflict="keep").expand(
            source=[["{{ params.folder }}", f"gs://{bucket}/Sentinel/**"], str(folder)]
        )
        many = DicomWebSearchOperator.partial(task_id="many").expand(
            filters=[{"PatientName": "Sentinel"}, {"00100020": "sentinel-id"}]
        )
        out = DicomWebExportToGcsOperator(
            task_id="out", gcs_uri_prefix=f"gs://{bucket}/out", query={"PatientID": "{{ params.patient }}"}, wait=False
        )
        chosen = DicomWebExportToGcsOperator(
            task_id="chosen", gcs_uri_prefix=f"gs://{bucket}/chosen", resources=["{{ 1 }}.2.3", study], wait=False
        )
        search >> put >> many >> out >> chosen >> each
    Buckets().write(bucket, "Sentinel/x", b"no image")
    run = run_dag(dag)
    assert set(state_of(run).values()) == {"success"}
    known = rows(dag.dag_id)
    (searched,) = fields_of(known, "search")
    assert searched["filters"] == {"PatientID": "***", "StudyInstanceUID": "***"}
    assert (searched["report_uri"], searched["dicom_store"]) == ("***", "images")
    (stored,) = fields_of(known, "put")
    assert (stored["source"], stored["report_uri"]) == ("***", f"gs://{bucket}/r")
    assert [fields["source"] for fields in fields_of(known, "each")] == [["***", f"gs://{bucket}/Sentinel/**"], "***"]
    assert [fields["filters"] for fields in fields_of(known, "many")] == [{"PatientName": "***"}, {"00100020": "***"}]
    (exported,) = fields_of(known, "out")
    assert (exported["query"], exported["gcs_uri_prefix"]) == ({"PatientID": "***"}, f"gs://{bucket}/out")
    (selected,) = fields_of(known, "chosen")
    assert selected["resource_paths"] == ["1.2.3", study]


def test_a_private_field_that_cannot_be_rendered_is_not_logged(store, study, run_dag, capsys, caplog):
    with DAG("unrenderable", schedule=None) as dag:
        DicomWebSearchOperator(
            task_id="search", filters={"PatientName": "Sentinel^Patient", "Modality": "{{ nothing.at.all }}"}
        )
    assert run_dag(dag).state == "failed"
    logged = capsys.readouterr().out + caplog.text
    assert "nothing" in logged
    assert not any(sentinel in logged for sentinel in SENTINELS)


class Dies(DicomWebDeleteStudyOperator):
    """Its first try ends as if the worker had died right after the submit."""

    shortest_first_wait = 0.0

    def _see_through(self, context: Any, client: Any, started: Any) -> dict[str, Any]:
        if context["ti"].try_number == 1:
            raise RuntimeError("the worker died")
        return super()._see_through(context, client, started)


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_retry_in_a_real_airflow_submits_once(store, study, run_dag, rows, deferrable):
    store.set_operation_seconds(1.0)
    with DAG(f"dies_{deferrable}", schedule=None) as dag:
        Dies(
            task_id="delete",
            study=study,
            deferrable=deferrable,
            inline_wait=0.0,
            poll_interval=0.1,
            retries=1,
            retry_delay=timedelta(0),
        )
    run = run_dag(dag)
    (ti,) = run.get_task_instances()
    assert (str(ti.state), ti.try_number) == ("success", 2)
    assert [each["method"] for each in store.requests()].count("DELETE") == 1
    (record,) = rows(dag.dag_id)["task_state_store"]
    assert (record["key"], record["expires_at"]) == ("dicomweb_operation", None)
    assert json.loads(record["value"])["phase"] == "consumed"


@pytest.mark.parametrize("deferrable", [True, False])
def test_links_are_kept_for_the_ui_even_of_a_task_that_failed(  # noqa: PLR0917
    store, study, bucket, run_dag, rows, deferrable
):
    Buckets().write(bucket, "incoming/x", b"no image")
    store.set_operation_seconds(0.5)
    with DAG(f"links_{deferrable}", schedule=None) as dag:
        failing = DicomWebImportFromGcsOperator(
            task_id="import",
            gcs_uri=f"gs://{bucket}/incoming/**",
            deferrable=deferrable,
            inline_wait=0,
            poll_interval=0.1,
        )
        failing.shortest_first_wait = 0.0
    assert run_dag(dag).state == "failed"
    links = {each["key"]: each["value"] for each in rows(dag.dag_id)["xcom"] if each["key"].startswith("_link_")}
    assert f"{store.base_url}/v1/projects/" in links["_link_OperationLink"]
    assert "/logs/" in links["_link_OperationLogsLink"]


def test_resources_are_mapped_and_never_taken_for_what_a_machine_has(store, study, bucket, run_dag, rows):
    with DAG("resources", schedule=None) as dag:
        DicomWebExportToGcsOperator.partial(task_id="out", gcs_uri_prefix=f"gs://{bucket}/out", wait=False).expand(
            resources=[[study], [f"studies/{study}/series/{study}.1"]]
        )
    assert run_dag(dag).state == "success"
    assert [fields["resource_paths"] for fields in fields_of(rows("resources"), "out")] == [
        [study],
        [f"studies/{study}/series/{study}.1"],
    ]
    with pytest.raises(ConfigurationError, match=r"give it to expand\(\)"):
        DicomWebExportToGcsOperator.partial(task_id="out", resources=[study])


def test_operators_survive_airflows_serialisation(airflow_database):
    from airflow.serialization.serialized_objects import DagSerialization

    with DAG("serialised", schedule=None) as dag:
        DicomWebExportToGcsOperator(task_id="export", gcs_uri_prefix="gs://bucket/out", resources=["1.2"])
        DicomWebDeleteStudyOperator.partial(task_id="delete").expand(study=["1.2", "1.3"])
        DicomWebOperationSensor(task_id="wait", operation="x")
    read = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    assert {link.name for link in read.get_task("export").operator_extra_links} == {"Operation", "Operation logs"}
    assert set(read.task_ids) == {"export", "delete", "wait"}
