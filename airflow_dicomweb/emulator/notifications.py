"""Notifications: what a DICOM store publishes of the changes of its instances.

They are written in the transaction of the change itself: none is lost by a kill, and none tells what did not happen.

Source: Cloud Healthcare API, "Configuring Pub/Sub notifications for DICOM"; v1 discovery document,
``DicomNotificationConfig``, ``NotificationConfig``.
"""

from __future__ import annotations

import base64
import json
import re
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any, Literal

from airflow_dicomweb.dicomweb.resources import InstancePath
from airflow_dicomweb.emulator.faults import Faults
from airflow_dicomweb.emulator.messages import ApiError
from airflow_dicomweb.emulator.pubsub import has_topic, publish

Action = Literal["StoreInstances", "ImportDicomData", "SetBlobSettings", "DeleteInstances"]

_TOPIC = re.compile(r"projects/[^/]+/topics/[^/]+")


@dataclass(frozen=True, slots=True)
class Change:
    """What happened to one instance.

    :param modality: The instance's modality, or an empty string.
    :param storage_class: Its storage class now.
    :param previous: Its storage class before, if that was changed.
    """

    path: InstancePath
    modality: str
    storage_class: str
    previous: str = ""


Announce = Callable[[sqlite3.Connection, int, Action, Sequence[Change]], None]
"""Takes the connection of the transaction, the row number of the store, what was done, and to what."""


class Notifier:
    """Publishes changes to the topics that the store of the instances names.

    :param faults: What goes wrong with notifications.
    :param refuses_missing_topics: Tells whether a change fails that cannot be published, as its topic is not there.
    """

    def __init__(self, faults: Faults, refuses_missing_topics: Callable[[], bool]) -> None:
        self._faults, self._refuses_missing_topics = faults, refuses_missing_topics

    def announce(self, index: sqlite3.Connection, store: int, action: Action, changes: Sequence[Change]) -> None:
        """Publish one message for each changed instance, to each topic; see :data:`Announce`.

        :raises ApiError: 403 if a topic is not there: the service then says that it may not publish.
        """
        if not changes:
            return
        row = index.execute("SELECT name, body FROM stores WHERE id = ?", [store]).fetchone()
        if row is None or "notificationConfig" not in row["body"]:
            return
        for topic, has_attributes in _topics(json.loads(row["body"]), action):
            if not has_topic(index, topic):
                if self._refuses_missing_topics():
                    raise ApiError(403, f"The Healthcare API has no pubsub.publisher permission on {topic}.")
                continue
            for change in changes:
                name = f"{row['name']}/dicomWeb/{change.path}"
                attributes = _attributes(row["name"], action, change) if has_attributes else {}
                for _ in range(self._faults.take_notification(name)):
                    publish(index, topic, base64.b64encode(name.encode()).decode("ascii"), attributes)


def check_topics(store: Mapping[str, Any]) -> None:
    """Do nothing if all topics in the description of a store have names that can be.

    :raises ApiError: 400 if one has not.
    """
    configured = [store.get("notificationConfig", {}), *store.get("notificationConfigs", [])]
    for topic in filter(None, (config.get("pubsubTopic") for config in configured)):
        if not _TOPIC.fullmatch(topic):
            raise ApiError(400, "invalid pubsubTopic: projects/PROJECT/topics/TOPIC is expected")


def _topics(store: Mapping[str, Any], action: Action) -> list[tuple[str, bool]]:
    """List the topics that hear of an action, each with whether messages have attributes."""
    found = [(config.get("pubsubTopic", ""), True) for config in store.get("notificationConfigs", [])]
    old = store.get("notificationConfig", {})
    # The older form tells of new instances alone.
    if action == "StoreInstances" or (action == "ImportDicomData" and old.get("sendForBulkImport")):
        found.append((old.get("pubsubTopic", ""), False))
    return [(topic, has_attributes) for topic, has_attributes in found if topic]


def _attributes(store: str, action: Action, change: Change) -> dict[str, str]:
    now = time.time_ns()
    return {
        "action": action,
        "lastUpdatedTime": formatdate(now / 1e9, usegmt=True).replace("GMT", "UTC"),
        "storeName": store,
        "studyInstanceUID": change.path.study,
        "seriesInstanceUID": change.path.series,
        "sopInstanceUID": change.path.instance,
        "versionId": base64.b64encode(b"%d" % now).decode("ascii").rstrip("="),
        "modality": change.modality,
        "storageClass": change.storage_class,
        "previousStorageClass": change.previous,
    }
