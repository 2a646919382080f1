"""Routes of Pub/Sub: what is needed to configure notifications and to pull them.

Source: Cloud Pub/Sub API v1 discovery document, ``projects.topics``, ``projects.subscriptions``.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

from starlette.responses import Response

from airflow_dicomweb.emulator.messages import ApiError, json_answer
from airflow_dicomweb.emulator.paging import page_of
from airflow_dicomweb.emulator.proto_json import Fields, read_message
from airflow_dicomweb.emulator.pubsub import Delivery
from airflow_dicomweb.emulator.records import rfc3339
from airflow_dicomweb.emulator.service import Call

PULL_SECONDS = 2.0
"""How long a pull waits for a message at most, unless it wants its answer at once."""

_LARGEST_PAGE = 1000
_LARGEST_PULL = 1000
_NAME = re.compile(r"(?!goog)[A-Za-z][A-Za-z0-9._~+%-]{2,254}")
_TOPIC: Fields = {"name": str, "labels": dict, "messageRetentionDuration": str, "kmsKeyName": str}
_SUBSCRIPTION: Fields = {
    "name": str,
    "topic": str,
    "labels": dict,
    "ackDeadlineSeconds": int,
    "messageRetentionDuration": str,
    "expirationPolicy": {"ttl": str},
    "retryPolicy": {"minimumBackoff": str, "maximumBackoff": str},
    "pushConfig": {"pushEndpoint": str, "attributes": dict},
    "filter": str,
    "enableMessageOrdering": bool,
    "enableExactlyOnceDelivery": bool,
    "retainAckedMessages": bool,
    "deadLetterPolicy": {"deadLetterTopic": str, "maxDeliveryAttempts": int},
}
_NOT_EMULATED = (
    *("pushConfig", "filter", "enableMessageOrdering", "enableExactlyOnceDelivery"),
    *("retainAckedMessages", "deadLetterPolicy"),
)
_PUBLISHED: Fields = {"data": str, "attributes": dict, "orderingKey": str, "messageId": str, "publishTime": str}


def create_topic(call: Call) -> Response:
    """Create a topic."""
    name, body = _name(call, "topic"), read_message(call.body, _TOPIC)
    return json_answer(call.service.pubsub.create_topic(name, _kept(body)))


def get_topic(call: Call) -> Response:
    """Give a topic."""
    return json_answer(call.service.pubsub.topic(_name(call, "topic")))


def list_topics(call: Call) -> Response:
    """List the topics of a project."""
    return json_answer(page_of(call, "topics", call.service.pubsub.topics(call.project), _LARGEST_PAGE))


def delete_topic(call: Call) -> Response:
    """Delete a topic."""
    call.service.pubsub.delete_topic(_name(call, "topic"))
    return json_answer({})


def publish(call: Call) -> Response:
    """Publish messages to a topic."""
    sent = read_message(call.body, {"messages": [_PUBLISHED]}).get("messages", [])
    messages = [(message.get("data", ""), message.get("attributes", {})) for message in sent]
    if not messages or not all(data or attributes for data, attributes in messages):
        raise ApiError(400, "messages with data or attributes are expected")
    try:
        for data, _ in messages:
            base64.b64decode(data, validate=True)
    except binascii.Error:
        raise ApiError(400, "Invalid value at 'messages[].data' (TYPE_BYTES), Base64 decoding failed.") from None
    return json_answer({"messageIds": call.service.pubsub.publish(_name(call, "topic"), messages)})


def list_subscriptions_of_topic(call: Call) -> Response:
    """List the names of a topic's subscriptions."""
    names = call.service.pubsub.subscriptions_of(_name(call, "topic"))
    return json_answer(page_of(call, "subscriptions", names, _LARGEST_PAGE))


def create_subscription(call: Call) -> Response:
    """Create a subscription that is pulled."""
    name, body = _name(call, "subscription"), _kept(read_message(call.body, _SUBSCRIPTION))
    topic = body.pop("topic", "")
    if not re.fullmatch(r"projects/[^/]+/topics/[^/]+", topic):
        raise ApiError(400, "topic is expected: projects/PROJECT/topics/TOPIC")
    if refused := [field for field in _NOT_EMULATED if field in body]:
        raise ApiError(501, f"The emulator does not emulate this of subscriptions: {', '.join(refused)}.")
    seconds = body.pop("ackDeadlineSeconds", 10)
    if not 10 <= seconds <= 600:
        raise ApiError(400, "invalid ackDeadlineSeconds: a number from 10 to 600 is expected, or 0 for the default")
    return json_answer(call.service.pubsub.create_subscription(name, topic, seconds, body))


def get_subscription(call: Call) -> Response:
    """Give a subscription."""
    return json_answer(call.service.pubsub.subscription(_name(call, "subscription")))


def list_subscriptions(call: Call) -> Response:
    """List the subscriptions of a project."""
    found = call.service.pubsub.subscriptions(call.project)
    return json_answer(page_of(call, "subscriptions", found, _LARGEST_PAGE))


def delete_subscription(call: Call) -> Response:
    """Delete a subscription."""
    call.service.pubsub.delete_subscription(_name(call, "subscription"))
    return json_answer({})


def pull(call: Call) -> Response:
    """Give messages."""
    body = read_message(call.body, {"maxMessages": int, "returnImmediately": bool})
    most = body.get("maxMessages", 0)
    if most < 1:
        raise ApiError(400, "maxMessages must be a positive number")
    wait = 0.0 if body.get("returnImmediately") else PULL_SECONDS
    found = call.service.pubsub.pull(_name(call, "subscription"), min(most, _LARGEST_PULL), wait)
    return json_answer({"receivedMessages": [_received(delivery) for delivery in found]} if found else {})


def acknowledge(call: Call) -> Response:
    """Forget messages: they were dealt with."""
    body = read_message(call.body, {"ackIds": [str]})
    call.service.pubsub.acknowledge(_name(call, "subscription"), _ack_ids(body))
    return json_answer({})


def modify_ack_deadline(call: Call) -> Response:
    """Give more time to deal with messages, or none: they come again at once then."""
    body = read_message(call.body, {"ackIds": [str], "ackDeadlineSeconds": int})
    seconds = body.get("ackDeadlineSeconds", 0)
    if not 0 <= seconds <= 600:
        raise ApiError(400, "invalid ackDeadlineSeconds: a number from 0 to 600 is expected")
    call.service.pubsub.set_ack_deadline(_name(call, "subscription"), _ack_ids(body), seconds)
    return json_answer({})


def _name(call: Call, kind: str) -> str:
    """Give the full name of the topic or subscription in the path.

    :raises ApiError: 400 if it cannot be one.
    """
    if not _NAME.fullmatch(call.names[kind]):
        raise ApiError(400, f"Invalid resource name given (name={call.names[kind][:300]}).")
    return f"{call.project}/{kind}s/{call.names[kind]}"


def _ack_ids(body: dict[str, Any]) -> list[str]:
    ack_ids: list[str] = body.get("ackIds", [])
    if not ack_ids or not all(ack_ids):
        raise ApiError(400, "ackIds are expected")
    return ack_ids


def _kept(body: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key != "name" and value not in ("", {}, [], 0, False)}


def _received(delivery: Delivery) -> dict[str, Any]:
    message: dict[str, Any] = {"data": delivery.data, "attributes": delivery.attributes}
    message = {key: value for key, value in message.items() if value}
    return {
        "ackId": delivery.ack_id,
        "message": {**message, "messageId": delivery.message_id, "publishTime": rfc3339(delivery.published)},
    }
