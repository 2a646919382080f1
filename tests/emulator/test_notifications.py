"""What a DICOM store tells of its instances, pulled by Google's own client."""

from __future__ import annotations

import base64
import os
import signal
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import pytest
import requests

from airflow_dicomweb.emulator import running_emulator
from airflow_dicomweb.errors import ConfigurationError
from airflow_dicomweb.healthcare.gcs import Buckets
from tests.emulator.api import PATIENCE, Api, envelope, instance
from tests.emulator.test_pubsub import project, pubsub, pulled, subscribed  # noqa: F401 - fixtures

STORE = "projects/p/locations/l/datasets/d/dicomStores/s"
PATH = "studies/1.1/series/1.1.1/instances/1.1.1.1"


def configure(api, **body):
    answer = api.ask("PATCH", f"{api.store_url}?updateMask={','.join(body)}", json=body)
    assert answer.status_code == 200, answer.text


@pytest.fixture
def subscription(api, pubsub, project):  # noqa: F811
    """A subscription that hears of what happens in the test's store."""
    topic, name = subscribed(pubsub, project)
    configure(api, notificationConfigs=[{"pubsubTopic": topic}])
    return name


def said(pubsub, subscription):  # noqa: F811
    """Pull and acknowledge all; give action and instance of each message."""
    received = pulled(pubsub, subscription)
    if received:
        body = {"ackIds": [each["ackId"] for each in received]}
        pubsub.subscriptions().acknowledge(subscription=subscription, body=body).execute()
    attributes = [each["message"]["attributes"] for each in received]
    return [(each["action"], each["sopInstanceUID"]) for each in attributes]


def test_a_stored_instance_is_told_as_the_service_tells_it(api, pubsub, subscription):  # noqa: F811
    api.store(instance(Modality="CT"))
    ((message),) = (each["message"] for each in pulled(pubsub, subscription))
    name = f"{api.emulator.dicom_store}/dicomWeb/{PATH}"
    assert base64.b64decode(message["data"]).decode() == name
    attributes = message["attributes"]
    moment = parsedate_to_datetime(attributes.pop("lastUpdatedTime").replace("UTC", "+0000"))
    assert abs((datetime.now(UTC) - moment).total_seconds()) < 600
    version = attributes.pop("versionId")
    assert "=" not in version
    nanoseconds = int(base64.b64decode(version + "=" * (-len(version) % 4)))
    assert abs(nanoseconds / 1e9 - moment.timestamp()) < 2
    assert attributes == {
        "action": "StoreInstances",
        "storeName": api.emulator.dicom_store,
        "studyInstanceUID": "1.1",
        "seriesInstanceUID": "1.1.1",
        "sopInstanceUID": "1.1.1.1",
        "modality": "CT",
        "storageClass": "STANDARD",
        "previousStorageClass": "",
    }


def test_only_what_was_changed_is_told_and_all_of_it(api, pubsub, subscription):  # noqa: F811
    api.store(instance())
    assert said(pubsub, subscription) == [("StoreInstances", "1.1.1.1")]
    # One is there already, one has other bytes than what is there, one is no instance.
    api.store(instance(), instance(uid="1.1.1.2"), instance(PatientID="other"), b"no DICOM")
    assert said(pubsub, subscription) == [("StoreInstances", "1.1.1.2")]
    api.ask("POST", f"{api.web.replace('/v1/', '/v1beta1/')}/studies", data=b"no DICOM")
    assert said(pubsub, subscription) == []
    headers = {"Content-Type": "application/dicom", "Accept": "application/dicom+json"}
    beta = f"{api.web.replace('/v1/', '/v1beta1/')}/studies"
    assert api.ask("PUT", beta, data=instance(PatientID="new"), headers=headers).status_code == 200
    assert said(pubsub, subscription) == [("StoreInstances", "1.1.1.1")]


def test_deletions_and_storage_classes_are_told(api, pubsub, subscription):  # noqa: F811
    api.store(instance(), instance(uid="1.1.1.2"))
    said(pubsub, subscription)
    body = {"blobStorageSettings": {"blobStorageClass": "NEARLINE"}}
    api.run(api.ask("POST", f"{api.web}/{PATH}:setBlobStorageSettings", json=body))
    ((message),) = (each["message"]["attributes"] for each in pulled(pubsub, subscription))
    assert (message["action"], message["storageClass"]) == ("SetBlobSettings", "NEARLINE")
    assert message["previousStorageClass"] == "STANDARD"
    api.ask("DELETE", PATH)
    assert said(pubsub, subscription) == [("DeleteInstances", "1.1.1.1")]
    api.run(api.ask("DELETE", "studies/1.1"))
    assert said(pubsub, subscription) == [("DeleteInstances", "1.1.1.2")]


def imported(api, bucket, count=2):
    buckets = Buckets()
    for number in range(1, count + 1):
        buckets.write(bucket, f"in/{number}.dcm", instance(uid=f"1.1.1.{number}"))
    body = {"gcsSource": {"uri": f"gs://{bucket}/in/*.dcm"}}
    return api.run(api.ask("POST", f"{api.store_url}:import", json=body))


def test_each_imported_instance_is_told_once(api, pubsub, subscription, bucket):  # noqa: F811
    imported(api, bucket)
    assert sorted(said(pubsub, subscription)) == [("ImportDicomData", "1.1.1.1"), ("ImportDicomData", "1.1.1.2")]
    imported(api, bucket)
    assert said(pubsub, subscription) == []


@pytest.mark.parametrize("bulk", [False, True])
def test_the_older_configuration_tells_names_alone(api, pubsub, project, bucket, bulk):  # noqa: F811
    topic, name = subscribed(pubsub, project)
    configure(api, notificationConfig={"pubsubTopic": topic, "sendForBulkImport": bulk})
    imported(api, bucket)
    assert len(pulled(pubsub, name)) == (2 if bulk else 0)
    api.store(instance(study="1.2"))
    ((message),) = (each["message"] for each in pulled(pubsub, name))
    assert set(message) == {"data", "messageId", "publishTime"}
    expected = f"{api.emulator.dicom_store}/dicomWeb/{PATH.replace('studies/1.1', 'studies/1.2')}"
    assert base64.b64decode(message["data"]).decode() == expected
    api.ask("DELETE", f"{PATH.replace('studies/1.1', 'studies/1.2')}")
    assert pulled(pubsub, name) == []


def test_a_store_that_may_not_publish_stores_nothing(api, bucket):
    configure(api, notificationConfigs=[{"pubsubTopic": "projects/p/topics/nothing"}])
    assert "projects/p/topics/nothing" in envelope(api.store(instance()), 403)
    assert api.tuples() == []
    operation = imported(api, bucket)
    assert operation["metadata"]["counter"] == {"failure": "2"}
    log = requests.get(operation["metadata"]["logsUrl"], timeout=PATIENCE).json()
    assert {entry["jsonPayload"]["error"]["code"] for entry in log} == {7}
    api.emulator.settings(missing_topic="ignore")
    assert api.store(instance()).status_code == 200
    api.emulator.restore_settings()
    envelope(api.ask("DELETE", PATH), 403)
    assert api.run(api.ask("DELETE", "studies/1.1"))["error"]["code"] == 7
    assert len(api.tuples()) == 1


def test_a_topic_has_a_name_that_can_be(api):
    body = {"notificationConfigs": [{"pubsubTopic": "topic"}]}
    envelope(api.ask("PATCH", f"{api.store_url}?updateMask=notificationConfigs", json=body), 400)
    dataset = f"{api.root}/{api.dataset}"
    envelope(api.ask("POST", f"{dataset}/dicomStores?dicomStoreId=refused", json=body), 400)
    envelope(api.ask("GET", f"{dataset}/dicomStores/refused"), 404)


def test_a_notification_is_lost_or_doubled_as_often_as_asked(api, pubsub, subscription):  # noqa: F811
    api.emulator.faults(
        {"match": "/instances/1[.]1[.]1[.]1$", "notification": "lost"},
        {"match": "/studies/1[.]1/", "notification": "doubled", "times": 2},
    )
    bodies = [instance(uid=f"1.1.1.{number}") for number in range(1, 5)]
    assert api.store(*bodies).status_code == 200
    assert [uid for _, uid in said(pubsub, subscription)] == ["1.1.1.2", "1.1.1.2", "1.1.1.3", "1.1.1.3", "1.1.1.4"]
    assert [fault["fired"] for fault in api.emulator.faults()] == [1, 2]
    assert len(api.tuples()) == 4


@pytest.mark.parametrize(
    "fault", [{"notification": "late"}, {"notification": "lost", "status": 500}, {"notification": "lost", "items": 1}]
)
def test_a_fault_of_notifications_that_cannot_be_is_refused(api, fault):
    with pytest.raises(ConfigurationError, match="fault"):
        api.emulator.faults(fault)


def test_messages_outlive_a_kill(tmp_path):
    topic, name = "projects/p/topics/topic", "projects/p/subscriptions/sub"
    with running_emulator(tmp_path / "data", create=[STORE]) as emulator:
        api = Api(emulator)
        assert api.ask("PUT", f"{api.root}/{topic}", json={}).status_code == 200
        assert api.ask("PUT", f"{api.root}/{name}", json={"topic": topic}).status_code == 200
        configure(api, notificationConfigs=[{"pubsubTopic": topic}])
        api.store(*(instance(uid=f"1.1.1.{number}") for number in range(1, 4)))
        os.kill(emulator.process.pid, signal.SIGKILL)
    with running_emulator(tmp_path / "data", create=[STORE]) as emulator:
        api = Api(emulator)
        answer = api.ask("POST", f"{api.root}/{name}:pull", json={"maxMessages": 10})
        messages = [each["message"]["attributes"] for each in answer.json()["receivedMessages"]]
        assert [message["sopInstanceUID"] for message in messages] == ["1.1.1.1", "1.1.1.2", "1.1.1.3"]
        api.store(instance(uid="1.1.1.9"))
        answer = api.ask("POST", f"{api.root}/{name}:pull", json={"maxMessages": 10})
        (received,) = answer.json()["receivedMessages"]
        assert received["message"]["attributes"]["sopInstanceUID"] == "1.1.1.9"


def test_a_test_subscribes_and_reads_what_has_come(dicomweb_emulator, api):
    first, second = dicomweb_emulator.subscribe(), dicomweb_emulator.subscribe()
    dicomweb_emulator.reset()
    api.store(instance(), instance(uid="1.1.1.2"))
    for subscription in (first, second):
        messages = dicomweb_emulator.notifications(subscription)
        assert [message["attributes"]["sopInstanceUID"] for message in messages] == ["1.1.1.1", "1.1.1.2"]
        assert dicomweb_emulator.notifications(subscription) == []
