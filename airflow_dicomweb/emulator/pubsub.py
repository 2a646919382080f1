"""Topics, subscriptions and messages, as far as a subscriber that pulls needs them; all in the index.

A message is kept for each subscription until it is acknowledged there. One that was pulled and not acknowledged in time
comes again.

Source: Cloud Pub/Sub API v1 discovery document; "Pull subscriptions".
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_dicomweb.emulator.database import Database
from airflow_dicomweb.emulator.messages import ApiError

DELETED_TOPIC = "_deleted-topic_"
"""What a subscription names as its topic when that was deleted."""

_POLL_INTERVAL = 0.05


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message as one pull gives it.

    :param ack_id: What acknowledges it.
    :param data: Base64.
    :param published: Unix time.
    """

    ack_id: str
    message_id: str
    data: str
    attributes: Mapping[str, str]
    published: float


def has_topic(index: sqlite3.Connection, topic: str) -> bool:
    """Tell whether there is a topic of that name."""
    return index.execute("SELECT 1 FROM topics WHERE name = ?", [topic]).fetchone() is not None


def publish(index: sqlite3.Connection, topic: str, data: str, attributes: Mapping[str, str]) -> str:
    """Write a message for each subscription of a topic; give its id.

    :param index: A connection in a transaction that writes.
    :param data: Base64.
    """
    message_id = str(time.time_ns())
    # Each subscription's copies have ids of their own: no two messages of a topic may share one.
    while index.execute("SELECT 1 FROM messages WHERE message_id = ?", [message_id]).fetchone() is not None:
        message_id = str(int(message_id) + 1)
    index.execute(
        "INSERT INTO messages (subscription, message_id, data, attributes, published) "
        "SELECT name, ?, ?, ?, ? FROM subscriptions WHERE topic = ?",
        [message_id, data, json.dumps(dict(attributes)), time.time(), topic],
    )
    return message_id


class PubSub:
    """The tables of topics, subscriptions and messages.

    :param database: The index.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def create_topic(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Make a topic.

        :raises ApiError: 409 if it is there already.
        """
        self._insert("INSERT INTO topics (name, body) VALUES (?, ?)", name, [json.dumps(dict(body))])
        return self.topic(name)

    def topic(self, name: str) -> dict[str, Any]:
        """Give a topic as the service describes it.

        :raises ApiError: 404 if there is none of that name.
        """
        return _described(self._row("topics", name))

    def topics(self, project: str) -> list[dict[str, Any]]:
        """List the topics of a project, by name."""
        return [_described(row) for row in self._rows("topics", f"{project}/topics/")]

    def delete_topic(self, name: str) -> None:
        """Delete a topic; its subscriptions stay, with what they hold.

        :raises ApiError: 404 if there is none of that name.
        """
        self._row("topics", name)
        with self._database.writing() as index:
            index.execute("DELETE FROM topics WHERE name = ?", [name])
            index.execute("UPDATE subscriptions SET topic = ? WHERE topic = ?", [DELETED_TOPIC, name])

    def publish(self, topic: str, messages: Sequence[tuple[str, Mapping[str, str]]]) -> list[str]:
        """Publish messages, each its data in Base64 and its attributes; give their ids.

        :raises ApiError: 404 if there is no such topic.
        """
        self._row("topics", topic)
        with self._database.writing() as index:
            return [publish(index, topic, data, attributes) for data, attributes in messages]

    def create_subscription(self, name: str, topic: str, ack_deadline: int, body: Mapping[str, Any]) -> dict[str, Any]:
        """Make a subscription, which gets what is published from now on.

        :param ack_deadline: Seconds after which a message that was not acknowledged comes again.
        :raises ApiError: 404 if there is no such topic, 409 if the subscription is there already.
        """
        self._row("topics", topic)
        self._insert(
            "INSERT INTO subscriptions (name, topic, ack_deadline, body) VALUES (?, ?, ?, ?)",
            name,
            [topic, ack_deadline, json.dumps(dict(body))],
        )
        return self.subscription(name)

    def subscription(self, name: str) -> dict[str, Any]:
        """Give a subscription as the service describes it.

        :raises ApiError: 404 if there is none of that name.
        """
        return _subscription(self._row("subscriptions", name))

    def subscriptions(self, project: str) -> list[dict[str, Any]]:
        """List the subscriptions of a project, by name."""
        return [_subscription(row) for row in self._rows("subscriptions", f"{project}/subscriptions/")]

    def subscriptions_of(self, topic: str) -> list[str]:
        """List the names of a topic's subscriptions, whatever project they are in.

        :raises ApiError: 404 if there is no such topic.
        """
        self._row("topics", topic)
        return [row["name"] for row in self._rows("subscriptions", "") if row["topic"] == topic]

    def delete_subscription(self, name: str) -> None:
        """Delete a subscription and what it holds.

        :raises ApiError: 404 if there is none of that name.
        """
        self._row("subscriptions", name)
        with self._database.writing() as index:
            index.execute("DELETE FROM subscriptions WHERE name = ?", [name])

    def pull(self, name: str, most: int, wait: float) -> list[Delivery]:
        """Give messages that are due, oldest first.

        :param most: Most messages to give.
        :param wait: Seconds to wait for one when there is none.
        :raises ApiError: 404 if there is no such subscription.
        """
        deadline = time.monotonic() + wait
        while True:
            ack_deadline = int(self._row("subscriptions", name)["ack_deadline"])
            if self._is_any_due(name):
                return self._deliver(name, most, ack_deadline)
            if time.monotonic() >= deadline:
                return []
            time.sleep(_POLL_INTERVAL)

    def set_ack_deadline(self, name: str, ack_ids: Sequence[str], seconds: int) -> None:
        """Let messages come again after so many seconds from now; with 0 at once.

        :param ack_ids: Those of the latest deliveries; others do nothing.
        :raises ApiError: 404 if there is no such subscription.
        """
        self._row("subscriptions", name)
        with self._database.writing() as index:
            index.executemany(
                "UPDATE messages SET visible_from = ? WHERE subscription = ? AND ack_id = ?",
                [(time.time() + seconds, name, ack_id) for ack_id in ack_ids],
            )

    def acknowledge(self, name: str, ack_ids: Sequence[str]) -> None:
        """Forget messages.

        :param ack_ids: Those of the latest deliveries; others do nothing.
        :raises ApiError: 404 if there is no such subscription.
        """
        self._row("subscriptions", name)
        with self._database.writing() as index:
            index.executemany(
                "DELETE FROM messages WHERE subscription = ? AND ack_id = ?", [(name, ack_id) for ack_id in ack_ids]
            )

    def _is_any_due(self, name: str) -> bool:
        with self._database.reading() as index:
            query = "SELECT 1 FROM messages WHERE subscription = ? AND visible_from <= ? LIMIT 1"
            return index.execute(query, [name, time.time()]).fetchone() is not None

    def _deliver(self, name: str, most: int, ack_deadline: int) -> list[Delivery]:
        now = time.time()
        deliveries = []
        with self._database.writing() as index:
            rows = index.execute(
                "SELECT * FROM messages WHERE subscription = ? AND visible_from <= ? ORDER BY id LIMIT ?",
                [name, now, most],
            ).fetchall()
            for row in rows:
                ack_id = secrets.token_urlsafe(32)
                index.execute(
                    "UPDATE messages SET ack_id = ?, visible_from = ? WHERE id = ?",
                    [ack_id, now + ack_deadline, row["id"]],
                )
                attributes = json.loads(row["attributes"])
                deliveries.append(Delivery(ack_id, row["message_id"], row["data"], attributes, row["published"]))
        return deliveries

    def _insert(self, statement: str, name: str, values: Sequence[object]) -> None:
        try:
            with self._database.writing() as index:
                index.execute(statement, [name, *values])
        except sqlite3.IntegrityError:
            short = name.rpartition("/")[2]
            raise ApiError(409, f"Resource already exists in the project (resource={short}).") from None

    def _row(self, table: str, name: str) -> sqlite3.Row:
        with self._database.reading() as index:
            row: sqlite3.Row | None = index.execute(f"SELECT * FROM {table} WHERE name = ?", [name]).fetchone()  # noqa: S608
        if row is None:
            raise ApiError(404, f"Resource not found (resource={name.rpartition('/')[2]}).")
        return row

    def _rows(self, table: str, start: str) -> list[sqlite3.Row]:
        with self._database.reading() as index:
            rows = index.execute(f"SELECT * FROM {table} ORDER BY name").fetchall()  # noqa: S608
        return [row for row in rows if row["name"].startswith(start)]


def _described(row: sqlite3.Row) -> dict[str, Any]:
    return {"name": row["name"], **json.loads(row["body"])}


def _subscription(row: sqlite3.Row) -> dict[str, Any]:
    return {
        "name": row["name"],
        "topic": row["topic"],
        **json.loads(row["body"]),
        "ackDeadlineSeconds": row["ack_deadline"],
        "state": "ACTIVE",
    }
