"""Topics and subscriptions, asked by Google's own client and by plain requests."""

from __future__ import annotations

import base64
import os

import pytest
from googleapiclient.discovery import build
from googleapiclient.errors import HttpError

from tests.emulator.api import envelope
from tests.emulator.test_foreign_clients import Bearer
from tests.emulator.test_operations import until


@pytest.fixture
def project():
    return f"projects/p-{os.urandom(4).hex()}"


@pytest.fixture
def pubsub(api):
    """Google's own client, from the discovery document that it carries."""
    with build(
        "pubsub",
        "v1",
        http=Bearer(timeout=30, proxy_info=None),
        static_discovery=True,
        cache_discovery=False,
        client_options={"api_endpoint": api.emulator.base_url},
    ) as service:
        yield service.projects()


def pulled(pubsub, subscription, most=100):
    body = {"maxMessages": most, "returnImmediately": True}
    return pubsub.subscriptions().pull(subscription=subscription, body=body).execute().get("receivedMessages", [])


def published(pubsub, topic, *texts):
    messages = [{"data": base64.b64encode(text.encode()).decode()} for text in texts]
    return pubsub.topics().publish(topic=topic, body={"messages": messages}).execute()["messageIds"]


def subscribed(pubsub, project, name="sub"):
    topic, subscription = f"{project}/topics/topic", f"{project}/subscriptions/{name}"
    pubsub.topics().create(name=topic, body={}).execute()
    pubsub.subscriptions().create(name=subscription, body={"topic": topic}).execute()
    return topic, subscription


def test_topics_and_subscriptions_are_made_listed_and_deleted(pubsub, project):
    topics, subscriptions = pubsub.topics(), pubsub.subscriptions()
    for name in ("one", "two", "three"):
        made = topics.create(name=f"{project}/topics/{name}", body={"labels": {"a": "b"}}).execute()
        assert made == {"name": f"{project}/topics/{name}", "labels": {"a": "b"}}
        topic, subscription = f"{project}/topics/{name}", f"{project}/subscriptions/of-{name}"
        made = subscriptions.create(name=subscription, body={"topic": topic, "ackDeadlineSeconds": 20}).execute()
        assert made == {"name": subscription, "topic": topic, "ackDeadlineSeconds": 20, "state": "ACTIVE"}
        assert subscriptions.get(subscription=subscription).execute() == made
    first = topics.list(project=project, pageSize=2)
    page = first.execute()
    names = [topic["name"] for found in (page, topics.list_next(first, page).execute()) for topic in found["topics"]]
    assert names == [f"{project}/topics/{name}" for name in ("one", "three", "two")]
    assert len(subscriptions.list(project=project).execute()["subscriptions"]) == 3
    of_topic = topics.subscriptions().list(topic=f"{project}/topics/two").execute()
    assert of_topic == {"subscriptions": [f"{project}/subscriptions/of-two"]}
    assert topics.delete(topic=f"{project}/topics/two").execute() == {}
    left = subscriptions.get(subscription=f"{project}/subscriptions/of-two").execute()
    assert left["topic"] == "_deleted-topic_"
    for name in ("one", "two", "three"):
        assert subscriptions.delete(subscription=f"{project}/subscriptions/of-{name}").execute() == {}
    assert subscriptions.list(project=project).execute() == {}


def test_each_subscription_gets_what_is_published_after_it_was_made(pubsub, project):
    topic, first = subscribed(pubsub, project)
    ids = published(pubsub, topic, "a", "b")
    second = f"{project}/subscriptions/second"
    pubsub.subscriptions().create(name=second, body={"topic": topic}).execute()
    ids += published(pubsub, topic, "c")
    assert len(set(ids)) == 3
    messages = [each["message"] for each in pulled(pubsub, first)]
    assert [base64.b64decode(message["data"]) for message in messages] == [b"a", b"b", b"c"]
    assert [message["messageId"] for message in messages] == ids
    assert all(message["publishTime"].endswith("Z") for message in messages)
    assert [each["message"]["messageId"] for each in pulled(pubsub, second)] == ids[2:]


def test_a_message_comes_until_it_is_acknowledged(pubsub, project):
    topic, subscription = subscribed(pubsub, project)
    published(pubsub, topic, "a", "b")
    subscriptions = pubsub.subscriptions()
    (one,) = pulled(pubsub, subscription, 1)
    (other,) = pulled(pubsub, subscription)
    assert pulled(pubsub, subscription) == []
    subscriptions.acknowledge(subscription=subscription, body={"ackIds": [one["ackId"]]}).execute()
    at_once = {"ackIds": [one["ackId"], other["ackId"]], "ackDeadlineSeconds": 0}
    assert subscriptions.modifyAckDeadline(subscription=subscription, body=at_once).execute() == {}
    (again,) = pulled(pubsub, subscription)
    assert again["message"] == other["message"]
    assert again["ackId"] != other["ackId"]
    # The id of an earlier delivery acknowledges nothing.
    subscriptions.acknowledge(subscription=subscription, body={"ackIds": [other["ackId"]]}).execute()
    soon = {"ackIds": [again["ackId"]], "ackDeadlineSeconds": 1}
    subscriptions.modifyAckDeadline(subscription=subscription, body=soon).execute()
    assert pulled(pubsub, subscription) == []
    (last,) = until(lambda: pulled(pubsub, subscription))
    subscriptions.acknowledge(subscription=subscription, body={"ackIds": [last["ackId"]]}).execute()
    subscriptions.modifyAckDeadline(subscription=subscription, body={**soon, "ackDeadlineSeconds": 0}).execute()
    assert pulled(pubsub, subscription) == []


def test_a_pull_waits_for_a_message_for_a_bounded_time(pubsub, project):
    _, subscription = subscribed(pubsub, project)
    assert pubsub.subscriptions().pull(subscription=subscription, body={"maxMessages": 1}).execute() == {}


def test_what_is_not_there_or_there_already_is_said(pubsub, project):
    topic, subscription = subscribed(pubsub, project)
    topics, subscriptions = pubsub.topics(), pubsub.subscriptions()
    message = {"messages": [{"data": "YQ=="}]}
    pull, ack = {"maxMessages": 1}, {"ackIds": ["x"]}
    for request, status in (
        (topics.create(name=topic, body={}), 409),
        (subscriptions.create(name=subscription, body={"topic": topic}), 409),
        (subscriptions.create(name=f"{subscription}x", body={"topic": f"{topic}x"}), 404),
        (topics.get(topic=f"{topic}x"), 404),
        (topics.delete(topic=f"{topic}x"), 404),
        (topics.publish(topic=f"{topic}x", body=message), 404),
        (subscriptions.get(subscription=f"{subscription}x"), 404),
        (subscriptions.delete(subscription=f"{subscription}x"), 404),
        (subscriptions.pull(subscription=f"{subscription}x", body=pull), 404),
        (subscriptions.acknowledge(subscription=f"{subscription}x", body=ack), 404),
        (subscriptions.modifyAckDeadline(subscription=f"{subscription}x", body=ack), 404),
        (subscriptions.pull(subscription=subscription, body={}), 400),
        (subscriptions.acknowledge(subscription=subscription, body={}), 400),
        (subscriptions.modifyAckDeadline(subscription=subscription, body={**ack, "ackDeadlineSeconds": 601}), 400),
        (subscriptions.create(name=f"{subscription}y", body={"topic": topic, "ackDeadlineSeconds": 9}), 400),
        (subscriptions.create(name=f"{subscription}y", body={"topic": topic, "filter": 'attributes.a="b"'}), 501),
        (subscriptions.create(name=f"{subscription}y", body={"topic": "t"}), 400),
        (topics.publish(topic=topic, body={"messages": [{}]}), 400),
        (topics.publish(topic=topic, body={"messages": [{"data": "?"}]}), 400),
        (topics.create(name=f"{project}/topics/google-x", body={}), 200),
        (topics.create(name=f"{project}/topics/goog", body={}), 400),
    ):
        if status == 200:
            request.uri = request.uri.replace("google-x", "other")
            assert request.execute()
            continue
        with pytest.raises(HttpError) as raised:
            request.execute()
        assert raised.value.status_code == status, request.uri


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PATCH", "topics/t"),
        ("PATCH", "subscriptions/s"),
        ("POST", "subscriptions/s:seek"),
        ("POST", "subscriptions/s:modifyPushConfig"),
        ("GET", "topics/t:getIamPolicy"),
        ("GET", "snapshots"),
        ("GET", "schemas"),
    ],
)
def test_what_is_not_emulated_says_so(api, project, method, path):
    assert "Pub/Sub" in envelope(api.ask(method, f"{api.root}/{project}/{path}"), 501)
